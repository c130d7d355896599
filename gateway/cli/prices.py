"""`faregate prices`: the price book, what would change, and why a call cost what it did."""

from __future__ import annotations

import base64
import gzip
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer

from gateway.cli import prices_print as printed
from gateway.cli.client import Failed, Json
from gateway.cli.keys import tell_pending
from gateway.cli.output import note, plain, print_json
from gateway.cli.session import AsJson, Org, session

PRICES = "/admin/v1/prices"
MOST_FILE_BYTES = 64 * 1024 * 1024
_SHOWN = 60

app = typer.Typer(help="Prices: where they are from, what changes, why a call cost that.", no_args_is_help=True)

Since = Annotated[str, typer.Option(metavar="TIME", help="30d, 24h, month, 2026-11-01.")]


@app.command("list")
def listing(as_json: AsJson = False) -> None:
    """Show the price book in force, its versions, what waits, and announced prices."""
    with session() as client:
        reply = client.send("GET", PRICES)
    if as_json:
        print_json(reply)
        return
    printed.print_book(reply)


@app.command("import")
def bring(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FILE]", help="genai-prices' data file, or a litellm map; plain or gzip.", show_default=False
        ),
    ] = None,
    shipped: Annotated[bool, typer.Option("--shipped", help="Instead: what ships with this Faregate.")] = False,
    as_json: AsJson = False,
) -> None:
    """Import a newer price source as a draft. Nothing is in force before `publish`."""
    if (file is None) is not shipped:
        raise Failed("Give a file, or --shipped.", True)
    body: Json = {"name": "shipped", "shipped": True} if file is None else _file(file)
    with session() as client:
        reply = client.send("POST", f"{PRICES}/import", body=body)
    if as_json:
        print_json(reply)
        return
    for source in reply["draft"]["sources"]:
        print(f"{plain(source['name'])}  sha256 {source['sha256'][:16]}…  recorded {source['recorded_at']}")
    if reply["changed"]:
        note("This is a draft. `faregate prices diff` shows what it changes, `faregate prices publish` uses it.")
    else:
        note("These sources are in force already.")


def _file(path: Path) -> Json:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise Failed(f"{path} cannot be read: {error.strerror or error}.", True) from error
    if len(content) > MOST_FILE_BYTES:
        raise Failed(f"{path} is larger than {MOST_FILE_BYTES} bytes: no price source is.", True)
    packed = content if content[:2] == b"\x1f\x8b" else gzip.compress(content, compresslevel=9, mtime=0)
    return {"name": path.name, "content": base64.b64encode(packed).decode()}


@app.command()
def diff(
    everything: Annotated[bool, typer.Option("--all", help="Also of kinds of providers that no route uses.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=5000, metavar="N", help="How many rates at most.")] = _SHOWN,
    as_json: AsJson = False,
) -> None:
    """Show what the draft, or a change of prices.yaml that waits, would change. Models in use come first."""
    with session() as client:
        reply = client.send("GET", f"{PRICES}/diff", {"all": "true" if everything else None, "limit": limit})
    if as_json:
        print_json(reply)
        return
    printed.print_diff(reply)


@app.command()
def publish(
    confirm: Annotated[
        bool, typer.Option("--confirm", help="Also where a rate of a model in use moves by more than 25 %.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Put the draft, or the change of prices.yaml that waits, into force as a new version."""
    with session() as client:
        body = {"confirm": client.send("GET", f"{PRICES}/diff", {"limit": 1})["confirm"]} if confirm else {}
        reply = client.send("POST", f"{PRICES}/publish", body=body)
    if as_json:
        print_json(reply)
        return
    version = reply["version"]
    print(f"Version {version['number']} of the prices is in force ({version['sha256'][:12]}).")
    tell_pending(reply)


@app.command()
def discard(as_json: AsJson = False) -> None:
    """Discard the draft."""
    with session() as client:
        reply = client.send("DELETE", f"{PRICES}/draft")
    if as_json:
        print_json(reply)
        return
    print("The draft is discarded." if reply["discarded"] else "There was no draft.")


@app.command()
def explain(
    subject: Annotated[
        str, typer.Argument(metavar="MODEL|REQUEST_ID", help="gpt-4o, openai/gpt-4o, or req_….", show_default=False)
    ],
    as_json: AsJson = False,
    org: Org = "",
) -> None:
    """Explain a model's prices, or a call's cost line by line."""
    of_call = subject.startswith("req_")
    with session(org) as client:
        if of_call:
            reply = client.send("GET", f"{PRICES}/calls/{quote(subject, safe='')}")
        else:
            reply = client.send("GET", f"{PRICES}/explain", {"model": subject})
    if as_json:
        print_json(reply)
    elif of_call:
        printed.print_call(reply)
    else:
        printed.print_model(reply)


@app.command()
def coverage(since: Since = "30d", as_json: AsJson = False, org: Org = "") -> None:
    """Show which models, routed or called, have a price."""
    with session(org) as client:
        reply = client.send("GET", f"{PRICES}/coverage", {"since": since})
    if as_json:
        print_json(reply)
        return
    printed.print_coverage(reply)


@app.command()
def unpriced(since: Since = "30d", as_json: AsJson = False, org: Org = "") -> None:
    """Show the calls whose cost is unknown, by model and reason."""
    with session(org) as client:
        reply = client.send("GET", f"{PRICES}/unpriced", {"since": since})
    if as_json:
        print_json(reply)
        return
    printed.print_unpriced(reply)
