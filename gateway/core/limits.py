"""Limits, takes and what stands in a call's way. Budgets and rates are one mechanism over different units."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Unit(StrEnum):
    USD = "usd"
    """Amounts are nano-USD."""
    REQUESTS = "requests"
    TOKENS = "tokens"


class WindowKind(StrEnum):
    TOTAL = "total"
    ROLLING = "rolling"
    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"


class Window(msgspec.Struct, frozen=True, array_like=True):
    """A calendar window in a time zone, a rolling one of `length_s` seconds, or all time."""

    kind: WindowKind
    length_s: int = 0
    zone: str = "UTC"


class OnExceed(StrEnum):
    BLOCK = "block"
    DOWNGRADE = "downgrade"
    CAP_OUTPUT = "cap_output"
    ALERT = "alert"
    DRY_RUN = "dry_run"


ENFORCING = frozenset({OnExceed.BLOCK, OnExceed.DOWNGRADE, OnExceed.CAP_OUTPUT})
"""What keeps calls within a limit; the other actions only watch."""


class HoldKind(StrEnum):
    BOUND = "bound"
    ESTIMATE = "estimate"


EACH = "*"
"""A scope's value that stands for each value there is: every one has counters of its own."""


class Limit(msgspec.Struct, frozen=True, array_like=True):
    """At most `amount` of `unit` in each window. `scope` is (dimension, value) pairs, all of which must match a call.

    Dimensions are `org`, `team`, `key`, `user`, `session`, `tag:NAME`, `model`, `provider`, `deployment`; a value may
    be EACH. `origin` is `sql` or `file:line`: who may change it. Amounts are integers (nano-USD, requests, tokens).
    `name` is for people. `max_values` bounds how many values that callers send may have counters at a time (0: the
    scope names none). `alerts` are per cent of the amount. Until `increase_until_ms`, `increase` is added to it.
    `downgrade_to` is the public model that `downgrade` goes on with; `min_output` the fewest tokens a choice that
    `cap_output` leaves (0: of another action).
    """

    id: str
    unit: Unit
    amount: int
    window: Window
    scope: tuple[tuple[str, str], ...]
    on_exceed: OnExceed = OnExceed.BLOCK
    hold: HoldKind = HoldKind.BOUND
    origin: str = "sql"
    name: str = ""
    max_values: int = 0
    alerts: tuple[int, ...] = ()
    increase: int = 0
    increase_until_ms: int = 0
    downgrade_to: str = ""
    min_output: int = 0

    def amount_at(self, now_ms: int) -> int:
        """What it allows at `now_ms`, the temporary increase included."""
        return self.amount + self.increase if now_ms < self.increase_until_ms else self.amount


class Suspension(msgspec.Struct, frozen=True, array_like=True):
    """Until `until_ms` no limit refuses a call that matches `scope` (of one limit only, if `limit_id` names it).

    Everything is counted on. `reason` and `actor` are for the log.
    """

    id: str
    scope: tuple[tuple[str, str], ...]
    until_ms: int
    reason: str
    actor: str
    created_ms: int
    limit_id: str = ""


class Take(msgspec.Struct, frozen=True, array_like=True):
    """`amount` of one counter. The counter's name holds limit, scope value and window, so a window needs no reset.

    `expires_ms` is when the counter can no longer matter (0: never); the fold drops it after that.
    """

    counter: str
    limit_id: str
    unit: Unit
    amount: int
    expires_ms: int = 0


class Want(msgspec.Struct, frozen=True):
    """A take to be made and the limit it is made against.

    `counters` are all the counters that add up against `limit_amount` (several for a rolling window); the take goes
    into `take.counter`. `resets_ms` is when the window ends (None: never); `enforced` is False for dry runs and
    alerts.
    """

    take: Take
    limit: Limit
    counters: tuple[str, ...]
    resets_ms: int | None
    enforced: bool = True


class Blocked(msgspec.Struct, frozen=True):
    """The first limit that a set of wants does not fit into.

    `by_spent` is True when what is already spent plus this amount exceeds the limit, False when only other calls'
    reservations are in the way. `frees_ms` is when enough of a rolling or calendar window will have ended.
    """

    want: Want
    spent: int
    reserved: int
    by_spent: bool
    frees_ms: int | None
