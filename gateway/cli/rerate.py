"""`faregate prices rerate`: calls priced again by the prices in force."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gateway.cli.client import Failed, Json
from gateway.cli.output import DASH, note, print_json, print_table
from gateway.cli.session import AsJson, Org, session
from gateway.core.money import print_usd

PATH = "/admin/v1/prices/rerate"
_MOST_SHOWN = 20
_AMOUNTS = ("list", "effective", "billed", "prior_period")
_LEFT = {
    "the_same": "cost what they should",
    "no_price": "have no price now, so what was charged stays",
    "nothing_used": "used nothing, or nobody knows what",
    "callers_own": "were billed to their callers, who sent credentials of their own",
    "several_runs": "are of several models' runs; their lines do not say which",
    "not_in_detail": "were recorded without the region that their price depends on",
    "changed_meanwhile": "were corrected by another run meanwhile: run this again",
}


def rerate(
    since: Annotated[str, typer.Option("--from", metavar="TIME", help="Calls from then: 2026-11-01, 7d, month.")],
    until: Annotated[str, typer.Option("--to", metavar="TIME", help="Up to but not including it.")] = "now",
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="As asked for, or provider/model.", show_default=False)
    ] = None,
    key: Annotated[str | None, typer.Option(metavar="ID", help="Of this key only.", show_default=False)] = None,
    team: Annotated[str | None, typer.Option(metavar="NAME", help="Of this team only.", show_default=False)] = None,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Kept with every correction.", show_default=False)] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the difference, correct nothing.")] = False,
    as_json: AsJson = False,
    org: Org = "",
) -> None:
    """Price calls again by the prices in force when they were made, and correct what differs.

    What costs what it should is left alone, so a run that was broken off is simply done again.
    """
    if not dry_run and not reason.strip():
        raise Failed("Say why: --reason TEXT is kept with every correction. Or look first, with --dry-run.", True)
    body = {"from": since, "to": until, "model": model, "key": key, "team": team, "reason": reason, "dry_run": dry_run}
    whole: Json = {}
    with session(org) as client:
        waits = bool(client.send("GET", "/admin/v1/prices")["waiting"])
        while True:
            part = client.send("POST", PATH, body=body)
            _add(whole, part)
            if part["next"] is None:
                break
            # Times as the first part understood them: "now" must not move.
            body |= {"from": part["from_at"], "to": part["to_at"], "after": part["next"]}
            body |= {"correction": part["correction"]} if part["correction"] else {}
    if as_json:
        print_json(_printable(whole))
    else:
        _print_people(whole)
    if waits:
        note(f"A change of prices waits to be published: this was by version {whole['version']}, without it.")


def _add(whole: Json, part: Json) -> None:
    """Adds a part of a run; amounts are summed as integers."""
    if not whole:
        whole |= {word: part[word] for word in ("object", "dry_run", "correction", "from_at", "to_at", "version")}
        whole |= {"looked_at": 0, "priced_first": 0, "counters_unknown": 0, "left": dict.fromkeys(_LEFT, 0)}
        whole |= {"total": {"postings": 0, **dict.fromkeys(_AMOUNTS, 0)}, "groups": {}, "counters": {}}
    for word in ("looked_at", "priced_first", "counters_unknown"):
        whole[word] += part[word]
    for word, count in part["left"].items():
        whole["left"][word] += count
    _sum(whole["total"], part["total"])
    for group in part["groups"]:
        name = (group["model"], group["team"], group["day"])
        _sum(whole["groups"].setdefault(name, {"postings": 0, **dict.fromkeys(_AMOUNTS, 0)}), group)
    for moved in part["counters"]:
        counter = (moved["limit"], moved["counter"])
        whole["counters"][counter] = whole["counters"].get(counter, 0) + moved["amount"]["nano_usd"]


def _sum(into: dict[str, int], differences: Json) -> None:
    into["postings"] += differences["postings"]
    for word in _AMOUNTS:
        into[word] += differences[word]["nano_usd"]


def _printable(whole: Json) -> Json:
    return {
        **whole,
        "total": _amounts(whole["total"]),
        "groups": [
            {"model": model, "team": team, "day": day, **_amounts(sums)}
            for (model, team, day), sums in whole["groups"].items()
        ],
        "counters": [
            {"limit": limit, "counter": counter, "amount": {"usd": print_usd(amount), "nano_usd": amount}}
            for (limit, counter), amount in whole["counters"].items()
        ],
    }


def _amounts(sums: dict[str, int]) -> Json:
    amounts = {word: {"usd": print_usd(sums[word]), "nano_usd": sums[word]} for word in _AMOUNTS}
    return {"postings": sums["postings"], **amounts}


def _print_people(whole: Json) -> None:
    total = whole["total"]
    rows = [_row(model, team, day, sums) for (model, team, day), sums in whole["groups"].items()]
    rows += [_row("total", " ", " ", total)] if rows else []
    columns = {"MODEL": "l", "TEAM": "l", "DAY": "l", "POSTINGS": "r", "LIST": ".", "EFFECTIVE": ".", "BILLED": "."}
    if total["prior_period"]:
        columns["OF CLOSED MONTHS"] = "."
    print_table(columns, rows, "Nothing differs.")
    print(
        f"\n{whole['from_at']} to {whole['to_at']}: {whole['looked_at']:,} postings looked at, "
        f"by version {whole['version']} of the prices. Differences in USD."
    )
    for word, count in whole["left"].items():
        if count:
            print(f"{count:,} {_LEFT[word]}.")
    if whole["priced_first"]:
        print(f"{whole['priced_first']:,} had no price and have one now.")
    _print_counters(whole)
    if whole["dry_run"]:
        note("Nothing was corrected: this was a dry run.")
    elif total["postings"]:
        print(f"Correction {whole['correction']}. `faregate prices corrections` lists it.")


def _print_counters(whole: Json) -> None:
    if count := whole["counters_unknown"]:
        note(f"{count:,} postings are older than the record of their counters: limits keep what these have spent.")
    moved = sorted(whole["counters"].items(), key=lambda one: (-abs(one[1]), one[0]))
    if not moved:
        return
    one = len(moved) == 1
    verb = "would move" if whole["dry_run"] else "moves" if one else "move"
    print(f"\n{len(moved):,} {'counter of a limit' if one else 'counters of limits'} {verb}:")
    rows = [{"COUNTER": counter, "USD": print_usd(amount)} for (_, counter), amount in moved[:_MOST_SHOWN]]
    print_table({"COUNTER": "l", "USD": "."}, rows, "")
    if len(moved) > _MOST_SHOWN:
        note(f"{len(moved) - _MOST_SHOWN:,} more: --json lists all.")


def _row(model: str, team: str, day: str, sums: dict[str, int]) -> dict[str, Any]:
    return {
        "MODEL": model or DASH,
        "TEAM": team or DASH,
        "DAY": day,
        "POSTINGS": f"{sums['postings']:,}",
        "LIST": print_usd(sums["list"]),
        "EFFECTIVE": print_usd(sums["effective"]),
        "BILLED": print_usd(sums["billed"]),
        "OF CLOSED MONTHS": print_usd(sums["prior_period"]),
    }


def corrections(as_json: AsJson = False, org: Org = "") -> None:
    """List the runs of corrections: when, by whom, why, and what they came to."""
    with session(org) as client:
        reply = client.send("GET", "/admin/v1/prices/corrections")
    if as_json:
        print_json(reply)
        return
    rows = [
        {
            "WHEN": run["first_at"],
            "BY": run["actor"] or DASH,
            "POSTINGS": f"{run['postings']:,}",
            "USD": run["effective"]["usd"],
            "OF CLOSED MONTHS": run["prior_period"]["usd"],
            "REASON": run["reason"] or DASH,
            "ID": run["id"] or DASH,
        }
        for run in reply["data"]
    ]
    columns = {"WHEN": "l", "BY": "l", "POSTINGS": "r", "USD": ".", "OF CLOSED MONTHS": ".", "REASON": "l", "ID": "l"}
    print_table(columns, rows, "Nothing was ever corrected.")
