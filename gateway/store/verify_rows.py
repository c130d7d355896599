"""The rows that rollups are made of, as verification adds them up again: who they are of and what they come to.

It is the second telling of what `ledger_sums.py` says, in SQL and from what is stored, so that a mistake in either is
seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Select, and_, case, func, literal, select

from gateway.core.charge import CostState
from gateway.store.ledger_rows import HOUR_MS
from gateway.store.ledger_sums import ERROR_OUTCOMES, UNKNOWN_MODEL_CODE
from gateway.store.ledger_tables import ATTEMPT, CALL, LEDGER_LINE, POSTING

DAY_MS = 24 * HOUR_MS


@dataclass(frozen=True, slots=True)
class Rows:
    """`named` are whose and when (org, team, key_id, model, day_ms), `figures` what is added; what is not among them is
    0. Of `source`, where all `conditions` hold."""

    source: FromClause
    named: dict[str, ColumnElement[Any]]
    figures: dict[str, ColumnElement[Any]]
    conditions: tuple[ColumnElement[bool], ...] = ()


def call_rows(newest: bool = True) -> Rows:
    """Settled calls."""
    counted_ms = func.coalesce(CALL.c.counted_ms, CALL.c.started_ms) if newest else CALL.c.started_ms
    named = {
        "org": CALL.c.org,
        "team": CALL.c.team,
        "key_id": CALL.c.key_id,
        "model": case((CALL.c.error_code == UNKNOWN_MODEL_CODE, ""), else_=CALL.c.model_asked),
        "day_ms": day(counted_ms),
    }
    figures = {
        "calls": literal(1),
        "errors": case((CALL.c.outcome.in_(sorted(ERROR_OUTCOMES)), 1), else_=0),
        "unpriced_calls": case((CALL.c.cost_state == CostState.UNPRICED.value, 1), else_=0),
    }
    return Rows(CALL, named, figures, (CALL.c.seq.is_not(None),))


def posting_rows(newest: bool = True) -> Rows:
    """Postings and their lines. Money is the lines' own, not the posting's total."""
    lines = line_sums(newest).subquery()
    priced = and_(POSTING.c.list_nusd.is_not(None), POSTING.c.effective_nusd.is_not(None))
    listed, effective = (func.coalesce(lines.c[word], 0) for word in ("list_nusd", "effective_nusd"))
    figures: dict[str, ColumnElement[Any]] = {
        "attempts": case((POSTING.c.kind == "attempt", 1), else_=0),
        "input_tokens": POSTING.c.input_tokens,
        "output_tokens": POSTING.c.output_tokens,
    }
    counted_ms: ColumnElement[Any] = ATTEMPT.c.started_ms
    own = priced
    if newest:
        own, prior = (and_(priced, one) for one in (POSTING.c.counted_ms.is_(None), POSTING.c.counted_ms.is_not(None)))
        margin = func.coalesce(lines.c.billed_nusd, 0) - effective
        counted_ms = func.coalesce(POSTING.c.counted_ms, ATTEMPT.c.started_ms)
        figures |= {
            "unpriced_calls": -func.coalesce(POSTING.c.priced_calls, 0),
            "margin_nusd": case((own, margin), else_=0),
            "prior_list_nusd": case((prior, listed), else_=0),
            "prior_effective_nusd": case((prior, effective), else_=0),
            "prior_margin_nusd": case((prior, margin), else_=0),
        }
    figures |= {
        "list_nusd": case((own, listed), else_=0),
        "effective_nusd": case((own, effective), else_=0),
        "estimated_nusd": case((and_(own, POSTING.c.state == CostState.ESTIMATED.value), effective), else_=0),
    }
    named = {
        "org": ATTEMPT.c.org,
        "team": ATTEMPT.c.team,
        "key_id": ATTEMPT.c.key_id,
        "model": ATTEMPT.c.model_asked,
        "day_ms": day(counted_ms),
    }
    joined = POSTING.join(ATTEMPT, ATTEMPT.c.attempt_id == POSTING.c.attempt_id)
    return Rows(joined.outerjoin(lines, same_posting(lines.c)), named, figures)


def line_sums(newest: bool) -> Select[Any]:
    """The sums of each posting's lines."""
    key = (LEDGER_LINE.c.attempt_id, LEDGER_LINE.c.kind, LEDGER_LINE.c.revision)
    sums = [func.sum(LEDGER_LINE.c[word]).label(word) for word in ("list_nusd", "effective_nusd")]
    if newest:
        billed = func.coalesce(LEDGER_LINE.c.billed_nusd, LEDGER_LINE.c.effective_nusd)
        sums.append(func.sum(billed).label("billed_nusd"))
    return select(*key, *sums).group_by(*key)


def day(column: ColumnElement[int]) -> ColumnElement[int]:
    return column - column % DAY_MS


def same_posting(columns: Any) -> ColumnElement[bool]:
    return and_(
        POSTING.c.attempt_id == columns.attempt_id,
        POSTING.c.kind == columns.kind,
        POSTING.c.revision == columns.revision,
    )
