"""The load of the fault campaigns: clients that stream, some of which leave early, and what they saw."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field

from live.raw_client import chat_request, parse_head
from live.running import Running

BODY = {"model": "sim-small", "messages": [{"role": "user", "content": "Tell me a story about the sea."}]}
PACE = {"x-sim-tokens": "30", "x-sim-token-interval-ms": "4"}
READ_TIMEOUT_S = 90.0


@dataclass
class Seen:
    """What the clients saw. `request_ids` are all ids that any client ever received."""

    statuses: dict[int, int] = field(default_factory=dict)
    request_ids: list[str] = field(default_factory=list)
    whole: int = 0
    cut: int = 0
    left: int = 0
    refused_connections: int = 0
    wrong: list[str] = field(default_factory=list)

    def line(self) -> str:
        total = sum(self.statuses.values())
        return (
            f"{total} answers ({', '.join(f'{count}×{status}' for status, count in sorted(self.statuses.items()))}), "
            f"{self.whole} streams whole, {self.cut} cut, {self.left} left by the client, "
            f"{self.refused_connections} connections refused"
        )


class Load:
    """`clients` connections at a time, each one call after another until `stop`."""

    def __init__(self, server: Running, secret: str, clients: int, seed: int, leave_share: float = 0.1) -> None:
        self.seen = Seen()
        self._server = server
        self._secret = secret
        self._chance = random.Random(seed)
        self._leave_share = leave_share
        self._stop = asyncio.Event()
        self._tasks = [asyncio.ensure_future(self._client()) for _ in range(clients)]

    async def stop(self) -> Seen:
        self._stop.set()
        await asyncio.gather(*self._tasks)
        return self.seen

    async def _client(self) -> None:
        while not self._stop.is_set():
            try:
                async with asyncio.timeout(READ_TIMEOUT_S):
                    await self._one()
            except TimeoutError:
                self.seen.wrong.append("a call hung")
            except (OSError, asyncio.IncompleteReadError):
                self.seen.cut += 1
                await asyncio.sleep(0.01)

    async def _one(self) -> None:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._server.port)
        except OSError:
            self.seen.refused_connections += 1
            await asyncio.sleep(0.05)
            return
        stream = self._chance.random() < 0.8
        leaves = stream and self._chance.random() < self._leave_share
        try:
            writer.write(chat_request(self._secret, {**BODY, "stream": stream}, PACE, close=True))
            status, headers = parse_head(await reader.readuntil(b"\r\n\r\n"))
            self.seen.statuses[status] = self.seen.statuses.get(status, 0) + 1
            self.seen.request_ids.append(headers["x-request-id"])
            if leaves:
                await reader.read(200)
                self.seen.left += 1
                return
            body = await reader.read()
            if status == 200 and stream:
                self._judge(body)
        finally:
            writer.close()

    def _judge(self, body: bytes) -> None:
        if b"data: [DONE]" in body:
            self.seen.whole += 1
        else:
            self.seen.cut += 1
        if b"Traceback" in body:
            self.seen.wrong.append(body[-300:].decode(errors="replace"))
