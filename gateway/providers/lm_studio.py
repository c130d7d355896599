"""LM Studio. Errors are `{"error": text}` (t59688/arboris-novel#23); inside a stream `event: error` with an object
(zendev-sh/goai#110).
"""

from __future__ import annotations

from gateway.core.quirks import Quirks
from gateway.providers.row import (
    CHAT,
    COMPLETIONS,
    EMBEDDINGS,
    LOOPBACK,
    MAX_TOKENS,
    RESPONSES,
    SHORT_KEEPALIVE_S,
    USUAL_HEADERS,
    ProviderRow,
)

MEMBER = ProviderRow(
    kind="lm_studio",
    dialect="openai_chat",
    title="LM Studio",
    base_url="http://127.0.0.1:1234/v1",
    credential_required=False,
    keepalive_s=SHORT_KEEPALIVE_S,
    reply_headers=USUAL_HEADERS,
    free=True,
    networks=LOOPBACK,
    endpoints=(CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES),
    keeps_responses=True,
    quirks=Quirks(renamed=MAX_TOKENS),
)
