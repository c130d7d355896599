"""NVIDIA's hosted NIM API. It sells by contract, so its models have no price until an override gives them one.

Strict for most models: `prompt_cache_key` is a 400 (sipeed/picoclaw#1019), penalties are a 422 for some of them
(Kilo-Org/kilocode#9652), which stays the caller's to hear. Errors are `{"error": text}` or `{"status", "title",
"detail"}`. Nothing says that a closed connection stops the billing, so a reply is read to its end.
"""

from __future__ import annotations

from gateway.core.quirks import Quirks
from gateway.providers.row import BOOKKEEPING, MAX_TOKENS, RETRY_HEADERS, UPSTREAM_ID_NAME, ProviderRow

MEMBER = ProviderRow(
    kind="nvidia",
    dialect="openai_chat",
    title="NVIDIA API",
    base_url="https://integrate.api.nvidia.com/v1",
    credential="env:NVIDIA_API_KEY",
    on_disconnect="drain",
    reply_headers=(("nvcf-reqid", UPSTREAM_ID_NAME), *RETRY_HEADERS),
    quirks=Quirks(
        renamed=MAX_TOKENS, refused=tuple(name for name in BOOKKEEPING if name != "user"), usage_in="choice_event"
    ),
)
