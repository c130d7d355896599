"""A LiteLLM proxy, so that teams can move one at a time: what it computed as the cost is kept beside our own price.

Whole replies say it in `x-litellm-response-cost`, streams only where it runs with `include_cost_in_streaming_usage`, as
`usage.cost` (docs.litellm.ai, response headers). Its usage event has a choice in it (BerriAI/litellm#28735). The call's
id here becomes its own (`x-litellm-call-id`). Behind it may be a vendor that bills on, so a reply is read to its end.
A model named like `openai/gpt-4o`, or priced as such, has that vendor's prices.
"""

from __future__ import annotations

from gateway.core.quirks import Quirks, ReportedCost
from gateway.providers.row import (
    LOOPBACK,
    OPENAI_RATE_HEADERS,
    RETRY_HEADERS,
    SHORT_KEEPALIVE_S,
    UPSTREAM_ID_NAME,
    ProviderRow,
)

MEMBER = ProviderRow(
    kind="litellm",
    dialect="openai_chat",
    title="LiteLLM proxy",
    credential="env:LITELLM_API_KEY",
    auth_header="x-litellm-api-key",
    on_disconnect="drain",
    keepalive_s=SHORT_KEEPALIVE_S,
    request_id_header="x-litellm-call-id",
    reply_headers=(
        ("x-litellm-call-id", UPSTREAM_ID_NAME),
        ("x-litellm-model-id", "x-litellm-model-id"),
        ("x-litellm-response-cost", "x-litellm-response-cost"),
        *RETRY_HEADERS,
        *OPENAI_RATE_HEADERS,
    ),
    networks=LOOPBACK,
    cost_header="x-litellm-response-cost",
    quirks=Quirks(usage_in="choice_event", takes_tags=True, reported_cost=ReportedCost(("cost",))),
)
