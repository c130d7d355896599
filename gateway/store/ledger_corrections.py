"""The runs of corrections that postings are part of: their sums, added to as the postings are written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import case
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.core.records import Correct, Entry
from gateway.store.engine import insert_into
from gateway.store.ledger_rows import Row, clean
from gateway.store.ledger_sorting import Posted
from gateway.store.ledger_statements import CORRECTED_SINCE, Statements
from gateway.store.ledger_sums import Whose
from gateway.store.ledger_tables import CORRECTION

_ADDED = ("postings", "list_nusd", "effective_nusd", "billed_nusd", "prior_effective_nusd")


async def add_corrections(
    connection: AsyncConnection,
    statements: Statements,
    corrections: Sequence[tuple[Entry, Posted]],
    rows: Sequence[Row],
    owners: Mapping[bytes, Whose],
) -> None:
    """Adds what was posted to the runs it belongs to. `rows` are the corrections' postings, in any order."""
    if not corrections or statements.revision < CORRECTED_SINCE:
        return
    placed = {(row["attempt_id"], row["kind"], row["revision"]): row for row in rows}
    runs: dict[tuple[bytes, str], Row] = {}
    for _, record in corrections:
        if not isinstance(record, Correct):
            continue
        row = placed[record.attempt_id, clean(record.kind), record.revision]
        run = runs.setdefault(
            (record.correction_id, owners[record.attempt_id].dimensions.org),
            {
                "kind": row["kind"],
                "actor": clean(record.actor),
                "reason": row["cause"],
                "first_ms": record.ts_ms,
                "last_ms": record.ts_ms,
                **dict.fromkeys(_ADDED, 0),
            },
        )
        run["first_ms"] = min(run["first_ms"], record.ts_ms)
        run["last_ms"] = max(run["last_ms"], record.ts_ms)
        run["postings"] += 1
        run["list_nusd"] += record.list_nusd
        run["effective_nusd"] += record.effective_nusd
        run["billed_nusd"] += record.billed_nusd
        run["prior_effective_nusd"] += 0 if row.get("counted_ms") is None else record.effective_nusd
    for (correction_id, org), run in sorted(runs.items()):
        new = insert_into(connection, CORRECTION).values(correction_id=correction_id, org=org, **run)
        stored, added = CORRECTION.c, new.excluded
        changes = {word: stored[word] + added[word] for word in _ADDED}
        changes["first_ms"] = case((added.first_ms < stored.first_ms, added.first_ms), else_=stored.first_ms)
        changes["last_ms"] = case((added.last_ms > stored.last_ms, added.last_ms), else_=stored.last_ms)
        await connection.execute(new.on_conflict_do_update(index_elements=["correction_id", "org"], set_=changes))
