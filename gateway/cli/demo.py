"""`faregate demo`: everything at once on this machine, with a provider that says it is simulated.

It makes a data folder, an admin key and an application key, and prints an address, the keys (once), a curl line and an
SDK snippet that work when pasted. Real money only flows through providers whose key is in the environment.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from gateway.cli.serve import environment_of, start
from gateway.core.errors import FaregateError
from gateway.providers.discover import discover
from gateway.settings import Settings
from gateway.supervisor import ChildSpec, free_port

ADMIN, APPLICATION = "demo-admin", "demo-app"
_BUDGET = "5USD/day"

_ROUTES = """\
# What the demo routes. Written by `faregate demo` when it is missing; edit it, it is read again when it changes.
providers:
  simulated:
    kind: simulated
    base_url: http://127.0.0.1:{port}/v1
{real_providers}models:
  sim-small: simulated/sim-small
  sim-large: simulated/sim-large
  sim-reasoning: simulated/sim-reasoning
  sim-embed: simulated/sim-embed
{real_models}"""


def real_providers(environment: Mapping[str, str]) -> list[str]:
    """Kinds of providers with an address of their own whose usual key is in the environment."""
    return [
        kind
        for kind, row in discover().items()
        if row.base_url.startswith("https://") and environment.get(row.credential.removeprefix("env:"))
    ]


def demo(settings: Settings) -> None:
    """Serves until Ctrl-C. Raises Conflict when the port or the data folder is in use."""
    policies = settings.data_dir / "policies"
    port = _simulator_port(policies / "routes.yaml")
    settings = replace(settings, config_dir=policies)
    log = settings.data_dir / "simulator.jsonl"
    simulator = ChildSpec(
        "simulator",
        (sys.executable, "-P", "-m", "gateway.simulator", "--port", str(port), "--log", str(log)),
        environment_of(settings),
    )
    start(settings, (simulator,), lambda address: _announce(settings, address), log_level="warning")


def _simulator_port(routes: Path) -> int:
    """The port in the demo's routes, which are written when they are missing."""
    if routes.exists():
        for line in routes.read_text().split("\n"):
            found = line.strip().removeprefix("base_url: http://127.0.0.1:")
            if found != line.strip() and found.partition("/")[0].isdigit():
                return int(found.partition("/")[0])
        raise FaregateError(
            f"{routes} has no simulated provider on 127.0.0.1 any more. Delete it, or use `faregate serve`."
        )
    port = free_port()
    kinds = real_providers(os.environ)
    routes.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    routes.write_text(
        _ROUTES.format(
            port=port,
            real_providers="".join(f"  {kind}: {{}}\n" for kind in kinds),
            real_models="".join(f"  {kind}/*: {kind}/*\n" for kind in kinds),
        )
    )
    return port


def _announce(settings: Settings, address: str) -> None:
    from gateway.cli.client import local_client

    client = local_client(settings)
    try:
        admin = _key(client, {"name": ADMIN, "role": "admin", "if_absent": True})
        application = _key(client, {"name": APPLICATION, "team": "demo", "budget": [_BUDGET], "if_absent": True})
    finally:
        client.close()
    print(_text(settings, address, admin, application), flush=True)


def _key(client: object, body: dict[str, object]) -> str:
    reply = client.send("POST", "/admin/v1/keys", None, body)  # type: ignore[attr-defined]
    return str(reply.get("secret") or "")


def _text(settings: Settings, address: str, admin: str, application: str) -> str:
    shown = application or "$FAREGATE_KEY"
    python_key = application or "fg_…"
    again = (
        ""
        if application
        else (
            "\nThe keys were shown when this data folder was new. `faregate keys rotate` makes new secrets;\n"
            f"`rm -r {settings.data_dir}` starts afresh."
        )
    )
    keys = (
        f"\n  admin key        {admin}   (console and admin API; shown once)"
        f"\n  application key  {application}   (model calls, {_BUDGET}; shown once)"
        if application and admin
        else again
    )
    return f"""
Faregate is serving on {address}

  console          {address}/ui
  models           {address}/v1/models{keys}

sim-small, sim-large, sim-reasoning and sim-embed are simulated: their answers mean nothing, and the prices they are
charged at are made up. No money is spent.
{_real_line()}
Try it:

curl {address}/v1/chat/completions -H "authorization: Bearer {shown}" -H "content-type: application/json" \\
  -d '{{"model":"sim-small","messages":[{{"role":"user","content":"Hello"}}]}}' -i

from openai import OpenAI  # pip install openai
client = OpenAI(base_url="{address}/v1", api_key="{python_key}")
print(client.chat.completions.create(model="sim-small", messages=[{{"role": "user", "content": "Hello"}}]))

Then: {_command()} spend --by model · {_command()} ledger verify · Ctrl-C stops it.
Data is in {settings.data_dir.resolve()}, the routes in policies/routes.yaml there.
"""


def _command() -> str:
    """How to call this very command line again from here."""
    called = Path(sys.argv[0])
    return "faregate" if shutil.which("faregate") or called.name != "faregate" else str(called)


def _real_line() -> str:
    kinds = real_providers(os.environ)
    if kinds:
        return f"Keys were found for {', '.join(kinds)}: their models (as {kinds[0]}/…) are real and cost money.\n"
    return "Set a provider's key (OPENAI_API_KEY, GROQ_API_KEY, …) before the first start to have its models as well.\n"
