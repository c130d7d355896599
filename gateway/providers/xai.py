"""xAI. Usage may stand beside a choice, in every event; reasoning is beside `completion_tokens`, as the total shows.

The usage says what the call cost in ticks of 10⁻¹⁰ USD, tools and discounts included (docs.x.ai, cost tracking). Errors
are `{"code": text, "error": text}` (yym68686/uni-api#105). A closed connection stops the billing (openrouter.ai/docs).
"""

from __future__ import annotations

from gateway.core.quirks import Quirks, ReportedCost
from gateway.providers.row import CHAT, RESPONSES, USUAL_HEADERS, ProviderRow

MEMBER = ProviderRow(
    kind="xai",
    dialect="openai_chat",
    title="xAI",
    base_url="https://api.x.ai/v1",
    credential="env:XAI_API_KEY",
    reply_headers=USUAL_HEADERS,
    genai_prices="x-ai",
    endpoints=(CHAT, RESPONSES),
    keeps_responses=True,
    quirks=Quirks(
        usage_in="choice_event",
        reported_cost=ReportedCost(("cost_in_usd_ticks",), per_usd=10**10),
    ),
)
