"""Servers that somebody else wrote, each as a process of its own on a free port of loopback.

They stand in for the vendors. What is in `locks/` is installed by `make test-providers`, never vendored.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from live.running import HANG_S, Reply, free_port, wait_for

ROOT = Path(__file__).resolve().parents[2]
INSTALLED = ROOT / ".peers"
LOCAL_MODEL = ROOT / ".venv-local"

KEY = "peer-key-of-the-gateway-0001"
"""What aimock and LiteLLM's proxy accept; both refuse any other."""
LITELLM_KEY = "sk-peer-key-of-the-gateway-0002"

ANSWER = "The Rhine, the Elbe and the Oder."
QUESTION = "Name three rivers."
TOO_OFTEN = "This one goes over the limit."
SLOW_DOWN = "Slow down, that was one too many."
RETRY_AFTER_S = 7
TOKENS_IN, TOKENS_CACHED, TOKENS_OUT = 19, 16, 9
COST_NUSD = 3_140_001
"""What the fake OpenRouter says a call has cost: 0.003140001 USD, no sum of any price list."""
VECTOR = [0.25, -0.5, 1.0, 0.125]


def http(url: str, body: Any = None, headers: Mapping[str, str] | None = None, method: str = "") -> Reply:
    """One request without any of our own code in between."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        url, data, {"content-type": "application/json", **(headers or {})}, method=method or None
    )
    try:
        with urllib.request.urlopen(request, timeout=HANG_S) as reply:
            return Reply(reply.status, {k.lower(): v for k, v in reply.headers.items()}, reply.read())
    except urllib.error.HTTPError as error:
        with error:
            return Reply(error.code, {k.lower(): v for k, v in error.headers.items()}, error.read())


@dataclass(frozen=True, slots=True)
class Peer:
    """A running server. `secret` is what it wants of its clients, empty when it does not look."""

    name: str
    url: str
    secret: str = ""

    def get(self, path: str) -> Any:
        headers = {"authorization": f"Bearer {self.secret}"} if self.secret else {}
        return http(self.url + path, headers=headers).json

    def post(self, path: str, body: Any = None) -> Any:
        headers = {"authorization": f"Bearer {self.secret}"} if self.secret else {}
        return http(self.url + path, {} if body is None else body, headers, "POST").json


@contextmanager
def serving(
    folder: Path,
    name: str,
    command: Sequence[str | Path],
    url: str,
    ready: str,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Peer]:
    """The process group of `command`, from the first good answer of `url + ready` to its end."""
    if not Path(command[0]).exists():
        raise AssertionError(f"{name} is not installed: `make test-providers` does that")
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            [str(part) for part in command],
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=folder,
            start_new_session=True,
        )

    def answers() -> bool:
        if process.poll() is not None:
            raise AssertionError(f"{name} ended: {(folder / f'{name}.log').read_text()[-2000:]}")
        try:
            return http(url + ready).status == 200
        except OSError:
            return False

    try:
        wait_for(name, answers)
        yield Peer(name, url)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(timeout=HANG_S)


@contextmanager
def aimock(folder: Path) -> Iterator[Peer]:
    """CopilotKit's aimock: OpenAI's, Azure's and OpenRouter's surfaces, a check of the key, a journal of requests."""
    usage = {
        "prompt_tokens": TOKENS_IN,
        "completion_tokens": TOKENS_OUT,
        "total_tokens": TOKENS_IN + TOKENS_OUT,
        "prompt_tokens_details": {"cached_tokens": TOKENS_CACHED},
        "cost": COST_NUSD / 1e9,
    }
    refusal = {"message": SLOW_DOWN, "type": "rate_limit_error", "code": "rate_limit_exceeded"}
    fixtures = [
        {
            "match": {"userMessage": TOO_OFTEN},
            "response": {"error": refusal, "status": 429, "retryAfter": RETRY_AFTER_S},
        },
        {"match": {"userMessage": QUESTION}, "response": {"content": ANSWER, "usage": usage}},
        {"match": {"inputText": QUESTION}, "response": {"embedding": VECTOR}},
    ]
    (folder / "aimock.json").write_text(json.dumps({"fixtures": fixtures}))
    port = free_port()
    node = Path("/usr/bin/env")
    script = INSTALLED / "aimock/node_modules/@copilotkit/aimock/dist/cli.js"
    command = (node, "node", script, "-p", str(port), "-f", folder / "aimock.json", "--strict", "--log-level", "warn")
    environment = {"AIMOCK_API_KEYS": KEY}
    with serving(folder, "aimock", command, f"http://127.0.0.1:{port}", "/health", environment) as peer:
        yield Peer(peer.name, peer.url, KEY)


@contextmanager
def llmock(folder: Path) -> Iterator[Peer]:
    """LLMock: the surfaces of several vendors, faults on demand, and a verdict on the client."""
    port = free_port()
    code = "from llmock.cli import app; app()"
    command = (INSTALLED / "llmock/bin/python", "-c", code, "serve", "--host", "127.0.0.1", "--port", str(port))
    with serving(folder, "llmock", command, f"http://127.0.0.1:{port}", "/health") as peer:
        yield peer


@contextmanager
def litellm(folder: Path, behind: Peer) -> Iterator[Peer]:
    """LiteLLM's own proxy in front of aimock, with a master key and its own price map."""
    models = {
        "openai/gpt-4o-mini": "openai/gpt-4o-mini",
        "openai/text-embedding-3-small": "openai/text-embedding-3-small",
        "mistral-small-latest": "openai/mistral-small-latest",
    }
    behind_it = {"api_base": f"{behind.url}/v1", "api_key": behind.secret}
    config = {
        "model_list": [
            {"model_name": name, "litellm_params": {"model": model, **behind_it}} for name, model in models.items()
        ],
        "general_settings": {"master_key": LITELLM_KEY, "always_include_stream_usage": True},
        "litellm_settings": {"num_retries": 0},
    }
    (folder / "litellm.yaml").write_text(json.dumps(config))  # JSON is YAML
    port = free_port()
    command = (
        INSTALLED / "litellm/bin/litellm",
        *("--config", folder / "litellm.yaml", "--host", "127.0.0.1", "--port", str(port), "--telemetry", "False"),
    )
    environment = {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}  # its price map from the package, not from the network
    url = f"http://127.0.0.1:{port}"
    with serving(folder, "litellm", command, url, "/health/liveliness", environment) as peer:
        yield Peer(peer.name, peer.url, LITELLM_KEY)


@contextmanager
def llama(folder: Path, *, embedding: bool = False) -> Iterator[Peer]:
    """A real llama.cpp server with a real, very small model."""
    name = "llama-embed" if embedding else "llama"
    port = free_port()
    weights = LOCAL_MODEL / "weights"
    weights.mkdir(exist_ok=True)
    command = [LOCAL_MODEL / "bin/python", "-P", ROOT / "tools/local_model/server.py", "--port", str(port)]
    command += ["--weights", weights / "gemma-3-270m.gguf", "--name", "gemma-3-270m"]
    command += ["--embedding"] if embedding else []
    with serving(folder, name, command, f"http://127.0.0.1:{port}", "/health") as peer:
        yield peer
