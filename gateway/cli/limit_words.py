"""Limits in words and tables, for `faregate limits`."""

from __future__ import annotations

from typing import Any

from gateway.cli.client import Json
from gateway.cli.keys import tell_pending
from gateway.cli.output import DASH, note, plain, print_facts, print_json, print_table


def scope_words(scope: dict[str, str]) -> str:
    """`team:growth each user`."""
    words = [f"each {name}" if value == "each" else f"{name}:{value}" for name, value in scope.items()]
    return " ".join(words) or "everything"


def print_limit(limit: Json) -> None:
    """A limit, member by member."""
    facts: dict[str, Any] = {
        "name": limit["name"],
        "id": limit["id"],
        "limit": limit["words"],
        "scope": scope_words(limit["scope"]),
        "on exceed": action_words(limit),
        "hold": limit["hold"],
        "alerts": ", ".join(f"{percent} %" for percent in limit["alerts"]),
        "most values": limit["max_values"],
        "increase": _increase_words(limit["increase"]) if limit["increase"] else "",
        "owned by": limit["origin"],
        "made by": limit["created_by"],
        "made": limit["created_at"],
    }
    print_facts(facts)


def action_words(limit: Json) -> str:
    """`downgrade to gpt-4o-mini`, `cap_output to 64 tokens at least`, `block`."""
    if limit["downgrade_to"]:
        return f"{limit['on_exceed']} to {limit['downgrade_to']}"
    if limit["min_output"]:
        return f"{limit['on_exceed']} to {limit['min_output']} tokens at least"
    return str(limit["on_exceed"])


def _increase_words(increase: Json) -> str:
    more = f"{increase['by_usd']} USD" if increase["by_usd"] else str(increase["by"])
    return f"{more} more until {increase['until_at']}"


def print_reply(reply: Json, as_json: bool, done: str) -> None:
    """What became of a limit that was written."""
    if as_json:
        print_json(reply)
        return
    limit = reply["limit"]
    more = f", and {_increase_words(limit['increase'])}" if limit["increase"] else ""
    print(f"{plain(limit['name'])} {done}: {limit['words']}{more} for {plain(scope_words(limit['scope']))}.")
    tell_pending(reply)


def print_gone(reply: Json, as_json: bool, done: str) -> None:
    """What became of what was removed."""
    if as_json:
        print_json(reply)
        return
    print(f"{reply['id']} {done}.")
    tell_pending(reply)


def print_explained(reply: Json) -> None:
    """How the limits stand for a key, as a table."""
    columns = {"LIMIT": "l", "SCOPE": "l", "SPENT": "r", "RESERVED": "r", "LEFT": "r", "RESETS": "l"}
    columns |= {"STATE": "l", "OWNED BY": "l"}
    rows = [
        {
            "LIMIT": f"{budget['name'] + ': ' if budget['name'] else ''}{budget['words']}{_more_words(budget)}",
            "SCOPE": scope_words(budget["scope"]),
            "SPENT": _amount(budget["spent"]),
            "RESERVED": _amount(budget["reserved"]),
            "LEFT": _amount(budget["left"]),
            "RESETS": budget["resets_at"] or ("never" if not budget["needs"] else DASH),
            "STATE": _standing(budget),
            "OWNED BY": budget["origin"],
        }
        for budget in reply["budgets"]
    ]
    print_table(columns, rows, "No limit applies to this key.")
    for one in reply["suspensions"]:
        note(f"Suspended until {one['until_at']} by {one['actor']}: {one['reason']}")
    if not reply["counted"]:
        note("What is spent is not known: no server runs that keeps the counters.")


def _more_words(budget: Json) -> str:
    """The increase, while it lasts: what is left has it in it."""
    if not budget["increase"] or budget["allowed"]["amount"] == budget["amount"]:
        return ""
    return f", and {_increase_words(budget['increase'])}"


def _amount(amount: Json | None) -> str:
    return DASH if amount is None else amount["usd"] or f"{amount['amount']:,}"


def _standing(budget: Json) -> str:
    if budget["needs"]:
        return f"give {', '.join(budget['needs'])}"
    state = budget["state"]
    if state == "enforced" and budget["on_exceed"] != "block":
        state = f"enforced by {action_words(budget)}"
    return f"{state}, binds" if budget["binds"] else str(state)
