"""Fireworks AI. Usage beside the last choice, for newer models in an event of its own (langchain-ai/langchain#36977).

`max_tokens` is the name that all of its models know. A closed connection stops the billing (openrouter.ai/docs).
"""

from __future__ import annotations

from gateway.core.quirks import Quirks
from gateway.providers.row import MAX_TOKENS, USUAL_HEADERS, ProviderRow

MEMBER = ProviderRow(
    kind="fireworks",
    dialect="openai_chat",
    title="Fireworks AI",
    base_url="https://api.fireworks.ai/inference/v1",
    credential="env:FIREWORKS_API_KEY",
    reply_headers=(
        ("fireworks-server-processing-time", "fireworks-server-processing-time"),
        ("fireworks-server-time-to-first-token", "fireworks-server-time-to-first-token"),
        *USUAL_HEADERS,
    ),
    genai_prices="fireworks",
    quirks=Quirks(renamed=MAX_TOKENS, usage_in="choice_event"),
)
