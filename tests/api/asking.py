"""An ASGI server's side of one exchange: what it hands in, and what came back, held to ASGI's rules."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.api.exchange import AsgiApp, Message

LEAVES: Message = {"type": "http.disconnect"}


def part(body: bytes, more: bool = False) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


@dataclass
class Told:
    """An answer. `taken` is how many of the messages the application has asked for."""

    sent: list[Message] = field(default_factory=list)
    taken: int = 0
    done: bool = False

    @property
    def status(self) -> int:
        status: int = self.sent[0]["status"]
        return status

    @property
    def raw(self) -> list[tuple[bytes, bytes]]:
        headers: list[tuple[bytes, bytes]] = self.sent[0]["headers"]
        return headers

    @property
    def headers(self) -> dict[str, str]:
        assert len({name for name, _ in self.raw}) == len(self.raw), "a header stands twice"
        return {name.decode(): value.decode() for name, value in self.raw}

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent[1:])

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """The code of an error in OpenAI's shape, whose four members are all there."""
        error = self.json["error"]
        assert set(error) >= {"message", "type", "param", "code"}
        assert self.headers["content-type"] == "application/json"
        return str(error["code"])

    async def send(self, message: Message) -> None:
        await asyncio.sleep(0)
        assert not self.done, "nothing follows the end"
        assert message["type"] == ("http.response.body" if self.sent else "http.response.start")
        self.sent.append(message)
        self.done = bool(self.sent[1:]) and not message.get("more_body", False)
        length = dict(self.raw).get(b"content-length")
        if self.done and length is not None:
            assert int(length) == len(self.body)


def scope_of(
    method: str, path: str, headers: Sequence[tuple[str, str]] = (), query: bytes = b"", **more: Any
) -> dict[str, Any]:
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query,
        "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers],
        "client": ("10.0.0.7", 5555),
    }
    return {**scope, **more}


async def ask(
    app: AsgiApp,
    method: str = "GET",
    path: str = "/",
    headers: Sequence[tuple[str, str]] = (),
    body: Sequence[Message | float] = (part(b""),),
    **more: Any,
) -> Told:
    """Numbers in `body` are seconds. After its last message the caller stays, silently."""
    told = Told()
    steps = list(body)

    async def receive() -> Message:
        while steps:
            step = steps.pop(0)
            if isinstance(step, int | float):
                await asyncio.sleep(step)
                continue
            told.taken += 1
            return step
        if told.done:
            return LEAVES
        await asyncio.Event().wait()
        raise AssertionError("nobody wakes it")

    await app(scope_of(method, path, headers, **more), receive, told.send)
    return told
