"""What is true after every call, however it ended. `lawful` is asked at the end of every test of the path."""

from __future__ import annotations

import asyncio
from collections import Counter

from flow.fakes import Event
from flow.virtual_time import VirtualLoop
from flow.world import KEY_TEXTS, SECRET, World
from gateway.core.call import AnswerHead
from gateway.core.errors import FaregateError
from gateway.core.ids import ATTEMPT, CALL, print_id
from gateway.core.records import (
    AnyRecord,
    AttemptEnd,
    Dispatch,
    Hold,
    Settle,
    Void,
    encode_record,
)
from gateway.core.upstream import UpstreamRequest
from gateway.ledger.audit import audit

_STREAM = (b"content-type", b"text/event-stream; charset=utf-8")


def lawful(world: World) -> None:
    """Raises AssertionError naming the law that was broken."""
    _each_ended_once(world)
    _sent_only_what_was_recorded(world.events)
    _settled_before_the_last_byte(world.events)
    _counters_are_sums(world)
    _sums_add_up(world)
    _nothing_left_behind(world)
    _answers_are_whole(world)
    _no_secret_shown(world)


def _each_ended_once(world: World) -> None:
    identified = {entry.call_id for entry in world.journal.entries}
    settled = Counter(entry.call_id for entry in world.journal.entries if isinstance(entry.record, Settle))
    assert settled == Counter(dict.fromkeys(identified, 1)), "every identified call has exactly one SETTLE"
    refused = [call for call in world.calls if isinstance(call.error, FaregateError)]
    assert len(identified) == len(world.calls) - len(refused), "what was not identified is not recorded"
    holds = Counter(hold.attempt_id for hold in world.records(Hold))
    ends = Counter(end.attempt_id for end in (*world.records(AttemptEnd), *world.records(Void)))
    assert all(count == 1 for count in holds.values())
    assert holds == ends, "every HOLD is ended exactly once"
    last = {entry.call_id: entry.record for entry in world.journal.entries}
    assert all(isinstance(record, Settle) for record in last.values()), "nothing of a call follows its SETTLE"


def _sent_only_what_was_recorded(events: list[Event]) -> None:
    held: set[bytes] = set()
    announced: set[bytes] = set()
    sent: set[str] = set()
    for event in events:
        match event:
            case Event("append", Hold() as hold):
                held.add(hold.attempt_id)
            case Event("append", Dispatch() as dispatch):
                assert dispatch.attempt_id in held, "HOLD before DISPATCH"
                announced.add(dispatch.attempt_id)
            case Event("sent", UpstreamRequest() as request):
                ids = dict(request.headers)["x-request-id"]
                assert ids in {print_id(ATTEMPT, one) for one in announced}, "DISPATCH before anything is sent"
                assert ids not in sent, "an attempt is sent once"
                sent.add(ids)
            case _:
                continue


def _settled_before_the_last_byte(events: list[Event]) -> None:
    """A whole answer starts after SETTLE, so nothing but a stream is ever written before it."""
    settled: set[str] = set()
    streams: set[str] = set()
    for event in events:
        match event:
            case Event("append", Settle()):
                settled.add(event.call)
            case Event("start", AnswerHead() as head) if _STREAM in head.headers:
                streams.add(event.call)
            case Event("start"):
                assert event.call in settled, "settled before a whole answer starts"
            case Event("write", bytes() as data):
                assert event.call in streams, "only a stream is written in pieces"
                assert event.call in settled or b"[DONE]" not in data, "the terminal event is kept back until SETTLE"
            case Event("finish"):
                assert event.call in settled, "settled before the last byte"
            case _:
                continue


def _counters_are_sums(world: World) -> None:
    sums: Counter[str] = Counter()
    for record in world.records():
        for take in _taken(record):
            sums[take.counter] += take.amount
    books = world.engine.books
    for name in set(sums) | set(books.counters):
        assert world.engine.standing(name) == (sums[name], 0), f"{name} is the sum of what was posted"
    assert world.engine.open_holds() == 0
    assert world.engine.waiting() == 0
    found = audit(world.journal.entries)
    assert found.clean, found
    assert {name: spent for name, spent in found.spent.items() if spent} == {n: s for n, s in sums.items() if s}


def _taken(record: AnyRecord) -> tuple[object, ...]:
    match record:
        case AttemptEnd():
            return record.posted
        case Hold() | Settle():
            return record.counts
        case _:
            return ()


def _sums_add_up(world: World) -> None:
    """SETTLE says what its attempts cost; an attempt that was never dispatched cost nothing."""
    for settle, call_id in [(e.record, e.call_id) for e in world.journal.entries if isinstance(e.record, Settle)]:
        of_call = [entry.record for entry in world.journal.entries if entry.call_id == call_id]
        ends = [record for record in of_call if isinstance(record, AttemptEnd)]
        costs = [end.effective_nusd for end in ends]
        assert settle.effective_nusd == (None if None in costs else sum(costs))
        assert settle.attempts == sum(isinstance(record, Hold) for record in of_call)
        assert settle.outcome in {"ok", "refused", "error", "client_gone", "truncated"}
        assert settle.duration_us >= settle.overhead_us >= 0
        dispatched = {record.attempt_id for record in of_call if isinstance(record, Dispatch)}
        assert {end.attempt_id for end in ends} <= dispatched, "what was not dispatched is void, not ended"
        if not dispatched:
            assert settle.effective_nusd == 0, "nothing is charged for a call that was refused before dispatch"
        for hold in [record for record in of_call if isinstance(record, Hold)]:
            for end in ends:
                if end.attempt_id == hold.attempt_id and hold.bound_nusd is not None and end.effective_nusd is not None:
                    assert end.effective_nusd <= hold.bound_nusd


def _nothing_left_behind(world: World) -> None:
    assert not [reply for reply in world.upstream.replies if reply.open], "a provider is still at work"
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    assert loop.live_timers() == [], "a timer is still running"
    assert asyncio.all_tasks() == {asyncio.current_task()}, "a task is still running"


def _answers_are_whole(world: World) -> None:
    for call in world.calls:
        exchange = call.exchange
        if exchange.disconnect.gone or call.error is not None:
            continue
        assert exchange.finished, "every caller that is still there has an answer"
        assert exchange.header("x-request-id") in {print_id(CALL, entry.call_id) for entry in world.journal.entries}
        length = exchange.header("content-length")
        assert length is None or int(length) == len(exchange.sent)


def _no_secret_shown(world: World) -> None:
    shown = b"".join(
        [call.exchange.sent for call in world.calls]
        + [name + value for call in world.calls if call.exchange.head for name, value in call.exchange.head.headers]
        + [encode_record(record) for record in world.records()]
    )
    for secret in (SECRET, *KEY_TEXTS.values()):
        assert secret.encode() not in shown, "a credential is in an answer or a record"
