"""Prices as people write them: amounts, days, hours of the week, per cents. One meaning, for the file and for people.

An amount is `2.50 USD / 1M tokens`, `$0.04 / image`, `0.36 EUR / hour`, or `0`. It is read from its text, never through
a float; what cannot be stated exactly for its units is refused.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import NamedTuple

from gateway.core.usage import TOKEN_METERS, Meter
from gateway.pricing.draft import MOST_RATE_PICO, PICO_PER_USD, exact_rate
from gateway.pricing.week import WEEK_MINUTES, Spans, joined

USD = "USD"
SECTIONS = ("currencies", "prices", "agreements", "fallback", "pending")
OF_MODEL = ("rates", "contract", "free", "context_window", "max_output_tokens")
OF_FALLBACK = ("rates", "context_window", "max_output_tokens")
OF_RATES = ("tier", "above", "from", "to", "hours", "least")
OF_AGREEMENT = ("for", "meters", "discount", "margin", "from", "to")
OF_PENDING = ("for", "rates", "note")
ALL_TOKENS = "tokens"
"""Stands for every meter of tokens in an agreement."""
TIERS = (
    "standard", "flex", "priority", "fast", "ultrafast", "scale", "batch", "reserved", "provisioned_throughput",
)  # fmt: skip
"""The words by which replies tell the tier that was served."""
LATEST_DAY_MS = 253_370_764_800_000
"""9999-01-01: no later day can be shown in every time zone."""
MOST_TOKENS = 100_000_000

_AMOUNT = re.compile(
    r"^\s*(?P<dollar>\$)?\s*(?P<number>(?:\d{1,3}(?:_\d{3}){1,3}|\d{1,12})(?:\.\d{1,12})?)\s*(?P<currency>[A-Za-z]{3})?"
    r"\s*/\s*(?P<count>\d{1,3}(?:_\d{3}){1,4}|\d{1,15})?\s*(?P<scale>[kKM](?![a-z]))?\s*(?P<unit>[A-Za-z_ ]+?)\s*$",
    re.ASCII,
)
_ZERO = re.compile(r"^\s*\$?\s*0(\.0+)?\s*(USD|usd)?\s*$")
_SCALES = {"": 1, "k": 1000, "K": 1000, "M": 1_000_000}
_SECONDS = {"second": 1, "seconds": 1, "minute": 60, "minutes": 60, "hour": 3600, "hours": 3600}
_TIMES = (Meter.AUDIO_SECONDS, Meter.VIDEO_SECONDS, Meter.SESSION_SECONDS)
_UNITS: dict[Meter, tuple[str, ...]] = {
    Meter.IMAGES: ("image", "images"),
    Meter.CHARACTERS: ("character", "characters"),
    Meter.PAGES: ("page", "pages"),
    Meter.ANNOTATED_PAGES: ("page", "pages"),
    Meter.SEARCH_UNITS: ("search", "searches", "unit", "units"),
    Meter.CLASSIFICATIONS: ("classification", "classifications"),
    Meter.SOURCES: ("source", "sources"),
    Meter.CODE_CONTAINER: ("container", "containers", "session", "sessions"),
    **dict.fromkeys(
        (Meter.REQUEST, Meter.REQUEST_LOW, Meter.REQUEST_MEDIUM, Meter.REQUEST_HIGH), ("request", "requests")
    ),
}
_CALLS = ("call", "calls", "request", "requests", "search", "searches")
_TOKENS = ("token", "tokens", "tok")
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_HOURS = re.compile(
    r"^(?:(?P<first>[a-z]{3})(?:\s*-\s*(?P<last>[a-z]{3}))?\s+)?(?P<from>\d\d:\d\d)\s*-\s*(?P<to>\d\d:\d\d)$"
)
_DAY_MINUTES = 24 * 60


class Mistake(ValueError):
    """What is wrong with a text, and what would be right. Neither ends with a full stop."""

    def __init__(self, message: str, suggestion: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.suggestion = suggestion


class Amount(NamedTuple):
    """A price: pico of its currency per `per` units of its meter."""

    rate_pico: int
    per: int
    currency: str


def units_of(meter: Meter) -> tuple[str, ...]:
    """The words for what a meter counts; times may be given by the minute or hour, too."""
    if meter in TOKEN_METERS:
        return _TOKENS
    return tuple(_SECONDS) if meter in _TIMES else _UNITS.get(meter, _CALLS)


def example_of(meter: Meter) -> str:
    unit = units_of(meter)
    if meter in TOKEN_METERS:
        return "2.50 USD / 1M tokens"
    return "0.36 USD / hour" if meter in _TIMES else f"10 USD / 1k {unit[1]}"


def read_amount(text: str, meter: Meter) -> Amount:
    """Raises Mistake."""
    if _ZERO.match(text):
        return Amount(0, 1, USD)
    match = _AMOUNT.match(text)
    right = f"Write it like {example_of(meter)}"
    if match is None:
        raise Mistake(f"{text[:60]!r} is no price", right)
    if match["dollar"] and (match["currency"] or USD).upper() != USD:
        raise Mistake(f"{text[:60]!r} names two currencies", right)
    if not match["dollar"] and not match["currency"]:
        raise Mistake(f"{text[:60]!r} names no currency", right)
    unit = match["unit"].lower()
    known = units_of(meter)
    if unit not in known:
        raise Mistake(f"{meter} is priced by the {known[0]}, and {text[:60]!r} is by the {unit}", right)
    number, count = Decimal(match["number"].replace("_", "")), Decimal((match["count"] or "1").replace("_", ""))
    units = count * _SCALES[match["scale"] or ""] * (_SECONDS[unit] if meter in _TIMES else 1)
    if units != units.to_integral_value() or not 1 <= units <= 10**9:
        raise Mistake(f"{text[:60]!r} is for no whole number of units up to a thousand million", right)
    rate_pico, per = exact_rate(number, int(units))
    if rate_pico * int(units) != number * PICO_PER_USD * per:
        raise Mistake(f"{text[:60]!r} is finer than can be charged exactly", "Leave out digits, or give more units")
    if rate_pico > MOST_RATE_PICO:
        raise Mistake(f"{text[:60]!r} is more than a million for a unit", right)
    return Amount(rate_pico, per, (match["currency"] or USD).upper())


def print_amount(rate_pico: int, per: int, meter: str, currency: str = USD) -> str:
    """A rate as people write it, exactly: 2500000, 1, input → `2.5 USD / 1M tokens`."""
    if meter not in set(Meter):
        return f"{_decimal(rate_pico, 1)} {currency} / {per}"
    if meter in TOKEN_METERS:
        units, words = 1_000_000, "1M tokens"
    elif meter in _TIMES:
        units, words = 3600, "hour"
    elif meter == Meter.CHARACTERS:
        units, words = 1_000_000, "1M characters"
    elif meter in (Meter.IMAGES, Meter.PAGES, Meter.ANNOTATED_PAGES):
        units, words = 1, units_of(Meter(meter))[0]
    else:
        units, words = 1000, f"1k {units_of(Meter(meter))[1]}"
    return f"{_decimal(rate_pico * units, per)} {currency} / {words}"


def _decimal(pico: int, per: int) -> str:
    """The exact decimal of pico / per in whole units of a currency; to 18 places where it has none."""
    value = Decimal(pico) / (Decimal(per) * PICO_PER_USD)
    text = f"{value:.18f}".rstrip("0").rstrip(".")
    return text or "0"


def read_percent(text: str, least: int, most: int) -> str:
    """The decimal text of `15`, `15 %` or `2.5%`. Raises Mistake."""
    number = text.strip().removesuffix("%").strip()
    try:
        if not re.fullmatch(r"-?\d{1,6}(\.\d{1,9})?", number) or not least <= Decimal(number) <= most:
            raise InvalidOperation
    except InvalidOperation:
        raise Mistake(f"{text[:40]!r} is no per cent from {least} to {most}", "Write it like 15 % or 2.5 %") from None
    return number


def read_day(text: str) -> int:
    """The first instant, UTC, of `2026-12-24`, or the instant of a full ISO time. ms UTC. Raises Mistake."""
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise Mistake(f"{text[:40]!r} is no day", "Write it like 2026-12-24 (it begins at 00:00 UTC)") from None
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    at_ms = round(moment.timestamp()) * 1000
    if not 0 < at_ms < LATEST_DAY_MS:
        raise Mistake(f"{text[:40]!r} is no day that a price can begin or end on", "Write it like 2026-12-24")
    return at_ms


def read_hours(texts: list[str]) -> Spans:
    """Times of the week of `Mon-Fri 01:00-04:00`, `Sat 00:00-24:00`, `22:00-06:00` (every day), all UTC. Raises
    Mistake."""
    spans: list[tuple[int, int]] = []
    for text in texts:
        match = _HOURS.match(text.strip().lower())
        right = "Write it like Mon-Fri 01:00-04:00 (UTC)"
        if match is None:
            raise Mistake(f"{text[:40]!r} is no time of the week", right)
        start, end = _minute(match["from"], right), _minute(match["to"], right)
        if start in (end, _DAY_MINUTES):
            raise Mistake(f"{text[:40]!r} begins where it ends", right)
        for day in _days(match["first"], match["last"], right):
            begin = day * _DAY_MINUTES + start
            length = (end - start) % _DAY_MINUTES or _DAY_MINUTES
            spans.append((begin, min(begin + length, WEEK_MINUTES)))
            if begin + length > WEEK_MINUTES:
                spans.append((0, begin + length - WEEK_MINUTES))
    return joined(spans)


def _minute(text: str, right: str) -> int:
    hours, minutes = int(text[:2]), int(text[3:])
    if minutes > 59 or hours * 60 + minutes > _DAY_MINUTES:
        raise Mistake(f"{text!r} is no time of the day", right)
    return hours * 60 + minutes


def _days(first: str | None, last: str | None, right: str) -> list[int]:
    if first is None:
        return list(range(7))
    for name in (first, last or first):
        if name not in _DAYS:
            raise Mistake(f"{name!r} is no day of the week", right)
    start, end = _DAYS.index(first), _DAYS.index(last or first)
    return [(start + step) % 7 for step in range((end - start) % 7 + 1)]


def read_count(text: str, least: int, most: int) -> int:
    """A whole number of `200000`, `200_000` or `200k`. Raises Mistake."""
    match = re.fullmatch(r"\s*(\d{1,3}(?:_\d{3})+|\d+)\s*([kKM])?\s*", text, re.ASCII)
    number = int(match[1].replace("_", "")) * _SCALES[match[2] or ""] if match else -1
    if not least <= number <= most:
        raise Mistake(f"{text[:40]!r} is no whole number from {least} to {most}", "Write it like 200000 or 200k")
    return number


def read_rate_of_exchange(text: str) -> str:
    """The decimal text of USD for one of a currency. Raises Mistake."""
    if not re.fullmatch(r"\s*\d{1,9}(\.\d{1,12})?\s*", text) or not Decimal(text) > 0:
        raise Mistake(f"{text[:40]!r} is no rate of exchange", "Write USD for one of it, like 1.085")
    return text.strip()
