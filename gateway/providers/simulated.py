"""The simulated provider that ships with Faregate. Callers steer its latency and faults with `x-sim-*` headers."""

from __future__ import annotations

from gateway.core.quirks import Quirks
from gateway.providers.row import LOOPBACK, RETRY_HEADERS, UPSTREAM_ID, ProviderRow

MEMBER = ProviderRow(
    kind="simulated",
    dialect="openai_chat",
    title="Simulated provider",
    credential_required=False,
    reply_headers=(UPSTREAM_ID, *RETRY_HEADERS),
    forwarded_prefixes=("x-sim-",),
    networks=LOOPBACK,
    quirks=Quirks(tells_prompt_first=True),
)
