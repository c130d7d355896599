"""What a vendor's row says, and the one thing done with it: choosing the reply headers a caller may see."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from gateway.core.config import OnDisconnect
from gateway.core.quirks import PLAIN, Quirks

HEADER_CHARS_MAX = 512


class ProviderRow(msgspec.Struct, frozen=True):
    """A kind of provider: the defaults that `routes.yaml` may override, and facts about its API.

    `base_url` is empty where only the file can know it. `credential` is the default reference (`env:NAME`);
    `credential_required` says whether a provider of this kind without one is a mistake. `reply_headers` pairs a
    header of its replies with the name under which callers get it: an allow-list, everything else stays here.
    `forwarded_prefixes` are the request headers of callers that it gets. `on_disconnect` is `cancel` where a closed
    connection stops the billing, `drain` where the call is billed to its end anyway. `genai_prices` is the vendor's id
    in that price list, empty when it has no prices there.
    """

    kind: str
    dialect: str
    base_url: str = ""
    credential: str = ""
    credential_required: bool = True
    auth_header: str = "authorization"
    auth_scheme: str = "Bearer"
    on_disconnect: OnDisconnect = "cancel"
    keepalive_s: float = 15.0
    request_id_header: str = "x-request-id"
    reply_headers: tuple[tuple[str, str], ...] = ()
    forwarded_prefixes: tuple[str, ...] = ()
    genai_prices: str = ""
    quirks: Quirks = PLAIN

    def caller_headers(self, headers: Mapping[str, str]) -> tuple[tuple[bytes, bytes], ...]:
        """The reply headers for the caller, renamed, from lower-case upstream ones.

        A value with a control character or of more than 512 characters is left out: it could split the answer.
        """
        kept: list[tuple[bytes, bytes]] = []
        for theirs, ours in self.reply_headers:
            value = headers.get(theirs)
            if value is not None and len(value) <= HEADER_CHARS_MAX and value.isascii() and value.isprintable():
                kept.append((ours.encode(), value.encode()))
        return tuple(kept)


OPENAI_RATE_HEADERS = tuple(
    (f"x-ratelimit-{what}-{unit}", f"x-upstream-ratelimit-{what}-{unit}")
    for what in ("limit", "remaining", "reset")
    for unit in ("requests", "tokens")
)
"""They describe the gateway's own account there; the caller's key has its own figures under the plain names."""

RETRY_HEADERS = (
    ("retry-after", "retry-after"),
    ("retry-after-ms", "retry-after-ms"),
    ("x-should-retry", "x-should-retry"),
)
UPSTREAM_ID = ("x-request-id", "x-upstream-request-id")
