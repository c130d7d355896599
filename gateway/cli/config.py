"""`faregate config`: the policy files and the configuration in use."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.client import URL_VARIABLE, Failed, Json
from gateway.cli.output import DASH, note, print_facts, print_json
from gateway.cli.session import AsJson, session

CONFIG = "/admin/v1/config"

app = typer.Typer(help="The policy files and the configuration in use.", no_args_is_help=True)


@app.command()
def validate(
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="FOLDER", help="The folder to check instead of FAREGATE_CONFIG_DIR.", show_default=False
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compile the files and say what is wrong, with file and line. Changes nothing, needs no server."""
    if os.environ.get(URL_VARIABLE) and folder is None:
        with session() as client:
            found = client.send("POST", f"{CONFIG}/validate")
    else:
        found = _compiled(folder)
    if as_json:
        print_json(found)
        return
    print(f"Valid: {_count(found['models'], 'model')}, {_count(found['providers'], 'provider')}, {found['hash'][:12]}.")
    if found.get("changed"):
        note("This differs from the configuration in use; `faregate config reload` uses it.")


def _compiled(folder: Path | None) -> Json:
    """The files of this machine, compiled here: no store is opened."""
    from gateway.app import policy_compiler
    from gateway.desk.alerts.file import with_alerts
    from gateway.desk.limits.file import with_limits
    from gateway.settings import read_settings

    settings = read_settings()
    if folder is not None:
        settings = replace(settings, config_dir=folder)
    policy = with_alerts(with_limits(policy_compiler(settings)(), settings.config_dir), settings.config_dir)
    models = sorted([*policy.models, *(route.name for route in policy.wildcards)])
    return {"valid": True, "hash": policy.hash, "models": models, "providers": sorted(policy.providers)}


@app.command()
def show(as_json: AsJson = False) -> None:
    """Show the configuration in use, and what keeps the files from it."""
    with session() as client:
        reply = client.send("GET", CONFIG)
    if as_json:
        print_json(reply)
        return
    if reply["revision"] is None:
        print("There is no configuration yet. `faregate config reload` compiles the files.")
    else:
        print_facts(
            {
                "revision": reply["revision"],
                "hash": reply["hash"],
                "models": ", ".join(reply["models"]),
                "providers": ", ".join(reply["providers"]),
                "files checked": reply["checked_at"] or DASH,
            }
        )
    if reply["problem"]:
        raise Failed(f"The files are not used since {reply['problem_at']}:\n{reply['problem']}")


@app.command()
def schema(
    file: Annotated[
        str, typer.Argument(metavar="[FILE]", help="routes, limits, prices or alerts.", show_default=False)
    ] = "routes",
) -> None:
    """Print the JSON Schema of routes.yaml, limits.yaml, prices.yaml or alerts.yaml, for editors."""
    if file == "routes":
        from gateway.routing.schema import schema_text

        print(schema_text(), end="")
    elif file == "limits":
        from gateway.limits.schema import schema_text as limits_schema_text

        print(limits_schema_text(), end="")
    elif file == "prices":
        from gateway.pricing.schema import schema_text as prices_schema_text

        print(prices_schema_text(), end="")
    elif file == "alerts":
        from gateway.alerts.schema import schema_text as alerts_schema_text

        print(alerts_schema_text(), end="")
    else:
        raise Failed(f"{file!r} has no schema; there are routes, limits, prices and alerts.", True)


@app.command()
def reload(as_json: AsJson = False) -> None:
    """Compile the files and use them. A running server does so by itself when they change."""
    with session() as client:
        reply = client.send("POST", f"{CONFIG}/reload")
    if as_json:
        print_json(reply)
        return
    what = "In use" if reply["changed"] else "Already in use"
    print(f"{what}: revision {reply['revision']}, {reply['hash'][:12]}.")
    if reply["state"] == "pending":
        note("Stored, but not every worker has acknowledged it yet.")


def _count(names: list[str], word: str) -> str:
    return f"{len(names)} {word}{'' if len(names) == 1 else 's'}"
