"""A stand-in for Anthropic's API on a real socket: it answers what it is told to and remembers what it was sent."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ROUTES = """\
providers:
  anthropic:
    base_url: http://127.0.0.1:{port}/v1
    credential: env:PRETEND_ANTHROPIC_KEY
    networks: [loopback]
    {more}
models:
  "*": anthropic/*
"""
OWN_KEY = "sk-ant-the-gateways-own-credential"


@dataclass
class Received:
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class PretendAnthropic:
    """`answers` are (status, headers, body) in turn; the last one stays."""

    port: int = 0
    answers: list[tuple[int, dict[str, str], bytes]] = field(default_factory=list)
    received: list[Received] = field(default_factory=list)

    def routes(self, more: str = "") -> str:
        return ROUTES.format(port=self.port, more=more).replace("    \n", "")

    def answer(self, body: bytes, status: int = 200, **headers: str) -> None:
        kind = "text/event-stream" if body.startswith(b"event:") else "application/json"
        said = {"content-type": kind} | {name.replace("_", "-"): value for name, value in headers.items()}
        self.answers = [(status, said, body)]


def message(model: str, usage: dict[str, Any], **more: Any) -> bytes:
    content = [{"type": "text", "text": "It costs what it costs."}]
    reply = {"id": "msg_1", "type": "message", "role": "assistant", "model": model, "content": content}
    return json.dumps(reply | {"stop_reason": "end_turn", "stop_sequence": None, "usage": usage} | more).encode()


def events(*values: dict[str, Any]) -> bytes:
    return b"".join([f"event: {one['type']}\ndata: {json.dumps(one)}\n\n".encode() for one in values])


def streamed(model: str, start_usage: dict[str, Any], *deltas: dict[str, Any]) -> bytes:
    """A whole stream; `deltas` are the usages that its message_delta events tell, the last one at its end."""
    begin = json.loads(message(model, start_usage)) | {"content": [], "stop_reason": None}
    told = [{"type": "message_delta", "delta": {"stop_reason": None}, "usage": usage} for usage in deltas]
    told[-1]["delta"] = {"stop_reason": "end_turn", "stop_sequence": None}
    return events(
        {"type": "message_start", "message": begin},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "It costs."}},
        {"type": "content_block_stop", "index": 0},
        *told,
        {"type": "message_stop"},
    )


@contextmanager
def pretending() -> Iterator[PretendAnthropic]:
    pretend = PretendAnthropic()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            sent = {name.lower(): value for name, value in self.headers.items()}
            pretend.received.append(Received(self.path, sent, body))
            status, headers, reply = pretend.answers.pop(0) if len(pretend.answers) > 1 else pretend.answers[0]
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, format: str, *arguments: Any) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        pretend.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield pretend
        finally:
            server.shutdown()
            thread.join()
