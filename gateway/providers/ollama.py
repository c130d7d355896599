"""Ollama. It ignores `max_completion_tokens` and then writes until its window is full (ollama/ollama#7125)."""

from __future__ import annotations

from gateway.core.quirks import Quirks
from gateway.providers.row import (
    CHAT,
    COMPLETIONS,
    EMBEDDINGS,
    LOOPBACK,
    MAX_TOKENS,
    RESPONSES,
    USUAL_HEADERS,
    ProviderRow,
)

MEMBER = ProviderRow(
    kind="ollama",
    dialect="openai_chat",
    title="Ollama",
    base_url="http://127.0.0.1:11434/v1",
    credential_required=False,
    reply_headers=USUAL_HEADERS,
    free=True,
    networks=LOOPBACK,
    endpoints=(CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES),
    quirks=Quirks(renamed=MAX_TOKENS),
)
