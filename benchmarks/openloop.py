"""A load at a fixed rate that does not wait for answers before it asks on. Prints one JSON line.

`python -m benchmarks.openloop PORT KEY REQUESTS_PER_S SECONDS`

A request that no idle connection can take opens another one, up to a limit; beyond it the request waits its turn and
its latency counts from when it was due.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import deque

import uvloop

from benchmarks.streams import post
from benchmarks.wrk import BODY

CONNECTIONS_MAX = 512
CONNECTIONS_FIRST = 32
TICK_S = 0.002
REST_WAIT_S = 10.0
_LENGTH = b"content-length: "


class Load:
    """Requests that are due, connections that are idle, and what came back."""

    def __init__(self, port: int, request: bytes) -> None:
        self.port, self.request = port, request
        self.idle: list[Connection] = []
        self.due: deque[float] = deque()
        self.opened = self.answered = self.errors = 0
        self.latencies_ms: list[float] = []
        self.opening: set[asyncio.Task[None]] = set()

    def open_one(self) -> None:
        self.opened += 1
        task = asyncio.ensure_future(self._open())
        self.opening.add(task)
        task.add_done_callback(self.opening.discard)

    async def _open(self) -> None:
        await asyncio.get_running_loop().create_connection(lambda: Connection(self), "127.0.0.1", self.port)

    def send_due(self) -> None:
        while self.due and self.idle:
            self.idle.pop().ask(self.due.popleft())
        if self.due and self.opened < CONNECTIONS_MAX and not self.opening:
            self.open_one()


class Connection(asyncio.Protocol):
    """One request at a time."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.asked = 0.0
        self.got = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.load.idle.append(self)
        self.load.send_due()

    def ask(self, due: float) -> None:
        self.asked = due
        self.transport.write(self.load.request)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self.got += data
        head, mark, body = self.got.partition(b"\r\n\r\n")
        if not mark:
            return
        at = head.lower().find(_LENGTH)
        length = int(head[at + len(_LENGTH) :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(body) < length:
            return
        load = self.load
        load.answered += 1
        load.errors += not head.startswith(b"HTTP/1.1 200")
        load.latencies_ms.append((time.monotonic() - self.asked) * 1000)
        self.got, self.asked = b"", 0.0
        if load.due:
            self.ask(load.due.popleft())
        else:
            load.idle.append(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.load.opened -= 1
        if self in self.load.idle:
            self.load.idle.remove(self)


async def main(port: int, key: str, rate: float, seconds: float) -> None:
    load = Load(port, post(key, BODY.encode()))
    for _ in range(CONNECTIONS_FIRST):
        load.open_one()
    await asyncio.gather(*load.opening)
    begun = time.monotonic()
    sent = 0
    while (now := time.monotonic()) < begun + seconds:
        wanted = int((now - begun) * rate)
        load.due.extend(begun + number / rate for number in range(sent, wanted))
        sent = wanted
        load.send_due()
        await asyncio.sleep(TICK_S)
    took = time.monotonic() - begun
    in_time = load.answered
    while load.answered < sent and time.monotonic() < begun + took + REST_WAIT_S:
        load.send_due()
        await asyncio.sleep(TICK_S)
    ordered = sorted(load.latencies_ms) or [0.0]
    found: dict[str, float] = {"sent": sent, "answered_s": in_time / took, "errors": load.errors + sent - load.answered}
    found |= {"p50_ms": ordered[len(ordered) // 2], "p99_ms": ordered[int((len(ordered) - 1) * 0.99)]}
    print(json.dumps({**found, "connections": load.opened, "seconds": took, "client_cpu_s": time.process_time()}))


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), sys.argv[2], float(sys.argv[3]), float(sys.argv[4])))
