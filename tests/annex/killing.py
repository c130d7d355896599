"""Kills an annex again and again under running streams of a live gateway, and asks the ledger what became of them."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from live.raw_client import chat_request
from live.running import Running, wait_for

from gateway.annex.process import AnnexProcess


@dataclass
class Seen:
    """What clients got: whole answers, answers that were cut, refusals by status; and the ids of all of them."""

    whole: int = 0
    cut: int = 0
    refused: Counter[int] = field(default_factory=Counter)
    ids: list[str] = field(default_factory=list)

    def add(self, answer: bytes) -> None:
        head, _, body = answer.partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        self.ids.extend(line[14:].decode() for line in lines if line.startswith(b"x-request-id: "))
        status = int(lines[0].split()[1]) if lines[0] else 0
        if status != 200:
            self.refused[status] += 1
        elif b"data: [DONE]" in body:
            self.whole += 1
        else:
            self.cut += 1


async def keep_streaming(server: Running, secret: str, body: dict[str, Any], stop: asyncio.Event, seen: Seen) -> None:
    while not stop.is_set():
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(chat_request(secret, {**body, "stream": True}, {}, close=True))
        seen.add(await reader.read())
        writer.close()


async def kill_under_streams(
    server: Running, annex: AnnexProcess, secret: str, bodies: list[dict[str, Any]], kills: int
) -> Seen:
    """Returns what clients saw; every kill hit an annex that was serving, and calls went on after the last one."""
    chance = random.Random(11)
    stop, seen = asyncio.Event(), Seen()
    streams = [asyncio.ensure_future(keep_streaming(server, secret, body, stop, seen)) for body in bodies]
    try:
        for _ in range(kills):
            whole, killed = seen.whole, annex.pid
            await asyncio.to_thread(wait_for, "streams through the annex", lambda whole=whole: seen.whole > whole)
            await asyncio.sleep(0.1 + 0.3 * chance.random())
            killed = annex.pid
            os.kill(killed, signal.SIGKILL)
            await asyncio.to_thread(
                wait_for, "a new annex", lambda killed=killed: annex.ready and annex.pid not in (0, killed)
            )
        whole = seen.whole
        await asyncio.to_thread(wait_for, "streams after the kills", lambda: seen.whole > whole + len(bodies))
    finally:
        stop.set()
        await asyncio.gather(*streams)
    return seen


def verified(server: Running) -> str:
    """What a green `ledger verify` says, once the ledger has caught up."""
    last: list[Any] = []

    def green() -> bool:
        last[:] = [server.faregate("ledger", "verify", check=False)]
        return bool(last[0].returncode == 0)

    try:
        wait_for("a green `ledger verify`", green, 30.0)
    except AssertionError:
        raise AssertionError(f"ledger verify: {last[0].stdout}\n{last[0].stderr}\n{server.log()[-4000:]}") from None
    text: str = last[0].stdout
    return text


def booked(server: Running, secret: str, ids: list[str]) -> list[Any]:
    """The calls of these ids as the ledger has them; each must be there."""
    found = []
    for request_id in ids:
        reply = wait_for(f"{request_id} in the ledger", lambda one=request_id: _known(server, secret, one))
        found.append(reply)
    return found


def _known(server: Running, secret: str, request_id: str) -> Any:
    reply = server.call("GET", f"/v1/requests/{request_id}", None, secret)
    return reply.json if reply.status == 200 else None
