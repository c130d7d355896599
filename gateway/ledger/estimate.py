"""The end of an attempt whose usage nobody reported: the client left, the provider said nothing, the worker died.

Priced from what the HOLD pinned, so it needs neither the price book nor the process that made the hold. The estimate
never exceeds the hold's bound as last shrunk: the bound is proven, the estimate (bytes / 3) is not, so where they
disagree the token counts are cut, output first, until the sum of the lines fits. Each line stays quantity x rate.
"""

from __future__ import annotations

from collections.abc import Iterable

from gateway.core.charge import CostState, Line, PinnedRate
from gateway.core.limits import Take, Unit
from gateway.core.money import PICO_PER_NANO, line_nusd
from gateway.core.records import AttemptEnd
from gateway.core.usage import INPUT_METERS, OUTPUT_METERS, Meter, UsageSource
from gateway.ledger.standing import OpenHold


def estimated_end(
    hold: OpenHold,
    *,
    ts_ms: int,
    outcome: str,
    cause: str,
    status: int = 0,
    input_tokens: int | None = None,
    output_tokens: int | None = None,
    raw_usage: bytes = b"",
    served_tier: str = "",
    model_served: str = "",
    finish_reason: str = "",
    upstream_id: str = "",
    ttft_us: int = -1,
    duration_us: int = -1,
    reported_nusd: int | None = None,
) -> AttemptEnd:
    """Closes `hold` with an estimate. Tokens not given are the last PROGRESS's, and before it the hold's estimate.

    `state` is `estimated`, or `unpriced` (amounts None) when the hold pinned no rate for something it used. `posted`
    never exceeds what the hold still has: usd posts the amount (all of it when unpriced: money that cannot be seen is
    not given back), tokens the tokens, requests nothing.
    """
    taken_in = input_tokens if input_tokens is not None else hold.input_tokens or hold.hold.input_estimate
    put_out = output_tokens if output_tokens is not None else hold.output_tokens
    input_rate = _dearest(hold.hold.rates, INPUT_METERS, Meter.INPUT)
    output_rate = _dearest(hold.hold.rates, OUTPUT_METERS, Meter.OUTPUT)
    unpriced = (taken_in > 0 and input_rate is None) or (put_out > 0 and output_rate is None)
    unpriced = unpriced or not hold.hold.rates
    if not unpriced and hold.bound_nusd is not None:
        taken_in = _fit(input_rate, taken_in, hold.bound_nusd)
        put_out = _fit(output_rate, put_out, hold.bound_nusd - _cost(input_rate, taken_in))
    lines = tuple(
        _line(meter, quantity, None if unpriced else rate)
        for meter, quantity, rate in ((Meter.INPUT, taken_in, input_rate), (Meter.OUTPUT, put_out, output_rate))
        if quantity > 0
    )
    amount_nusd = None if unpriced else total_nusd(line.effective_nusd for line in lines)
    return AttemptEnd(
        ts_ms=ts_ms,
        attempt_id=hold.hold.attempt_id,
        outcome=outcome,
        cause=cause,
        status=status,
        posted=_posted(hold, amount_nusd, taken_in + put_out),
        lines=lines,
        state=CostState.UNPRICED.value if unpriced else CostState.ESTIMATED.value,
        source=UsageSource.ESTIMATED.value,
        list_nusd=None if unpriced else total_nusd(line.list_nusd for line in lines),
        effective_nusd=amount_nusd,
        billed_nusd=None if unpriced else total_nusd(line.billed_nusd for line in lines),
        raw_usage=raw_usage,
        served_tier=served_tier,
        model_served=model_served,
        finish_reason=finish_reason,
        upstream_id=upstream_id,
        ttft_us=ttft_us,
        duration_us=duration_us,
        input_tokens=taken_in,
        output_tokens=put_out,
        reported_nusd=reported_nusd,
    )


def total_nusd(amounts: Iterable[int | None]) -> int | None:
    """The sum, or None as soon as one is: what is not known makes the total unknown, never smaller."""
    total = 0
    for amount_nusd in amounts:
        if amount_nusd is None:
            return None
        total += amount_nusd
    return total


def _posted(hold: OpenHold, amount_nusd: int | None, tokens: int) -> tuple[Take, ...]:
    """What each counter has spent. The money is within the hold's bound already; a limit that holds less than the bound
    (`hold: estimate`) spends all of it nevertheless."""
    left = dict(hold.remaining)
    posted: list[Take] = []
    for take in hold.hold.takes:
        remaining = left.pop(take.counter, 0)
        match take.unit:
            case Unit.USD:
                amount = remaining if amount_nusd is None else amount_nusd
            case Unit.TOKENS:
                amount = min(tokens, remaining)
            case Unit.REQUESTS:
                amount = 0
        if amount > 0 or take.unit is Unit.USD:  # a correction has to know every counter of money, also one of 0
            posted.append(Take(take.counter, take.limit_id, take.unit, amount, take.expires_ms))
    return tuple(posted)


def _dearest(rates: tuple[PinnedRate, ...], meters: frozenset[Meter], plain: Meter) -> PinnedRate | None:
    """The plain meter's rate, or the dearest of its side where only special ones (audio, image) are pinned."""
    side = [rate for rate in rates if rate.meter == plain] or [rate for rate in rates if rate.meter in meters]
    dearest: PinnedRate | None = None
    for rate in side:
        if dearest is None or rate.rate_pico * dearest.per > dearest.rate_pico * rate.per:
            dearest = rate
    return dearest


def _cost(rate: PinnedRate | None, quantity: int) -> int:
    return 0 if rate is None else line_nusd(rate.rate_pico, quantity, rate.per)


def _fit(rate: PinnedRate | None, quantity: int, room_nusd: int) -> int:
    """The largest quantity up to `quantity` whose line is at most `room_nusd`."""
    if rate is None or rate.rate_pico == 0 or _cost(rate, quantity) <= room_nusd:
        return quantity
    # The line rounds half-even, so the last one that fits costs at most half a nano-USD more than the room.
    largest = (2 * room_nusd + 1) * rate.per * PICO_PER_NANO // (2 * rate.rate_pico)
    while largest > 0 and _cost(rate, largest) > room_nusd:
        largest -= 1
    return max(largest, 0)


def _line(meter: Meter, quantity: int, rate: PinnedRate | None) -> Line:
    if rate is None:
        return Line(meter.value, quantity, None, 1, None, None, "")
    amount_nusd = _cost(rate, quantity)
    listed_nusd = amount_nusd if rate.list_pico is None else line_nusd(rate.list_pico, quantity, rate.per)
    billed_nusd = None if rate.billed_pico is None else line_nusd(rate.billed_pico, quantity, rate.per)
    return Line(rate.meter, quantity, rate.rate_pico, rate.per, listed_nusd, amount_nusd, rate.row_id, billed_nusd)
