"""Vendors for the annex on this machine's loopback.

CopilotKit's aimock speaks Bedrock's, Vertex AI's and Cohere's APIs. Between it and litellm stands a relay that keeps
what went by: aimock's own journal blots out credentials, and the signature of a call is what is to be seen here. A
small server of ours misbehaves on request, and another gives Google's tokens.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from live.running import HANG_S, free_port, wait_for

from gateway.annex.environment import environment_for
from gateway.annex.process import annex_command
from gateway.annex.spec import AnnexSpec, ServedProvider, write_spec

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv/annex/bin/python"
AIMOCK = ROOT / ".peers/aimock/node_modules/@copilotkit/aimock/dist/cli.js"

CLAUDE = "bedrock/anthropic.claude-3-5-sonnet-20240620-v1:0"
GEMINI = "vertex_ai/gemini-2.5-flash"
COMMAND = "cohere_chat/command-r-plus"
ACCESS_KEY, SECRET_KEY = "AKIDEXAMPLE012345678", "wJalrXUtnFEMI-dummy-secret-key-0001"
TOKEN = "ya29.dummy-access-token-of-the-fake-google"
QUESTION, ANSWER = "Name three rivers.", "The Rhine, the Elbe and the Oder, each a long way from the other two."
UNREPORTED = "Say nothing of usage."
WEATHER = "What is the weather in Paris?"
TOKENS_IN, TOKENS_OUT = 19, 9

FIXTURES = [
    {
        "match": {"userMessage": QUESTION},
        "response": {
            "content": ANSWER,
            "usage": {
                "prompt_tokens": TOKENS_IN,
                "completion_tokens": TOKENS_OUT,
                "total_tokens": TOKENS_IN + TOKENS_OUT,
                "input_tokens": TOKENS_IN,
                "output_tokens": TOKENS_OUT,
            },
        },
    },
    {"match": {"inputText": "one"}, "response": {"embedding": [0.5, -1.25]}},
    {"match": {"userMessage": UNREPORTED}, "response": {"content": "Nothing."}},
    {
        "match": {"userMessage": WEATHER},
        "response": {"toolCalls": [{"name": "get_weather", "arguments": '{"city":"Paris"}'}]},
    },
]


@dataclass(frozen=True)
class Seen:
    """A request that a vendor got."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Vendors:
    """`relayed` is what aimock got, `token_requests` what Google's token endpoint got; `waiting` and `left` are
    when the faulty vendor began to wait, and when the other side closed."""

    folder: Path
    relay: str
    faulty: str
    token_url: str
    relayed: list[Seen] = field(default_factory=list)
    token_requests: list[bytes] = field(default_factory=list)
    left: list[float] = field(default_factory=list)
    waiting: list[float] = field(default_factory=list)
    account: str = ""

    @property
    def spec(self) -> AnnexSpec:
        keys = (
            ("aws_access_key_id", "env:TEST_AWS_ID"),
            ("aws_region_name", "eu-central-1"),
            ("aws_secret_access_key", "env:TEST_AWS_SECRET"),
        )
        google = (
            ("api_base", self.relay),
            ("vertex_credentials", "env:TEST_GOOGLE_ACCOUNT"),
            ("vertex_location", "europe-west1"),
            ("vertex_project", "p1"),
        )
        cohere = (("api_base", f"{self.relay}/v2/chat"), ("api_key", "env:TEST_AWS_SECRET"))
        embed = (("api_base", f"{self.relay}/v2/embed"), ("api_key", "env:TEST_AWS_SECRET"))
        return AnnexSpec(
            (
                ServedProvider("cohere-embed", ("cohere/*",), embed),
                ServedProvider("aws", ("bedrock/*",), (*keys, ("aws_bedrock_runtime_endpoint", self.relay))),
                ServedProvider("cohere", ("cohere_chat/*",), cohere),
                ServedProvider("dead", ("bedrock/*",), (*keys, ("aws_bedrock_runtime_endpoint", "http://127.0.0.1:1"))),
                ServedProvider("faulty", ("bedrock/*",), (*keys, ("aws_bedrock_runtime_endpoint", self.faulty))),
                ServedProvider("google", ("vertex_ai/*",), google),
                ServedProvider("keyless", ("bedrock/*",), (("aws_access_key_id", "env:TEST_NOT_SET"),)),
                ServedProvider("odd", ("nobody/*",)),
                ServedProvider(
                    "short", ("bedrock/*",), (*keys, ("aws_bedrock_runtime_endpoint", self.faulty)), timeout_s=-4.5
                ),
            )
        )

    @property
    def environment(self) -> dict[str, str]:
        ours = {
            "PATH": os.environ.get("PATH", ""),
            "TEST_AWS_ID": ACCESS_KEY,
            "TEST_AWS_SECRET": SECRET_KEY,
            "TEST_GOOGLE_ACCOUNT": self.account,
        }
        return environment_for(self.spec, ours)

    @property
    def log(self) -> str:
        return (self.folder / "annex.log").read_text()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    answer: Callable[[_Handler, Seen], None]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        headers = {name.lower(): value for name, value in self.headers.items()}
        type(self).answer(self, Seen(self.path, headers, body))

    do_GET = do_POST

    def reply(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"content-type": "application/json", "connection": "close", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        return


@contextmanager
def server(answer: Callable[[_Handler, Seen], None]) -> Iterator[str]:
    handler = type("Handler", (_Handler,), {"answer": staticmethod(answer)})
    listening = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    listening.daemon_threads = True
    thread = threading.Thread(target=listening.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.server_address[1]}"
    finally:
        listening.shutdown()
        listening.server_close()


def relaying(target: str, seen: list[Seen]) -> Callable[[_Handler, Seen], None]:
    """Hands a request on and its reply back as it comes, and remembers the request."""

    def answer(handler: _Handler, got: Seen) -> None:
        seen.append(got)
        sent = {name: value for name, value in got.headers.items() if name not in ("host", "content-length")}
        request = urllib.request.Request(target + got.path, got.body or None, sent, method=handler.command)
        try:
            reply = urllib.request.urlopen(request, timeout=HANG_S)
        except urllib.error.HTTPError as error:
            reply = error
        with reply:
            handler.send_response(reply.status)
            handler.send_header("content-type", reply.headers.get("content-type", ""))
            handler.send_header("connection", "close")
            handler.end_headers()
            with contextlib.suppress(ConnectionError):  # an annex that was killed
                while chunk := reply.read1(65536):
                    handler.wfile.write(chunk)
        handler.close_connection = True

    return answer


CONVERSE = {
    # the shape that AWS documents, with tokens read from and written to the cache
    "output": {"message": {"role": "assistant", "content": [{"text": "Cached."}]}},
    "stopReason": "end_turn",
    "usage": {
        "inputTokens": 40,
        "outputTokens": 7,
        "totalTokens": 107,
        "cacheReadInputTokens": 50,
        "cacheWriteInputTokens": 10,
    },
    "metrics": {"latencyMs": 5},
}


def misbehaving(world: Vendors) -> Callable[[_Handler, Seen], None]:
    """What the user's text asks for: a status, a cut, a wait, or nonsense."""

    def answer(handler: _Handler, got: Seen) -> None:
        text = json.loads(got.body)["messages"][0]["content"][0]["text"]
        if text.isdigit():
            body = json.dumps({"message": f"refused {SECRET_KEY}"}).encode()
            handler.reply(int(text), body, {"retry-after": "7", "x-amzn-requestid": "amz-1"})
        elif text == "cached":
            handler.reply(200, json.dumps(CONVERSE).encode())
        elif text == "nonsense":
            handler.reply(200, b"<html>no JSON</html>")
        elif text == "wait":
            world.waiting.append(time.monotonic())
            handler.connection.settimeout(HANG_S)
            handler.connection.recv(1)
            world.left.append(time.monotonic())
        elif text == "cut":
            handler.send_response(200)
            handler.send_header("content-length", "1000")
            handler.end_headers()
            handler.wfile.write(b'{"output":')
            handler.connection.shutdown(socket.SHUT_RDWR)
        handler.close_connection = True

    return answer


def tokens(requests: list[bytes]) -> Callable[[_Handler, Seen], None]:
    def answer(handler: _Handler, got: Seen) -> None:
        requests.append(got.body)
        said = {"access_token": TOKEN, "expires_in": 3600, "token_type": "Bearer"}
        handler.reply(200, json.dumps(said).encode())

    return answer


def service_account(token_url: str) -> str:
    """A key file of Google's in one line, made for this run."""
    key = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    account = {
        "type": "service_account",
        "project_id": "p1",
        "private_key_id": "k1",
        "private_key": key.decode(),
        "client_email": "annex@p1.iam.gserviceaccount.com",
        "client_id": "1",
        "token_uri": token_url,
    }
    return json.dumps(account)


@contextmanager
def aimock(folder: Path) -> Iterator[str]:
    if not AIMOCK.exists():
        raise AssertionError("aimock is not installed: `make test-annex` does that")
    (folder / "aimock.json").write_text(json.dumps({"fixtures": FIXTURES}))
    port = free_port()
    command = ("node", AIMOCK, "-p", str(port), "-f", folder / "aimock.json", "--strict", "--latency", "20")
    with (folder / "aimock.log").open("wb") as log:
        process = subprocess.Popen(
            [str(part) for part in command], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=HANG_S) as reply:
                return bool(reply.status == 200)
        except OSError:
            return False

    try:
        wait_for("aimock", answers)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def vendors(folder: Path) -> Iterator[Vendors]:
    world = Vendors(folder, "", "", "")
    with ExitStack() as stack:
        mock = stack.enter_context(aimock(folder))
        world.relay = stack.enter_context(server(relaying(mock, world.relayed)))
        world.faulty = stack.enter_context(server(misbehaving(world)))
        world.token_url = stack.enter_context(server(tokens(world.token_requests))) + "/token"
        world.account = service_account(world.token_url)
        yield world


@contextmanager
def annex(world: Vendors) -> Iterator[Path]:
    """The annex in its own interpreter, as `AnnexProcess` starts it; here by hand, on a socket of its own."""
    if not PYTHON.exists():
        raise AssertionError("the annex is not installed: `make annex` does that")
    path = world.folder / "annex.sock"
    with (world.folder / "annex.log").open("wb") as log:
        process = subprocess.Popen(
            [*annex_command(str(PYTHON)), "--socket", str(path)],
            env=world.environment,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    assert process.stdin is not None
    process.stdin.write(write_spec(world.spec))
    process.stdin.close()
    try:
        wait_for("the annex", lambda: path.exists() or process.poll() is not None)
        assert process.poll() is None, world.log
        yield path
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
