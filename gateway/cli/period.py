"""`faregate period`: months closed for good."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gateway.cli.client import Failed, Json
from gateway.cli.output import DASH, complain, note, print_json, print_table
from gateway.cli.session import AsJson, Org, session

PATH = "/admin/v1/periods"

app = typer.Typer(
    help="Months, closed for good: their sums never change. What is corrected in one later counts in the open month.",
    no_args_is_help=True,
)


@app.command("list")
def listing(as_json: AsJson = False, org: Org = "") -> None:
    """List closed months and what they came to."""
    with session(org) as client:
        reply = client.send("GET", PATH)
    if as_json:
        print_json(reply)
        return
    _print([_row(month) for month in reply["data"]])
    if reply["next"]:
        print(f"\nTo be closed next: {reply['next']}.")


@app.command()
def close(
    month: Annotated[str, typer.Argument(metavar="MONTH", help="2026-10: in UTC.", show_default=False)],
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Kept with it.", show_default=False)] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show its sums and what stands in the way.")] = False,
    as_json: AsJson = False,
    org: Org = "",
) -> None:
    """Close a month for good, once all of it is recorded. There is no way to open it again."""
    with session(org) as client:
        reply = client.send("POST", f"{PATH}/close", body={"month": month, "reason": reason, "dry_run": dry_run})
    if as_json:
        print_json(reply)
    else:
        _print([_row(reply["month"])])
        for obstacle in reply["obstacles"]:
            complain(obstacle)
        if dry_run:
            note("Nothing was closed: this was a dry run.")
    if reply["obstacles"]:
        raise Failed("It cannot be closed now.")


def _print(rows: list[dict[str, Any]]) -> None:
    columns = {"MONTH": "l", "CALLS": "r", "LIST": ".", "EFFECTIVE": ".", "BILLED": ".", "PRIOR PERIOD": "."}
    columns |= {"CLOSED": "l", "BY": "l", "REASON": "l"}
    print_table(columns, rows, "No month is closed.")


def _row(month: Json) -> dict[str, Any]:
    return {
        "MONTH": month["month"],
        "CALLS": f"{month['calls']:,}",
        "LIST": month["list"]["usd"],
        "EFFECTIVE": month["effective"]["usd"],
        "BILLED": month["billed"]["usd"],
        "PRIOR PERIOD": month["prior_period"]["usd"],
        "CLOSED": month["closed_at"] or DASH,
        "BY": month["closed_by"] or DASH,
        "REASON": month["reason"] or DASH,
    }
