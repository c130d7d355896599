"""What may be set of a key: each check returns the value as it is stored or raises BadRequest that says what may."""

from __future__ import annotations

from collections.abc import Sequence
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from gateway.core.caller import Role
from gateway.core.errors import BadRequest
from gateway.core.limits import HoldKind, Limit, OnExceed, Unit, Window, WindowKind

MAX_INT = 2**63 - 1
MAX_NAME_CHARACTERS = 128
MAX_MODELS = 200
MAX_MODEL_CHARACTERS = 256
MAX_TAGS = 50
MAX_TAG_CHARACTERS = 256
MAX_LIMITS = 50
MAX_WINDOW_S = 10 * 366 * 86_400
MAX_OVERLAP_S = 30 * 86_400


def name_of(text: str, param: str) -> str:
    """A name for people: of a key, an org, a team."""
    if not text or text != text.strip() or not text.isprintable() or len(text) > MAX_NAME_CHARACTERS:
        raise BadRequest(
            f"{param} must be 1 to {MAX_NAME_CHARACTERS} printable characters without spaces at its ends", param=param
        )
    return text


def role_of(text: str) -> str:
    try:
        return Role(text).value
    except ValueError:
        known = ", ".join(Role)
        raise BadRequest(f"There is no role {text[:40]!r}; there are {known}", param="role") from None


def models_of(models: Sequence[str]) -> tuple[str, ...]:
    if len(models) > MAX_MODELS:
        raise BadRequest(f"A key may list {MAX_MODELS} models; use patterns with * for more", param="models")
    for model in models:
        if not model or not model.isprintable() or " " in model or len(model) > MAX_MODEL_CHARACTERS:
            raise BadRequest(f"{model[:60]!r} is no name or pattern of a model", param="models")
    return tuple(dict.fromkeys(models))


def tags_of(tags: Sequence[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    if len(tags) > MAX_TAGS or len(dict(tags)) != len(tags):
        raise BadRequest(f"A key may have {MAX_TAGS} tags, each name once", param="tags")
    for name, value in tags:
        text = name + value
        if not name or not text.isprintable() or max(len(name), len(value)) > MAX_TAG_CHARACTERS:
            raise BadRequest(
                f"The tag {name[:60]!r} must have a name and at most {MAX_TAG_CHARACTERS} printable characters",
                param="tags",
            )
    return tuple(sorted((name, value) for name, value in tags))


def expiry_of(expires_ms: int) -> int:
    if not 0 <= expires_ms <= MAX_INT:
        raise BadRequest("The expiry must be a time in ms UTC, or 0 for never", param="expires_ms")
    return expires_ms


def overlap_of(overlap_s: int) -> int:
    if not 0 <= overlap_s <= MAX_OVERLAP_S:
        raise BadRequest(f"The overlap must be 0 to {MAX_OVERLAP_S} seconds (30 days)", param="overlap_s")
    return overlap_s


def digest_of(sha256_hex: str) -> bytes:
    """The 32 bytes of a SHA-256 in hex."""
    try:
        digest = bytes.fromhex(sha256_hex)
    except ValueError:
        digest = b""
    if len(digest) != 32 or len(sha256_hex) != 64:
        raise BadRequest("An imported key is given as the 64 hex digits of its SHA-256", param="sha256")
    return digest


def limits_of(limits: Sequence[Limit]) -> tuple[Limit, ...]:
    """Limits with a window in its one spelling; id and scope are still to be filled in."""
    if len(limits) > MAX_LIMITS:
        raise BadRequest(f"A key may have {MAX_LIMITS} limits", param="limits")
    checked = tuple(_limit_of(limit) for limit in limits)
    if len({(limit.unit, limit.window) for limit in checked}) != len(checked):
        raise BadRequest("Two limits have the same unit and window; leave one", param="limits")
    return checked


def _limit_of(limit: Limit) -> Limit:
    try:
        unit, on_exceed, hold = Unit(limit.unit), OnExceed(limit.on_exceed), HoldKind(limit.hold)
    except ValueError as error:
        raise BadRequest(f"A limit has an unknown member: {error}", param="limits") from None
    if type(limit.amount) is not int or not 0 <= limit.amount <= MAX_INT:
        raise BadRequest("A limit's amount must be a whole number from 0 to 2^63 - 1", param="limits")
    window = _window_of(limit.window)
    return msgspec.structs.replace(limit, unit=unit, on_exceed=on_exceed, hold=hold, window=window)


def _window_of(window: Window) -> Window:
    try:
        kind = WindowKind(window.kind)
    except ValueError as error:
        raise BadRequest(f"A limit has an unknown window: {error}", param="limits") from None
    if kind is WindowKind.TOTAL:
        return Window(kind)
    if kind is WindowKind.ROLLING:
        if not 0 < window.length_s <= MAX_WINDOW_S:
            raise BadRequest(f"A rolling window must be 1 to {MAX_WINDOW_S} seconds long", param="limits")
        return Window(kind, window.length_s)
    try:
        ZoneInfo(window.zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise BadRequest(
            f"There is no time zone {window.zone[:60]!r}; write it like Europe/Berlin", param="limits"
        ) from None
    return Window(kind, 0, window.zone)
