"""`faregate alerts`: what was told of money, to whom, and whether it arrived."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer

from gateway.cli.client import Failed, Json
from gateway.cli.output import DASH, note, plain, print_facts, print_json, print_table
from gateway.cli.session import AsJson, Org, session

ALERTS = "/admin/v1/alerts"

app = typer.Typer(help="Who is told of money, when and how: alerts.yaml.", no_args_is_help=True)


@app.command("list")
def listing(
    limit: Annotated[int, typer.Option("--limit", min=1, max=500, metavar="N", help="How many.")] = 50,
    as_json: AsJson = False,
    org: Org = "",
) -> None:
    """List alerts, the newest first, and how far each has come."""
    with session(org) as client:
        reply = client.send("GET", ALERTS, {"limit": limit})
    if as_json:
        print_json(reply["data"])
        return
    columns = {"ID": "l", "WHEN": "l", "SEVERITY": "l", "KIND": "l", "TOLD": "l", "WHAT": "l"}
    rows = [
        {
            "ID": one["id"],
            "WHEN": one["created_at"],
            "SEVERITY": one["severity"],
            "KIND": one["kind"],
            "TOLD": _told(one),
            "WHAT": one["title"],
        }
        for one in reply["data"]
    ]
    print_table(columns, rows, "There was no alert yet.")
    if reply["has_more"]:
        note("There are older ones; --limit shows more.")


@app.command()
def show(
    alert: Annotated[str, typer.Argument(metavar="ALERT", help="Its id.", show_default=False)],
    as_json: AsJson = False,
    org: Org = "",
) -> None:
    """Show an alert: its figures, what to do, and every attempt to deliver it."""
    with session(org) as client:
        found = client.send("GET", f"{ALERTS}/{quote(alert, safe='')}")
    if as_json:
        print_json(found)
        return
    print(plain(found["title"]))
    facts = {
        "id": found["id"],
        "kind": f"{found['kind']}, {found['severity']}",
        "when": found["created_at"],
        "about": " ".join(f"{name}:{value}" for name, value in found["scope"].items()) or "the whole gateway",
        "period": found["period"],
        "ends": found["period_ends_at"] or "",
        **{figure["name"].replace("_", " "): _amount(figure) for figure in found["figures"]},
        "note": found["note"],
        "next": found["next_step"],
    }
    print_facts({name: value for name, value in facts.items() if value})
    columns = {"CHANNEL": "l", "STATE": "l", "ATTEMPTS": "r", "NEXT": "l", "ENDED": "l", "ERROR": "l"}
    rows = [
        {
            "CHANNEL": one["channel"],
            "STATE": one["state"],
            "ATTEMPTS": str(one["attempts"]),
            "NEXT": one["next_at"] or DASH,
            "ENDED": one["ended_at"] or DASH,
            "ERROR": one["error"] or DASH,
        }
        for one in found["deliveries"]
    ]
    print_table(columns, rows, "Nobody was told: alerts.yaml names no channel for it.")


@app.command("test")
def try_channel(
    channel: Annotated[str, typer.Argument(metavar="CHANNEL", help="Its name in alerts.yaml.", show_default=False)],
    as_json: AsJson = False,
    org: Org = "",
) -> None:
    """Send a test alert to a channel, now."""
    with session(org) as client:
        reply = client.send("POST", f"{ALERTS}/test", body={"channel": channel})
    if as_json:
        print_json(reply)
    elif reply["delivered"]:
        print(f"{plain(channel)} has taken the test alert {reply['alert_id']}.")
    if not reply["delivered"]:
        raise Failed(f"{plain(channel)}: {plain(reply['detail'])}")


@app.command()
def check(
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="FOLDER", help="The folder to check instead of FAREGATE_CONFIG_DIR.", show_default=False
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check alerts.yaml and that its secrets can be read here. Sends nothing, needs no server."""
    from gateway.core.alerts import AlertPolicy
    from gateway.core.config import Policy
    from gateway.core.errors import ConfigInvalid
    from gateway.desk.alerts.file import with_alerts
    from gateway.settings import read_settings
    from gateway.vault.credentials import Credentials

    settings = read_settings()
    if folder is not None:
        settings = replace(settings, config_dir=folder)
    nothing = Policy(revision=0, hash="", providers={}, models={}, wildcards=(), sheets={})
    policy: AlertPolicy = with_alerts(nothing, settings.config_dir).alerts
    credentials = Credentials(os.environ)
    missing = []
    for channel in policy.channels:
        try:
            credentials.resolve(channel.secret)
        except ConfigInvalid as error:
            missing.append(f"channel {channel.name}: {error.message}")
    found: Json = {
        "channels": {channel.name: channel.kind.value for channel in policy.channels},
        "default": list(policy.default),
        "routes": len(policy.routes),
        "missing": missing,
    }
    if as_json:
        print_json(found)
    else:
        named = ", ".join(f"{name} ({kind})" for name, kind in found["channels"].items()) or "no channel"
        count = f"{len(policy.routes)} {'route' if len(policy.routes) == 1 else 'routes'}"
        print(f"Valid: {named}; by default to {', '.join(policy.default) or 'nobody'}, {count}.")
    if missing:
        raise Failed("\n".join(missing))


def _told(alert: Json) -> str:
    words = [f"{one['channel']}: {one['state']}" for one in alert["deliveries"]]
    return ", ".join(words) or "nobody"


def _amount(figure: Json) -> str:
    if figure["usd"] is not None:
        return f"{figure['usd']} USD"
    return f"{figure['amount']:,} {figure['unit']}"
