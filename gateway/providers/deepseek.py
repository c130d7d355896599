"""DeepSeek. Says cached tokens as `prompt_cache_hit_tokens`, sends `: keep-alive` comments, knows only `max_tokens`.

Completions are its fill-in-the-middle API under `/beta`, so `base_url` is without a version (api-docs.deepseek.com).
A closed connection stops the billing (openrouter.ai/docs, streaming).
"""

from __future__ import annotations

from gateway.core.quirks import Quirks
from gateway.providers.row import CHAT, COMPLETIONS, MAX_TOKENS, RETRY_HEADERS, UPSTREAM_ID_NAME, ProviderRow

MEMBER = ProviderRow(
    kind="deepseek",
    dialect="openai_chat",
    title="DeepSeek",
    base_url="https://api.deepseek.com",
    credential="env:DEEPSEEK_API_KEY",
    reply_headers=(("x-ds-trace-id", UPSTREAM_ID_NAME), *RETRY_HEADERS),
    genai_prices="deepseek",
    endpoints=(CHAT, COMPLETIONS),
    paths=((COMPLETIONS, "/beta/completions"),),
    quirks=Quirks(renamed=MAX_TOKENS),
)
