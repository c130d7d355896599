"""core.price_admin.PriceStore on SQLite and PostgreSQL: price sources by digest, published versions, the one draft."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager
from typing import Any

import msgspec
from sqlalchemy import Row, delete, func, insert, inspect, select
from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gateway.core.config import KeyDelta
from gateway.core.errors import Conflict, NotFound, StoreUnavailable
from gateway.core.ports import Clock
from gateway.core.price_admin import PriceDraft, PriceSource, PriceVersion
from gateway.store import config_reads as reads
from gateway.store.config_limits import Write
from gateway.store.engine import insert_into, is_sqlite, schema_of

PUBLISHED, IMPORTED, DISCARDED = "prices.published", "prices.imported", "prices.discarded"
_DRAFT_ID = 1


class PriceRows(ABC):
    """The part of a configuration store that writes and reads price books."""

    _engine: AsyncEngine
    _clock: Clock

    @abstractmethod
    def _writing(self, actor: str) -> AbstractAsyncContextManager[Write]:
        """One write under the lock, committed at the end."""

    async def prices_in_force(self) -> PriceVersion | None:
        async with reads.viewing(self._engine) as connection:
            await _check_schema(connection)
            number = await _newest(connection)
            return await _version(connection, number) if number else None

    async def price_version(self, number: int) -> PriceVersion:
        async with reads.viewing(self._engine) as connection:
            await _check_schema(connection)
            return await _version(connection, number)

    async def price_versions(self, limit: int = 100) -> list[PriceVersion]:
        table = reads.PRICE_VERSION
        async with reads.viewing(self._engine) as connection:
            await _check_schema(connection)
            rows = (await connection.execute(select(table).order_by(table.c.number.desc()).limit(limit))).all()
            digests = {digest for row in rows for digest in (row.genai, row.litellm)}
            sources = await _sources(connection, digests, content=False)
        return [msgspec.structs.replace(_of_row(row, sources), written=b"", file_text="") for row in rows]

    async def price_version_at(self, revision: int) -> int:
        table = reads.PRICE_VERSION
        async with reads.viewing(self._engine) as connection:
            await _check_schema(connection)
            query = select(func.coalesce(func.max(table.c.number), 0)).where(table.c.revision <= revision)
            return int((await connection.execute(query)).scalar_one())

    async def price_draft(self) -> PriceDraft | None:
        async with reads.viewing(self._engine) as connection:
            await _check_schema(connection)
            row = (await connection.execute(select(reads.PRICE_DRAFT))).first()
            if row is None:
                return None
            sources = await _sources(connection, {row.genai, row.litellm})
            return PriceDraft(sources[row.genai], sources[row.litellm], row.recorded_ms, row.recorded_by)

    async def save_price_draft(
        self, draft: PriceDraft, *, actor: str, over: PriceDraft | None, after: int
    ) -> PriceDraft:
        async with self._writing(actor) as write:
            await _check_schema(write.connection)
            await _check_present(write.connection, over, after)
            genai, litellm = await _keep(write, draft.genai), await _keep(write, draft.litellm)
            await write.connection.execute(delete(reads.PRICE_DRAFT))
            row = {"id": _DRAFT_ID, "genai": draft.genai.sha256, "litellm": draft.litellm.sha256}
            row |= {"recorded_ms": write.now_ms, "recorded_by": actor}
            await write.connection.execute(insert(reads.PRICE_DRAFT).values(row))
            await _log(write, IMPORTED, "prices:draft")
            return PriceDraft(genai, litellm, write.now_ms, actor)

    async def drop_price_draft(self, *, actor: str) -> bool:
        async with self._writing(actor) as write:
            await _check_schema(write.connection)
            found = (await write.connection.execute(select(reads.PRICE_DRAFT.c.id))).first()
            if found is None:
                return False
            await write.connection.execute(delete(reads.PRICE_DRAFT))
            await _log(write, DISCARDED, "prices:draft")
            return True

    async def publish_prices(self, version: PriceVersion, *, actor: str, after: int) -> PriceVersion:
        async with self._writing(actor) as write:
            await _check_schema(write.connection)
            newest = await _newest(write.connection)
            if newest != after:
                raise Conflict(f"Version {newest} of the prices was published meanwhile; look at the difference again.")
            genai, litellm = await _keep(write, version.genai), await _keep(write, version.litellm)
            await _log(write, PUBLISHED, f"prices:{newest + 1}")
            made = msgspec.structs.replace(
                version,
                number=newest + 1,
                genai=genai,
                litellm=litellm,
                published_ms=write.now_ms,
                published_by=actor,
                revision=write.revision,
            )
            await write.connection.execute(insert(reads.PRICE_VERSION).values(_columns(made)))
            table = reads.PRICE_DRAFT
            done = delete(table).where(table.c.genai == genai.sha256, table.c.litellm == litellm.sha256)
            await write.connection.execute(done)
            return made


async def _log(write: Write, kind: str, subject: str) -> None:
    """The next revision. To a process of the revision before it is the end of a key that nobody has: it decodes every
    change that is no policy's as one of a key."""
    delta = KeyDelta(write.revision + 1, subject, None)
    await write.append(kind, subject, msgspec.msgpack.encode(delta))


async def _keep(write: Write, source: PriceSource) -> PriceSource:
    """The source as it is stored: as it was first recorded, when it was before."""
    table = reads.PRICE_SOURCE
    row = msgspec.structs.asdict(source) | {"recorded_ms": source.recorded_ms or write.now_ms}
    await write.connection.execute(insert_into(write.connection, table).values(row).on_conflict_do_nothing())
    return (await _sources(write.connection, {source.sha256}))[source.sha256]


async def still_newest(connection: AsyncConnection, number: int) -> int:
    """The revision at which the newest version was published (0: there is none yet). Raises Conflict when it is not
    `number` any more."""
    table = reads.PRICE_VERSION.c
    query = select(table.number, table.revision).order_by(table.number.desc()).limit(1)
    newest = (await connection.execute(query)).first()
    if (0 if newest is None else int(newest.number)) != number:
        raise Conflict(f"Version {newest.number if newest else 0} of the prices was published meanwhile.")
    return 0 if newest is None else int(newest.revision)


async def _check_present(connection: AsyncConnection, over: PriceDraft | None, after: int) -> None:
    """Raises Conflict unless the draft there is, or that there is none, is what was seen."""
    row = (await connection.execute(select(reads.PRICE_DRAFT.c.genai, reads.PRICE_DRAFT.c.litellm))).first()
    present = None if row is None else (row.genai, row.litellm)
    if present != (None if over is None else (over.genai.sha256, over.litellm.sha256)):
        raise Conflict("Another price source was imported, or the draft was published or discarded, meanwhile.")
    if over is None and await _newest(connection) != after:
        raise Conflict("A version of the prices was published meanwhile.")


async def _newest(connection: AsyncConnection) -> int:
    query = select(func.coalesce(func.max(reads.PRICE_VERSION.c.number), 0))
    return int((await connection.execute(query)).scalar_one())


async def _version(connection: AsyncConnection, number: int) -> PriceVersion:
    table = reads.PRICE_VERSION
    row = (await connection.execute(select(table).where(table.c.number == number))).first()
    if row is None:
        raise NotFound(f"There is no version {number} of the prices. `faregate prices list` shows what there is.")
    return _of_row(row, await _sources(connection, {row.genai, row.litellm}))


async def _sources(connection: AsyncConnection, digests: set[str], content: bool = True) -> dict[str, PriceSource]:
    table = reads.PRICE_SOURCE.c
    columns = [table.kind, table.name, table.sha256, table.recorded_ms, table.recorded_by]
    query = select(*columns, *([table.content] if content else [])).where(table.sha256.in_(digests))
    return {row.sha256: PriceSource(*row) for row in await connection.execute(query)}


def _of_row(row: Row[Any], sources: dict[str, PriceSource]) -> PriceVersion:
    return PriceVersion(
        number=row.number,
        sha256=row.sha256,
        genai=sources[row.genai],
        litellm=sources[row.litellm],
        written=row.written,
        file_text=row.file_text,
        published_ms=row.published_ms,
        published_by=row.published_by,
        revision=row.revision,
    )


def _columns(version: PriceVersion) -> dict[str, Any]:
    return {
        **msgspec.structs.asdict(version),
        "genai": version.genai.sha256,
        "litellm": version.litellm.sha256,
    }


def _has_prices(connection: Connection) -> bool:
    schema = None if is_sqlite(connection) else schema_of("config")
    return bool(inspect(connection).has_table(reads.PRICE_VERSION.name, schema=schema))


async def _check_schema(connection: AsyncConnection) -> None:
    if not await connection.run_sync(_has_prices):
        raise StoreUnavailable("The database has no place for price books yet: run `faregate db upgrade`.")
