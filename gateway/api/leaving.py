"""The worker's data plane, with an end: it closes connections as it answers, passes calls on, and says goodbye."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from gateway.api.http_exchange import HttpExchange
from gateway.api.plane import AnyExchange, DataPlane
from gateway.api.routes import Route
from gateway.core.errors import FaregateError, ServerShuttingDown
from gateway.core.handover import HandedOver
from gateway.core.ports import Surface


class LeavingPlane(DataPlane):
    """`stopping`: asked to end, no longer ready. `closing`: answers of model calls end their connection. `draining`:
    time is up, what still runs is being cancelled. `pass_on`, once set, takes calls to the successor."""

    stopping = False
    closing = False
    pass_on: Callable[[HttpExchange], Awaitable[bool]] | None = None

    async def _call(self, exchange: AnyExchange, route: Route) -> None:
        if self.pass_on is not None:
            raise HandedOver
        if self.closing and isinstance(exchange, HttpExchange):
            exchange.keep_alive = False
        try:
            await super()._call(exchange, route)
        except asyncio.CancelledError:
            if self.draining:
                await self._say_goodbye(exchange, route)
            raise

    async def _say_goodbye(self, exchange: AnyExchange, route: Route) -> None:
        """An error event in a stream, an answer where none has begun. The call was settled on its way out."""
        if exchange.finished:
            return
        error = ServerShuttingDown(
            "This server has shut down before the answer was complete. Try again.", headers={"retry-after": "1"}
        )
        await self._answer(exchange, error, self._request_id(), self.services.surfaces[route.surface])

    async def _refuse(self, exchange: AnyExchange, error: FaregateError, spoken: Surface) -> None:
        if isinstance(error, HandedOver) and self.pass_on is not None and isinstance(exchange, HttpExchange):
            try:
                if not exchange.started and await self.pass_on(exchange):
                    return
            except FaregateError as refused:  # the rest of its body was too much, or did not come
                error = refused
        await super()._refuse(exchange, error, spoken)
