"""A load of streams: N connections, each reading streams one after another for a while. Prints one JSON line.

`python -m benchmarks.streams PORT KEY CONNECTIONS SECONDS burst|paced`
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import uvloop

BODY = {"model": "bench", "stream": True, "messages": [{"role": "user", "content": "measure"}]}


async def one(port: int, request: bytes, until: float) -> tuple[int, int]:
    """(streams, events) read on one kept-alive connection."""
    streams = events = 0
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while time.monotonic() < until:
        writer.write(request)
        await reader.readuntil(b"\r\n\r\n")
        seen = b""
        while not seen.endswith(b"0\r\n\r\n"):
            chunk = await reader.read(65536)
            if not chunk:
                raise ConnectionError("the gateway closed a stream")
            events += chunk.count(b"data: ")
            seen = (seen + chunk)[-16:]
        streams += 1
    writer.close()
    return streams, events


async def main(port: int, key: str, connections: int, seconds: float, pace: str) -> None:
    body = json.dumps({**BODY, "user": pace}, separators=(",", ":")).encode()
    request = (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\nauthorization: Bearer "
        + key.encode()
        + b"\r\ncontent-length: "
        + str(len(body)).encode()
        + b"\r\n\r\n"
        + body
    )
    begun = time.monotonic()
    totals = await asyncio.gather(*(one(port, request, begun + seconds) for _ in range(connections)))
    took = time.monotonic() - begun
    streams, events = (sum(column) for column in zip(*totals, strict=True))
    print(json.dumps({"streams": streams, "events": events, "seconds": took}))


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), sys.argv[5]))
