"""The simulated provider that ships with Faregate. Callers steer its latency and faults with `x-sim-*` headers."""

from __future__ import annotations

from gateway.core.quirks import Quirks
from gateway.providers.row import (
    CHAT,
    COMPACT,
    COMPLETIONS,
    COUNT_TOKENS,
    EMBEDDINGS,
    INPUT_TOKENS,
    LOOPBACK,
    MESSAGES,
    RESPONSES,
    RETRY_HEADERS,
    UPSTREAM_ID,
    ProviderRow,
)

MEMBER = ProviderRow(
    kind="simulated",
    dialect="openai_chat",
    title="Simulated provider",
    credential_required=False,
    reply_headers=(UPSTREAM_ID, *RETRY_HEADERS),
    forwarded_prefixes=("x-sim-",),
    networks=LOOPBACK,
    endpoints=(
        CHAT,
        COMPLETIONS,
        EMBEDDINGS,
        MESSAGES,
        COUNT_TOKENS,
        RESPONSES,
        INPUT_TOKENS,
        COMPACT,
    ),
    keeps_responses=True,
    quirks=Quirks(tells_prompt_first=True),
)
