"""A steady load from clients as they are used: every 20 ms one more call, from raw connections new and kept, the OpenAI
SDK and aiohttp, half of them streams, some of them long. Whatever is not a whole answer is noted: nobody retries here.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import openai
from live.raw_client import chat_request, parse_head
from live.running import Running

BODY: dict[str, Any] = {"model": "sim-small", "messages": [{"role": "user", "content": "Tell me a story."}]}
SHORT = {"x-sim-tokens": "30", "x-sim-token-interval-ms": "4"}
LONG = {"x-sim-tokens": "150", "x-sim-token-interval-ms": "20"}
LONG_SHARE = 0.05
EVERY_S = 0.02
MAX_RUNNING = 500
CALL_S = 60.0


@dataclass
class Steady:
    """What the clients saw. `faults` are refused and reset connections, cut answers, and whatever else went wrong."""

    statuses: dict[int, int] = field(default_factory=dict)
    request_ids: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    whole: int = 0
    slowest_s: float = 0.0
    skipped: int = 0

    def line(self) -> str:
        counted = ", ".join(f"{count}×{status}" for status, count in sorted(self.statuses.items()))
        return (
            f"{sum(self.statuses.values())} answers ({counted}), {self.whole} whole, {len(self.faults)} faults, "
            f"slowest first byte {self.slowest_s * 1000:.0f} ms"
        )

    def answered(self, status: int, request_id: str, waited_s: float) -> None:
        self.statuses[status] = self.statuses.get(status, 0) + 1
        self.request_ids.append(request_id)
        self.slowest_s = max(self.slowest_s, waited_s)


class SteadyLoad:
    """Runs until `stop`."""

    def __init__(self, server: Running, secret: str, seed: int) -> None:
        self.seen = Steady()
        self._server = server
        self._secret = secret
        self._chance = random.Random(seed)
        self._kept: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._calls: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        self._running = asyncio.ensure_future(self._run())

    async def stop(self) -> Steady:
        self._stopping.set()
        await self._running
        return self.seen

    async def _run(self) -> None:
        async with AsyncExitStack() as stack:
            sdk = await stack.enter_async_context(
                openai.AsyncOpenAI(base_url=self._server.url + "/v1", api_key=self._secret, max_retries=0)
            )
            session = await stack.enter_async_context(aiohttp.ClientSession(self._server.url))
            kinds: list[Callable[[bool, dict[str, str]], Awaitable[None]]] = [
                self._new,
                self._on_kept,
                lambda stream, pace: self._by_sdk(sdk, stream, pace),
                lambda stream, pace: self._by_aiohttp(session, stream, pace),
            ]
            number = 0
            due_s = time.monotonic()
            while not self._stopping.is_set():
                due_s += EVERY_S
                await asyncio.sleep(max(0.0, due_s - time.monotonic()))
                if len(self._calls) >= MAX_RUNNING:
                    self.seen.skipped += 1
                    continue
                self._begin(kinds[number % len(kinds)])
                number += 1
            await asyncio.gather(*self._calls)
            for _, writer in self._kept:
                writer.close()

    def _begin(self, kind: Callable[[bool, dict[str, str]], Awaitable[None]]) -> None:
        stream = self._chance.random() < 0.5
        pace = LONG if stream and self._chance.random() < LONG_SHARE else SHORT
        task = asyncio.ensure_future(self._noted(kind, stream, pace))
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    async def _noted(
        self, kind: Callable[[bool, dict[str, str]], Awaitable[None]], stream: bool, pace: dict[str, str]
    ) -> None:
        begun = time.time()
        try:
            async with asyncio.timeout(CALL_S):
                await kind(stream, pace)
        except Exception as error:  # noqa: BLE001 - whatever a client can see is the result
            name = getattr(kind, "__name__", "sdk")
            cause = f" from {error.__cause__!r}" if error.__cause__ else ""
            self.seen.faults.append(
                f"{begun:.3f} {name} stream={stream} after {time.time() - begun:.3f} s: {error!r}{cause}"
            )

    # ------------------------------------------------------------ raw

    async def _new(self, stream: bool, pace: dict[str, str]) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._server.port)
        try:
            await self._raw(reader, writer, stream, pace)
        finally:
            writer.close()

    async def _on_kept(self, stream: bool, pace: dict[str, str]) -> None:
        """On a connection of those that are free: a server that ends one without having said so is a fault."""
        if not self._kept:
            self._kept.append(await asyncio.open_connection("127.0.0.1", self._server.port))
        reader, writer = self._kept.pop(0)
        if await self._raw(reader, writer, stream, pace):
            self._kept.append((reader, writer))
        else:
            writer.close()

    async def _raw(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, stream: bool, pace: dict[str, str]
    ) -> bool:
        """Whether the connection may be used again."""
        begun_s = time.monotonic()
        writer.write(chat_request(self._secret, {**BODY, "stream": stream}, pace))
        status, headers = parse_head(await reader.readuntil(b"\r\n\r\n"))
        self.seen.answered(status, headers["x-request-id"], time.monotonic() - begun_s)
        if "content-length" in headers:
            body = await reader.readexactly(int(headers["content-length"]))
            self._judge(body, b'"usage"')
        else:
            body = await reader.readuntil(b"0\r\n\r\n")
            self._judge(body, b"data: [DONE]")
        return headers.get("connection", "") != "close"

    def _judge(self, body: bytes, needed: bytes) -> None:
        if needed in body:
            self.seen.whole += 1
        else:
            self.seen.faults.append(f"{time.time():.3f} not whole: {body[-300:]!r}")

    # ------------------------------------------------------------ libraries

    async def _by_sdk(self, sdk: openai.AsyncOpenAI, stream: bool, pace: dict[str, str]) -> None:
        begun_s = time.monotonic()
        reply = await sdk.chat.completions.with_raw_response.create(**BODY, stream=stream, extra_headers=pace)
        self.seen.answered(reply.status_code, reply.headers["x-request-id"], time.monotonic() - begun_s)
        answer: Any = reply.parse()
        if stream:
            chunks = [chunk async for chunk in answer]
            whole = bool(chunks) and bool(chunks[-1].choices) and chunks[-1].choices[0].finish_reason is not None
        else:
            whole = answer.choices[0].finish_reason is not None
        if whole:
            self.seen.whole += 1
        else:
            self.seen.faults.append(f"{time.time():.3f} not whole for the SDK")

    async def _by_aiohttp(self, session: aiohttp.ClientSession, stream: bool, pace: dict[str, str]) -> None:
        headers = {**pace, "authorization": f"Bearer {self._secret}", "content-type": "application/json"}
        data = json.dumps({**BODY, "stream": stream})
        begun_s = time.monotonic()
        async with session.post("/v1/chat/completions", data=data, headers=headers) as reply:
            self.seen.answered(reply.status, reply.headers["x-request-id"], time.monotonic() - begun_s)
            self._judge(await reply.read(), b"data: [DONE]" if stream else b'"usage"')
