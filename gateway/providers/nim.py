"""An NVIDIA NIM container on one's own hardware: vLLM or TensorRT-LLM behind a strict schema.

The members that NVIDIA's hosted API refuses are refused here too (sipeed/picoclaw#1019).
"""

from __future__ import annotations

from gateway.core.quirks import Quirks
from gateway.providers.row import (
    BOOKKEEPING,
    LOOPBACK,
    MAX_TOKENS,
    SHORT_KEEPALIVE_S,
    USUAL_HEADERS,
    ProviderRow,
)

MEMBER = ProviderRow(
    kind="nim",
    dialect="openai_chat",
    title="NVIDIA NIM",
    base_url="http://127.0.0.1:8000/v1",
    credential_required=False,
    keepalive_s=SHORT_KEEPALIVE_S,
    reply_headers=USUAL_HEADERS,
    free=True,
    networks=LOOPBACK,
    quirks=Quirks(renamed=MAX_TOKENS, refused=tuple(name for name in BOOKKEEPING if name != "user")),
)
