"""vLLM. OpenAI's shapes, with `stream_options.continuous_usage_stats` for running usage: a caller that asks gets it.

Errors are flat in older releases (`{"object": "error", "message": …}`), nested in newer ones; inside a stream they may
be `event: error` with flat data (foundation-model-stack/fms-guardrails-orchestrator#436).
"""

from __future__ import annotations

from gateway.core.quirks import Quirks
from gateway.providers.row import (
    CHAT,
    COMPLETIONS,
    EMBEDDINGS,
    LOOPBACK,
    RESPONSES,
    SHORT_KEEPALIVE_S,
    USUAL_HEADERS,
    ProviderRow,
)

MEMBER = ProviderRow(
    kind="vllm",
    dialect="openai_chat",
    title="vLLM",
    base_url="http://127.0.0.1:8000/v1",
    credential_required=False,
    keepalive_s=SHORT_KEEPALIVE_S,
    reply_headers=USUAL_HEADERS,
    free=True,
    networks=LOOPBACK,
    endpoints=(CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES),
    keeps_responses=True,
    quirks=Quirks(tells_prompt_first=True),
)
