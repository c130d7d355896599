"""core.price_admin.PriceQueries over SQL: what the sums by the hour tell of prices and their gaps. No call is read."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.core.price_admin import MOST_LISTED, UsedModel
from gateway.core.queries import QueryScope
from gateway.store.engine import reading
from gateway.store.ledger_rows import HOUR_MS
from gateway.store.ledger_tables import ROLLUP_HOUR


class SqlPriceQueries:
    """See the port. One instance may be used by many tasks at once."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def deployments_since(self, since_ms: int) -> list[str]:
        table = ROLLUP_HOUR.c
        query = (
            select(table.deployment)
            .where(table.hour_ms >= since_ms - since_ms % HOUR_MS, table.deployment != "")
            .distinct()
            .order_by(table.deployment)
            .limit(MOST_LISTED)
        )
        async with reading(self._engine) as connection:
            return list((await connection.execute(query)).scalars())

    async def used_models(
        self, scope: QueryScope, since_ms: int, *, unpriced: bool = False, limit: int = 1000
    ) -> list[UsedModel]:
        table = ROLLUP_HOUR.c
        calls = func.sum(table.calls).label("all_calls")
        missing = func.sum(table.unpriced_calls).label("missing")
        query = (
            select(table.model, table.deployment, calls, missing, func.min(table.hour_ms), func.max(table.hour_ms))
            .where(table.org == scope.org, table.hour_ms >= since_ms - since_ms % HOUR_MS)
            .group_by(table.model, table.deployment)
            .order_by((missing if unpriced else calls).desc(), table.model, table.deployment)
            .limit(max(1, min(limit, MOST_LISTED)))
        )
        if scope.team is not None:
            query = query.where(table.team == scope.team)
        if scope.key_id is not None:
            query = query.where(table.key_id == scope.key_id)
        if unpriced:
            query = query.where(table.unpriced_calls > 0)
        async with reading(self._engine) as connection:
            rows = (await connection.execute(query)).all()
        # PostgreSQL sums BIGINT as NUMERIC; every one of these is an integer.
        return [UsedModel(row[0], row[1], *(int(value) for value in row[2:])) for row in rows]
