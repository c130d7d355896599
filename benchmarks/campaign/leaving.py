"""Clients that go away: when, how, and what they had got until then."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from live.raw_client import chat_request

from benchmarks.faultproxy.proxy import reset

Moment = Literal["request", "head", "first", "mid", "usage"]
"""While the request is still being sent; before the reply's head; between head and first token; after some bytes of the
answer; between usage and `[DONE]`."""
Way = Literal["close", "reset", "half", "vanish"]
MOMENTS: tuple[Moment, ...] = ("request", "head", "first", "mid", "usage")
WAYS: tuple[Way, ...] = ("close", "reset", "half", "vanish")
TCP_REPAIR = 19
ANSWER_S = 60.0
TOKENS = 40
BODY: dict[str, Any] = {
    "model": "sim-small",
    "messages": [{"role": "user", "content": "Tell me about the tide."}],
    "stream_options": {"include_usage": True},
    "stream": True,
}
PACES: dict[Moment, dict[str, str]] = {
    "request": {},
    "head": {"x-sim-latency-ms": "1500"},
    "first": {"x-sim-ttft-ms": "1500"},
    "mid": {"x-sim-token-interval-ms": "20"},
    "usage": {"x-sim-done-wait-ms": "1500"},
}
MID_BYTES = 7000
"""A streamed answer of 40 tokens has about 9 kB."""


@dataclass(slots=True)
class Leaver:
    """One client. `left_ms` is the wall clock right before it went, 0 if its answer ended first. `sent` says whether
    the whole request went out."""

    mark: str
    model: str
    moment: Moment
    way: Way
    received: bytes = b""
    sent: bool = False
    left_ms: float = 0.0
    fault: str = ""

    @property
    def whole(self) -> bool:
        return b"data: [DONE]" in self.received and self.received.endswith(b"0\r\n\r\n")

    @property
    def status(self) -> int:
        for line in self.received.split(b"\r\n"):
            if line.startswith(b"HTTP/1.1 ") and not line.startswith(b"HTTP/1.1 1"):
                return int(line.split(b" ")[1])
        return 0


def drawn(number: int, model: str) -> Leaver:
    """Every moment with every way in turn; where exactly is chance's, in `leave`."""
    return Leaver(f"m{number}", model, MOMENTS[number % 5], WAYS[number // 5 % 4])


async def leave(port: int, secret: str, leaver: Leaver, chance: random.Random) -> None:
    """Connects, asks, waits for its moment, goes. Whatever it meets before is noted in `fault`."""
    pace = PACES[leaver.moment] | {"x-sim-tokens": str(TOKENS), "x-sim-mark": leaver.mark}
    request = chat_request(secret, {**BODY, "model": leaver.model}, pace)
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError as error:
        leaver.fault = f"connect: {error}"
        return
    try:
        async with asyncio.timeout(ANSWER_S):
            if leaver.moment == "request":
                writer.write(request[: chance.randrange(len(request))])
            else:
                writer.write(request)
                leaver.sent = True
            await _until(leaver, reader, chance)
            await _go(leaver, reader, writer)
    except TimeoutError:
        leaver.fault = "hung"
    except OSError as error:
        leaver.fault = repr(error)
    finally:
        if leaver.way != "vanish" or not leaver.left_ms:
            writer.close()


async def _until(leaver: Leaver, reader: asyncio.StreamReader, chance: random.Random) -> None:
    match leaver.moment:
        case "request" | "head" | "first":
            await asyncio.sleep(chance.uniform(0.0 if leaver.moment == "request" else 0.15, 0.6))
        case "mid":
            wanted = chance.randrange(1, MID_BYTES)
            while len(leaver.received) < wanted and (data := await reader.read(wanted - len(leaver.received))):
                leaver.received += data
        case "usage":
            while b'"total_tokens"' not in leaver.received and (data := await reader.read(65536)):
                leaver.received += data


async def _go(leaver: Leaver, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    leaver.left_ms = time.time() * 1000
    match leaver.way:
        case "close":
            writer.close()
        case "reset":
            reset(writer)
        case "half":
            writer.write_eof()
            while data := await reader.read(65536):
                leaver.received += data
        case "vanish":
            vanish(writer)


def vanish(writer: asyncio.StreamWriter) -> None:
    """The connection is forgotten on this side without a packet: what comes for it later meets nobody (a RST)."""
    raw = writer.get_extra_info("socket")
    raw.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
    with suppress(OSError):
        writer.transport.abort()


def can_vanish() -> bool:
    """Forgetting a connection is root's."""
    with socket.socket() as probe:
        try:
            probe.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
        except OSError:
            return False
    return True
