"""Together AI. Usage may stand beside the last choice; knows only `max_tokens` (schema of together 3.1).

A closed connection stops the billing (openrouter.ai/docs, streaming).
"""

from __future__ import annotations

from gateway.core.quirks import Quirks
from gateway.providers.row import MAX_TOKENS, USUAL_HEADERS, ProviderRow

MEMBER = ProviderRow(
    kind="together",
    dialect="openai_chat",
    title="Together AI",
    base_url="https://api.together.xyz/v1",
    credential="env:TOGETHER_API_KEY",
    reply_headers=USUAL_HEADERS,
    genai_prices="together",
    quirks=Quirks(renamed=MAX_TOKENS, usage_in="choice_event"),
)
