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
    ALERT = "alert"
    DRY_RUN = "dry_run"


class HoldKind(StrEnum):
    BOUND = "bound"
    ESTIMATE = "estimate"


class Limit(msgspec.Struct, frozen=True, array_like=True):
    """At most `amount` of `unit` in each window. `scope` is (dimension, value) pairs; dimension `key`, `team`, `org`.

    `origin` is `sql` or `file:line`: who may change it. The unit's amount is an integer (nano-USD, requests, tokens).
    """

    id: str
    unit: Unit
    amount: int
    window: Window
    scope: tuple[tuple[str, str], ...]
    on_exceed: OnExceed = OnExceed.BLOCK
    hold: HoldKind = HoldKind.BOUND
    origin: str = "sql"


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
