"""The chain of an org's closed months: each month's row is digested on top of the one before it, and the last digest is
kept apart. So a month that is taken away, or changed, is noticed, the last one included."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import msgspec
from sqlalchemy import Row, Select, select
from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.core.corrections import month_name
from gateway.store.engine import insert_into
from gateway.store.ledger_statements import GROUPED_SINCE, schema_revision
from gateway.store.ledger_tables import PERIOD, PERIOD_CHAIN

_WORDS = tuple(column.name for column in PERIOD.columns)
Chain = dict[str, Any]
"""A row of PERIOD_CHAIN."""


async def extend_chain(connection: AsyncConnection, org: str) -> None:
    """After a month was closed, in the same transaction. What the chain has already is never digested anew: a month
    that was taken away since stays missing."""
    if await schema_revision(connection) < GROUPED_SINCE:
        return
    kept = (await connection.execute(select(PERIOD_CHAIN).where(PERIOD_CHAIN.c.org == org))).first()
    chain = _empty(org) if kept is None else dict(kept._mapping)
    query = _months().where(PERIOD.c.org == org, PERIOD.c.end_ms > chain["end_ms"])
    for row in (await connection.execute(query)).all():
        _add(chain, row)
    put = insert_into(connection, PERIOD_CHAIN).values(chain)
    changed = {word: put.excluded[word] for word in ("months", "end_ms", "digest")}
    await connection.execute(put.on_conflict_do_update(index_elements=["org"], set_=changed))


def chain_of_all(connection: Connection) -> list[Chain]:
    """For a schema that had no chains: those of the months that are there."""
    return _chains(connection.execute(_months()).all())


async def broken_chains(connection: AsyncConnection) -> list[str]:
    """Orgs whose closed months are not those that were closed, for people.

    A version that knows no chain may have closed further months after the last one that the chain has.
    """
    if await schema_revision(connection) < GROUPED_SINCE:
        return []
    rows = (await connection.execute(_months())).all()
    of: dict[str, list[Row[Any]]] = {}
    for row in rows:
        of.setdefault(row.org, []).append(row)
    found = [f"{org}: {fault}" for org, months in of.items() if (fault := _gap(months))]
    for kept in (await connection.execute(select(PERIOD_CHAIN).order_by(PERIOD_CHAIN.c.org))).all():
        months = [row for row in of.get(kept.org, ()) if row.end_ms <= kept.end_ms]
        if len(months) != kept.months:
            found.append(f"{kept.org}: {kept.months} months were closed, {len(months)} of them are there")
        elif _chains(months)[0]["digest"] != kept.digest:
            found.append(f"{kept.org}: a closed month's row says something else than when it was closed")
    return found


def _gap(months: Iterable[Row[Any]]) -> str:
    for one, following in pairwise(months):
        if following.month_ms != one.end_ms:
            return f"{month_name(one.end_ms)} is not closed, though {month_name(following.month_ms)} is"
    return ""


def _months() -> Select[Any]:
    return select(PERIOD).order_by(PERIOD.c.org, PERIOD.c.month_ms)


def _chains(rows: Iterable[Row[Any]]) -> list[Chain]:
    """The chains of rows in the order of `_months`."""
    found: dict[str, Chain] = {}
    for row in rows:
        _add(found.setdefault(row.org, _empty(row.org)), row)
    return list(found.values())


def _empty(org: str) -> Chain:
    return {"org": org, "months": 0, "end_ms": 0, "digest": b""}


def _add(chain: Chain, row: Row[Any]) -> None:
    values = msgspec.msgpack.encode([getattr(row, word) for word in _WORDS])
    chain["months"] += 1
    chain["end_ms"] = row.end_ms
    chain["digest"] = hashlib.sha256(chain["digest"] + values).digest()
