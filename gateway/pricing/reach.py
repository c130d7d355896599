"""Which rates a request can be billed at: the rows in its reach, the dearest of each kind. Resolved once a sheet."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from gateway.core.charge import PriceRow, PriceSheet
from gateway.core.money import PICO_PER_NANO, divide_up
from gateway.core.usage import INPUT_METERS, OUTPUT_METERS, TOKEN_METERS, TOOL_METERS, Meter
from gateway.pricing.rows import STANDARD, uplift_of, uplifted
from gateway.pricing.week import is_within

AUDIO_METERS = frozenset({Meter.INPUT_AUDIO, Meter.CACHE_READ_AUDIO, Meter.OUTPUT_AUDIO})
ANY_METER: frozenset[str] = INPUT_METERS | OUTPUT_METERS
_SEEN_METERS = frozenset({Meter.INPUT_IMAGE, Meter.CACHE_READ_IMAGE, Meter.INPUT_VIDEO, Meter.CACHE_READ_VIDEO})
_ALWAYS = frozenset(
    {Meter.INPUT, Meter.CACHE_READ, Meter.OUTPUT, Meter.OUTPUT_IMAGE, Meter.OUTPUT_VIDEO, Meter.REASONING}
)
_REQUEST_METERS = frozenset({Meter.REQUEST, Meter.REQUEST_LOW, Meter.REQUEST_MEDIUM, Meter.REQUEST_HIGH})


class Counted(msgspec.Struct, frozen=True):
    """The rates of a meter that is not in tokens."""

    meter: str
    rates: tuple[tuple[int, int, int], ...]
    """(pico-USD, scale, least quantity): `rate × quantity / scale` is nano-USD."""

    @property
    def free(self) -> bool:
        return not any(rate for rate, _, _ in self.rates)

    def most_nusd(self, quantity: int) -> int:
        """What `quantity` of it costs at most, its line's rounding included."""
        most = max([divide_up(rate * max(quantity, least), scale) for rate, scale, least in self.rates])
        return most + 1 if quantity and most else 0


class Reach(msgspec.Struct, frozen=True):
    """The rates a request can be billed at: (pico-USD, scale) of input and of output rows, and what is known of them.

    An amount is `rate × tokens / scale` nano-USD. `fixed_nusd` is the fee of the request and one nano-USD for each
    meter that has a rate above 0; `tiers` how many tiers have rows; `counted` what is billed by other counts than
    tokens; `tools` the rows of tools at the provider, in reach only of a request that names them. `reason`: why there
    is no bound. `plain` says the same for the usual case, one rate a side and nothing counted: (`fixed_nusd`, input
    rate, its scale, output rate, its scale; scale 0: no output rate).
    """

    input: tuple[tuple[int, int], ...]
    output: tuple[tuple[int, int], ...]
    fixed_nusd: int
    tiers: int
    reason: str = ""
    counted: tuple[Counted, ...] = ()
    tools: tuple[PriceRow, ...] = ()
    plain: tuple[int, int, int, int, int] | None = None


def reach(
    sheet: PriceSheet,
    tiers: frozenset[str] | None,
    meters: frozenset[str],
    input_bound: int,
    at_ms: int,
    region: str = "",
) -> Reach:
    """The rows of `tiers` (None: any) and token `meters` in effect at `at_ms` for a prompt of at most `input_bound`.

    A region that a reply may tell unasked is in reach of every request; of equal ones the dearest.
    """
    taken: dict[int, int] = {}
    given: dict[int, int] = {}
    others: list[PriceRow] = []
    seen: set[str] = set()
    priced: set[str] = set()
    factor = _factor(sheet, region) if sheet.uplifts or region else None
    for row in sheet.rows:
        if tiers is not None and row.tier not in tiers:
            continue
        meter = row.meter
        in_tokens = meter in meters
        if (
            not (in_tokens or meter not in TOKEN_METERS)
            or (row.min_input and row.min_input >= input_bound)
            or row.from_ms > at_ms
            or (row.to_ms and row.to_ms <= at_ms)
            or (row.week and not is_within(row.week, at_ms))
        ):
            continue
        if not in_tokens:
            others.append(row)
            continue
        seen.add(row.tier)
        if factor is not None:
            row = uplifted(row, *factor)
        rate = row.rate_pico
        if rate:
            priced.add(meter)
        # Of the rates with one scale only the highest can decide.
        side, scale = given if meter in OUTPUT_METERS else taken, row.per * PICO_PER_NANO
        if rate > side.get(scale, -1):
            side[scale] = rate
    reason = sheet.unbounded
    tiers_found = seen or {row.tier for row in others}
    if STANDARD not in tiers_found or not (taken or others):
        reason = "it has no price in effect"
    elif factor is None and region:
        reason = f"it has no price for the region {region}"
    inputs, outputs, fixed_nusd = _pairs(taken), _pairs(given), len(priced)
    if others and not all(row.meter in TOOL_METERS for row in others):
        return _with_counted(Reach(inputs, outputs, fixed_nusd, len(tiers_found), reason), others)
    plain = None
    if not reason and len(taken) == 1 and len(given) < 2:
        plain = (fixed_nusd, *inputs[0], *(outputs[0] if given else (0, 0)))
    return Reach(inputs, outputs, fixed_nusd, len(tiers_found), reason, (), tuple(others), plain)


def _pairs(rates: dict[int, int]) -> tuple[tuple[int, int], ...]:
    return tuple([(rate, scale) for scale, rate in rates.items()])


def _with_counted(found: Reach, rows: list[PriceRow]) -> Reach:
    """The reach with what is not billed by tokens. Of the fees of a request the dearest counts."""
    fees = [one.most_nusd(1) for one in counted_rates([row for row in rows if row.meter in _REQUEST_METERS])]
    return msgspec.structs.replace(
        found,
        fixed_nusd=found.fixed_nusd + max(fees, default=0),
        counted=tuple(counted_rates([row for row in rows if row.meter not in _REQUEST_METERS | TOOL_METERS])),
        tools=tuple([row for row in rows if row.meter in TOOL_METERS]),
    )


def counted_rates(rows: Iterable[PriceRow]) -> list[Counted]:
    """The rates of meters that are not in tokens, by meter."""
    by_meter: dict[str, dict[tuple[int, int, int], None]] = {}
    for row in rows:
        least = row.terms.min_quantity if row.terms is not None else 0
        by_meter.setdefault(row.meter, {})[row.rate_pico, row.per * PICO_PER_NANO, least] = None
    return [Counted(meter, tuple(rates)) for meter, rates in sorted(by_meter.items())]


def _factor(sheet: PriceSheet, region: str) -> tuple[int, int] | None:
    """The largest factor for where the call may be computed; None: none, or a region the sheet does not know."""
    told = max([uplift for uplift in sheet.uplifts if uplift.by_reply], key=lambda one: one.ppm, default=None)
    served = told.region if told is not None and told.ppm > 1_000_000 else ""
    return uplift_of(sheet, served, region) if served or region else None


def _reachable(writes: bool, long_writes: bool, audio: bool, media: bool) -> frozenset[str]:
    meters: set[str] = set(_ALWAYS)
    if writes:
        meters.add(Meter.CACHE_WRITE)
    if long_writes:
        meters |= {Meter.CACHE_WRITE_1H, Meter.CACHE_WRITE_12H}
    if audio:
        meters |= AUDIO_METERS
    if media:
        meters |= _SEEN_METERS
    return frozenset(meters)


_FLAGS = (False, True)
reachable_meters = {
    (writes, long_writes, audio, media): _reachable(writes, long_writes, audio, media)
    for writes in _FLAGS
    for long_writes in _FLAGS
    for audio in _FLAGS
    for media in _FLAGS
}
"""Token meters in reach of a request, by: cache writes, long-lived cache writes, audio, images or files."""
