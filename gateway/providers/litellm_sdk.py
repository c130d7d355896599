"""Every vendor that has no row of its own, through the litellm SDK in the annex: Bedrock, Vertex AI, SageMaker, Cohere…

A provider of this kind says in `routes.yaml` what litellm needs for it; its models are named as litellm names them,
`vendor/model`. To a worker it is an OpenAI-shaped provider on the annex's Unix socket. The cost that litellm works out
from its own price list is kept beside our own price; streams have none.
"""

from __future__ import annotations

from gateway.providers.row import CHAT, EMBEDDINGS, LOOPBACK, RETRY_HEADERS, ProviderRow

MEMBER = ProviderRow(
    kind="annex",
    dialect="openai_chat",
    title="litellm",
    credential_required=False,
    unix_socket="annex.sock",
    reply_headers=(("x-litellm-response-cost", "x-litellm-response-cost"), *RETRY_HEADERS),
    networks=LOOPBACK,
    endpoints=(CHAT, EMBEDDINGS),
    cost_header="x-litellm-response-cost",
)
