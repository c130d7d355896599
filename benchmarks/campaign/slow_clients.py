"""`python -m benchmarks.campaign.slow_clients --port N --count 1000 --seconds 30`: slow connections in a process of
their own, so that they do not slow the one that measures. The key is read from standard input.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import socket
import sys
import time
from collections import Counter

from live.raw_client import chat_request

from benchmarks.campaign.leaving import BODY

KINDS = ("head", "body", "reader", "idle")
STEP_S = 1.0
READ_BYTES = 512
RECEIVE_BUFFER_BYTES = 4096
LONG_TOKENS = 1000
"""About 230 kB, read at 512 bytes a second. More would measure what streaming costs, not what waiting does."""
DECLARED_BYTES = 200_000


class SlowClients:
    """`count` connections at any time; one that the server ended is made again."""

    def __init__(self, port: int, secret: str, count: int, seconds: float) -> None:
        self._port = port
        self._secret = secret
        self._count = count
        self._end = time.monotonic() + seconds
        self.seen: Counter[str] = Counter()

    async def run(self) -> None:
        spread = STEP_S / self._count
        tasks = [asyncio.ensure_future(self._forever(KINDS[n % 4], n * spread)) for n in range(self._count)]
        await asyncio.gather(*tasks)

    async def _forever(self, kind: str, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        while time.monotonic() < self._end:
            try:
                reader, writer = await self._open()
            except OSError:
                self.seen[f"{kind} refused"] += 1
                await asyncio.sleep(STEP_S)
                continue
            self.seen[f"{kind} opened"] += 1
            try:
                await self._slow(kind, reader, writer)
            except (OSError, asyncio.IncompleteReadError):
                self.seen[f"{kind} ended by the server"] += 1
            finally:
                writer.close()

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        raw = socket.socket()
        raw.setblocking(False)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", self._port))
        return await asyncio.open_connection(sock=raw, limit=READ_BYTES)

    async def _slow(self, kind: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        match kind:
            case "head":
                head = chat_request(self._secret, BODY).split(b"\r\n\r\n")[0]
                await self._dribble(head, reader, writer)
            case "body":
                body = json.dumps(BODY).encode().ljust(DECLARED_BYTES)
                head = chat_request(self._secret, BODY).split(b"content-length")[0]
                writer.write(head + b"content-length: %d\r\n\r\n" % len(body))
                await self._dribble(body, reader, writer)
            case "reader":
                writer.write(chat_request(self._secret, BODY, {"x-sim-tokens": str(LONG_TOKENS)}))
                while time.monotonic() < self._end and await reader.read(READ_BYTES):  # noqa: ASYNC110 - slow on purpose
                    await asyncio.sleep(STEP_S)
            case _:
                await self._dribble(b"", reader, writer)

    async def _dribble(self, data: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A byte a second; raises ConnectionResetError once the server has answered or closed."""
        place = 0
        while time.monotonic() < self._end:
            writer.write(data[place : place + 1])
            place += 1
            try:
                async with asyncio.timeout(STEP_S):
                    await reader.read(READ_BYTES)
            except TimeoutError:
                continue
            raise ConnectionResetError


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=30.0)
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    clients = SlowClients(options.port, sys.stdin.readline().strip(), options.count, options.seconds)
    asyncio.run(clients.run())
    print(", ".join(f"{count} {name}" for name, count in sorted(clients.seen.items())))


if __name__ == "__main__":
    main()
