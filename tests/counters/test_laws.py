"""Laws of holding money, for any order of holds, ends, shrinks and counts, against a model of a few lines."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from gateway.core.limits import Want
from gateway.counters.memory import MemoryEngine
from tests.counters.examples import end, hold, make_id, settle, shrink, spent, void, want

COUNTERS = ("org|acme|day", "team|growth|day", "key|k|day")
Opened = tuple[int, dict[str, int]]


class Holding(RuleBasedStateMachine):
    """Calls that hold on one to three of three limits and end in every way a call can."""

    open = Bundle("open")

    @initialize(amounts=st.tuples(*[st.integers(0, 60)] * 3))
    def start(self, amounts: tuple[int, int, int]) -> None:
        self.engine = MemoryEngine()
        self.limits = dict(zip(COUNTERS, amounts, strict=True))
        self.number = 0
        # The model: what is spent, and what each open hold still reserves.
        self.spent = dict.fromkeys(COUNTERS, 0)
        self.held: dict[int, dict[str, int]] = {}

    def reserved(self, counter: str) -> int:
        return sum(amounts.get(counter, 0) for amounts in self.held.values())

    def wants(self, amounts: dict[str, int]) -> list[Want]:
        return [want(amount, self.limits[counter], counter=counter) for counter, amount in amounts.items()]

    @rule(target=open, amounts=st.dictionaries(st.sampled_from(COUNTERS), st.integers(0, 30), min_size=1))
    def reserve(self, amounts: dict[str, int]) -> object:
        wants = self.wants(amounts)
        blocked = self.engine.check(wants)
        room = {c: self.limits[c] - self.spent[c] - self.reserved(c) for c in amounts}
        tight = [c for c, amount in amounts.items() if amount and room[c] < amount]
        hopeless = [c for c in tight if self.limits[c] - self.spent[c] < amounts[c]]
        assert (blocked is None) == (not tight), "denied only if limit - spent - held < hold, and then always"
        if blocked is not None:
            assert blocked.by_spent == bool(hopeless)
            assert blocked.want.take.counter == (hopeless or tight)[0]
            assert (blocked.spent, blocked.reserved) == self.engine.standing(blocked.want.take.counter)
            return multiple()
        self.number += 1
        self.held[self.number] = dict(amounts)
        self.engine.apply(hold(self.number, wants), make_id(self.number))
        return self.number

    @rule(number=consumes(open), data=st.data())
    def post(self, number: int, data: st.DataObject) -> None:
        held = self.held.pop(number)
        posted = {c: data.draw(st.integers(0, amount)) for c, amount in held.items()}
        takes = [spent(made.take, posted[made.take.counter]) for made in self.wants(held)]
        self.engine.apply(end(number, takes), make_id(number))
        self.engine.apply(settle(number), make_id(number))
        for counter, amount in posted.items():
            self.spent[counter] += amount

    @rule(number=consumes(open))
    def void(self, number: int) -> None:
        del self.held[number]
        self.engine.apply(void(number), make_id(number))
        self.engine.apply(settle(number), make_id(number))

    @rule(number=open, data=st.data())
    def shrink(self, number: int, data: st.DataObject) -> None:
        freed = {c: data.draw(st.integers(0, amount)) for c, amount in self.held[number].items()}
        takes = [spent(made.take, freed[made.take.counter]) for made in self.wants(self.held[number])]
        self.engine.apply(shrink(number, takes), make_id(number))
        for counter, amount in freed.items():
            self.held[number][counter] -= amount

    @rule(counter=st.sampled_from(COUNTERS))
    def count(self, counter: str) -> None:
        """One counted at admission, recorded later by the SETTLE of a call that was refused."""
        wants = self.wants({counter: 1})
        if self.engine.check(wants) is not None:
            return
        self.number += 1
        self.engine.count(wants)
        self.spent[counter] += 1
        assert self.engine.standing(counter)[0] == self.spent[counter]
        self.engine.apply(settle(self.number, [wants[0].take]), make_id(self.number))

    @rule(data=st.data())
    def repeat_an_end(self, data: st.DataObject) -> None:
        """A second end of an ended attempt moves nothing."""
        ended = [number for number in range(1, self.number + 1) if number not in self.held]
        if ended:
            self.engine.apply(void(data.draw(st.sampled_from(ended))), make_id(10**6))

    @invariant()
    def books_balance(self) -> None:
        for counter in COUNTERS:
            posted, reserved = self.engine.standing(counter)
            assert (posted, reserved) == (self.spent[counter], self.reserved(counter))
            assert posted + reserved <= self.limits[counter], "money held and spent never exceeds the limit"
        assert self.engine.open_holds() == len(self.held)
        if not self.held:
            assert all(self.engine.standing(counter)[1] == 0 for counter in COUNTERS), "a hold never leaks"


TestHolding = Holding.TestCase
TestHolding.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
