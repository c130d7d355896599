"""Calls: lines of the list, and one call in full with its attempts and their price lines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.console.names import key_names
from gateway.console.parts import ConsoleParts
from gateway.console.words import Amount, clock, exact_money, full_time, iso, small_money
from gateway.core.caller import KeyRecord, team_scope
from gateway.core.errors import BadRequest, NotFound
from gateway.core.ids import CALL, parse_id, time_of
from gateway.core.queries import AttemptRow, CallRow, QueryScope

PAGE_CALLS = 50
_RECENT_MS = 30_000
_GOOD, _WARN, _BAD, _PLAIN = "g", "w", "b", ""
_TONES = {"ok": _GOOD, "running": _PLAIN, "client_gone": _WARN, "truncated": _WARN, "refused": _WARN}
_OUTCOMES = {
    "ok": "ok",
    "running": "running",
    "refused": "refused",
    "error": "error",
    "client_gone": "client left",
    "truncated": "cut short",
    "crashed": "crashed",
    "lost": "connection lost",
    "timeout": "timed out",
    "void": "not started",
}


@dataclass(frozen=True, slots=True)
class CallLine:
    row: CallRow
    key_name: str
    cost: Amount
    at: str
    full: str
    iso: str
    outcome: str
    tone: str
    estimated: bool


@dataclass(frozen=True, slots=True)
class PriceLine:
    meter: str
    quantity: int
    rate: str
    amount: Amount
    list_amount: Amount
    row_id: str


@dataclass(frozen=True, slots=True)
class AttemptView:
    row: AttemptRow
    outcome: str
    tone: str
    cost: Amount
    reserved: Amount | None
    released: Amount | None
    lines: tuple[PriceLine, ...]
    raw_usage: str


@dataclass(frozen=True, slots=True)
class CallView:
    line: CallLine
    exact: Amount
    list_exact: Amount
    attempts: tuple[AttemptView, ...]


async def call_lines(parts: ConsoleParts, org: str, rows: Sequence[CallRow], now_ms: int) -> tuple[CallLine, ...]:
    names = await key_names(parts, org, [row.key_id for row in rows])
    return tuple(_line(row, names[row.key_id], now_ms) for row in rows)


async def one_call(parts: ConsoleParts, asker: KeyRecord, text: str, now_ms: int) -> CallView:
    """Raises NotFound, also for a call of others; its message tells a recent one that may not be recorded yet."""
    raw = parse_id(CALL, text)
    if raw is None:
        raise NotFound("That is not the id of a call. Those begin with req_ and stand in every answer's x-request-id.")
    found = await parts.ledger.call(QueryScope(asker.org, team_scope(asker)), raw)
    if found is None:
        if 0 <= now_ms - time_of(raw) < _RECENT_MS:
            raise NotFound("This call is not recorded yet. That takes at most 5 seconds: load this page again.")
        raise NotFound("There is no such call among those you may see.")
    row, attempts = found
    lines = await call_lines(parts, asker.org, [row], now_ms)
    return CallView(
        line=lines[0],
        exact=exact_money(row.effective_nusd),
        list_exact=exact_money(row.list_nusd),
        attempts=tuple(_attempt(attempt) for attempt in attempts),
    )


async def older_calls(
    parts: ConsoleParts, asker: KeyRecord, before: str | None, now_ms: int
) -> tuple[tuple[CallLine, ...], str | None]:
    """A page of calls, latest first, and the cursor of the next. Raises BadRequest for a cursor that is none."""
    before_ms, before_id = _cursor(before)
    scope = QueryScope(asker.org, team_scope(asker))
    rows = await parts.ledger.calls(scope, before_ms=before_ms, before_id=before_id, limit=PAGE_CALLS + 1)
    lines = await call_lines(parts, asker.org, rows[:PAGE_CALLS], now_ms)
    if len(rows) <= PAGE_CALLS:
        return lines, None
    last = rows[PAGE_CALLS - 1]
    return lines, f"{last.started_ms}.{last.call_id}"


def _cursor(text: str | None) -> tuple[int | None, str]:
    if text is None:
        return None, ""
    head, _, call_id = text.partition(".")
    if not (head.isascii() and head.isdigit() and len(head) <= 15) or parse_id(CALL, call_id) is None:
        raise BadRequest("That is no place in the list of calls. Start again from the newest.", param="before")
    return int(head), call_id


def _line(row: CallRow, key_name: str, now_ms: int) -> CallLine:
    running = row.outcome == "running"
    return CallLine(
        row=row,
        key_name=key_name,
        cost=Amount("…", "Known when the call has ended") if running else small_money(row.effective_nusd),
        at=clock(row.started_ms, now_ms),
        full=full_time(row.started_ms),
        iso=iso(row.started_ms),
        outcome=_OUTCOMES.get(row.outcome, row.outcome),
        tone=_TONES.get(row.outcome, _BAD),
        estimated=row.cost_state == "estimated" and not running,
    )


def _attempt(row: AttemptRow) -> AttemptView:
    running = row.outcome == "running"
    released = None
    if row.bound_nusd is not None and row.effective_nusd is not None and not running:
        released = exact_money(max(0, row.bound_nusd - row.effective_nusd))
    return AttemptView(
        row=row,
        outcome=_OUTCOMES.get(row.outcome, row.outcome),
        tone=_TONES.get(row.outcome, _BAD),
        cost=Amount("…", "Known when the attempt has ended") if running else exact_money(row.effective_nusd),
        reserved=None if row.bound_nusd is None else exact_money(row.bound_nusd),
        released=released,
        lines=tuple(
            PriceLine(
                meter=line.meter.replace("_", " "),
                quantity=line.quantity,
                rate="no price" if line.rate_pico is None else _rate(line.rate_pico, line.per),
                amount=exact_money(line.effective_nusd),
                list_amount=exact_money(line.list_nusd),
                row_id=line.row_id,
            )
            for line in row.lines
        ),
        raw_usage=_pretty(row.raw_usage),
    )


def _rate(pico: int, per: int) -> str:
    """`$2.50 / M` for the usual rates per token, else `$0.04 each` or `$… per n`."""
    if per == 1 and pico < 1_000_000_000:
        return f"{_decimal(pico, 1_000_000)} / M"
    if per == 1_000_000:
        return f"{_decimal(pico, 1_000_000_000_000)} / M"
    return f"{_decimal(pico, 1_000_000_000_000)}{' each' if per == 1 else f' per {per:,}'}"


def _decimal(amount: int, one: int) -> str:
    whole, rest = divmod(amount, one)
    digits = f"{rest:0{len(str(one)) - 1}d}".rstrip("0")
    return f"${whole}.{digits.ljust(2, '0')}"


def _pretty(raw: str) -> str:
    """The provider's JSON, indented; as it came where it is none."""
    if not raw:
        return ""
    try:
        return json.dumps(json.loads(raw), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return raw
