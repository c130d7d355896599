"""core.alerts.AlertStore on SQLite and PostgreSQL: what people look at. The bookkeeper's outbox writes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, ForeignKeyConstraint, Index, Row, and_, delete, inspect, literal, or_, select
from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlmodel import Field

from gateway.core.alerts import Alert, AlertView, Delivery, DeliveryState
from gateway.core.errors import NotFound, StoreUnavailable
from gateway.store.config_reads import viewing
from gateway.store.config_tables import ConfigTable
from gateway.store.engine import BIG, CLUSTERED, STRICT, TEXT, insert_into, is_sqlite, schema_of, writing
from gateway.store.ledger_tables import table_of

MOST_ALERTS = 1_000
_CONTENT = msgspec.json.Decoder(Alert)


class AlertTable(ConfigTable, table=True):
    """One alert, made once. `content` is the JSON of its core.alerts.Alert; the other columns are for finding it."""

    __tablename__ = "alert"
    __table_args__ = (Index("alert_by_org", "org", "created_ms"), STRICT)

    id: str = Field(primary_key=True, sa_type=TEXT)
    kind: str = Field(sa_type=TEXT)
    org: str = Field(sa_type=TEXT)
    team: str = Field(sa_type=TEXT)
    key_id: str = Field(sa_type=TEXT)
    created_ms: int = Field(sa_type=BIG)
    content: str = Field(sa_type=TEXT)


class AlertDeliveryTable(ConfigTable, table=True):
    """One alert's way to one channel: waiting, sent or given up. Times are ms UTC, 0 where there is none."""

    __tablename__ = "alert_delivery"
    __table_args__ = (ForeignKeyConstraint(["alert_id"], ["alert.id"]), CLUSTERED)

    alert_id: str = Field(primary_key=True, sa_type=TEXT)
    channel: str = Field(primary_key=True, sa_type=TEXT)
    state: str = Field(sa_type=TEXT)
    attempts: int = Field(sa_type=BIG)
    next_ms: int = Field(sa_type=BIG)
    ended_ms: int = Field(sa_type=BIG)
    error: str = Field(sa_type=TEXT)


ALERT, DELIVERY = table_of(AlertTable), table_of(AlertDeliveryTable)


class SqlAlertStore:
    """core.alerts.AlertStore."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def record(self, alerts: Sequence[Alert], deliveries: Sequence[Delivery]) -> None:
        """See the port. A delivery of an alert that was never recorded is left out. Raises StoreUnavailable."""
        async with writing(self._engine) as connection:
            await _check_schema(connection)
            if alerts:
                new = insert_into(connection, ALERT).on_conflict_do_nothing()
                await connection.execute(new, [_row(alert) for alert in alerts])
            if not deliveries:
                return
            asked = select(ALERT.c.id).where(ALERT.c.id.in_({one.alert_id for one in deliveries}))
            known = {row.id for row in await connection.execute(asked)}
            rows = [msgspec.to_builtins(one) for one in deliveries if one.alert_id in known]
            if rows:
                put = insert_into(connection, DELIVERY)
                changed = {name: put.excluded[name] for name in ("state", "attempts", "next_ms", "ended_ms", "error")}
                await connection.execute(
                    put.on_conflict_do_update(index_elements=["alert_id", "channel"], set_=changed), rows
                )

    async def alerts(
        self,
        org: str,
        *,
        team: str | None = None,
        whole: bool = False,
        before_ms: int | None = None,
        before_id: str = "",
        limit: int = 100,
    ) -> list[AlertView]:
        query = select(ALERT).where(*_visible(org, team, whole))
        made_ms, own_id = ALERT.c.created_ms, ALERT.c.id
        if before_ms is not None:
            query = query.where(
                or_(made_ms < before_ms, and_(made_ms == before_ms, own_id > before_id, literal(before_id != "")))
            )
        query = query.order_by(made_ms.desc(), own_id).limit(max(1, min(limit, MOST_ALERTS)))
        async with viewing(self._engine) as connection:
            await _check_schema(connection)
            return await _views(connection, (await connection.execute(query)).all())

    async def alert(self, org: str, alert_id: str, *, team: str | None = None, whole: bool = False) -> AlertView:
        async with viewing(self._engine) as connection:
            await _check_schema(connection)
            query = select(ALERT).where(ALERT.c.id == alert_id, *_visible(org, team, whole))
            views = await _views(connection, (await connection.execute(query)).all())
        if not views:
            raise NotFound(f"There is no alert {alert_id[:60]!r}. `faregate alerts list` shows what there is.")
        return views[0]

    async def forget_alerts(self, before_ms: int, limit: int = 1000) -> int:
        """See the port. Some at a time: the configuration waits for the same lock."""
        oldest = select(ALERT.c.id).where(ALERT.c.created_ms < before_ms).order_by(ALERT.c.created_ms)
        async with writing(self._engine) as connection:
            await _check_schema(connection)
            ids = list((await connection.execute(oldest.limit(max(1, min(limit, MOST_ALERTS))))).scalars())
            for table, column in ((DELIVERY, DELIVERY.c.alert_id), (ALERT, ALERT.c.id)):
                await connection.execute(delete(table).where(column.in_(ids)))
        return len(ids)


def _visible(org: str, team: str | None, whole: bool) -> tuple[ColumnElement[bool], ...]:
    own = ALERT.c.org == org
    # One of no org with a key is of a key that is no more: whose it was is not known, so it is not shown to others.
    conditions = [or_(own, and_(ALERT.c.org == "", ALERT.c.key_id == "")) if whole else own]
    if team is not None:
        conditions.append(ALERT.c.team == team)
    return tuple(conditions)


async def _views(connection: AsyncConnection, rows: Sequence[Row[Any]]) -> list[AlertView]:
    found: dict[str, list[Delivery]] = {row.id: [] for row in rows}
    if found:
        query = select(DELIVERY).where(DELIVERY.c.alert_id.in_(found)).order_by(DELIVERY.c.channel)
        for row in await connection.execute(query):
            found[row.alert_id].append(_delivery(row))
    return [AlertView(_CONTENT.decode(row.content), tuple(found[row.id])) for row in rows]


def _row(alert: Alert) -> dict[str, Any]:
    return {
        "id": alert.id,
        "kind": alert.kind.value,
        "org": alert.org,
        "team": alert.team,
        "key_id": alert.key_id,
        "created_ms": alert.created_ms,
        "content": msgspec.json.encode(alert).decode(),
    }


def _delivery(row: Row[Any]) -> Delivery:
    return Delivery(
        alert_id=row.alert_id,
        channel=row.channel,
        state=DeliveryState(row.state),
        attempts=row.attempts,
        next_ms=row.next_ms,
        ended_ms=row.ended_ms,
        error=row.error,
    )


async def _check_schema(connection: AsyncConnection) -> None:
    """A schema of the revision before has no place for alerts; serving goes on during an upgrade."""
    if not await connection.run_sync(_has_alerts):
        raise StoreUnavailable("The database has no place for alerts yet: run `faregate db upgrade`.")


def _has_alerts(connection: Connection) -> bool:
    schema = None if is_sqlite(connection) else schema_of("config")
    return bool(inspect(connection).has_table(ALERT.name, schema=schema))
