"""`faregate keys`: the keys of applications and people."""

from __future__ import annotations

import getpass
import hashlib
import re
import sys
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from gateway.cli.client import Client, Failed, Json, Refused
from gateway.cli.output import DASH, note, plain, print_facts, print_json, print_table
from gateway.cli.session import AsJson, Org, session

KEYS = "/admin/v1/keys"
_PAGE = 500
_ID = re.compile(r"^([0-9A-Za-z]{12}|sha_[0-9a-f]{12})$")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}

app = typer.Typer(help="Keys of applications and people: made, limited, paused, ended.", no_args_is_help=True)

Key = Annotated[str, typer.Argument(metavar="KEY", help="A key's name or id.", show_default=False)]
Name = Annotated[str, typer.Argument(metavar="NAME", help="A name, unique in the org.", show_default=False)]
Team = Annotated[str | None, typer.Option(metavar="NAME", help="Team its spend belongs to.", show_default=False)]
Budget = Annotated[
    list[str] | None,
    typer.Option(
        metavar="AMOUNT/WINDOW",
        help="Hard budget with its window: 5USD/month, 0.5USD/day. May be repeated.",
        show_default=False,
    ),
]
Rpm = Annotated[int | None, typer.Option(min=1, metavar="N", help="Requests per minute.", show_default=False)]
Tpm = Annotated[int | None, typer.Option(min=1, metavar="N", help="Tokens per minute.", show_default=False)]
Model = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME",
        help="A model it may use, * at the end allowed; may be repeated. None: all.",
        show_default=False,
    ),
]
Tag = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=VALUE", help="Recorded with each call; may be repeated.", show_default=False),
]
ExpiresIn = Annotated[
    str | None, typer.Option(metavar="LENGTH", help="Life from now: 12h, 30d; never.", show_default=False)
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print the secret and nothing else.")]


def _settings(
    team: str | None,
    budget: list[str] | None,
    rpm: int | None,
    tpm: int | None,
    model: list[str] | None,
    tag: list[str] | None,
    expires_in: str | None,
) -> Json:
    """The members of a write that were given."""
    given = {
        "team": team,
        "budget": budget or None,
        "rpm": rpm,
        "tpm": tpm,
        "models": model or None,
        "tags": _tags(tag),
        "expires_in": expires_in,
    }
    return {name: value for name, value in given.items() if value is not None}


@app.command()
def create(
    name: Name,
    team: Team = None,
    budget: Budget = None,
    rpm: Rpm = None,
    tpm: Tpm = None,
    model: Model = None,
    tag: Tag = None,
    expires_in: ExpiresIn = None,
    role: Annotated[
        str,
        typer.Option(
            metavar="ROLE",
            help="data calls models; admin, finance, prompt_engineer, team, auditor and metrics look or manage.",
        ),
    ] = "data",
    if_absent: Annotated[bool, typer.Option("--if-absent", help="Do nothing when the name exists.")] = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
    org: Org = "",
) -> None:
    """Make a key. Its secret is printed once and kept nowhere."""
    body = {"name": name, "role": role, "if_absent": if_absent}
    body |= _settings(team, budget, rpm, tpm, model, tag, expires_in)
    with session(org) as client:
        reply = client.send("POST", KEYS, body=body)
    _print_secret(reply, quiet, as_json)


@app.command("list")
def listing(
    team: Annotated[str | None, typer.Option(metavar="NAME", help="Of this team only.", show_default=False)] = None,
    as_json: AsJson = False,
    org: Org = "",
) -> None:
    """List keys."""
    with session(org) as client:
        keys = _all(client, team)
    if as_json:
        print_json(keys)
        return
    columns = {"ID": "l", "NAME": "l", "TEAM": "l", "ROLE": "l", "STATE": "l", "EXPIRES": "l", "LIMITS": "l"}
    rows = [
        {
            "ID": key["id"],
            "NAME": key["name"],
            "TEAM": key["team"] or DASH,
            "ROLE": key["role"],
            "STATE": key["state"],
            "EXPIRES": (key["expires_at"] or "never")[:10],
            "LIMITS": "; ".join(limit["words"] for limit in key["limits"]) or DASH,
        }
        for key in keys
    ]
    print_table(columns, rows, "There are no keys. `faregate keys create NAME` makes one.")


@app.command()
def show(key: Key, as_json: AsJson = False, org: Org = "") -> None:
    """Show one key."""
    with session(org) as client:
        found = find_key(client, key)
    if as_json:
        print_json(found)
        return
    _print_key(found)


@app.command()
def update(
    key: Key,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="A new name.", show_default=False)] = None,
    team: Team = None,
    budget: Budget = None,
    rpm: Rpm = None,
    tpm: Tpm = None,
    model: Model = None,
    any_model: Annotated[bool, typer.Option("--any-model", help="Let it use every model.")] = False,
    tag: Tag = None,
    expires_in: ExpiresIn = None,
    as_json: AsJson = False,
    org: Org = "",
) -> None:
    """Change what is given; the rest stays. A limit replaces the one of its unit and window."""
    body = _settings(team, budget, rpm, tpm, model, tag, expires_in)
    if name is not None:
        body["name"] = name
    if any_model:
        if model:
            raise Failed("--any-model and --model contradict each other.", True)
        body["models"] = []
    if not body:
        raise Failed("Nothing to change was given. See `faregate keys update --help`.", True)
    with session(org) as client:
        reply = client.send("PATCH", f"{KEYS}/{find_key(client, key)['id']}", body=body)
    _print_reply(reply, as_json, "is changed")


@app.command()
def pause(key: Key, as_json: AsJson = False, org: Org = "") -> None:
    """Refuse a key's calls until it is resumed."""
    _act(key, "pause", as_json, org)


@app.command()
def resume(key: Key, as_json: AsJson = False, org: Org = "") -> None:
    """Take a paused key's calls again."""
    _act(key, "resume", as_json, org)


@app.command()
def revoke(key: Key, as_json: AsJson = False, org: Org = "") -> None:
    """End a key for good. There is no way back."""
    _act(key, "revoke", as_json, org)


@app.command()
def rotate(
    key: Key,
    overlap: Annotated[
        str, typer.Option(metavar="LENGTH", help="How long the old secret still works: 0s ends it now.")
    ] = "24h",
    quiet: Quiet = False,
    as_json: AsJson = False,
    org: Org = "",
) -> None:
    """Give a key a new secret; the old one works on for the overlap."""
    body = {"overlap_s": _seconds(overlap)}
    with session(org) as client:
        reply = client.send("POST", f"{KEYS}/{find_key(client, key)['id']}/rotate", body=body)
    _print_secret(reply, quiet, as_json)


@app.command("import")
def take_over(
    name: Name,
    sha256: Annotated[
        str | None,
        typer.Option(
            metavar="HEX",
            help="SHA-256 of the whole key, in hex. Without it the key is read from stdin.",
            show_default=False,
        ),
    ] = None,
    team: Team = None,
    budget: Budget = None,
    rpm: Rpm = None,
    tpm: Tpm = None,
    model: Model = None,
    tag: Tag = None,
    expires_in: ExpiresIn = None,
    as_json: AsJson = False,
    org: Org = "",
) -> None:
    """Take over a key of another gateway: it keeps working unchanged. Only its SHA-256 is kept."""
    body = {"name": name, "sha256": sha256 or _digest_of_stdin()}
    body |= _settings(team, budget, rpm, tpm, model, tag, expires_in)
    with session(org) as client:
        reply = client.send("POST", f"{KEYS}/import", body=body)
    _print_reply(reply, as_json, "is imported and works as it did")


# ---------------------------------------------------------------- within


def _act(key: str, action: str, as_json: bool, org: str) -> None:
    with session(org) as client:
        reply = client.send("POST", f"{KEYS}/{find_key(client, key)['id']}/{action}")
    _print_reply(reply, as_json, f"is {reply['key']['state']}")


def find_key(client: Client, key: str) -> Json:
    """A key by id or, failing that, by name: of living ones first, names of revoked ones being free again."""
    if _ID.match(key):
        try:
            return client.send("GET", f"{KEYS}/{key}")
        except Refused as error:
            if error.status != 404:
                raise
    named = [found for found in _all(client, None) if found["name"] == key]
    living = [found for found in named if found["state"] != "revoked"]
    if not named:
        raise Failed(f"There is no key {key!r}. `faregate keys list` shows what there is.")
    return (living or named)[0]


def _all(client: Client, team: str | None) -> list[Json]:
    keys: list[Json] = []
    while True:
        reply = client.send("GET", KEYS, {"team": team, "limit": _PAGE, "offset": len(keys)})
        keys += reply["data"]
        if not reply["has_more"]:
            return keys


def _tags(given: list[str] | None) -> dict[str, str] | None:
    if not given:
        return None
    tags = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise Failed(f"--tag {text!r}: write it like env=prod.", True)
        tags[name] = value
    return tags


def _seconds(text: str) -> int:
    match = re.fullmatch(r"(\d{1,9})\s*([smhdw])", text.strip().lower())
    if match is None:
        raise Failed(f"--overlap {text!r}: write it like 0s, 15m, 24h or 7d.", True)
    return int(match.group(1)) * _UNITS[match.group(2)]


def _digest_of_stdin() -> str:
    if sys.stdin.isatty():
        text = getpass.getpass("The other gateway's key (not shown; hashed here, not sent): ").strip()
    else:
        text = sys.stdin.readline().strip()
    if not text:
        raise Failed("No key came on stdin. Pipe it in, or give --sha256.", True)
    return hashlib.sha256(text.encode()).hexdigest()


def _print_secret(reply: Json, quiet: bool, as_json: bool) -> None:
    if as_json:
        print_json(reply)
        return
    secret = reply.get("secret")
    if quiet:
        if secret:
            print(secret)
        return
    if not secret:
        _print_key(reply["key"])
        note("\nIt existed already and was left as it is. Its secret is not kept; `faregate keys rotate` makes one.")
        return
    _print_key(reply["key"])
    print(f"\n{secret}\n")
    note("Keep it now: this is the only time it is shown.")
    tell_pending(reply)


def _print_reply(reply: Json, as_json: bool, done: str) -> None:
    if as_json:
        print_json(reply)
        return
    key = reply["key"]
    print(f"{plain(key['name'])} ({key['id']}) {done}.")
    tell_pending(reply)


def tell_pending(reply: Json) -> None:
    if reply.get("state") == "pending":
        note("Stored, but not every worker has acknowledged it yet. They read it as soon as they answer again.")


def _print_key(key: Json) -> None:
    facts: dict[str, Any] = {
        "id": key["id"],
        "name": key["name"],
        "org": key["org"],
        "team": key["team"],
        "role": key["role"],
        "state": key["state"],
        "models": ", ".join(key["models"]) or "all",
        "tags": ", ".join(f"{name}={value}" for name, value in key["tags"].items()),
        "created": _date(key["created_ms"]),
        "expires": _date(key["expires_ms"]) if key["expires_ms"] else "never",
        "limits": "; ".join(limit["words"] for limit in key["limits"]) or "none",
    }
    print_facts(facts)


def _date(ms: int) -> str:
    return datetime.fromtimestamp(ms // 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
