"""A data plane over the flow's small world."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from flow.scripts import whole
from flow.world import KEY_TEXTS, World, chat

from api.asking import Told, ask, part
from gateway.api.bodies import BodyRoom
from gateway.api.exchange import AsgiApp, Receive, Scope, Send
from gateway.api.plane import DataPlane

JSON = ("content-type", "application/json")


def bearer(name: str) -> tuple[str, str]:
    return ("authorization", f"Bearer {KEY_TEXTS.get(name, name)}")


async def desk(scope: Scope, receive: Receive, send: Send) -> None:
    """A desk that says which path it was asked for."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-desk", scope["path"].encode())]})
    await send({"type": "http.response.body", "body": b"desk"})


@dataclass
class Served:
    """A plane, its world, and what it is told about itself."""

    world: World = field(default_factory=lambda: World([whole()]))
    desk: AsgiApp = desk
    reason: str = ""

    def __post_init__(self) -> None:
        self.plane = DataPlane(
            self.world.services,
            self.desk,
            lambda: self.reason,
            lambda: b"faregate_calls_total 1\n",
            BodyRoom(1000, 4000),
        )

    async def ask(self, method: str, path: str, *headers: tuple[str, str], **more: Any) -> Told:
        return await ask(self.plane, method, path, headers, **more)

    async def chat(self, key: str = "app", body: bytes = b"", **more: Any) -> Told:
        return await self.ask("POST", "/v1/chat/completions", JSON, bearer(key), body=(part(body or chat()),), **more)
