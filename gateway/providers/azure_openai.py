"""Azure OpenAI: the v1 API (`base_url` ends in `/openai/v1`), or with `api_version` the URLs with a deployment in them.

What callers and prices call a model is not what a deployment is called: `priced_as` says it where they differ.
Sources: learn.microsoft.com, azure/foundry/openai/api-version-lifecycle (v1, `api-key` header). Its first stream event
has `prompt_filter_results` and no choices, id or model. With `data_sources` it refuses `stream_options`
(openai/openai-python#2296): such calls need a deployment of their own.
"""

from __future__ import annotations

from gateway.providers.row import (
    CHAT,
    COMPLETIONS,
    EMBEDDINGS,
    OPENAI_RATE_HEADERS,
    RESPONSES,
    RETRY_HEADERS,
    UPSTREAM_ID_NAME,
    ProviderRow,
)

MEMBER = ProviderRow(
    kind="azure_openai",
    dialect="openai_chat",
    title="Azure OpenAI",
    credential="env:AZURE_OPENAI_API_KEY",
    auth_header="api-key",
    auth_scheme="",
    request_id_header="x-ms-client-request-id",
    reply_headers=(
        ("apim-request-id", UPSTREAM_ID_NAME),
        ("x-ms-region", "x-ms-region"),
        *RETRY_HEADERS,
        *OPENAI_RATE_HEADERS,
    ),
    genai_prices="azure",
    endpoints=(CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES),
    keeps_responses=True,
    deployment_path="/openai/deployments/{model}",
    without_deployment=(RESPONSES, "responses.kept"),
)
