"""`python -m tools.local_model`: two llama.cpp servers and a gateway in front of them, until Ctrl-C.

The servers are children of the gateway's supervisor, which starts them again when they die and ends them after the
last call. Their ports stand in the routes file, which is written anew when one of them is taken by somebody else.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gateway.cli.client import local_client
from gateway.cli.serve import environment_of, start, with_options
from gateway.core.errors import ConfigInvalid, FaregateError
from gateway.settings import Settings, read_settings
from gateway.supervisor import ChildSpec, free_port

ROOT = Path(__file__).resolve().parent.parent.parent
SERVER = Path(__file__).resolve().parent / "server.py"
CHAT_MODEL, EMBED_MODEL = "gemma-3-270m", "gemma-3-270m-embed"
APPLICATION = "local-app"
READY_TIMEOUT_S = 120.0
"""The first start puts the weights together and checks them; a slow disk may take its time."""

_ROUTES = """\
# Written by `make run-local-model` when it is missing or one of its ports is taken.
providers:
  llama-chat:
    kind: llama_cpp
    base_url: http://127.0.0.1:{chat}/v1
  llama-embed:
    kind: llama_cpp
    base_url: http://127.0.0.1:{embed}/v1
models:
  {chat_model}: llama-chat/{chat_model}
  {embed_model}: llama-embed/{embed_model}
"""


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the two servers listen on loopback."""

    chat: int
    embed: int

    def routes(self) -> str:
        return _ROUTES.format(chat=self.chat, embed=self.embed, chat_model=CHAT_MODEL, embed_model=EMBED_MODEL)


def settle_ports(routes: Path) -> Ports:
    """The ports of the routes file if both are free, else two others, written into it."""
    known = _known_ports(routes)
    if known is not None and _is_free(known.chat) and _is_free(known.embed):
        return known
    chat = embed = free_port()
    while embed == chat:
        embed = free_port()
    ports = Ports(chat, embed)
    routes.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    routes.write_text(ports.routes())
    return ports


def _known_ports(routes: Path) -> Ports | None:
    """Those of a file that this module wrote and nobody has edited."""
    try:
        text = routes.read_text()
    except FileNotFoundError:
        return None
    found = [line.rpartition(":")[2].partition("/")[0] for line in text.split("\n") if "base_url:" in line]
    if len(found) != 2 or not all(port.isdigit() for port in found):
        return None
    ports = Ports(int(found[0]), int(found[1]))
    return ports if ports.routes() == text else None


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def server_spec(python: Path, weights: Path, port: int, *, embedding: bool, settings: Settings) -> ChildSpec:
    """One llama.cpp server as a child. The chat server gets all processors but one, which is the gateway's."""
    threads = 1 if embedding else max(1, (os.cpu_count() or 2) - 1)
    command = [str(python), "-P", str(SERVER), "--port", str(port), "--weights", str(weights)]
    command += ["--name", EMBED_MODEL if embedding else CHAT_MODEL, "--threads", str(threads)]
    command += ["--embedding"] if embedding else []
    return ChildSpec("llama-embed" if embedding else "llama-chat", tuple(command), environment_of(settings))


def run(settings: Settings, python: Path) -> None:
    """Serves until Ctrl-C. Raises Conflict when the port or the data folder is in use."""
    if not python.exists():
        raise ConfigInvalid(f"There is no {python}. `make run-local-model` makes its environment.")
    policies = settings.data_dir / "policies"
    settings = replace(settings, config_dir=policies)
    ports = settle_ports(policies / "routes.yaml")
    weights = python.parent.parent / "weights"
    weights.mkdir(exist_ok=True)
    model = weights / f"{CHAT_MODEL}.gguf"
    servers = (
        server_spec(python, model, ports.chat, embedding=False, settings=settings),
        server_spec(python, model, ports.embed, embedding=True, settings=settings),
    )
    start(settings, servers, lambda address: announce(settings, address, ports), log_level="warning")


def announce(settings: Settings, address: str, ports: Ports) -> None:
    """Waits for the model, makes a key and prints what to paste. Raises FaregateError when the model does not come."""
    for port in (ports.chat, ports.embed):
        _wait_until_ready(port)
    client = local_client(settings)
    try:
        secret = fresh_secret(client)
    finally:
        client.close()
    print(lines_to_paste(address, secret, settings.data_dir), flush=True)


def _wait_until_ready(port: int) -> None:
    end = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as reply:
                if reply.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise FaregateError(f"llama.cpp on port {port} did not answer within {READY_TIMEOUT_S:.0f} s; see its lines above.")


def fresh_secret(client: Any) -> str:
    """The secret of the application key: new at each start, so that the printed line works and none is stored."""
    made = client.send("POST", "/admin/v1/keys", None, {"name": APPLICATION, "team": "local", "if_absent": True})
    if made.get("secret"):
        return str(made["secret"])
    rotated = client.send("POST", f"/admin/v1/keys/{made['key']['id']}/rotate", None, {"overlap_s": 0})
    return str(rotated["secret"])


def lines_to_paste(address: str, secret: str, data_dir: Path) -> str:
    shown = data_dir.resolve()
    return f"""
Faregate is serving on {address}, with {CHAT_MODEL} on this machine behind it

  console          {address}/ui
  application key  {secret}   (of this run only; the next start makes another)

{CHAT_MODEL} is a very small base model: its tokens, counts and speed are real, its answers make little sense.
It costs nothing. {EMBED_MODEL} gives embeddings of the same weights.

Try it:

curl {address}/v1/chat/completions -H "authorization: Bearer {secret}" -H "content-type: application/json" \\
  -d '{{"model":"{CHAT_MODEL}","max_tokens":32,"messages":[{{"role":"user","content":"Hello"}}]}}' -i

curl {address}/v1/embeddings -H "authorization: Bearer {secret}" -H "content-type: application/json" \\
  -d '{{"model":"{EMBED_MODEL}","input":["a text","another one"]}}'

Then: FAREGATE_DATA_DIR={shown} .venv/bin/faregate spend --by model · Ctrl-C stops both.
Routes are in {shown}/policies/routes.yaml.
"""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.local_model", description=__doc__)
    parser.add_argument("--python", type=Path, default=ROOT / ".venv-local/bin/python", help="of requirements.lock")
    parser.add_argument("--data-dir", type=Path, default=ROOT / "data/local-model")
    parser.add_argument("--host", default=None)
    parser.add_argument("--port", type=int, default=None, help="of the gateway (FAREGATE_PORT)")
    options = parser.parse_args()
    try:
        run(with_options(read_settings(), options.host, options.port, options.data_dir), options.python)
    except FaregateError as error:
        print(f"error: {error.message}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
