"""Limits in the memory of one worker: a fold over the journal's records, and calls waiting for room in it.

There is no lock: check, append and apply follow each other without an await, so nothing comes between them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import ClassVar

from gateway.core.handover import HandedOver
from gateway.core.limits import Blocked, Take, Want
from gateway.core.records import AnyRecord, Hold, Settle
from gateway.counters.waiters import Lanes
from gateway.ledger.fold import Books
from gateway.limits.frees import frees_ms

KEPT_AHEAD = 4096
"""Counters with counts ahead of their records before expired ones are looked for and dropped."""


_COUNTING = (Hold, Settle)


class MemoryEngine:
    """The LimitEngine of a single worker. Restarted from a checkpoint's books and the journal's tail by `reseed`.

    `would_refuse` counts, by limit id, what a limit in dry run or alert mode would have refused of what was granted.
    `overran` are those of the wants that fitted when `check` was asked last; whoever grants tells with `granted`.
    """

    name: ClassVar[str] = "memory"

    __slots__ = ("_ahead", "_books", "_handed_over", "_lanes", "overran", "would_refuse")

    def __init__(self, books: Books | None = None) -> None:
        self._books = books if books is not None else Books()
        self._lanes = Lanes(self._sums)
        # Counts taken at admission whose record is not folded yet: counter to (amount, expires_ms).
        self._ahead: dict[str, tuple[int, int]] = {}
        self._handed_over = False
        self.would_refuse: dict[str, int] = {}
        self.overran: tuple[str, ...] = ()

    @property
    def books(self) -> Books:
        return self._books

    def reseed(self, books: Books) -> None:
        """Goes on from other books: at start, after a checkpoint was loaded and the journal's tail folded."""
        self._books = books
        self._ahead.clear()
        self._lanes.wake_all()

    def hand_over(self) -> None:
        """Another engine goes on from the same records: this one grants nothing more, and whoever waits is sent away
        with HandedOver. Ends are still folded."""
        self._handed_over = True
        self._lanes.send_away()

    # ------------------------------------------------------------ the port

    def check(self, wants: Sequence[Want]) -> Blocked | None:
        """The first enforced limit the wants do not fit into, one exceeded by spending before one that is merely
        reserved, or None. A want of 0 always fits: free models pass an exhausted budget. Raises HandedOver."""
        if self._handed_over:
            raise HandedOver
        counters, ahead, promised = self._books.counters, self._ahead, self._lanes.promised
        blocked: Want | None = None
        self.overran = ()
        for want in wants:
            amount = want.take.amount
            if not amount:
                continue
            spent = reserved = 0
            for name in want.counters:
                if name in counters:
                    counter = counters[name]
                    spent += counter.spent
                    reserved += counter.reserved
                if name in ahead:
                    spent += ahead[name][0]
            if promised:
                for name in want.counters:
                    reserved += promised.get(name, 0)
            if spent + reserved + amount <= want.limit.amount:
                continue
            if not want.enforced:
                self.overran = (*self.overran, want.limit.id)
            elif spent + amount > want.limit.amount:
                return self._blocked(want)
            elif blocked is None:
                blocked = want
        return None if blocked is None else self._blocked(blocked)

    def granted(self, overran: Iterable[str]) -> None:
        """A call was let in that these limits, by their ids, would have refused if they refused anything."""
        for limit_id in overran:
            self.would_refuse[limit_id] = self.would_refuse.get(limit_id, 0) + 1

    def count(self, wants: Sequence[Want]) -> None:
        """Spends the wants' takes ahead of any record of them."""
        if len(self._ahead) > KEPT_AHEAD:
            self._drop_expired()
        for want in wants:
            take = want.take
            amount, _ = self._ahead.get(take.counter, (0, 0))
            self._ahead[take.counter] = (amount + take.amount, take.expires_ms)

    def apply(self, record: AnyRecord, call_id: bytes) -> None:
        """Folds a record, and wakes who waited for what it frees or can no longer get what it spends."""
        freed = self._books.apply(record, call_id)
        if self._ahead and isinstance(record, _COUNTING) and record.counts:
            self._recorded(record.counts)
        if freed and self._lanes:
            self._lanes.wake(freed)

    def follow(self, record: AnyRecord, call_id: bytes) -> None:
        """Folds a record of another worker's journal. As `apply`, but its counts were ahead there, not here."""
        freed = self._books.apply(record, call_id)
        if freed and self._lanes:
            self._lanes.wake(freed)

    async def freed(self, wants: Sequence[Want], timeout_s: float, sent_away: int = 0) -> bool:
        """Waits, first come first served, until the wants may fit or one is exceeded by spending; False on time-out.

        `sent_away` says how often the call was told before to come again: who was, stands in front of those who were
        less often. The room a waiter is woken for is kept for it until it has run, so it must check and apply without
        awaiting.
        """
        obstacle = self._obstacle(wants)
        if obstacle is None or self._handed_over:
            return True
        if timeout_s <= 0:
            return False
        loop = asyncio.get_running_loop()
        waiter = self._lanes.join(wants, obstacle, loop.create_future(), sent_away)
        timer = loop.call_later(timeout_s, self._lanes.give_up, waiter)
        try:
            return await waiter.future
        finally:
            timer.cancel()
            returned = self._lanes.leave(waiter)
            if returned:
                # After the caller's next steps: what it does not take of its promise is the next waiter's.
                loop.call_soon(self._lanes.wake, returned)

    def standing(self, counter: str) -> tuple[int, int]:
        spent, reserved = self._books.standing(counter)
        return spent + self._ahead.get(counter, (0, 0))[0], reserved

    def spent(self, counters: Sequence[str]) -> int:
        known, ahead = self._books.counters, self._ahead
        total = 0
        for name in counters:
            if name in known:
                total += known[name].spent
            if name in ahead:
                total += ahead[name][0]
        return total

    def used(self, counters: Sequence[str]) -> int:
        known, ahead = self._books.counters, self._ahead
        total = 0
        for name in counters:
            if name in known:
                counter = known[name]
                total += counter.spent + counter.reserved
            if name in ahead:
                total += ahead[name][0]
        return total

    def open_holds(self) -> int:
        return len(self._books.holds)

    def waiting(self) -> int:
        """How many calls wait for room."""
        return len(self._lanes)

    # ------------------------------------------------------------ sums

    def _sums(self, names: Iterable[str]) -> tuple[int, int]:
        counters, ahead, promised = self._books.counters, self._ahead, self._lanes.promised
        spent = reserved = 0
        for name in names:
            counter = counters.get(name)
            if counter is not None:
                spent += counter.spent
                reserved += counter.reserved
            if name in ahead:
                spent += ahead[name][0]
            reserved += promised.get(name, 0)
        return spent, reserved

    def _obstacle(self, wants: Sequence[Want]) -> Want | None:
        """What a call would wait for; None when there is nothing to wait for: all fits, or spending is final."""
        obstacle: Want | None = None
        for want in wants:
            if not want.enforced or not want.take.amount:
                continue
            spent, reserved = self._sums(want.counters)
            if spent + want.take.amount > want.limit.amount:
                return None
            if obstacle is None and spent + reserved + want.take.amount > want.limit.amount:
                obstacle = want
        return obstacle

    def _blocked(self, want: Want) -> Blocked:
        sums = [self._sums((name,)) for name in want.counters]
        spent = sum(amount for amount, _ in sums)
        reserved = sum(amount for _, amount in sums)
        return Blocked(
            want=want,
            spent=spent,
            reserved=reserved,
            by_spent=spent + want.take.amount > want.limit.amount,
            frees_ms=frees_ms(want, [amount for amount, _ in sums], reserved),
        )

    # ------------------------------------------------------------ counts ahead of their records

    def _recorded(self, counts: tuple[Take, ...]) -> None:
        """The fold has spent these now: they are no longer ahead."""
        for take in counts:
            amount, expires_ms = self._ahead.get(take.counter, (0, 0))
            if amount > take.amount:
                self._ahead[take.counter] = (amount - take.amount, expires_ms)
            else:
                self._ahead.pop(take.counter, None)

    def _drop_expired(self) -> None:
        newest_ms = self._books.newest_ms
        self._ahead = {name: entry for name, entry in self._ahead.items() if not entry[1] or entry[1] > newest_ms}


MEMBER = MemoryEngine
