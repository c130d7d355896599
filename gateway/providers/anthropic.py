"""Anthropic's own API, in its own dialect. Callers' `anthropic-version` and `anthropic-beta` go up as they came.

Its request id is `request-id`; the headers about rate limits (docs.claude.com, rate limits) are those of the gateway's
account. A prompt is cached only where a request marks it, and `message_start` tells the whole prompt. What a closed
connection is billed is nowhere in its documentation: like everybody in the field we take it that generation ends with
the connection, and book what came by then as an estimate. Its prompts about tools and about the format of an answer
have less than 1024 tokens each (docs.claude.com, tool use pricing).
"""

from __future__ import annotations

from gateway.core.quirks import Quirks
from gateway.providers.row import COUNT_TOKENS, MESSAGES, RETRY_HEADERS, UPSTREAM_ID_NAME, ProviderRow

RATE_HEADERS = tuple(
    (f"anthropic-ratelimit-{unit}-{what}", f"x-upstream-anthropic-ratelimit-{unit}-{what}")
    for unit in ("requests", "tokens", "input-tokens", "output-tokens")
    for what in ("limit", "remaining", "reset")
)

MEMBER = ProviderRow(
    kind="anthropic",
    dialect="anthropic_messages",
    title="Anthropic",
    base_url="https://api.anthropic.com/v1",
    credential="env:ANTHROPIC_API_KEY",
    auth_header="x-api-key",
    auth_scheme="",
    reply_headers=(("request-id", UPSTREAM_ID_NAME), *RETRY_HEADERS, *RATE_HEADERS),
    dialect_prefixes=("anthropic-",),
    genai_prices="anthropic",
    endpoints=(MESSAGES, COUNT_TOKENS),
    quirks=Quirks(tells_prompt_first=True, writes_marked_only=True, hidden_tokens=2048),
)
