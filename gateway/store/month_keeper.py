"""Keeps months ahead of time while the ledger is written, and takes old ones out when an operator asks for it."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.core.errors import BadRequest, StoreUnavailable
from gateway.store import months
from gateway.store.engine import is_sqlite, reading, writing
from gateway.store.months import Partition

LOOK_S = 3_600.0
RETRY_S = 300.0
KEPT_DAYS = 31
"""A month is over for this long before it may be detached: nobody should still be writing to it."""
_DAY_MS = 86_400_000

_log = logging.getLogger(__name__)


class MonthKeeper:
    """For the one who loads. Nothing depends on it: what has no month goes to the default partition."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._next_s = float("-inf")
        self._said = ""

    async def keep(self) -> None:
        """Makes the months to come, about once an hour. A failure is logged, once, and tried again soon."""
        if is_sqlite(self._engine) or time.monotonic() < self._next_s:
            return
        self._next_s = time.monotonic() + RETRY_S
        try:
            made = await make_months(self._engine, months.MONTHS_AHEAD)
        except (StoreUnavailable, DBAPIError) as error:
            said = str(getattr(error, "message", "") or getattr(error, "orig", error)).split("\n")[0]
            if said != self._said:
                _log.warning("months to come are not made (`faregate db upgrade` makes them, too): %s", said)
            self._said = said
            return
        if made:
            _log.info("months made: %s", ", ".join(made))
        self._said = ""
        self._next_s = time.monotonic() + LOOK_S


async def make_months(engine: AsyncEngine, ahead: int, also_ms: Sequence[int] = ()) -> list[str]:
    """The partitions of this month, `ahead` more and those that begin at `also_ms`, as far as they are not there; names
    of the new ones.

    Table by table, each in a transaction of its own that does not wait long for others. Raises BadRequest for a month
    that was detached; StoreUnavailable.
    """
    made: list[str] = []
    async with reading(engine) as connection:
        kept_from_ms = await connection.run_sync(months.kept_from_ms)
        for start_ms in also_ms:
            if start_ms < kept_from_ms:
                raise BadRequest(f"{months.month_name(start_ms).replace('_', '-')} was detached from the ledger")
        missing = await connection.run_sync(_missing, ahead, also_ms)
    for start_ms in missing:
        for table in months.KEYS:
            async with writing(engine) as connection:
                await connection.run_sync(months.wait_shortly)
                await connection.run_sync(months.take_turn)
                made += await connection.run_sync(months.make_months, (start_ms,), (table,))
    return made


async def partitions(engine: AsyncEngine) -> list[Partition]:
    """All partitions of the ledger; none on SQLite. Raises StoreUnavailable."""
    async with reading(engine) as connection:
        return await connection.run_sync(lambda sync: months.list_partitions(sync, measure=True))


async def detach(engine: AsyncEngine, before_ms: int, keep_days: int) -> list[Partition]:
    """Takes every month that ends by `before_ms` out of the ledger: what are plain tables now.

    All tables or none. Raises BadRequest for a time that is no month's beginning or too young (its records are in
    journals for `keep_days`, and verification reads those); StoreUnavailable.
    """
    async with writing(engine) as connection:
        now_ms = await connection.run_sync(months.now_of)
        youngest_ms = now_ms - max(KEPT_DAYS, keep_days + 1) * _DAY_MS
        if before_ms > youngest_ms:
            raise BadRequest(
                f"months are kept for {max(KEPT_DAYS, keep_days + 1)} days after their end: "
                f"take {months.month_name(months.month_start(youngest_ms)).replace('_', '-')} or an earlier one"
            )
        await connection.run_sync(months.wait_shortly)
        await connection.run_sync(months.take_turn)
        return await connection.run_sync(months.detach_months, before_ms)


def _missing(connection: Connection, ahead: int, also_ms: Sequence[int]) -> list[int]:
    if not months.has_months(connection):
        return []
    now_ms = months.now_of(connection)
    wanted = [*also_ms, *(months.month_start(now_ms, later) for later in range(ahead + 1))]
    return months.uncovered(connection, wanted)
