"""One simulated attempt: witnessed, delayed, disturbed on request, answered whole or as a stream."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator, Mapping
from typing import Protocol

from gateway.simulator.draft import Draft
from gateway.simulator.exchange import Exchange, error_body
from gateway.simulator.knobs import Knobs
from gateway.simulator.printing import DONE, Printer
from gateway.simulator.shapes import TextRequest
from gateway.simulator.witness import Witness

MARK_HEADER = "x-sim-mark"
"""A caller that may never learn its call's id finds its attempt in the log by what it put here."""
BURST_EVENTS = 32
"""Events in one write when tokens are not spaced out in time."""
EVENT_STREAM = ((b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache"))
_OVERLOADED = error_body("The simulated provider failed on request (x-sim-fault).", "server_error", None)
_HTML = b"<html><body><h1>502 Bad Gateway</h1></body></html>"
REFUSALS = {
    "refuse-429": (429, error_body("Simulated rate limit.", "rate_limit_error", "rate_limit_exceeded")),
    "500": (500, _OVERLOADED),
    "401": (401, error_body("Simulated refusal of the key.", "invalid_request_error", "invalid_api_key")),
}


class Attempt:
    """What the witness is told of one request. Whatever happens, `end` is noted once."""

    def __init__(self, exchange: Exchange, witness: Witness, model: str, prompt_tokens: int) -> None:
        self._witness = witness
        self._id = exchange.headers.get("x-request-id", "")
        self._began_ns = time.monotonic_ns()
        self._ended = False
        self.sent_tokens = 0
        event: dict[str, object] = {"event": "begin", "attempt_id": self._id, "model": model}
        mark = exchange.headers.get(MARK_HEADER)
        witness.note(event | {"prompt_tokens": prompt_tokens} | ({"mark": mark} if mark else {}))

    async def durable(self) -> None:
        await self._witness.durable()

    def end(self, usage: dict[str, object], *, completed: bool, cancelled: bool = False) -> None:
        """`cancelled_ms` is how long after its begin the client's going was noticed."""
        if self._ended:
            return
        self._ended = True
        after_ms = (time.monotonic_ns() - self._began_ns) // 1_000_000
        event: dict[str, object] = {"event": "end", "attempt_id": self._id, "completed": completed, "usage": usage}
        event |= {"cancelled_ms": after_ms if cancelled else None, "sent_tokens": self.sent_tokens}
        self._witness.note(event)


class Voice(Protocol):
    """A draft in one dialect: a whole reply, or the events of a stream in their order."""

    @property
    def streams(self) -> bool: ...

    @property
    def refusals(self) -> Mapping[str, tuple[int, bytes]]:
        """Status and body by the fault that asks for it."""
        ...

    @property
    def error_event(self) -> bytes: ...

    @property
    def done(self) -> bytes:
        """The last event of a stream."""
        ...

    def whole(self) -> bytes: ...

    def openings(self) -> bytes: ...

    def tokens(self) -> Iterator[bytes]:
        """What is sent for each token of the draft."""
        ...

    def endings(self) -> bytes: ...

    def usage_chunk(self) -> bytes: ...


class OpenAIVoice(Printer):
    """The draft as OpenAI's chat completion or completion."""

    refusals = REFUSALS
    error_event = b"data: " + _OVERLOADED + b"\n\n"
    done = DONE

    @property
    def streams(self) -> bool:
        return bool(self.request.stream)

    @staticmethod
    def of(draft: Draft, request: TextRequest, fault: str) -> OpenAIVoice:
        usage: dict[str, object] | None = draft.usage()
        if fault == "no-usage":
            usage = None
        elif fault == "bad-usage":
            usage = draft.usage() | {"prompt_tokens_details": {"cached_tokens": draft.prompt_tokens + 7}}
        prefix = "chatcmpl" if request.messages is not None else "cmpl"
        return OpenAIVoice(draft, request, f"{prefix}-sim{os.urandom(9).hex()}", int(time.time()), usage)


class TextReply:
    """Answers one request for text as its knobs say, in the words of its `voice`."""

    def __init__(self, exchange: Exchange, attempt: Attempt, voice: Voice, draft: Draft, knobs: Knobs) -> None:
        self._exchange = exchange
        self._attempt = attempt
        self._draft = draft
        self._knobs = knobs
        self._printer = voice

    async def send(self, gate: asyncio.Event) -> None:
        """Answers to the end, or as far as the client stays."""
        draft, attempt = self._draft, self._attempt
        try:
            if await self._exchange.until(gate) and await self._answer():
                return
            attempt.end(draft.usage_of(attempt.sent_tokens), completed=False, cancelled=self._exchange.gone)
        finally:
            attempt.end(draft.usage_of(attempt.sent_tokens), completed=False)

    async def _answer(self) -> bool:
        """False when the client has gone."""
        fault = self._knobs.fault
        if not await self._exchange.pause(self._knobs.latency_ms / 1000):
            return False
        if fault in REFUSALS:
            await self._refuse(*self._printer.refusals[fault])
            return True
        if fault == "disconnect-before":
            await self._broken(b"", reset=True)
            return True
        if self._printer.streams and fault != "html":
            return await self._stream()
        return await self._whole()

    async def _refuse(self, status: int, body: bytes) -> None:
        self._attempt.end({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, completed=False)
        await self._attempt.durable()
        headers = ((b"retry-after", b"1"),) if status == 429 else ()
        await self._exchange.reply(status, body, headers)

    async def _broken(self, data: bytes, *, reset: bool) -> None:
        """The last bytes, then no connection."""
        self._attempt.end(self._draft.usage_of(self._attempt.sent_tokens), completed=False)
        await self._attempt.durable()
        if data:
            await self._exchange.write(data)
        await self._exchange.cut(reset=reset)

    async def _whole(self) -> bool:
        exchange, attempt, fault = self._exchange, self._attempt, self._knobs.fault
        if not await exchange.pause((self._knobs.ttft_ms + self._draft.tokens * self._knobs.token_interval_ms) / 1000):
            return False
        if fault == "stall":
            return await exchange.until(asyncio.Event())
        body = self._printer.whole()
        if fault in ("disconnect-mid", "truncated"):
            attempt.end(self._draft.usage(), completed=False)
            await attempt.durable()
            length = str(len(body)).encode()
            await exchange.start(200, ((b"content-type", b"application/json"), (b"content-length", length)))
            await exchange.write(body[: len(body) // 2])
            await exchange.cut(reset=fault == "disconnect-mid")
            return True
        if fault in ("error-event", "error-first"):
            body = self._printer.refusals["500"][1]
        completed = fault not in ("error-event", "error-first", "html")
        attempt.sent_tokens = self._draft.tokens if completed else 0
        attempt.end(self._draft.usage() if completed else self._draft.usage_of(0), completed=completed)
        await attempt.durable()
        if fault == "html":
            await exchange.reply(200, _HTML, content_type=b"text/html")
        else:
            await exchange.reply(200, body)
        return True

    async def _stream(self) -> bool:
        exchange, attempt, fault = self._exchange, self._attempt, self._knobs.fault
        await attempt.durable()
        exchange.watch()
        await exchange.start(200, EVENT_STREAM)
        if not await exchange.pause(self._knobs.ttft_ms / 1000):
            return False
        if fault == "error-first":
            return await self._end_with_error()
        await exchange.write(self._printer.openings())
        stop_at = self._draft.tokens // 2 if fault in ("disconnect-mid", "stall", "error-event", "truncated") else None
        if not await self._send_tokens(self._printer.tokens(), stop_at):
            return False
        if fault == "disconnect-mid":
            await self._broken(b"", reset=True)
            return True
        if fault == "stall":
            return await exchange.until(asyncio.Event())
        if fault == "error-event":
            return await self._end_with_error()
        if fault == "truncated":
            attempt.end(self._draft.usage_of(attempt.sent_tokens), completed=False)
            await attempt.durable()
            await exchange.write(b"", last=True)
            return True
        endings = self._printer.endings() + self._printer.usage_chunk()
        if self._knobs.done_wait_ms:
            await exchange.write(endings)
            endings = b""
            if not await exchange.pause(self._knobs.done_wait_ms / 1000):
                return False
        attempt.end(self._draft.usage(), completed=True)
        await attempt.durable()
        await exchange.write(endings + self._printer.done, last=True)
        return True

    async def _end_with_error(self) -> bool:
        self._attempt.end(self._draft.usage_of(self._attempt.sent_tokens), completed=False)
        await self._attempt.durable()
        await self._exchange.write(self._printer.error_event, last=True)
        return True

    async def _send_tokens(self, chunks: Iterator[bytes], stop_at: int | None) -> bool:
        """Sends token chunks, spaced or in bursts. False when the client has gone."""
        exchange, attempt = self._exchange, self._attempt
        interval_s = self._knobs.token_interval_ms / 1000
        total = self._draft.tokens if stop_at is None else stop_at
        size = 1 if interval_s else BURST_EVENTS
        while attempt.sent_tokens < total:
            count = min(size, total - attempt.sent_tokens)
            await exchange.write(b"".join(next(chunks) for _ in range(count)))
            attempt.sent_tokens += count
            if interval_s:
                if not await exchange.pause(interval_s):
                    return False
            else:
                await asyncio.sleep(0)
                if exchange.gone:
                    return False
        return True
