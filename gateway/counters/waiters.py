"""Calls that wait for what other calls hold: in order of arrival, those that were sent away before in front, woken only
while there may be room.

A lane is the queue before one limit's window: the counters that add up against it. A waiter stands in the lane that
blocks it now and is moved when another one turns out to; it is watched in all of its lanes, because spending in any of
them can make its wait hopeless. Room given to a woken waiter is promised to it until it has run, so that neither later
waiters nor newcomers are woken for the same room.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence

from gateway.core.limits import Want

Sums = Callable[[Iterable[str]], tuple[int, int]]
"""(spent, reserved) of some counters together, promises included in reserved."""


class Waiter:
    """One call that waits, and how often it was `sent_away` before. `future` is True when it should look again, False
    when its time is over."""

    __slots__ = ("future", "promised", "sent_away", "wants")

    def __init__(self, wants: tuple[Want, ...], future: asyncio.Future[bool], sent_away: int) -> None:
        self.wants = wants
        self.future = future
        self.sent_away = sent_away
        self.promised = False


class Lane:
    """Who stands before one limit's window, who else watches it, and how much spending nobody there minds."""

    __slots__ = ("counters", "least_slack", "queue", "watchers")

    def __init__(self, counters: tuple[str, ...]) -> None:
        self.counters = counters
        self.queue: OrderedDict[Waiter, Want] = OrderedDict()
        self.watchers: dict[Waiter, Want] = {}
        self.least_slack = 0

    def watch(self, waiter: Waiter, want: Want) -> None:
        slack = want.limit.amount - want.take.amount
        self.least_slack = min(self.least_slack, slack) if self.watchers else slack
        self.watchers[waiter] = want

    def stand(self, waiter: Waiter, want: Want) -> None:
        """At the end of the queue, but before all who were sent away less often."""
        self.queue[waiter] = want
        if waiter.sent_away:
            for other in [one for one in self.queue if one.sent_away < waiter.sent_away]:
                self.queue.move_to_end(other)


class Lanes:
    """All waiters of one engine. Every method is synchronous; only whoever awaits a waiter's future waits."""

    __slots__ = ("_by_counter", "_lanes", "_sums", "promised")

    def __init__(self, sums: Sums) -> None:
        self._sums = sums
        self._lanes: dict[tuple[str, ...], Lane] = {}
        self._by_counter: dict[str, dict[Lane, None]] = {}
        self.promised: dict[str, int] = {}

    def __len__(self) -> int:
        """How many calls wait."""
        return len({waiter for lane in self._lanes.values() for waiter in lane.watchers})

    def __bool__(self) -> bool:
        return bool(self._lanes)

    def join(self, wants: Sequence[Want], blocking: Want, future: asyncio.Future[bool], sent_away: int = 0) -> Waiter:
        """A waiter in its place in the lane of `blocking`."""
        waiter = Waiter(tuple(want for want in wants if want.enforced and want.take.amount), future, sent_away)
        for want in waiter.wants:
            self._lane(want).watch(waiter, want)
        self._lane(blocking).stand(waiter, blocking)
        return waiter

    def leave(self, waiter: Waiter) -> tuple[str, ...]:
        """Takes a waiter out, and back what was promised to it: the counters that others must now be woken for."""
        self._detach(waiter)
        if not waiter.promised:
            return ()
        waiter.promised = False
        for want in waiter.wants:
            left = self.promised[want.take.counter] - want.take.amount
            if left:
                self.promised[want.take.counter] = left
            else:
                del self.promised[want.take.counter]
        return tuple(want.take.counter for want in waiter.wants)

    def give_up(self, waiter: Waiter) -> None:
        """Ends a wait whose time is over."""
        if not waiter.future.done():
            self._detach(waiter)
            waiter.future.set_result(False)

    def wake(self, counters: Iterable[str]) -> None:
        """Serves the lanes of counters that were freed or spent from."""
        by_counter = self._by_counter
        for lane in {lane: None for name in counters for lane in by_counter.get(name, ())}:
            self._serve(lane)

    def wake_all(self) -> None:
        for lane in list(self._lanes.values()):
            self._serve(lane)

    def send_away(self) -> None:
        """Ends every wait without a promise: there is nothing to wait for any more."""
        for lane in list(self._lanes.values()):
            for waiter in list(lane.watchers):
                self._call(waiter, promise=False)

    def _serve(self, lane: Lane) -> None:
        spent, reserved = self._sums(lane.counters)
        if spent > lane.least_slack:
            for waiter, want in list(lane.watchers.items()):
                if spent + want.take.amount > want.limit.amount:
                    self._call(waiter, promise=False)
        while lane.queue:
            waiter, want = next(iter(lane.queue.items()))
            if waiter.future.done():  # cancelled, and its task has not run yet
                self._detach(waiter)
            elif spent + reserved + want.take.amount > want.limit.amount:
                return
            elif (obstacle := self._obstacle(waiter)) is None:
                self._call(waiter, promise=True)
                reserved += want.take.amount
            else:
                del lane.queue[waiter]
                self._lane(obstacle).stand(waiter, obstacle)

    def _obstacle(self, waiter: Waiter) -> Want | None:
        """The first of a waiter's wants that does not fit now."""
        for want in waiter.wants:
            spent, reserved = self._sums(want.counters)
            if spent + reserved + want.take.amount > want.limit.amount:
                return want
        return None

    def _call(self, waiter: Waiter, promise: bool) -> None:
        self._detach(waiter)
        if waiter.future.done():
            return
        if promise:
            waiter.promised = True
            for want in waiter.wants:
                name = want.take.counter
                self.promised[name] = self.promised.get(name, 0) + want.take.amount
        waiter.future.set_result(True)

    def _lane(self, want: Want) -> Lane:
        lane = self._lanes.get(want.counters)
        if lane is None:
            lane = self._lanes[want.counters] = Lane(want.counters)
            for name in want.counters:
                self._by_counter.setdefault(name, {})[lane] = None
        return lane

    def _detach(self, waiter: Waiter) -> None:
        """Out of every lane; a lane without watchers ceases to exist."""
        for want in waiter.wants:
            lane = self._lanes.get(want.counters)
            if lane is None:
                continue
            lane.queue.pop(waiter, None)
            lane.watchers.pop(waiter, None)
            if not lane.watchers:
                del self._lanes[want.counters]
                for name in lane.counters:
                    lanes = self._by_counter[name]
                    del lanes[lane]
                    if not lanes:
                        del self._by_counter[name]
