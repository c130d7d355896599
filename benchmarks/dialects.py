"""What a whole call costs in each dialect, passed and translated: the path in one process, without the kernel.

`python -m benchmarks.dialects` prints µs a call and, where valgrind is installed (`make system-deps`), instructions a
call, which other work on the machine does not change. Connections are objects that hand bytes over; everything between
is the product's own: protocol, path, journal on the file system, upstream connection. The replies say the same text.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import uvloop
from uvicorn import Config
from uvicorn.server import ServerState

from benchmarks.steps import Bench, usual_limits
from benchmarks.upstream import REPLY
from benchmarks.wrk import BODY
from gateway.api.bodies import BodyRoom
from gateway.api.leaving import LeavingPlane
from gateway.api.protocol import protocol_class
from gateway.dialects.discover import discover, discover_translations
from gateway.flow.plan import Plans
from gateway.flow.wires import Wires
from gateway.upstream.connection import Connection
from gateway.upstream.httptools_client import HttptoolsUpstream

CONNECTIONS = 32
BATCHES, BATCH = 20, 640
SURFACES = ("chat.completions", "messages", "responses")
PATHS = {"chat.completions": "/v1/chat/completions", "messages": "/v1/messages", "responses": "/v1/responses"}
INTO = {name: f"by-{name.partition('.')[0]}" for name in SURFACES}
ROUTES = "providers:\n  instant: {kind: simulated, base_url: 'http://127.0.0.1:1/v1'}\nmodels:\n" + "".join(
    f"  {model}: {{provider: instant, model: sim-small, translate_to: {name}}}\n" for name, model in INTO.items()
)
_TEXT = json.loads(REPLY)["choices"][0]["message"]["content"]
_ASKED = json.loads(BODY)
_MESSAGES = [message for message in _ASKED["messages"] if message["role"] != "system"]
_SYSTEM = "".join(message["content"] for message in _ASKED["messages"] if message["role"] == "system")


def request_body(surface: str, model: str) -> bytes:
    """The bench's call in a dialect's words."""
    match surface:
        case "messages":
            asked = {"model": model, "max_tokens": 64, "messages": _MESSAGES} | ({"system": _SYSTEM} if _SYSTEM else {})
        case "responses":
            asked = {"model": model, "max_output_tokens": 64, "input": _MESSAGES, "instructions": _SYSTEM}
        case _:
            asked = {**_ASKED, "model": model}
    return json.dumps(asked, separators=(",", ":")).encode()


def reply_body(surface: str) -> bytes:
    """The bench's reply in a dialect's words."""
    if surface == "messages":
        usage = {"input_tokens": 24, "output_tokens": 96, "service_tier": "standard"}
        reply: dict[str, Any] = {"id": "msg_bench", "type": "message", "role": "assistant", "model": "sim-small"}
        content = [{"type": "text", "text": _TEXT}]
        return json.dumps(reply | {"content": content, "stop_reason": "end_turn", "usage": usage}).encode()
    if surface == "responses":
        part = {"type": "output_text", "text": _TEXT, "annotations": []}
        item = {"id": "msg_1", "type": "message", "status": "completed", "role": "assistant", "content": [part]}
        usage = {"input_tokens": 24, "output_tokens": 96, "total_tokens": 120}
        usage |= {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}
        reply = {"id": "resp_bench", "object": "response", "created_at": 1796083200, "status": "completed"}
        return json.dumps(reply | {"model": "sim-small", "output": [item], "usage": usage}).encode()
    return REPLY


class _Transport:
    """A connection without a kernel. One towards a provider answers each write with the reply."""

    def __init__(self, loop: asyncio.AbstractEventLoop, answer: bytes = b"") -> None:
        self.loop = loop
        self.answer = answer
        self.protocol: Any = None
        self.written: list[bytes] = []
        self.silent = socket.socketpair() if answer else ()
        """What the pool looks at when the connection was idle: nothing ever comes of itself."""

    def write(self, data: bytes) -> None:
        if self.answer:
            self.loop.call_soon(self.protocol.data_received, self.answer)
        else:
            self.written.append(data)

    def is_closing(self) -> bool:
        return False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self.silent[0] if self.silent and name == "socket" else default

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, *_: Any, **__: Any) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...


async def measure(own: str, theirs: str, batches: int, batch: int) -> float:
    """Least µs of CPU a call in `own` costs with a provider spoken to in `theirs`, over batches."""
    loop = asyncio.get_running_loop()
    with tempfile.TemporaryDirectory(prefix="fgd") as folder:
        bench = Bench(Path(folder), usual_limits, ROUTES)
        upstream = HttptoolsUpstream()
        reply = reply_body(theirs)
        head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(reply)}\r\n\r\n".encode()
        upstream._connector = SimpleNamespace(connect=partial(_connected, loop, head + reply))  # type: ignore[assignment]
        plans = Plans(Wires(discover_translations(discover())))
        services = dataclasses.replace(bench.services, upstream=upstream, plans=plans)
        services.configuration._policy = bench.policy  # type: ignore[attr-defined]
        plane = LeavingPlane(services, None, lambda: "", lambda: b"", BodyRoom(1 << 25, 1 << 28))  # type: ignore[arg-type]
        callers = _callers(plane, loop)
        request = _request(own, INTO[theirs], bench.headers)
        try:
            await _ask(callers, request, batch)
            spent = [await _timed(callers, request, batch) for _ in range(batches)]
        finally:
            bench.journal.close()
    return min(spent, default=0.0)


async def _connected(loop: asyncio.AbstractEventLoop, answer: bytes, *_: Any, **__: Any) -> Connection:
    connection = Connection(loop, "bench")
    transport = _Transport(loop, answer)
    transport.protocol = connection
    connection.connection_made(transport)  # type: ignore[arg-type]
    return connection


def _callers(plane: LeavingPlane, loop: asyncio.AbstractEventLoop) -> list[tuple[Any, _Transport]]:
    config = Config(app=plane, log_level="warning", access_log=False)
    config.load()
    state = ServerState()
    state.default_headers = [(b"date", b"Sun, 29 Nov 2026 09:28:08 GMT")]
    made = protocol_class(plane)
    callers = []
    for _ in range(CONNECTIONS):
        protocol = made(config=config, server_state=state, app_state={})
        transport = _Transport(loop)
        protocol.connection_made(transport)  # type: ignore[arg-type]
        callers.append((protocol, transport))
    return callers


def _request(own: str, model: str, headers: dict[str, str]) -> bytes:
    body = request_body(own, model)
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST {PATHS[own]} HTTP/1.1\r\nhost: bench\r\n{lines}content-length: {len(body)}\r\n\r\n".encode() + body


async def _timed(callers: list[tuple[Any, _Transport]], request: bytes, calls: int) -> float:
    begun = time.thread_time_ns()
    done = await _ask(callers, request, calls)
    return (time.thread_time_ns() - begun) / done / 1000


async def _ask(callers: list[tuple[Any, _Transport]], request: bytes, calls: int) -> int:
    done = 0
    while done < calls:
        for protocol, _ in callers:
            protocol.data_received(request)
        while not all(transport.written for _, transport in callers):  # noqa: ASYNC110 - each turn is the work itself
            await asyncio.sleep(0)
        for _, transport in callers:
            if not transport.written[0].startswith(b"HTTP/1.1 200"):
                raise SystemExit(transport.written[0].decode("utf-8", "replace"))
            transport.written.clear()
        done += len(callers)
    return done


def instructions(own: str, theirs: str) -> int:
    """Instructions a call takes, by callgrind: of a long run less a short one."""
    few, many = (_counted(own, theirs, batches) for batches in (1, 5))
    return (many - few) // (4 * 320)


def _counted(own: str, theirs: str, batches: int) -> int:
    valgrind = shutil.which("valgrind")
    assert valgrind is not None
    with tempfile.TemporaryDirectory(prefix="fgd") as folder:
        command = [valgrind, "--tool=callgrind", f"--callgrind-out-file={folder}/out", sys.executable]
        command += ["-m", "benchmarks.dialects", own, theirs, str(batches)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    (line,) = [line for line in done.stderr.splitlines() if "Collected" in line]
    return int(line.rsplit(":", 1)[1])


def rows(*, counted: bool = True) -> list[dict[str, Any]]:
    """One row for each pair of dialects; instructions (0: not counted) where nothing is translated."""
    found = []
    for own in SURFACES:
        for theirs in SURFACES:
            spent = uvloop.run(measure(own, theirs, BATCHES, BATCH))
            number = instructions(own, theirs) if counted and own == theirs and shutil.which("valgrind") else 0
            found.append({"asked": own, "provider": theirs, "us": spent, "instructions": number})
    return found


def main(arguments: list[str]) -> None:
    """Without arguments all rows; with `own theirs batches` one measurement, for callgrind."""
    if arguments:
        own, theirs, batches = arguments
        uvloop.run(measure(own, theirs, int(batches), 320))
        return
    for row in rows():
        print(f"{row['asked']:17} {row['provider']:17} {row['us']:6.1f} µs {row['instructions']:12,}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
