"""Limits as people write and read them: `5USD/month`, `60/min`, `1000000tokens/day@Europe/Vienna`."""

from __future__ import annotations

import re
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from gateway.core.limits import Limit, Unit, Window, WindowKind
from gateway.core.money import parse_usd, print_usd

MINUTE_S = 60
MAX_LENGTH_S = 366 * 86_400
MAX_AMOUNT = 2**62
"""Amounts are stored as signed 64-bit integers; sums of two must fit as well."""

_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_UNIT_OF_LENGTH = {
    **dict.fromkeys(("s", "sec", "second", "seconds"), "s"),
    **dict.fromkeys(("m", "min", "minute", "minutes"), "m"),
    **dict.fromkeys(("h", "hour", "hours"), "h"),
    **dict.fromkeys(("d", "day", "days"), "d"),
    **dict.fromkeys(("w", "week", "weeks"), "w"),
}
_CALENDAR = {
    "hour": WindowKind.HOUR,
    "day": WindowKind.DAY,
    "week": WindowKind.WEEK,
    "month": WindowKind.MONTH,
    "total": WindowKind.TOTAL,
}
_LENGTH = re.compile(r"^(\d{1,9})\s*([a-z]+)$")
_COUNT = re.compile(r"^(\d[\d_]*)\s*(tokens?|requests?)?$")
_FORMS = "write it like 5USD/month, 0.5USD/day, 20USD/total, 1000000tokens/day or 60/min"
_WINDOWS = "hour, day, week, month, total, or a rolling length like 60s, 15min, 24h or 30d"
_LENGTH_WORDS = {1: "second", 60: "minute", 3_600: "hour", 86_400: "day", 604_800: "week"}


def parse_limit(text: str) -> Limit:
    """A limit from `amount/window`, its id and scope left empty for its owner to fill in.

    The amount is money (`5USD`, `$5`), `1000tokens`, or requests (`60`, `60requests`). Raises ValueError saying what
    would be right.
    """
    amount, slash, window = text.strip().partition("/")
    if not slash:
        raise ValueError(f"{text!r} names no window; {_FORMS}")
    unit, number = _parse_amount(amount.strip(), text)
    if number > MAX_AMOUNT:
        raise ValueError(f"{text!r} is more than can be counted ({MAX_AMOUNT})")
    return Limit(id="", unit=unit, amount=number, window=parse_window(window), scope=())


def parse_budget(text: str) -> Limit:
    """A limit on money: as `parse_limit`, but a bare number is USD and other units are refused."""
    amount, slash, window = text.strip().partition("/")
    if not slash:
        raise ValueError(f"{text!r} names no window; write it like 5USD/month, with one of {_WINDOWS}")
    number = parse_usd(amount)
    if number > MAX_AMOUNT:
        raise ValueError(f"{text!r} is more than can be counted ({print_usd(MAX_AMOUNT)} USD)")
    return Limit(id="", unit=Unit.USD, amount=number, window=parse_window(window), scope=())


def requests_per_minute(count: int) -> Limit:
    """What `--rpm` sets. Raises ValueError for less than 1."""
    return _per_minute(Unit.REQUESTS, count)


def tokens_per_minute(count: int) -> Limit:
    """What `--tpm` sets. Raises ValueError for less than 1."""
    return _per_minute(Unit.TOKENS, count)


def _per_minute(unit: Unit, count: int) -> Limit:
    if not 1 <= count <= MAX_AMOUNT:
        raise ValueError(f"{count} {unit.value} per minute: must be at least 1")
    return Limit(id="", unit=unit, amount=count, window=Window(WindowKind.ROLLING, MINUTE_S), scope=())


def _parse_amount(text: str, whole: str) -> tuple[Unit, int]:
    match = _COUNT.match(text.lower())
    if match is not None:
        unit = Unit.TOKENS if (match.group(2) or "").startswith("token") else Unit.REQUESTS
        return unit, int(match.group(1).replace("_", ""))
    if not re.search(r"usd|\$", text, re.IGNORECASE):
        raise ValueError(f"{whole!r}: {text!r} is not an amount; {_FORMS}")
    return Unit.USD, parse_usd(text)


def parse_window(text: str) -> Window:
    """`month`, `day@Europe/Vienna`, `60s`, `min`. Raises ValueError with what is accepted."""
    word, at, zone = text.strip().partition("@")
    word = word.strip().lower()
    kind = _CALENDAR.get(word)
    if kind is not None:
        return Window(kind, zone=check_zone(zone.strip()) if at else "UTC")
    match = _LENGTH.match(f"1{word}" if word.isalpha() else word)
    unit = _UNIT_OF_LENGTH.get(match.group(2)) if match else None
    if match is None or unit is None:
        raise ValueError(f"{text!r} is not a window; use {_WINDOWS}")
    if at:
        raise ValueError(f"{text!r}: a rolling window has no time zone")
    length_s = int(match.group(1)) * _SECONDS[unit]
    if not 1 <= length_s <= MAX_LENGTH_S:
        raise ValueError(f"{text!r}: a rolling window is between 1 second and 366 days long")
    return Window(WindowKind.ROLLING, length_s)


def check_zone(name: str) -> str:
    """The name, if it is a time zone of the IANA data base. Raises ValueError."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"{name!r} is not a time zone; use a name like Europe/Vienna or UTC") from error
    return name


def print_amount(unit: Unit, amount: int) -> str:
    """`0.36 USD`, `60 requests`, `1000000 tokens`: exact."""
    return f"{print_usd(amount)} USD" if unit is Unit.USD else f"{amount} {unit.value}"


def print_window(window: Window) -> str:
    """`per month (UTC)`, `in total`, `in any 60 seconds`."""
    match window.kind:
        case WindowKind.TOTAL:
            return "in total"
        case WindowKind.ROLLING:
            return f"in any {_print_length(window.length_s)}"
        case _:
            return f"per {window.kind.value} ({window.zone})"


def print_limit(limit: Limit) -> str:
    """`5 USD per month (UTC)`, `60 requests in any minute`."""
    return f"{print_amount(limit.unit, limit.amount)} {print_window(limit.window)}"


def _print_length(length_s: int) -> str:
    name = _LENGTH_WORDS.get(length_s)
    if name is not None:
        return name
    for size_s, word in ((86_400, "days"), (3_600, "hours"), (60, "minutes")):
        if length_s % size_s == 0:
            return f"{length_s // size_s} {word}"
    return f"{length_s} seconds"


def write_limit(limit: Limit) -> str:
    """The text that `parse_limit` reads back as the same unit, amount and window."""
    amount = f"{print_usd(limit.amount)}USD" if limit.unit is Unit.USD else f"{limit.amount}{limit.unit.value}"
    window = limit.window
    if window.kind is WindowKind.ROLLING:
        return f"{amount}/{window.length_s}s"
    zone = f"@{window.zone}" if window.zone != "UTC" and window.kind is not WindowKind.TOTAL else ""
    return f"{amount}/{window.kind.value}{zone}"
