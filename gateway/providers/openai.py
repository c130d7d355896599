"""OpenAI itself. The dialect's own behaviour, so without a quirk."""

from __future__ import annotations

from gateway.providers.row import OPENAI_RATE_HEADERS, RETRY_HEADERS, UPSTREAM_ID, ProviderRow

MEMBER = ProviderRow(
    kind="openai",
    dialect="openai_chat",
    title="OpenAI",
    base_url="https://api.openai.com/v1",
    credential="env:OPENAI_API_KEY",
    reply_headers=(
        ("openai-processing-ms", "openai-processing-ms"),
        ("openai-version", "openai-version"),
        UPSTREAM_ID,
        *RETRY_HEADERS,
        *OPENAI_RATE_HEADERS,
    ),
    genai_prices="openai",
)
