"""What is left of a caller's limits on requests and tokens, in the headers its SDK's dialect reads.

OpenAI's (platform.openai.com/docs/guides/rate-limits): `x-ratelimit-limit-requests`, `-remaining-requests`,
`-reset-requests` with a length of time, `6m0s`. Anthropic's (docs.anthropic.com/en/api/rate-limits):
`anthropic-ratelimit-requests-limit`, `-remaining`, `-reset` with a moment in RFC 3339. The same for tokens.
"""

from __future__ import annotations

from datetime import UTC, datetime

from gateway.core.limits import Unit

ANTHROPIC = "anthropic_messages"
"""The dialect with headers of its own; every other one has OpenAI's, which gateways and SDKs of many vendors read."""
_KINDS = (b"requests", b"tokens")
_PLAIN = {
    b"x-upstream-ratelimit-%b-%b" % (what, kind): b"x-ratelimit-%b-%b" % (what, kind)
    for what in (b"limit", b"remaining", b"reset")
    for kind in _KINDS
}
"""The provider's figures are its account's. Where a key has limits of its own, those stand under the plain names."""

Headers = tuple[tuple[bytes, bytes], ...]
_Names = tuple[bytes, bytes, bytes]
"""Of the limit, of what remains, and of the reset."""


def _names(written: bytes) -> tuple[_Names, _Names]:
    """Of requests and of tokens; `written` has the place of what (`limit`, `remaining`, `reset`) and of the unit."""

    def of(unit: bytes) -> _Names:
        names = [written % {b"what": what, b"unit": unit} for what in (b"limit", b"remaining", b"reset")]
        return names[0], names[1], names[2]

    return of(_KINDS[0]), of(_KINDS[1])


_OPENAI = _names(b"x-ratelimit-%(what)b-%(unit)b")
_ANTHROPIC = _names(b"anthropic-ratelimit-%(unit)b-%(what)b")


def rate_headers(dialect: str, unit: Unit, amount: int, left: int, resets_ms: int | None, now_ms: int) -> Headers:
    """The headers of one limit on requests or tokens, of which `left` of `amount` is left until `resets_ms`, ms UTC
    (None: it is never whole again)."""
    is_anthropic = dialect == ANTHROPIC
    names = (_ANTHROPIC if is_anthropic else _OPENAI)[unit is Unit.TOKENS]  # no hash of an enumeration's member
    limit_name, remaining_name, reset_name = names
    limit, remaining = (limit_name, b"%d" % amount), (remaining_name, b"%d" % (left if left > 0 else 0))
    if resets_ms is None:
        return limit, remaining
    wait_ms = resets_ms - now_ms
    if is_anthropic:
        reset = iso(resets_ms).encode()
    elif 1000 <= wait_ms <= 59_000:
        reset = b"%ds" % -(-wait_ms // 1000)
    else:
        reset = print_wait(max(0, wait_ms)).encode()
    return limit, remaining, (reset_name, reset)


def kept(own: Headers, upstream: Headers) -> Headers:
    """The provider's own figures under their plain names, of the kinds that `own` says nothing of."""
    found = [(_PLAIN[name], value) for name, value in upstream if name in _PLAIN]
    if not found or not own:
        return tuple(found)
    told = {_kind(name) for name, _ in own}
    return tuple([(name, value) for name, value in found if _kind(name) not in told])


def _kind(name: bytes) -> bytes:
    """`requests` or `tokens`; empty of what is no rate-limit header."""
    return next((kind for kind in _KINDS if b"ratelimit" in name and kind in name), b"")


def iso(ms: int | None) -> str:
    """RFC 3339 in UTC, whole seconds rounded up: nobody comes back too early. Empty for None."""
    if ms is None:
        return ""
    return datetime.fromtimestamp(-(-ms // 1000), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def print_wait(ms: int) -> str:
    """A length of time as OpenAI's rate-limit headers write it: `120ms`, `12s`, `6m0s`, `1h2m3s`; rounded up."""
    if ms < 1000:
        return f"{ms}ms"
    minutes, seconds = divmod(-(-ms // 1000), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m{seconds}s"
    return f"{minutes}m{seconds}s" if minutes else f"{seconds}s"
