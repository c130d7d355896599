"""core.price_admin.PriceQueries over SQL: what the sums by the hour tell of prices and their gaps. No call is read; of
attempts those alone that nobody could price, by an index of their own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gateway.core.price_admin import MOST_ENDS, MOST_LISTED, UnpricedEnds, UsedModel
from gateway.core.queries import QueryScope
from gateway.store.engine import reading
from gateway.store.ledger_rows import HOUR_MS
from gateway.store.ledger_tables import ATTEMPT, LEDGER_LINE, POSTING, ROLLUP_HOUR, UNPRICED_END
from gateway.store.months import first_id
from gateway.store.queries_spend import within

DAY_MS = 24 * HOUR_MS
IDS_AT_ONCE = 1_000


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

    async def unpriced_ends(self, scope: QueryScope, since_ms: int) -> Sequence[UnpricedEnds]:
        """See the port. Who is in scope is asked with the ends, so that others' do not use up the number."""
        later = POSTING.alias("later")
        corrected = select(later.c.attempt_id).where(
            later.c.attempt_id == POSTING.c.attempt_id, later.c.kind != "attempt", later.c.state != "unpriced"
        )
        query = (
            select(
                POSTING.c.attempt_id,
                POSTING.c.served_tier,
                POSTING.c.region,
                ATTEMPT.c.model_asked,
                ATTEMPT.c.deployment,
            )
            .join(ATTEMPT, ATTEMPT.c.attempt_id == POSTING.c.attempt_id)
            .where(UNPRICED_END, POSTING.c.attempt_id >= first_id(max(0, since_ms - DAY_MS)))
            .where(*within(scope, ATTEMPT.c), ATTEMPT.c.started_ms >= since_ms - since_ms % HOUR_MS)
            .where(~corrected.exists())
            .order_by(POSTING.c.attempt_id.desc())
            .limit(MOST_ENDS)
        )
        async with reading(self._engine) as connection:
            rows = (await connection.execute(query)).all()
            missing = await _missing(connection, [row.attempt_id for row in rows])
        found = Counter(
            (
                row.model_asked,
                row.deployment,
                row.served_tier,
                row.region or "",
                missing.get(row.attempt_id, ()),
            )
            for row in rows
        )
        return [UnpricedEnds(*reason, attempts) for reason, attempts in found.most_common()]


async def _missing(connection: AsyncConnection, attempt_ids: Sequence[bytes]) -> dict[bytes, tuple[str, ...]]:
    """Of attempts of which some lines have a rate and some have none, the meters of the latter."""
    lines: dict[bytes, list[tuple[str, bool]]] = {}
    table = LEDGER_LINE.c
    for start in range(0, len(attempt_ids), IDS_AT_ONCE):
        asked = select(table.attempt_id, table.meter, table.effective_nusd).where(
            table.attempt_id.in_(attempt_ids[start : start + IDS_AT_ONCE]), table.kind == "attempt"
        )
        for row in await connection.execute(asked):
            lines.setdefault(row.attempt_id, []).append((row.meter, row.effective_nusd is not None))
    return {
        attempt_id: tuple(sorted({meter for meter, priced in its if not priced}))
        for attempt_id, its in lines.items()
        if any(priced for _, priced in its)
    }
