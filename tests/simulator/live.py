"""A simulator in its own process, and plain HTTP to it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.simulator.witness import Witnessed, read_witness

HANG_S = 10.0


@dataclass
class Answer:
    """What came back; `cut` says the connection ended before the reply did."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    cut: bool = False

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def events(self) -> list[Any]:
        """The JSON of each data event; `[DONE]` as that text."""
        found = [event.removeprefix(b"data: ") for event in self.body.split(b"\n\n") if event]
        return ["[DONE]" if event == b"[DONE]" else json.loads(event) for event in found]


@dataclass
class Live:
    port: int
    log: Path
    process: subprocess.Popen[str]

    async def ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
        async with self.asking(method, path, body, headers) as reader:
            return await read_answer(reader)

    @asynccontextmanager
    async def asking(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> AsyncIterator[asyncio.StreamReader]:
        """A request that has been sent; leaving the block closes the connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        lines = [f"{method} {path} HTTP/1.1", "host: simulator", f"content-length: {len(data)}", "connection: close"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        writer.write("\r\n".join([*lines, "", ""]).encode() + data)
        try:
            yield reader
        finally:
            writer.close()

    async def chat(self, headers: dict[str, str] | None = None, **more: Any) -> Answer:
        body = {"model": "sim-small", "messages": [{"role": "user", "content": "Explain budgets please"}], **more}
        return await self.ask("POST", "/v1/chat/completions", body, headers)

    async def control(self, **settings: Any) -> Answer:
        return await self.ask("POST", "/control", settings)

    def witnessed(self) -> dict[str, Witnessed]:
        return {attempt.attempt_id: attempt for attempt in read_witness(self.log)}

    async def until(self, happened: Callable[[], bool]) -> None:
        async with asyncio.timeout(HANG_S):
            while not happened():  # noqa: ASYNC110 - another process writes what is waited for
                await asyncio.sleep(0.005)


async def read_answer(reader: asyncio.StreamReader) -> Answer:
    answer = Answer()
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").strip().split("\r\n")
        answer.status = int(first.split()[1])
        answer.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if answer.headers.get("transfer-encoding") == "chunked":
            while size := int(await reader.readuntil(b"\r\n"), 16):
                answer.body += (await reader.readexactly(size + 2))[:-2]
        else:
            answer.body = await reader.readexactly(int(answer.headers.get("content-length", 0)))
    except (asyncio.IncompleteReadError, ConnectionError) as error:
        answer.body += getattr(error, "partial", b"")
        answer.cut = True
    return answer


@contextmanager
def running(folder: Path, *options: str) -> Iterator[Live]:
    log = folder / "witness.jsonl"
    command = [sys.executable, "-m", "gateway.simulator", "--port", "0", "--log", str(log), *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert "listening on" in line
        yield Live(int(line.rsplit(":", 1)[1]), log, process)
    finally:
        process.terminate()
        process.communicate(timeout=HANG_S)
