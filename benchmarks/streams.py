"""A load of streams: N connections, each reading streams one after another for a while. Prints one JSON line.

`python -m benchmarks.streams PORT KEY CONNECTIONS SECONDS burst|paced-MICROSECONDS-EVENTS`

A raw protocol instead of an HTTP client: it only counts event marks in what it is given, so that the reader is not
what limits. Connections begin spread over the first second; a stream that has begun is read to its end.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import uvloop

BODY = {"model": "bench", "stream": True, "messages": [{"role": "user", "content": "measure"}]}
MARK = b"data: "
END = b"\r\n0\r\n\r\n"
BEGIN_OVER_S = 1.0


def post(key: str, body: bytes) -> bytes:
    """A whole chat request."""
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n"
        f"authorization: Bearer {key}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Totals:
    """What all connections have seen."""

    def __init__(self) -> None:
        self.streams = self.events = self.reads = self.errors = 0
        self.first_ms: list[float] = []


class Reader(asyncio.Protocol):
    """One connection. `done` ends with it."""

    def __init__(self, request: bytes, until: float, totals: Totals) -> None:
        self.request, self.until, self.totals = request, until, totals
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.tail = b""
        self.asked = 0.0
        self.waiting = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self._ask()

    def _ask(self) -> None:
        if time.monotonic() >= self.until:
            self._finish()
            return
        self.tail, self.waiting, self.asked = b"", True, time.monotonic()
        self.transport.write(self.request)  # type: ignore[attr-defined]

    def _finish(self) -> None:
        if not self.done.done():
            self.done.set_result(None)
        self.transport.close()

    def data_received(self, data: bytes) -> None:
        totals = self.totals
        joined = self.tail + data
        events = joined.count(MARK) - self.tail.count(MARK)
        if events:
            totals.reads += 1
            totals.events += events
            if self.waiting:
                self.waiting = False
                totals.first_ms.append((time.monotonic() - self.asked) * 1000)
        if joined.endswith(END):
            totals.streams += 1
            self._ask()
        elif data.startswith(b"HTTP/1.1 ") and not data.startswith(b"HTTP/1.1 200"):
            totals.errors += 1
            self._finish()
        else:
            self.tail = joined[1 - len(END) :]

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.totals.errors += 1
            self.done.set_result(None)


async def main(port: int, key: str, connections: int, seconds: float, wish: str) -> None:
    body = json.dumps({**BODY, "user": wish}, separators=(",", ":")).encode()
    request = post(key, body)
    loop, totals = asyncio.get_running_loop(), Totals()
    begun = time.monotonic()
    readers = []
    for number in range(connections):
        await asyncio.sleep(max(begun + BEGIN_OVER_S * number / connections - time.monotonic(), 0.0))
        made = await loop.create_connection(lambda: Reader(request, begun + seconds, totals), "127.0.0.1", port)
        readers.append(made[1])
    await asyncio.gather(*(reader.done for reader in readers))
    took = time.monotonic() - begun
    first = sorted(totals.first_ms) or [0.0]
    found: dict[str, float] = {
        "streams": totals.streams,
        "events": totals.events,
        "reads": totals.reads,
        "errors": totals.errors,
    }
    found |= {"first_p50_ms": first[len(first) // 2], "first_p99_ms": first[int((len(first) - 1) * 0.99)]}
    print(json.dumps({**found, "seconds": took, "client_cpu_s": time.process_time()}))


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), sys.argv[5]))
