"""`faregate restart`: what it prints, and what it says when there is nothing to restart."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.channel.frames import Connection
from gateway.channel.messages import Adopted, Request, Restart, Restarted
from gateway.channel.server import serve
from gateway.cli.restart import restart
from gateway.core.errors import Conflict
from gateway.settings import Settings


async def asked(settings: Settings, answer: Restarted | Adopted) -> None:
    """The command against a supervisor that gives this answer."""

    async def answering(connection: Connection[Request]) -> None:
        assert isinstance(await connection.receive(), Restart)
        await connection.send(answer)

    async with serve(settings.supervisor_socket, answering):
        await asyncio.to_thread(restart, settings)


async def test_it_prints_what_was_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    await asked(Settings(data_dir=tmp_path), Restarted(("worker: 1 → 2", "desk: 3 → 4")))
    assert capsys.readouterr().out == "worker: 1 → 2\ndesk: 3 → 4\n"


async def test_what_goes_on_as_it_was_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Conflict, match="The old one serves on"):
        await asked(Settings(data_dir=tmp_path), Restarted(("it loads",), "The old one serves on."))
    assert capsys.readouterr().out == "it loads\n", "what was done is told, too"


async def test_an_answer_to_something_else_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(Conflict, match="does not know this command"):
        await asked(Settings(data_dir=tmp_path), Adopted(()))


def test_without_a_server_it_says_how_to_find_one(tmp_path: Path) -> None:
    with pytest.raises(Conflict, match="FAREGATE_DATA_DIR"):
        restart(Settings(data_dir=tmp_path))
