"""Records and wants for driving a limit engine without a gateway around it."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.core.limits import Limit, Take, Unit, Want, Window, WindowKind
from gateway.core.ports import LimitEngine
from gateway.core.records import AttemptEnd, Correct, Features, Hold, Settle, Shrink, Void

NOW_MS = 1_795_608_000_000
DAY = Window(WindowKind.DAY)


def make_id(number: int) -> bytes:
    return number.to_bytes(16, "big")


def want(
    amount: int,
    limit_amount: int,
    *,
    counter: str = "b|k|day",
    counters: Sequence[str] = (),
    unit: Unit = Unit.USD,
    enforced: bool = True,
    expires_ms: int = NOW_MS + 10**9,
) -> Want:
    limit_id = counter.partition("|")[0]
    return Want(
        take=Take(counter, limit_id, unit, amount, expires_ms),
        limit=Limit(limit_id, unit, limit_amount, DAY, (("key", "k"),)),
        counters=tuple(counters) or (counter,),
        resets_ms=NOW_MS + 10**8,
        enforced=enforced,
    )


def hold(number: int, wants: Sequence[Want], counts: Sequence[Take] = (), ts_ms: int = NOW_MS) -> Hold:
    return Hold(
        ts_ms=ts_ms, attempt_id=make_id(number), attempt_no=1, org="acme", team="growth", key_id="k", user="",
        session="", tags=(), endpoint="chat.completions", model_asked="m", deployment="p/m", provider="p", model="m",
        config_revision=1, started_ms=ts_ms, takes=tuple(want.take for want in wants), counts=tuple(counts),
        bound_nusd=sum(want.take.amount for want in wants), input_estimate=0, rates=(),
    )  # fmt: skip


def end(number: int, posted: Sequence[Take], ts_ms: int = NOW_MS) -> AttemptEnd:
    return AttemptEnd(
        ts_ms=ts_ms, attempt_id=make_id(number), outcome="ok", cause="", status=200, posted=tuple(posted), lines=(),
        state="priced", source="provider", list_nusd=0, effective_nusd=0, raw_usage=b"", served_tier="",
        model_served="m", finish_reason="stop", upstream_id="", ttft_us=-1, duration_us=1,
    )  # fmt: skip


def settle(number: int, counts: Sequence[Take] = (), ts_ms: int = NOW_MS) -> Settle:
    return Settle(
        ts_ms=ts_ms, attempt_id=make_id(number), started_ms=ts_ms, org="acme", team="growth", key_id="k", user="",
        session="", tags=(), config_revision=1, verdicts=(), features=Features(), endpoint="chat.completions",
        stream=False, model_asked="m", model_planned="m", model_served="m", deployment="p/m", provider="p", attempts=1,
        causes=(), outcome="ok", status=200, error_code="", finish_reason="stop", refusal=False, ttft_us=-1,
        duration_us=1, overhead_us=1, cost_state="priced", list_nusd=0, effective_nusd=0, input_tokens=0,
        output_tokens=0, row_ids=(), raw_usage=b"", trace_id=b"", span_id=b"", counts=tuple(counts),
    )  # fmt: skip


def void(number: int) -> Void:
    return Void(ts_ms=NOW_MS, attempt_id=make_id(number), cause="connect")


def shrink(number: int, freed: Sequence[Take]) -> Shrink:
    return Shrink(ts_ms=NOW_MS, attempt_id=make_id(number), freed=tuple(freed), bound_nusd=None)


def correct(number: int, takes: Sequence[Take], ts_ms: int = NOW_MS) -> Correct:
    return Correct(ts_ms=ts_ms, attempt_id=make_id(number), revision=1, takes=tuple(takes), reason="invoice")


def spent(take: Take, amount: int) -> Take:
    return Take(take.counter, take.limit_id, take.unit, amount, take.expires_ms)


def take_hold(engine: LimitEngine, number: int, wants: Sequence[Want]) -> bool:
    """Check and hold in one breath, as the path does."""
    if engine.check(wants) is not None:
        return False
    engine.apply(hold(number, wants), make_id(number))
    return True


def finish(engine: LimitEngine, number: int, wants: Sequence[Want], amount: int) -> None:
    """Ends a hold with `amount` spent of each of its counters."""
    engine.apply(end(number, [spent(want.take, amount) for want in wants]), make_id(number))
    engine.apply(settle(number), make_id(number))
