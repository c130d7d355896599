"""An instant OpenAI-shaped upstream for measuring: fixed bytes, no tokens. `python -m benchmarks.upstream PORT`."""

from __future__ import annotations

import asyncio
import json
import sys

import httptools
import uvloop

EVENTS = 200
REPLY = json.dumps(
    {
        "id": "chatcmpl-bench",
        "object": "chat.completion",
        "created": 1796083200,
        "model": "sim-small",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "measured " * 48, "refusal": None},
                "finish_reason": "stop",
                "logprobs": None,
            }
        ],
        "usage": {
            "prompt_tokens": 24,
            "completion_tokens": 96,
            "total_tokens": 120,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
        },
    }
).encode()
WHOLE = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: "
    + str(len(REPLY)).encode()
    + b"\r\n\r\n"
    + REPLY
)


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


BURST = STREAM_HEAD + b"".join(_chunked(event) for event in STREAM) + b"0\r\n\r\n"


class Instant(asyncio.Protocol):
    """Answers each request at once; `"stream":true` in the body asks for the stream, `paced` one event per turn of the
    loop, so that the reader gets them one by one."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.parser = httptools.HttpRequestParser(self)
        self.body = b""

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        body, self.body = self.body, b""
        if b'"stream":true' not in body and b'"stream": true' not in body:
            self.transport.write(WHOLE)  # type: ignore[attr-defined]
        elif b"paced" in body:
            self._paced = asyncio.ensure_future(self._pace())
        else:
            self.transport.write(BURST)  # type: ignore[attr-defined]

    async def _pace(self) -> None:
        self.transport.write(STREAM_HEAD)  # type: ignore[attr-defined]
        for event in STREAM:
            self.transport.write(_chunked(event))  # type: ignore[attr-defined]
            await asyncio.sleep(0.001)
        self.transport.write(b"0\r\n\r\n")  # type: ignore[attr-defined]


async def serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Instant, "127.0.0.1", port, backlog=2048)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
