"""`faregate limits`: budgets and rates over any part of the traffic."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

import typer

from gateway.cli.client import Client, Failed, Json
from gateway.cli.keys import find_key, tell_pending
from gateway.cli.limit_words import action_words, print_explained, print_gone, print_limit, print_reply, scope_words
from gateway.cli.output import note, plain, print_json, print_table
from gateway.cli.session import AsJson, Org, session

LIMITS = "/admin/v1/limits"
SUSPENSIONS = "/admin/v1/suspensions"

app = typer.Typer(help="Budgets and rates over any part of the traffic.", no_args_is_help=True)

LimitName = Annotated[str, typer.Argument(metavar="LIMIT", help="A limit's name or id.", show_default=False)]
Text = Annotated[
    str,
    typer.Argument(metavar="AMOUNT/WINDOW", help="500USD/month, 1000000tokens/day, 60/min.", show_default=False),
]
Scope = Annotated[
    list[str] | None,
    typer.Option(
        "--scope",
        metavar="DIMENSION=VALUE",
        help="Of org, team, key, user, session, tag:NAME, model, provider, deployment; the value `each` counts every "
        "value apart. May be repeated: all must match.",
        show_default=False,
    ),
]
OnExceed = Annotated[
    str | None,
    typer.Option(metavar="ACTION", help="block, downgrade, cap_output, dry_run or alert.", show_default=False),
]
DowngradeTo = Annotated[
    str | None,
    typer.Option(metavar="MODEL", help="With downgrade: the model such a call goes on with.", show_default=False),
]
MinOutput = Annotated[
    int | None,
    typer.Option(
        min=1, metavar="TOKENS", help="With cap_output: the fewest tokens worth a call (64).", show_default=False
    ),
]
Hold = Annotated[str | None, typer.Option(metavar="KIND", help="bound or estimate.", show_default=False)]
Alert = Annotated[
    list[int] | None,
    typer.Option(min=1, max=100, metavar="PERCENT", help="Alert at this share; may be repeated.", show_default=False),
]
MaxValues = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="How many values of `each` may have counts at a time.", show_default=False),
]

_TEMPLATES = (
    ("A team's money per month", "faregate limits add growth-month 500USD/month --scope team=growth --alert 80"),
    ("Each end user per month", "faregate limits add user-month 5USD/month --scope key=each --scope user=each"),
    ("Each key per day", "faregate limits add key-day 20USD/day --scope key=each"),
    ("Each session, in all", "faregate limits add session 2USD/total --scope key=each --scope session=each"),
    (
        "A team's dear model until its money is spent, then a cheaper one",
        "faregate limits add growth-large 100USD/month --scope team=growth --scope model=gpt-5 --on-exceed downgrade "
        "--downgrade-to gpt-4o-mini",
    ),
    (
        "Shorter answers at the end of a budget",
        "faregate limits add growth-day 20USD/day --scope team=growth --on-exceed cap_output",
    ),
    ("USD per hour of everything", "faregate limits add brake 50USD/hour --on-exceed alert --alert 100"),
    ("Requests per minute of one model", "faregate limits add large-rpm 60/min --scope team=each --scope model=gpt-5"),
)


@app.command("list")
def listing(as_json: AsJson = False, org: Org = "") -> None:
    """List limits that are no key's own, those of files first."""
    with session(org) as client:
        found = client.send("GET", LIMITS)["data"]
    if as_json:
        print_json(found)
        return
    columns = {"NAME": "l", "LIMIT": "l", "SCOPE": "l", "ON EXCEED": "l", "HOLD": "l", "OWNED BY": "l"}
    rows = [
        {
            "NAME": limit["name"],
            "LIMIT": limit["words"],
            "SCOPE": scope_words(limit["scope"]),
            "ON EXCEED": action_words(limit),
            "HOLD": limit["hold"],
            "OWNED BY": limit["origin"],
        }
        for limit in found
    ]
    print_table(columns, rows, "There are no limits but the keys' own. `faregate limits templates` shows common ones.")


@app.command()
def show(limit: LimitName, as_json: AsJson = False, org: Org = "") -> None:
    """Show one limit."""
    with session(org) as client:
        found = client.send("GET", f"{LIMITS}/{_path(limit)}")
    if as_json:
        print_json(found)
        return
    print_limit(found)


@app.command()
def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Unique among the org's limits.", show_default=False)],
    text: Text,
    scope: Scope = None,
    on_exceed: OnExceed = None,
    downgrade_to: DowngradeTo = None,
    min_output: MinOutput = None,
    hold: Hold = None,
    alert: Alert = None,
    max_values: MaxValues = None,
    as_json: AsJson = False,
    org: Org = "",
) -> None:
    """Make a limit. Those of limits.yaml are made there."""
    with session(org) as client:
        body = {"name": name, "limit": text, "scope": _scope(client, scope)}
        body |= _settings(on_exceed, downgrade_to, min_output, hold, alert, max_values)
        reply = client.send("POST", LIMITS, body=body)
    print_reply(reply, as_json, "holds")


@app.command("set")
def change(
    limit: LimitName,
    amount: Annotated[
        str | None, typer.Option("--limit", metavar="AMOUNT/WINDOW", help="Another amount.", show_default=False)
    ] = None,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="A new name.", show_default=False)] = None,
    on_exceed: OnExceed = None,
    downgrade_to: DowngradeTo = None,
    min_output: MinOutput = None,
    hold: Hold = None,
    alert: Alert = None,
    max_values: MaxValues = None,
    as_json: AsJson = False,
    org: Org = "",
) -> None:
    """Change what is given; the rest stays, and so does what was spent."""
    given = {"limit": amount, "name": name}
    body = {member: value for member, value in given.items() if value is not None}
    body |= _settings(on_exceed, downgrade_to, min_output, hold, alert, max_values)
    if not body:
        raise Failed("Nothing to change was given. See `faregate limits set --help`.", True)
    with session(org) as client:
        reply = client.send("PATCH", f"{LIMITS}/{_path(limit)}", body=body)
    print_reply(reply, as_json, "is changed")


@app.command()
def remove(limit: LimitName, as_json: AsJson = False, org: Org = "") -> None:
    """Remove a limit. What was spent under it stays in the ledger."""
    with session(org) as client:
        reply = client.send("DELETE", f"{LIMITS}/{_path(limit)}")
    print_gone(reply, as_json, "is removed")


@app.command()
def increase(
    limit: LimitName,
    by: Annotated[str, typer.Argument(metavar="AMOUNT", help="100USD, 5000tokens; none ends it.", show_default=False)],
    lasts: Annotated[
        str | None, typer.Option("--for", metavar="LENGTH", help="How long: 24h, 7d.", show_default=False)
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="TIME", help="Or until when: 2026-12-24.", show_default=False)
    ] = None,
    as_json: AsJson = False,
    org: Org = "",
) -> None:
    """Allow more for a time; then the limit is what it was."""
    given = {"by": by, "lasts": lasts, "until": until}
    body = {member: value for member, value in given.items() if value is not None}
    with session(org) as client:
        reply = client.send("POST", f"{LIMITS}/{_path(limit)}/increase", body=body)
    print_reply(reply, as_json, "is increased" if by != "none" else "is what it was")


@app.command()
def suspend(
    lasts: Annotated[str, typer.Option("--for", metavar="LENGTH", help="How long, at most 7d: 15m, 1h.")],
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why; it is kept with your name.")],
    scope: Scope = None,
    limit: Annotated[
        str | None, typer.Option(metavar="LIMIT", help="Only this limit, by name or id.", show_default=False)
    ] = None,
    as_json: AsJson = False,
    org: Org = "",
) -> None:
    """For a time no limit refuses a call of this scope. Everything is counted on."""
    with session(org) as client:
        body: Json = {"scope": _scope(client, scope), "lasts": lasts, "reason": reason}
        if limit is not None:
            body["limit"] = limit
        reply = client.send("POST", SUSPENSIONS, body=body)
    if as_json:
        print_json(reply)
        return
    made = reply["suspension"]
    what = plain(limit) if limit is not None else "Every limit"
    print(f"{what} refuses nothing of {scope_words(made['scope'])} until {made['until_at']} ({made['id']}).")
    note(f"`faregate limits resume {made['id']}` ends that sooner.")
    tell_pending(reply)


@app.command()
def resume(
    suspension: Annotated[str, typer.Argument(metavar="SUSPENSION", help="Its id.", show_default=False)],
    as_json: AsJson = False,
    org: Org = "",
) -> None:
    """End a suspension now."""
    with session(org) as client:
        reply = client.send("DELETE", f"{SUSPENSIONS}/{_path(suspension)}")
    print_gone(reply, as_json, "is over")


@app.command()
def suspensions(as_json: AsJson = False, org: Org = "") -> None:
    """List suspensions: who let limits refuse nothing, when and why. The newest first."""
    with session(org) as client:
        found = client.send("GET", SUSPENSIONS)["data"]
    if as_json:
        print_json(found)
        return
    columns = {"ID": "l", "SCOPE": "l", "LIMIT": "l", "FROM": "l", "UNTIL": "l", "BY": "l", "REASON": "l"}
    rows = [
        {
            "ID": one["id"],
            "SCOPE": scope_words(one["scope"]),
            "LIMIT": one["limit_id"] or "all",
            "FROM": one["created_at"],
            "UNTIL": one["until_at"],
            "BY": one["actor"],
            "REASON": one["reason"],
        }
        for one in found
    ]
    print_table(columns, rows, "No limit was ever suspended.")


@app.command()
def explain(
    key: Annotated[str, typer.Argument(metavar="KEY", help="A key's name or id.", show_default=False)],
    user: Annotated[str | None, typer.Option(metavar="NAME", help="Of this end user.", show_default=False)] = None,
    in_session: Annotated[
        str | None, typer.Option("--session", metavar="NAME", help="In this session.", show_default=False)
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="Asking for this model.", show_default=False)
    ] = None,
    deployment: Annotated[
        str | None, typer.Option(metavar="PROVIDER/MODEL", help="Sent to this one.", show_default=False)
    ] = None,
    tag: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="With this tag; may be repeated.", show_default=False),
    ] = None,
    as_json: AsJson = False,
    org: Org = "",
) -> None:
    """Show every limit that applies to a key's calls, what is left of it, and which binds."""
    with session(org) as client:
        query = {
            "key": find_key(client, key)["id"],
            "user": user,
            "session": in_session,
            "model": model,
            "deployment": deployment,
            "tag": tag or None,
        }
        reply = client.send("GET", "/admin/v1/budgets/explain", query)
    if as_json:
        print_json(reply)
        return
    print_explained(reply)


@app.command()
def templates() -> None:
    """Print lines to paste for common limits."""
    for meaning, line in _TEMPLATES:
        print(f"# {meaning}\n{line}\n")


# ---------------------------------------------------------------- within


def _settings(
    on_exceed: str | None,
    downgrade_to: str | None,
    min_output: int | None,
    hold: str | None,
    alert: list[int] | None,
    max_values: int | None,
) -> Json:
    given = {
        "on_exceed": on_exceed,
        "downgrade_to": downgrade_to,
        "min_output": min_output,
        "hold": hold,
        "alerts": alert or None,
        "max_values": max_values,
    }
    return {member: value for member, value in given.items() if value is not None}


def _scope(client: Client, given: list[str] | None) -> dict[str, str]:
    """`--scope` as the API takes it; a key may be told by its name."""
    scope = {}
    for text in given or ():
        dimension, equals, value = text.partition("=")
        if not equals or not dimension or not value:
            raise Failed(f"--scope {text!r}: write it like team=growth or user=each.", True)
        if dimension in scope:
            raise Failed(f"--scope {dimension} is there twice.", True)
        scope[dimension] = find_key(client, value)["id"] if dimension == "key" and value != "each" else value
    return scope


def _path(name: str) -> str:
    """A name as part of a path. Names of limits may hold anything printable."""
    return quote(name, safe="")
