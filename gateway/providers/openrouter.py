"""OpenRouter. Usage with its cost comes at the end of every stream, beside an empty choice or on its own.

`usage.cost` is what it charges; with a key of one's own at the vendor behind it (`is_byok`) that vendor charges
`cost_details.upstream_inference_cost` besides (openrouter.ai/docs, usage accounting). It sends comments while it waits,
and errors inside a 200. A closed connection stops it where the vendor behind it can be stopped (openrouter.ai/docs).
"""

from __future__ import annotations

from gateway.core.quirks import Quirks, ReportedCost
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
    kind="openrouter",
    dialect="openai_chat",
    title="OpenRouter",
    base_url="https://openrouter.ai/api/v1",
    credential="env:OPENROUTER_API_KEY",
    reply_headers=(("x-generation-id", UPSTREAM_ID_NAME), *RETRY_HEADERS, *OPENAI_RATE_HEADERS),
    genai_prices="openrouter",
    endpoints=(CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES),
    quirks=Quirks(
        usage_in="choice_event",
        reported_cost=ReportedCost(("cost",), own_key=("cost_details", "upstream_inference_cost")),
    ),
)
