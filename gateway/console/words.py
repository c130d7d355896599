"""Numbers and times as the pages show them. All times are UTC."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from gateway.core.money import NANO, divide_half_even, print_cents, print_usd

NOTHING = "–"
_CENT = NANO // 100


@dataclass(frozen=True, slots=True)
class Amount:
    """Money on a page: what is read, and the exact value behind it."""

    text: str
    exact: str


UNPRICED = Amount("unpriced", "No price is known for this; it is not in any sum")


def money(nusd: int | None) -> Amount:
    """Cents; the exact USD beside them."""
    return UNPRICED if nusd is None else Amount(print_cents(nusd), f"{print_usd(nusd)} USD")


def small_money(nusd: int | None) -> Amount:
    """For single calls, which mostly cost less than a cent: below one, two digits that say something."""
    if nusd is None or not 0 < nusd < _CENT:
        return money(nusd)
    unit = 10 ** max(0, len(str(nusd)) - 2)
    return Amount(f"${print_usd(divide_half_even(nusd, unit) * unit)}", f"{print_usd(nusd)} USD")


def exact_money(nusd: int | None) -> Amount:
    """For charge lines: every digit."""
    return UNPRICED if nusd is None else Amount(f"${print_usd(nusd)}", f"{print_usd(nusd)} USD")


def count(number: int) -> str:
    """`4,820`; from a million on `4.82 M`."""
    if number < 1_000_000:
        return f"{number:,}"
    for size, word in ((1_000_000_000, "G"), (1_000_000, "M")):
        if number >= size:
            return f"{number / size:,.2f} {word}"
    return str(number)


def tokens(number: int) -> str:
    """`812`, `14.2 k`, `4.82 M`."""
    return f"{number / 1000:.1f} k" if 10_000 <= number < 1_000_000 else count(number)


def duration(us: int) -> str:
    """`0.3 ms`, `842 ms`, `1.21 s`, `2 min 05 s`; a dash where there is no such time."""
    if us < 0:
        return NOTHING
    if us < 10_000:
        return f"{us / 1000:.1f} ms"
    if us < 1_000_000:
        return f"{round(us / 1000)} ms"
    if us < 60_000_000:
        return f"{us / 1_000_000:.2f} s"
    minutes, seconds = divmod(us // 1_000_000, 60)
    return f"{minutes} min {seconds:02d} s"


def percent(part: int, whole: int) -> str:
    """`0.04 %`, `12 %`; integers only, rounded down below the last digit shown."""
    if not whole or not part:
        return "0 %"
    hundredths = part * 10_000 // whole
    if hundredths < 1:
        return "< 0.01 %"
    if hundredths < 1000:
        return f"{hundredths // 100}.{hundredths % 100:02d} %"
    return f"{hundredths // 100} %"


def moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


def iso(ms: int) -> str:
    """For `<time datetime>`."""
    return moment(ms).strftime("%Y-%m-%dT%H:%M:%S") + f".{ms % 1000:03d}Z"


def clock(ms: int, now_ms: int) -> str:
    """`22:14:03` today, `23 Nov 22:14` before."""
    then = moment(ms)
    if then.date() == moment(now_ms).date():
        return then.strftime("%H:%M:%S")
    return f"{then.day} {then:%b %H:%M}"


def full_time(ms: int) -> str:
    """`24 November 2026, 22:14:03.120 UTC`."""
    then = moment(ms)
    return f"{then.day} {then:%B %Y, %H:%M:%S}.{ms % 1000:03d} UTC"


def byte_size(number: int) -> str:
    for size, word in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if number >= size:
            return f"{number / size:.1f} {word}"
    return f"{number} bytes"
