"""Stacked bars per day as geometry: where each rectangle goes. Pure; the template draws it as SVG.

The drawing is stretched to its place, so it holds no text: amounts and dates stand beside it, at the size of text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.core.money import NANO

SLOT = 20
"""Width of a day in the drawing's units; its bar takes `BAR` of it."""
BAR = 16
HEIGHT = 1000
_STEPS = (10, 20, 25, 50)
_MAX_LINES = 5
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@dataclass(frozen=True, slots=True)
class Segment:
    """A rectangle of one series on one day; `nusd` is what it stands for."""

    series: int
    x: int
    y: int
    height: int
    day: str
    nusd: int


@dataclass(frozen=True, slots=True)
class Chart:
    """`ticks` are the amounts at the horizontal lines, evenly spaced from 0 at the bottom to the top edge."""

    width: int
    segments: tuple[Segment, ...]
    ticks: tuple[str, ...]
    lines: tuple[int, ...]


def draw(days: Sequence[str], amounts: Sequence[Sequence[int]]) -> Chart:
    """`amounts[d][s]` is what series `s` cost on day `d` in nano-USD; the first series stands at the bottom. Fewer rows
    than days leave the last days empty. Amounts below zero (corrections) are not drawn; the table has them.
    """
    tallest = max((sum(max(0, nusd) for nusd in row) for row in amounts), default=0)
    step = tick_step(tallest)
    count = max(1, -(-tallest // step))
    top_nusd = step * count
    segments: list[Segment] = []
    for index, row in enumerate(amounts):
        below = 0
        for series, nusd in enumerate(row):
            if nusd <= 0:
                continue
            # From running sums, so that segments meet exactly and a bar's height is its sum's.
            foot, head = (HEIGHT * part // top_nusd for part in (below, below + nusd))
            below += nusd
            x = index * SLOT + (SLOT - BAR) // 2
            segments.append(Segment(series, x, HEIGHT - head, head - foot, days[index], nusd))
    return Chart(
        width=SLOT * max(1, len(days)),
        segments=tuple(segments),
        ticks=tuple(tick_text(step * number) for number in range(count, -1, -1)),
        lines=tuple(HEIGHT - HEIGHT * number // count for number in range(count, -1, -1)),
    )


def tick_step(tallest_nusd: int) -> int:
    """The smallest round step of which at most five reach the tallest bar."""
    if tallest_nusd <= 0:
        return NANO
    power = 1
    while True:
        for step in _STEPS:
            nusd = step * power
            if nusd % 10 == 0 and nusd // 10 * _MAX_LINES >= tallest_nusd:
                return nusd // 10
        power *= 10


def tick_text(nusd: int) -> str:
    """`$0`, `$500`, `$1.5k`, `$0.002`: exact, as ticks are round."""
    for size, word in ((NANO * 1_000_000, "M"), (NANO * 1_000, "k"), (NANO, "")):
        if nusd >= size:
            return f"${_decimal(nusd, size)}{word}"
    return f"${_decimal(nusd, NANO)}" if nusd else "$0"


def _decimal(nusd: int, size: int) -> str:
    whole, rest = divmod(nusd, size)
    digits = len(str(size)) - 1
    return f"{whole}.{rest:0{digits}d}".rstrip("0").rstrip(".")


def day_text(day: str) -> str:
    """`24 Nov` of `2026-11-24`."""
    return f"{int(day[8:10])} {_MONTHS[int(day[5:7]) - 1]}"
