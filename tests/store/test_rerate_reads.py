"""What re-rating reads of an attempt beside its lines."""

from __future__ import annotations

import pytest

from store.ledger_entries import Book, end, hold, ident
from store.ledgers import Ledger, ledger
from store.stores import postgres_database, postgres_server, store
from store.test_ledger_corrections import OCTOBER, RIGHT, posted, priced

__all__ = ["ledger", "postgres_database", "postgres_server", "store"]


@pytest.mark.parametrize(
    ("raw", "size"),
    [
        (b'{"prompt_tokens": 3, "search_context_size": "low"}', "low"),
        (b'{"search_context_size": 7}', ""),
        (b'{"search_context_size": "lo', ""),
        (b"\xff", ""),
        (b"", ""),
    ],
)
async def test_what_was_told_of_a_search_is_read_back(ledger: Ledger, raw: bytes, size: str) -> None:
    attempt_id = ident(1, OCTOBER)
    records = (
        hold(attempt_id, ts_ms=OCTOBER, started_ms=OCTOBER),
        end(attempt_id, priced(5, RIGHT).lines, ts_ms=OCTOBER, raw_usage=raw),
    )
    await ledger.writer.load(Book().entries(ident(2, OCTOBER), records))
    (attempt,) = await posted(ledger)
    assert attempt.search_size == size
