"""Interrupting a call while it waits: the caller goes, the server stops it, or both."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from flow.fakes import CallersExchange
from flow.scripts import Scene
from flow.world import Ended, World

Strike = Callable[[CallersExchange, asyncio.Task[Any]], None]


def goes(exchange: CallersExchange, task: asyncio.Task[Any]) -> None:
    exchange.disconnect.left()


def stops(exchange: CallersExchange, task: asyncio.Task[Any]) -> None:
    task.cancel()


def goes_and_stops(exchange: CallersExchange, task: asyncio.Task[Any]) -> None:
    exchange.disconnect.left()
    task.cancel()


def stops_and_goes(exchange: CallersExchange, task: asyncio.Task[Any]) -> None:
    task.cancel()
    exchange.disconnect.left()


def goes_then_stops(exchange: CallersExchange, task: asyncio.Task[Any]) -> None:
    """The cancellation comes a little later: while a drained reply is read, or after the end."""
    exchange.disconnect.left()
    loop = asyncio.get_running_loop()
    timer = loop.call_later(0.015, task.cancel)
    task.add_done_callback(lambda _: timer.cancel())


STRIKES: dict[str, Strike] = {
    strike.__name__: strike for strike in (goes, stops, goes_and_stops, stops_and_goes, goes_then_stops)
}


async def struck(scene: Scene, strike: Strike, at: int) -> tuple[World, Ended]:
    """The scene's call, interrupted in its `at`th wait; not at all when it has fewer."""
    world = scene.make()
    ended = await world.call(**scene.call(), strike=strike, strike_at=at)
    return world, ended
