"""How prices are used, from the sums by the hour: the right calls, only one's own, and no call is read."""

from __future__ import annotations

from gateway.core.price_admin import UsedModel
from gateway.core.queries import QueryScope
from gateway.store.queries_prices import SqlPriceQueries
from store.ledger_entries import T0, Book, end, hold, ident, line, settle
from store.ledgers import Ledger, ledger
from store.stores import postgres_database, postgres_server, store

__all__ = ["ledger", "postgres_database", "postgres_server", "store"]

HOUR = 3_600_000
T0_HOUR = T0 - T0 % HOUR


async def load(ledger: Ledger) -> None:
    book = Book()
    for number, (org, team, deployment, hours, priced) in enumerate(
        [
            ("acme", "search", "openai/a", 0, True),
            ("acme", "search", "openai/a", 2, False),
            ("acme", "ads", "openai/a", 5, False),
            ("acme", "ads", "groq/b", 5, True),
            ("rival", "ads", "openai/c", 5, False),
        ],
        start=1,
    ):
        at_ms = T0 + hours * HOUR
        attempt_id = ident(number * 2 + 1, at_ms)
        whose = {"org": org, "team": team, "deployment": deployment, "model_asked": "m", "started_ms": at_ms}
        lines = (line("input", 10, 1_000 if priced else None),)
        cost = 10 if priced else None
        state = "priced" if priced else "unpriced"
        records = (
            hold(attempt_id, ts_ms=at_ms, **whose),
            end(attempt_id, lines, ts_ms=at_ms),
            settle(attempt_id, ts_ms=at_ms, cost_state=state, effective_nusd=cost, list_nusd=cost, **whose),
        )
        await ledger.writer.load(book.entries(ident(number * 2, at_ms), records))


async def test_use_is_summed_by_model_and_deployment_and_scoped(ledger: Ledger) -> None:
    await load(ledger)
    queries = SqlPriceQueries(ledger.engine)
    watch = ledger.watch()
    acme = QueryScope("acme")
    assert await queries.used_models(acme, 0) == [
        UsedModel("m", "openai/a", 3, 2, T0_HOUR, T0_HOUR + 5 * HOUR),
        UsedModel("m", "groq/b", 1, 0, T0_HOUR + 5 * HOUR, T0_HOUR + 5 * HOUR),
    ]
    assert await queries.used_models(acme, 0, unpriced=True) == [
        UsedModel("m", "openai/a", 2, 2, T0_HOUR + 2 * HOUR, T0_HOUR + 5 * HOUR)
    ], "first and last are of the calls without a price"
    assert await queries.used_models(acme, T0 + 3 * HOUR, unpriced=True) == [
        UsedModel("m", "openai/a", 1, 1, T0_HOUR + 5 * HOUR, T0_HOUR + 5 * HOUR)
    ]
    assert [one.calls for one in await queries.used_models(QueryScope("acme", "search"), 0)] == [2]
    assert len(await queries.used_models(acme, 0, limit=1)) == 1
    assert await queries.deployments_since(0) == ["groq/b", "openai/a", "openai/c"], "a price is every org's"
    assert await queries.deployments_since(T0 + 3 * HOUR) == ["groq/b", "openai/a", "openai/c"]
    assert await queries.deployments_since(T0 + 9 * HOUR) == []
    read = " ".join(statement for statement, _ in watch.asked)
    assert "rollup_hour" in read
    assert not any(f"FROM {table}" in read.replace("faregate_ledger.", "") for table in ("call", "posting", "attempt"))
