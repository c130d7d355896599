"""An upstream that answers byte for byte what a script says, with the simulator's witness log: for what no decent
provider sends. A request chooses its script by `x-sim-script`.
"""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from live.raw_client import parse_head

COMMENT_S = 0.2
_EVENT_STREAM = (("content-type", "text/event-stream"),)


@dataclass(frozen=True, slots=True)
class Script:
    """A reply. `usage` is the truth for the witness; None: it served nothing. `comments`: after the body comments come
    for ever, one each COMMENT_S. `end` closes the connection without HTTP's own end."""

    status: int = 200
    headers: tuple[tuple[str, str], ...] = (("content-type", "application/json"),)
    body: bytes = b""
    usage: tuple[int, int] | None = None
    completed: bool = True
    comments: bool = False
    end: bool = False


def event(**members: object) -> bytes:
    chunk = {"id": "chatcmpl-scripted", "object": "chat.completion.chunk", "created": 1, "model": "sim-small"}
    return b"data: " + json.dumps(chunk | members).encode() + b"\n\n"


def content(text: str, finish: str | None = None) -> bytes:
    return event(choices=[{"index": 0, "delta": {"content": text}, "finish_reason": finish}])


def counted(usage: object) -> bytes:
    return event(choices=[], usage=usage)


DONE = b"data: [DONE]\n\n"
WORDS = b"".join(content(f"word{number} ") for number in range(8))


def stream(*pieces: bytes, completed: bool = True, comments: bool = False, end: bool = False) -> Script:
    return Script(200, _EVENT_STREAM, b"".join(pieces), (9, 8), completed, comments, end)


def refusal(status: int, *headers: tuple[str, str]) -> Script:
    error = {"error": {"message": "Scripted refusal.", "type": "scripted", "param": None, "code": "scripted"}}
    return Script(status, (("content-type", "application/json"), *headers), json.dumps(error).encode())


class ScriptedUpstream:
    """`async with ScriptedUpstream(scripts, witness) as upstream`: base_url is `http://127.0.0.1:{upstream.port}/v1`.

    `closed_s` is when each attempt's connection was seen closed by the gateway, by its script, in monotonic seconds.
    """

    def __init__(self, scripts: dict[str, Script], witness: Path) -> None:
        self._scripts = scripts
        self._witness = witness
        self._server: asyncio.Server | None = None
        self.closed_s: dict[str, float] = {}
        self.served: dict[str, int] = {}

    async def __aenter__(self) -> ScriptedUpstream:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()

    @property
    def port(self) -> int:
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            while await self._one(reader, writer):
                continue
        writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection goes on."""
        head = await reader.readuntil(b"\r\n\r\n")
        headers = parse_head(head.replace(b" /", b" 0 /", 1))[1]
        await reader.readexactly(int(headers.get("content-length", "0")))
        name = headers["x-sim-script"]
        script = self._scripts[name]
        self.served[name] = self.served.get(name, 0) + 1
        attempt_id = headers["x-request-id"]
        self._note({"event": "begin", "attempt_id": attempt_id, "model": "sim-small", "prompt_tokens": 9})
        if not script.comments:
            self._ended(attempt_id, script, cancelled=False)
        chunked = script.headers == _EVENT_STREAM
        framing = "transfer-encoding: chunked" if chunked else f"content-length: {len(script.body)}"
        lines = [f"HTTP/1.1 {script.status} Scripted", framing, *(f"{key}: {value}" for key, value in script.headers)]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n")
        if script.body:
            writer.write(b"%x\r\n%b\r\n" % (len(script.body), script.body) if chunked else script.body)
        if script.comments:
            try:
                await self._comment(reader, writer)
            finally:
                self.closed_s[name] = time.monotonic()
                self._ended(attempt_id, script, cancelled=True)
        if chunked and not script.end:
            writer.write(b"0\r\n\r\n")
        await writer.drain()
        return not script.end

    async def _comment(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Until the gateway has closed."""
        gone = asyncio.ensure_future(reader.read(1))
        while not (await asyncio.wait((gone,), timeout=COMMENT_S))[0]:
            writer.write(b"e\r\n: keep-alive\n\n\r\n")
        raise ConnectionResetError

    def _ended(self, attempt_id: str, script: Script, *, cancelled: bool) -> None:
        usage: dict[str, object] = {}
        if script.usage is not None:
            prompt, completion = script.usage
            usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
        completed = script.completed and script.usage is not None and not cancelled
        row: dict[str, object] = {"event": "end", "attempt_id": attempt_id, "completed": completed, "usage": usage}
        sent = script.usage[1] if script.usage is not None else 0
        self._note(row | {"cancelled_ms": 0 if cancelled else None, "sent_tokens": sent})

    def _note(self, line: dict[str, object]) -> None:
        """Appended in one write: the simulator writes whole lines to the same file."""
        with self._witness.open("ab", buffering=0) as file:
            file.write(json.dumps(line | {"ts_ms": time.time_ns() // 1_000_000}).encode() + b"\n")
