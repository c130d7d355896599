"""One bookkeeper a host at a time: a new one waits for the old one's last load."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from bookkeeper.test_bookkeeper import keeping
from bookkeeper.world import settings_of
from gateway.bookkeeper.bookkeeper import take_lock
from gateway.core.errors import Conflict


async def test_a_second_bookkeeper_begins_when_the_first_has_stopped(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    order: list[str] = []

    async def second() -> None:
        async with keeping(settings):
            order.append("second")

    async with keeping(settings):
        waiting = asyncio.ensure_future(second())
        await asyncio.sleep(0.1)
        order.append("first")
    await waiting
    assert order == ["first", "second"]


async def test_one_that_does_not_stop_is_a_conflict(tmp_path: Path) -> None:
    held = await take_lock(tmp_path / "lock")
    with pytest.raises(Conflict, match="Another bookkeeper"):
        await take_lock(tmp_path / "lock", 0.05)
    os.close(held)
    os.close(await take_lock(tmp_path / "lock", 0.05))
