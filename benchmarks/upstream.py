"""An instant OpenAI-shaped upstream for measuring: fixed bytes, no tokens. `python -m benchmarks.upstream PORT`.

The request's `user` says what it should send: `kib-N` a reply of about N KiB, `burst` a stream in one write,
`paced-MICROSECONDS-EVENTS` a stream of so many events with that time between two.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys

import httptools
import uvloop

EVENTS = 200
WORD = "measured "


def _reply(words: int) -> bytes:
    message = {"role": "assistant", "content": WORD * words, "refusal": None}
    return json.dumps(
        {
            "id": "chatcmpl-bench",
            "object": "chat.completion",
            "created": 1796083200,
            "model": "sim-small",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}],
            "usage": {
                "prompt_tokens": 24,
                "completion_tokens": 96,
                "total_tokens": 120,
                "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
                "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
            },
        }
    ).encode()


def _whole(reply: bytes) -> bytes:
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(reply)}\r\n\r\n"
    return head.encode() + reply


REPLY = _reply(48)
WHOLE = _whole(REPLY)
SIZED = {kib: _whole(_reply((kib * 1024 - len(_reply(0))) // len(WORD))) for kib in (1, 16, 256)}


def _event(delta: dict[str, object], finish: str | None = None) -> bytes:
    chunk = {
        "id": "chatcmpl-bench",
        "object": "chat.completion.chunk",
        "created": 1796083200,
        "model": "sim-small",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
        "usage": None,
    }
    return b"data: " + json.dumps(chunk, separators=(",", ":")).encode() + b"\n\n"


USAGE = {"prompt_tokens": 24, "completion_tokens": EVENTS, "total_tokens": 24 + EVENTS}
TAIL = {"id": "chatcmpl-bench", "object": "chat.completion.chunk", "created": 1, "model": "sim-small", "choices": []}
STREAM = [
    _event({"role": "assistant", "content": ""}),
    *[_event({"content": f" word{number}"}) for number in range(EVENTS)],
    _event({}, "stop"),
    b"data: " + json.dumps({**TAIL, "usage": USAGE}).encode() + b"\n\n",
    b"data: [DONE]\n\n",
]
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def _chunked(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


CHUNKS = [_chunked(event) for event in STREAM]
BURST = STREAM_HEAD + b"".join(CHUNKS) + b"0\r\n\r\n"
_USER = re.compile(rb'"user":\s*"([a-z]+)-?(\d*)-?(\d*)"')


class Instant(asyncio.Protocol):
    """Answers each request at once."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.parser = httptools.HttpRequestParser(self)
        self.body: list[bytes] = []
        self.gone = False

    def connection_lost(self, error: Exception | None) -> None:
        self.gone = True

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self.body.append(body)

    def on_message_complete(self) -> None:
        body = b"".join(self.body)
        self.body = []
        wish = _USER.search(body)
        kind, first, second = wish.groups() if wish is not None else (b"", b"", b"")
        if kind == b"kib":
            self._send(SIZED[int(first)])
        elif kind == b"burst":
            self._send(BURST)
        elif kind == b"paced":
            self._send(STREAM_HEAD)
            middle = CHUNKS[1 : max(int(second) - 3, 1)]
            self._pace([CHUNKS[0], *middle, *CHUNKS[-3:]], 0, int(first) / 1e6)
        else:
            self._send(WHOLE)

    def _send(self, data: bytes) -> None:
        if not self.gone:
            self.transport.write(data)  # type: ignore[attr-defined]

    def _pace(self, chunks: list[bytes], at: int, interval_s: float) -> None:
        """One event now, the next one later: the reader gets them one by one."""
        if at == len(chunks):
            self._send(b"0\r\n\r\n")
        elif not self.gone:
            self._send(chunks[at])
            asyncio.get_running_loop().call_later(interval_s, self._pace, chunks, at + 1, interval_s)


async def serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Instant, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
