"""OpenAI itself. The dialect's own behaviour, so without a quirk."""

from __future__ import annotations

from gateway.providers.row import (
    CHAT,
    COMPACT,
    COMPLETIONS,
    EMBEDDINGS,
    IMAGES,
    INPUT_TOKENS,
    MODERATIONS,
    OPENAI_RATE_HEADERS,
    RESPONSES,
    RETRY_HEADERS,
    SPEECH,
    UPSTREAM_ID,
    ProviderRow,
)

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
    endpoints=(CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES, INPUT_TOKENS, COMPACT, MODERATIONS, IMAGES, SPEECH),
    keeps_responses=True,
    responses_only=(
        "gpt-*-pro*",
        "o1-pro*",
        "o3-pro*",
        "gpt-*-codex*",
        "codex-*",
        "*-deep-research*",
        "computer-use-*",
    ),
    responses_for_tools=("gpt-5.[4-9]*", "gpt-[6-9]*"),
)
