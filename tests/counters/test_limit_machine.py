"""Limits, counters and the fold as one machine, over a simulated disk and clock, against a model of forty lines.

Calls hold, shrink, settle, are voided or end by estimate; those that do not fit are capped to what is left or go on
with a cheaper model's hold; the worker crashes, also in the middle of an append, and is started again from checkpoint
and journal; limits change and grow for a time; the clock leaps. At every step: no grant
that the model has no room for (an overspend), no refusal that it has (a false denial: limit − spent − held ≥ hold), and
nothing held that no open hold holds (a leak).

A few thousand steps; `LIMIT_MACHINE_STEPS=100000 pytest tests/counters/test_limit_machine.py` takes that many.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from gateway.core.caller import Caller, KeyRecord
from gateway.core.limits import EACH, Limit, OnExceed, Take, Unit, Want, Window, WindowKind
from gateway.core.records import (
    TYPE_OF,
    AnyRecord,
    AttemptEnd,
    Dispatch,
    RecordType,
    Void,
    decode_record,
    encode_record,
)
from gateway.counters.memory import MemoryEngine
from gateway.ledger.adopt import closing_records
from gateway.ledger.estimate import estimated_end
from gateway.ledger.fold import Books
from gateway.limits.rules import Rules
from gateway.limits.scope import whole_scope
from gateway.limits.wants import Wants
from tests.counters.examples import NOW_MS, end, hold, make_id, settle, shrink, spent

STEPS_EACH = 50
STEPS = int(os.environ.get("LIMIT_MACHINE_STEPS", "6000"))
HOUR_MS, DAY_MS = 3_600_000, 86_400_000
BACK_MS = 10_000
"""How far a clock may be set back: less than any counter outlives its window."""
KEYS = {
    name: KeyRecord(name, name, "acme", team, "data", ())
    for name, team in (("k0", "growth"), ("k1", "growth"), ("k2", "sales"))
}

ADMITTED, RESERVED = frozenset({Unit.REQUESTS}), frozenset({Unit.USD, Unit.TOKENS})

Place = tuple[str, tuple[str, ...], int]


class Model:
    """What is spent and held of every limit: nothing is forgotten, and nothing is shared with the code under test."""

    SHAPES = {  # unit, length of a window's part in ms (0: all time), parts that add up, what tells counters apart
        "all": (Unit.USD, 0, 1, ("key",)),
        "day": (Unit.USD, DAY_MS, 1, ("team",)),
        "hour": (Unit.USD, HOUR_MS, 1, ()),
        "rate": (Unit.REQUESTS, 1000, 13, ("key",)),
        "user": (Unit.TOKENS, 1000, 13, ("key", "user")),
        "watch": (Unit.USD, DAY_MS, 1, ("key",)),
    }

    def __init__(self, amounts: dict[str, int]) -> None:
        self.amounts = dict(amounts)
        self.more: dict[str, tuple[int, int]] = {}
        self.spent: Counter[Place] = Counter()
        self.held: dict[int, dict[Place, int]] = {}

    def place(self, id: str, key: str, user: str, now_ms: int, back: int = 0) -> Place | None:
        _, size_ms, _, dimensions = self.SHAPES[id]
        told = {"key": key, "user": user, "team": KEYS[key].team}
        values = tuple(told[dimension] for dimension in dimensions)
        if "" in values or (id == "all" and key != "k0"):
            return None
        return id, values, now_ms // size_ms - back if size_ms else 0

    def used(self, id: str, key: str, user: str, now_ms: int) -> tuple[int, int]:
        places = {self.place(id, key, user, now_ms, back) for back in range(self.SHAPES[id][2])}
        held = sum(amount for hold in self.held.values() for place, amount in hold.items() if place in places)
        return sum(self.spent[place] for place in places if place is not None), held

    def room(self, id: str, key: str, user: str, now_ms: int) -> int:
        by, until_ms = self.more.get(id, (0, 0))
        return self.amounts[id] + (by if now_ms < until_ms else 0) - sum(self.used(id, key, user, now_ms))

    def post(self, number: int, posted: dict[Place, int]) -> None:
        held = self.held.pop(number)
        assert all(0 <= amount <= held.get(place, 0) for place, amount in posted.items()), "posted more than held"
        self.spent.update(posted)


def limit_of(id: str, amount: int) -> Limit:
    unit, size_ms, parts, _ = Model.SHAPES[id]
    scope = {
        "all": {"key": "k0"}, "day": {"team": EACH}, "hour": {}, "user": {"key": EACH, "user": EACH},
        "rate": {"key": EACH}, "watch": {"key": EACH},
    }[id]  # fmt: skip
    kinds = {0: WindowKind.TOTAL, HOUR_MS: WindowKind.HOUR, DAY_MS: WindowKind.DAY}
    window = Window(kinds[size_ms]) if parts == 1 else Window(WindowKind.ROLLING, 12)
    action = OnExceed.DRY_RUN if id == "watch" else OnExceed.BLOCK
    return Limit(id, unit, amount, window, whole_scope(scope.items()), action, max_values=100 if id == "user" else 0)


class Running:
    """An open attempt: what it wanted, and where the model counts each."""

    def __init__(self, number: int, wants: list[Want], places: list[Place]) -> None:
        self.number, self.wants, self.places = number, wants, places

    def takes(self, amounts: list[int]) -> list[Take]:
        return [spent(want.take, amount) for want, amount in zip(self.wants, amounts, strict=True)]


class LimitMachine(RuleBasedStateMachine):
    open = Bundle("open")

    @initialize(amounts=st.fixed_dictionaries({id: st.integers(0, 80) for id in Model.SHAPES}))
    def start(self, amounts: dict[str, int]) -> None:
        self.now_ms = self.newest_ms = NOW_MS
        self.model = Model(amounts)
        self.number = 0
        self.running: dict[int, Running] = {}
        self.disk: list[tuple[RecordType, bytes, bytes]] = []
        self.checkpoint: tuple[int, bytes] = (0, Books().dump())
        self.restart()

    # ------------------------------------------------------------ the worker

    def restart(self) -> None:
        """From checkpoint and disk; what the dead worker left open is ended as the bookkeeper would."""
        position, dumped = self.checkpoint
        books = Books.load(dumped)
        for kind, call_id, payload in self.disk[position:]:
            books.apply(decode_record(kind, payload), call_id)
        self.engine = MemoryEngine(books)
        for call_id, record in closing_records(books, self.now_ms):
            self.append(record, call_id)
            if isinstance(record, Void | AttemptEnd):
                self.ended(int.from_bytes(record.attempt_id, "big"), record)
        self.wants = Wants(live=lambda: tuple(books.counters))
        self.configure()

    def ended(self, number: int, record: Void | AttemptEnd) -> None:
        attempt = self.running.pop(number)
        posted = {take.counter: take.amount for take in getattr(record, "posted", ())}
        names = [want.take.counter for want in attempt.wants]
        assert set(posted) <= set(names)
        self.model.post(number, {place: posted.get(name, 0) for place, name in zip(attempt.places, names, strict=True)})

    def configure(self) -> None:
        limits = [limit_of(id, amount) for id, amount in self.model.amounts.items()]
        grown = [
            msgspec.structs.replace(one, increase=more[0], increase_until_ms=more[1])
            if (more := self.model.more.get(one.id)) is not None
            else one
            for one in limits
        ]
        self.wants.use(Rules(grown))

    def write(self, record: AnyRecord, call_id: bytes) -> None:
        self.disk.append((TYPE_OF[type(record)], call_id, encode_record(record)))

    def append(self, record: AnyRecord, call_id: bytes) -> None:
        self.write(record, call_id)
        self.engine.apply(record, call_id)

    # ------------------------------------------------------------ calls

    @rule(
        target=open,
        key=st.sampled_from(("k0", "k0", "k1", "k2")),
        user=st.sampled_from(("", "ann", "bob")),
        nusd=st.integers(0, 25),
        tokens=st.integers(0, 25),
        dispatched=st.booleans(),
        fate=st.sampled_from(("goes on",) * 8 + ("torn", "written")),
        action=st.sampled_from(("block", "block", "cap", "downgrade")),
    )
    def call(self, key: str, user: str, nusd: int, tokens: int, dispatched: bool, fate: str, action: str) -> object:
        caller, model, now_ms = Caller(KEYS[key], user), self.model, self.now_ms
        rate = self.wants.admit(KEYS[key], "m", now_ms, caller)
        self.agree(rate, key, user, ADMITTED)
        if self.decide(rate, key, user) is not None:
            return multiple()
        self.number += 1
        number, call_id = self.number, make_id(self.number)
        self.engine.count(rate)
        counts = [want.take for want in rate]
        counted = [place for want in rate if (place := model.place(want.limit.id, key, user, now_ms)) is not None]
        model.spent.update(counted)
        wants = list(self.wants.reserve(KEYS[key], now_ms, nusd, tokens, caller))
        self.agree(wants, key, user, RESERVED)
        if self.decide(wants, key, user) is not None:
            smaller = None if action == "block" else self.smaller(action, wants, key, user, nusd, tokens)
            if smaller is None:
                self.append(settle(number, counts, ts_ms=now_ms), call_id)
                return multiple()
            wants = smaller
        record = hold(number, wants, counts, ts_ms=now_ms)
        if fate == "torn":  # the worker dies while it writes: nothing was believed, nothing was sent
            model.spent.subtract(counted)
            self.restart()
            return multiple()
        places = [model.place(want.limit.id, key, user, now_ms) for want in wants]
        attempt = self.running[number] = Running(number, wants, [place for place in places if place is not None])
        model.held[number] = dict(zip(attempt.places, (want.take.amount for want in wants), strict=True))
        if fate == "written":  # it dies between the append and believing it
            self.write(record, call_id)
            self.restart()
            return multiple()
        self.append(record, call_id)
        if dispatched:
            self.append(Dispatch(now_ms, record.attempt_id), call_id)
        return number

    def smaller(
        self, action: str, wants: Sequence[Want], key: str, user: str, nusd: int, tokens: int
    ) -> list[Want] | None:
        """What a call wants that does not fit as it is: a cap takes what is left of every limit in the way and then
        fits; another model costs half, and may not fit either."""
        most = {Unit.USD: nusd, Unit.TOKENS: tokens}
        if action == "downgrade":
            most = {unit: amount // 2 for unit, amount in most.items()}
        for want in wants if action == "cap" else ():
            blocked = self.engine.check((want,)) if want.enforced else None
            if blocked is not None:
                room = want.limit.amount - blocked.spent - blocked.reserved
                assert room == self.model.room(want.limit.id, key, user, self.now_ms), "the room that a cap goes by"
                most[want.limit.unit] = min(most[want.limit.unit], room)
        if min(most.values()) < 0:
            return None
        caller = Caller(KEYS[key], user)
        made = list(self.wants.reserve(KEYS[key], self.now_ms, most[Unit.USD], most[Unit.TOKENS], caller))
        blocked = self.decide(made, key, user)
        assert blocked is None or action == "downgrade", "a cap fits"
        return made if blocked is None else None

    def decide(self, wants: Sequence[Want], key: str, user: str) -> object:
        """The engine's verdict, which must be the model's: blocked if and only if there is no room."""
        blocked = self.engine.check(wants)
        tight = {
            want.limit.id
            for want in wants
            if want.enforced and 0 < want.take.amount > self.model.room(want.limit.id, key, user, self.now_ms)
        }
        assert (blocked is not None) == bool(tight), "an overspend" if tight else "a false denial"
        if blocked is not None:
            id = blocked.want.limit.id
            assert id in tight
            used, _ = self.model.used(id, key, user, self.now_ms)
            assert blocked.by_spent == (used + blocked.want.take.amount > blocked.want.limit.amount)
        return blocked

    def agree(self, wants: Sequence[Want], key: str, user: str, units: frozenset[Unit]) -> None:
        """Every limit that matches is taken and no other, and its counters hold what the model says."""
        matching = [id for id in Model.SHAPES if self.model.place(id, key, user, self.now_ms) is not None]
        assert sorted(want.limit.id for want in wants) == [id for id in matching if Model.SHAPES[id][0] in units]
        for want in wants:
            standings = [self.engine.standing(name) for name in want.counters]
            found = sum(amount for amount, _ in standings), sum(amount for _, amount in standings)
            assert found == self.model.used(want.limit.id, key, user, self.now_ms), want.limit.id

    def live(self, number: int) -> Running | None:
        """The attempt, unless a crash has ended it."""
        return self.running.get(number)

    @rule(number=consumes(open), data=st.data())
    def settles(self, number: int, data: st.DataObject) -> None:
        attempt = self.live(number)
        if attempt is not None:
            held = self.model.held[number]
            amounts = [data.draw(st.integers(0, held[place])) for place in attempt.places]
            record = end(number, attempt.takes(amounts), ts_ms=self.now_ms)
            self.append(record, make_id(number))
            self.ended(number, record)
            self.append(settle(number, ts_ms=self.now_ms), make_id(number))

    @rule(number=consumes(open))
    def voided(self, number: int) -> None:
        if self.live(number) is not None:
            record = Void(self.now_ms, make_id(number), "connect")
            self.append(record, make_id(number))
            self.ended(number, record)
            self.append(settle(number, ts_ms=self.now_ms), make_id(number))

    @rule(number=consumes(open))
    def expires(self, number: int) -> None:
        """Nobody reported what it used: it ends by an estimate within its hold."""
        if self.live(number) is not None:
            held = self.engine.books.holds[make_id(number)]
            record = estimated_end(held, ts_ms=self.now_ms, outcome="lost", cause="timeout")
            self.append(record, make_id(number))
            self.ended(number, record)
            self.append(settle(number, ts_ms=self.now_ms), make_id(number))

    @rule(number=open, data=st.data())
    def shrinks(self, number: int, data: st.DataObject) -> None:
        attempt = self.live(number)
        if attempt is not None:
            held = self.model.held[number]
            freed = [data.draw(st.integers(0, held[place])) for place in attempt.places]
            record = msgspec.structs.replace(shrink(number, attempt.takes(freed)), ts_ms=self.now_ms)
            self.append(record, make_id(number))
            for place, amount in zip(attempt.places, freed, strict=True):
                held[place] -= amount

    # ------------------------------------------------------------ the world

    @rule()
    def crash(self) -> None:
        self.restart()

    @rule()
    def save(self) -> None:
        self.checkpoint = (len(self.disk), self.engine.books.dump())

    @rule(id=st.sampled_from(sorted(Model.SHAPES)), amount=st.integers(0, 80))
    def change(self, id: str, amount: int) -> None:
        self.model.amounts[id] = amount
        self.configure()

    @rule(
        id=st.sampled_from(sorted(Model.SHAPES)), by=st.integers(1, 40), lasts_ms=st.sampled_from((500, 5000, DAY_MS))
    )
    def increase(self, id: str, by: int, lasts_ms: int) -> None:
        self.model.more[id] = (by, self.now_ms + lasts_ms)
        self.configure()

    @rule(
        by_ms=st.sampled_from(
            (1, 400, 1000, 5000, 12_000, 12_000, 13_000, HOUR_MS // 2, HOUR_MS, 7 * HOUR_MS, DAY_MS, 40 * DAY_MS)
        )
    )
    def pass_time(self, by_ms: int) -> None:
        self.now_ms += by_ms
        self.newest_ms = max(self.newest_ms, self.now_ms)

    @rule(by_ms=st.integers(1, BACK_MS))
    def set_back(self, by_ms: int) -> None:
        self.now_ms = max(self.now_ms - by_ms, self.newest_ms - BACK_MS)

    @invariant()
    def nothing_leaks(self) -> None:
        assert self.engine.open_holds() == len(self.running) == len(self.model.held)
        reserved = sum(counter.reserved for counter in self.engine.books.counters.values())
        assert reserved == sum(amount for held in self.model.held.values() for amount in held.values())
        assert self.engine.books.anomaly_count == 0


TestLimitMachine = LimitMachine.TestCase
TestLimitMachine.settings = settings(
    max_examples=max(1, STEPS // STEPS_EACH),
    stateful_step_count=STEPS_EACH,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
