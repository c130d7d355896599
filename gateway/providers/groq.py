"""Groq. Usage stands in `x_groq` on the last choice, and in an event of its own where it was asked for.

Unknown members are a 400: `prompt_cache_key` (sipeed/picoclaw#1196), and `reasoning_content` in messages of another
vendor (janhq/jan#8136); `store`, `metadata` and `user` are known (groq-python 1.7). A closed connection does not stop
the billing (openrouter.ai/docs, streaming). Its own speech and batch endpoints are not served here.
"""

from __future__ import annotations

from gateway.core.quirks import Quirks
from gateway.providers.row import CHAT, RESPONSES, USUAL_HEADERS, ProviderRow

MEMBER = ProviderRow(
    kind="groq",
    dialect="openai_chat",
    title="Groq",
    base_url="https://api.groq.com/openai/v1",
    credential="env:GROQ_API_KEY",
    on_disconnect="drain",
    reply_headers=(("x-groq-region", "x-groq-region"), *USUAL_HEADERS),
    genai_prices="groq",
    endpoints=(CHAT, RESPONSES),
    quirks=Quirks(
        refused=("safety_identifier", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention"),
        refused_in_messages=("reasoning_content",),
        usage_in="choice_event",
    ),
)
