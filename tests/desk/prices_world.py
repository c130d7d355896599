"""A desk on the real stores with a price book, and calls in its ledger."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from store.ledger_entries import Book, end, hold, ident, settle
from store.stores import Store, postgres_database, postgres_server, store

from desk.asking import Asking
from gateway.app import open_local
from gateway.core.charge import Line, PriceSheet
from gateway.core.ids import CALL, print_id
from gateway.core.records import Dispatch
from gateway.desk.parts import LOCAL_HEADER
from gateway.pricing.sources import bundled_sources
from gateway.settings import Settings
from gateway.store import migrate
from gateway.store.config_store import SqlConfigStore
from gateway.store.engine import PARTS, open_engine
from gateway.store.ledger_writer import LedgerWriter
from gateway.system import SystemClock, SystemEntropy
from gateway.vault.peppers import load_peppers

__all__ = ["postgres_database", "postgres_server", "store"]

ROUTES = """\
providers:
  openai: {}
models:
  mini: openai/gpt-4o-mini
  big: openai/gpt-4o
  odd: openai/gpt-99
"""
OWN = "prices:\n  openai/gpt-4o-mini:\n    rates: {{input: {} USD / 1M tokens}}\n"
PRICES = "/admin/v1/prices"
SHIPPED = bundled_sources()


@dataclass
class Desk:
    settings: Settings
    app: Any
    operator: Asking
    book: Book = field(default_factory=Book)
    made: int = 0

    def write(self, prices: str) -> None:
        (self.settings.config_dir / "prices.yaml").write_text(prices)

    async def reload(self) -> dict[str, Any]:
        answer = await self.operator.post("/admin/v1/config/reload")
        assert answer.status == 200, answer.text
        return dict(answer.json())

    async def get(self, path: str = "", **query: str) -> dict[str, Any]:
        answer = await self.operator.get(f"{PRICES}{path}", **query)
        assert answer.status == 200, answer.text
        return dict(answer.json())

    async def number(self) -> int:
        return int((await self.get())["in_force"]["number"])

    async def sheets(self) -> dict[str, PriceSheet]:
        """What workers have."""
        engine = open_engine(self.settings.database_url, self.settings.data_dir, "config")
        peppers = load_peppers(self.settings.secrets_dir / "peppers.json")
        snapshot = await SqlConfigStore(engine, peppers, SystemEntropy(), SystemClock(), "test").snapshot()
        await engine.dispose()
        assert snapshot is not None
        return snapshot.policy.sheets

    async def input_rate(self, model: str = "gpt-4o-mini") -> int:
        """Pico-USD for a token of plain input, as workers have it."""
        rows = (await self.sheets())[f"openai/{model}"].rows
        return next(row.rate_pico for row in rows if row.meter == "input" and row.tier == "standard")

    async def called(self, deployment: str, model: str, lines: tuple[Line, ...], revision: int = 2, **more: Any) -> str:
        """A call that the ledger has, made just now; its id as printed."""
        self.made += 2
        now_ms = SystemClock().now_ms()
        call_id, attempt_id = ident(self.made, now_ms), ident(self.made + 1, now_ms)
        state = "unpriced" if any(line.effective_nusd is None for line in lines) else "priced"
        total = None if state == "unpriced" else sum(line.effective_nusd or 0 for line in lines)
        whose: dict[str, Any] = {"org": "default", "model_asked": model, "deployment": deployment, "started_ms": now_ms}
        whose["config_revision"] = revision
        records = (
            hold(attempt_id, ts_ms=now_ms, model=deployment.partition("/")[2], **whose),
            Dispatch(now_ms, attempt_id),
            end(attempt_id, lines, ts_ms=now_ms, **more),
            settle(attempt_id, ts_ms=now_ms, cost_state=state, effective_nusd=total, list_nusd=total, **whose),
        )
        engine = open_engine(self.settings.database_url, self.settings.data_dir, "ledger")
        await LedgerWriter(engine).load(self.book.entries(call_id, records))
        await engine.dispose()
        return print_id(CALL, call_id)

    async def key(self, role: str) -> Asking:
        answer = await self.operator.post("/admin/v1/keys", {"name": role, "role": role})
        return Asking(self.app, authorization=f"Bearer {answer.json()['secret']}")


@asynccontextmanager
async def _opened(url: str, data_dir: Path, policies: Path) -> AsyncIterator[Desk]:
    policies.mkdir()
    (policies / "routes.yaml").write_text(ROUTES)
    settings = Settings(data_dir=data_dir, config_dir=policies, database_url=url, key_env="test")
    for part in PARTS:
        await migrate.upgrade(url, data_dir, part)
    async with open_local(settings) as (app, token):
        made = Desk(settings, app, Asking(app, **{LOCAL_HEADER: token}))
        await made.reload()
        yield made


@pytest.fixture
async def desk(store: Store, tmp_path: Path) -> AsyncIterator[Desk]:
    """On SQLite and on PostgreSQL."""
    async with _opened(store.url, store.data_dir, tmp_path / "policies") as made:
        yield made


@pytest.fixture
async def small_desk(tmp_path: Path) -> AsyncIterator[Desk]:
    """On SQLite."""
    async with _opened("", tmp_path / "data", tmp_path / "policies") as made:
        yield made


TOKENS = (Line("input", 10, 150_000, 1, 1500, 1500, "r"),)


def packed(model: str, per_mtok: str) -> dict[str, str]:
    """The body of an import: genai-prices' data with another input price of one OpenAI model."""
    providers = json.loads(gzip.decompress(SHIPPED[0].content), parse_float=Decimal)
    (openai,) = [one for one in providers if one["id"] == "openai"]
    for one in openai["models"]:
        if one["id"] == model:
            one["prices"]["input_mtok"] = per_mtok
    content = gzip.compress(json.dumps(providers, default=str).encode())
    return {"name": "data.json", "content": base64.b64encode(content).decode()}
