"""Cerebras. Strict: a member outside its schema is a 400 with a flat body (`wrong_api_format`).

Sources: the schema in cerebras-cloud-sdk 1.91 (`prompt_cache_key`, `service_tier` and `user` are known, errors inside a
stream are `{"error": …, "status_code": …}`); `reasoning_content` in messages in egoist/chatwise-releases#1442. Nothing
says that a closed connection stops the billing, so a reply is read to its end.
"""

from __future__ import annotations

from gateway.core.quirks import Quirks
from gateway.providers.row import CHAT, COMPLETIONS, RETRY_HEADERS, UPSTREAM_ID, ProviderRow

MEMBER = ProviderRow(
    kind="cerebras",
    dialect="openai_chat",
    title="Cerebras",
    base_url="https://api.cerebras.ai/v1",
    credential="env:CEREBRAS_API_KEY",
    on_disconnect="drain",
    reply_headers=(
        UPSTREAM_ID,
        *RETRY_HEADERS,
        *(
            (f"x-ratelimit-{what}-{unit}", f"x-upstream-ratelimit-{what}-{unit}")
            for what in ("limit", "remaining", "reset")
            for unit in ("requests-day", "tokens-minute")
        ),
    ),
    genai_prices="cerebras",
    endpoints=(CHAT, COMPLETIONS),
    quirks=Quirks(
        refused=("store", "metadata", "safety_identifier", "prompt_cache_options", "prompt_cache_retention"),
        refused_in_messages=("reasoning_content",),
        usage_in="choice_event",
    ),
)
