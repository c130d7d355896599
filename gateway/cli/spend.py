"""`faregate spend`: what was spent, by whom, on what."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gateway.cli.client import Failed, Json
from gateway.cli.output import DASH, note, print_csv, print_json, print_table
from gateway.cli.session import AsJson, Org, session

_FIGURES = (
    "calls",
    "errors",
    "input_tokens",
    "output_tokens",
    "effective_usd",
    "list_usd",
    "estimated_usd",
    "unpriced_calls",
    "contracted_usd",
    "billed_usd",
    "prior_period_usd",
)
_MOST_GROUPS = 1000


def spend(
    by: Annotated[
        str,
        typer.Option(
            metavar="NAMES",
            help="Up to four of org, team, key, model, provider, deployment, endpoint, hour, day, month; or one of "
            "user, session, tag:NAME with org, team, key, model, day, month.",
        ),
    ] = "model",
    since: Annotated[
        str,
        typer.Option(
            metavar="TIME",
            help="24h, 7d, today, month, 2026-11-01. Hours are whole, of users, sessions and tags days; UTC.",
        ),
    ] = "month",
    until: Annotated[str, typer.Option(metavar="TIME", help="The same; up to but not including it.")] = "now",
    team: Annotated[str | None, typer.Option(metavar="NAME", help="Of this team only.", show_default=False)] = None,
    user: Annotated[str, typer.Option(metavar="NAME", help="Of this end user only.", show_default=False)] = "",
    of_session: Annotated[
        str, typer.Option("--session", metavar="NAME", help="Of this session only.", show_default=False)
    ] = "",
    tag: Annotated[
        str, typer.Option(metavar="NAME=VALUE", help="Of calls with this tag only.", show_default=False)
    ] = "",
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    org: Org = "",
) -> None:
    """Spend by dimensions: effective cost in USD, exact, dearest first."""
    if as_json and as_csv:
        raise Failed("--json and --csv contradict each other.", True)
    query = {"by": by, "since": since, "until": until, "team": team, "limit": _MOST_GROUPS}
    query |= {word: value for word, value in (("user", user), ("session", of_session), ("tag", tag)) if value}
    with session(org) as client:
        reply = client.send("GET", "/admin/v1/spend", query)
    if as_json:
        print_json(reply)
    elif as_csv:
        summed = any(map(_is_value, reply["by"]))  # an empty value means one of two things then: say which
        rows = [[*row["group"].values(), *([row["bucket"]] * summed), *_figures(row).values()] for row in reply["data"]]
        print_csv([*reply["by"], *(["bucket"] * summed), *_FIGURES], rows)
    else:
        _print_people(reply)
    if reply["truncated"]:
        note(f"Only the first {_MOST_GROUPS} groups are listed; ask for a shorter time or fewer dimensions.")


def _is_value(dimension: str) -> bool:
    return dimension in ("user", "session") or dimension.startswith("tag:")


def _figures(row: Json) -> dict[str, Any]:
    cost, usage = row["cost"], row["usage"]
    values = (
        row["calls"],
        row["errors"],
        usage["input_tokens"],
        usage["output_tokens"],
        cost["usd"],
        cost["list"]["usd"],
        cost["estimated"]["usd"],
        row["unpriced_calls"],
        cost["contracted"]["usd"],
        cost["billed"]["usd"],
        cost["prior_period"]["usd"],
    )
    return dict(zip(_FIGURES, values, strict=True))


def _print_people(reply: Json) -> None:
    by: list[str] = reply["by"]
    columns = {
        **dict.fromkeys([name.upper() for name in by], "l"),
        "CALLS": "r",
        "ERRORS": "r",
        "TOKENS IN": "r",
        "TOKENS OUT": "r",
        "USD": ".",
    }
    total = {"group": dict.fromkeys(by, " "), **reply["total"]}
    total["group"][by[0]] = "total"
    unpriced = reply["total"]["unpriced_calls"]
    cost = reply["total"]["cost"]
    if cost["billed"]["nano_usd"] != cost["nano_usd"]:
        columns["BILLED"] = "."
    prior = any(row["cost"]["prior_period"]["nano_usd"] for row in (*reply["data"], reply["total"]))
    if prior:
        columns["PRIOR PERIOD"] = "."
    if unpriced:
        columns["UNPRICED"] = "r"
    rows = [_person_row(row) for row in [*reply["data"], total]] if reply["data"] else []
    print_table(columns, rows, "Nothing was spent in this time.")
    print(f"\n{reply['from_at']} to {reply['to_at']}, effective cost. {_freshness(reply['freshness'])}")
    if unpriced:
        note(f"{unpriced:,} {'call has' if unpriced == 1 else 'calls have'} no price, in no sum.")
    estimated = reply["total"]["cost"]["estimated"]
    if estimated["nano_usd"]:
        note(f"{estimated['usd']} USD of it is estimated: usage that a provider did not report.")
    summed = next(filter(_is_value, by), None)
    buckets = {row["bucket"] for row in reply["data"]}
    if summed and "other" in buckets:
        note("(others) came when 10,000 of a team had sums that day already.")
    if summed and "none" in buckets:
        name = summed.removeprefix("tag:")
        what = f"a {name}" if name == summed else f"the tag {name}, and those from before it had sums"
        note(f"(none) is calls without {what}.")
    if prior:
        note("PRIOR PERIOD corrects months that had been closed: posted in this time, and in no other column.")


def _person_row(row: Json) -> dict[str, Any]:
    usage = row["usage"]
    unknown = row["unpriced_calls"] and not row["cost"]["nano_usd"]  # refused calls beside them cost 0
    empty = {"other": "(others)", "none": "(none)"}.get(row.get("bucket", ""), DASH)
    return {
        **{name.upper(): value or (empty if _is_value(name) else DASH) for name, value in row["group"].items()},
        "CALLS": f"{row['calls']:,}",
        "ERRORS": f"{row['errors']:,}",
        "TOKENS IN": f"{usage['input_tokens']:,}",
        "TOKENS OUT": f"{usage['output_tokens']:,}",
        "USD": "unpriced" if unknown else row["cost"]["usd"],
        "BILLED": row["cost"]["billed"]["usd"],
        "PRIOR PERIOD": row["cost"]["prior_period"]["usd"],
        "UNPRICED": f"{row['unpriced_calls']:,}",
    }


def _freshness(freshness: Json) -> str:
    if not freshness["newest_at"]:
        return "No call is recorded yet."
    behind = freshness["behind_bytes"]
    lag = f"; {behind:,} bytes of calls are not counted yet" if behind else ""
    lost = freshness["dead_letters"]
    missing = f" {lost:,} records could not be stored: `faregate ledger verify` names them." if lost else ""
    return f"Recorded up to {freshness['newest_at']}{lag}.{missing}"
