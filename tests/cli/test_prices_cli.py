"""`faregate prices` on a data folder of its own: what an operator types and what a finance person reads."""

from __future__ import annotations

import asyncio
import gzip
import json
from pathlib import Path

import pytest
from store.ledger_entries import Book, end, hold, ident, settle

from cli.conftest import Command
from gateway.core.charge import Line
from gateway.core.ids import CALL, print_id
from gateway.core.records import Dispatch
from gateway.pricing.sources import bundled_sources
from gateway.store.engine import open_engine
from gateway.store.ledger_writer import LedgerWriter
from gateway.system import SystemClock

ROUTES = "providers:\n  openai: {}\nmodels:\n  mini: openai/gpt-4o-mini\n  odd: openai/gpt-99\n"
OWN = "prices:\n  openai/gpt-4o-mini:\n    rates: {{input: {} USD / 1M tokens}}\n"


@pytest.fixture
def policies(local: Command, tmp_path: Path) -> Path:
    (tmp_path / "policies" / "routes.yaml").write_text(ROUTES)
    assert local("config", "reload").code == 0
    return tmp_path / "policies"


def called(folder: Path, deployment: str, model: str, lines: tuple[Line, ...]) -> str:
    """A call that the ledger of the data folder has, made just now."""
    now_ms = SystemClock().now_ms()
    call_id, attempt_id = ident(7, now_ms), ident(8, now_ms)
    total = (
        None if any(line.effective_nusd is None for line in lines) else sum(line.effective_nusd or 0 for line in lines)
    )
    whose = {
        "org": "default",
        "model_asked": model,
        "deployment": deployment,
        "started_ms": now_ms,
        "config_revision": 2,
    }
    records = (
        hold(attempt_id, ts_ms=now_ms, **whose),
        Dispatch(now_ms, attempt_id),
        end(attempt_id, lines, ts_ms=now_ms, raw_usage=b'{"prompt_tokens":7}', reported_nusd=99_000),
        settle(
            attempt_id,
            ts_ms=now_ms,
            cost_state="unpriced" if total is None else "priced",
            effective_nusd=total,
            list_nusd=total,
            **whose,
        ),
    )

    async def load() -> None:
        engine = open_engine("", folder, "ledger")
        await LedgerWriter(engine).load(Book(ident(int(now_ms) % 10_000)).entries(call_id, records))
        await engine.dispose()

    asyncio.run(load())
    return print_id(CALL, call_id)


def test_import_diff_publish_list(local: Command, policies: Path, tmp_path: Path) -> None:
    litellm = json.loads(gzip.decompress(bundled_sources()[1].content))
    litellm["gpt-99"] = {
        "litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 1e-6, "output_cost_per_token": 4e-6,
    }  # fmt: skip
    file = tmp_path / "model_prices.json"
    file.write_text(json.dumps(litellm))
    assert "1 of 2 have no price" in local("prices", "coverage").err
    brought = local("prices", "import", str(file))
    assert (brought.code, "litellm-map model_prices@" in brought.out, "draft" in brought.err) == (0, True, True)
    diff = local("prices", "diff").out
    assert "openai/gpt-99  input" in diff
    assert "1 USD / 1M tokens" in diff
    assert "1 model gets a price, 0 models lose theirs." in diff
    done = local("prices", "publish")
    assert done.out.startswith("Version 2 of the prices is in force ("), done.err
    listed = local("prices", "list")
    assert [line.split()[0] for line in listed.out.split("\n")[1:3]] == ["2", "1"]
    assert "0 of 2 have no price" in local("prices", "coverage").err
    assert "priced" in local("prices", "explain", "odd").out
    again = local("prices", "import", str(file))
    assert "in force already" in again.err
    assert local("prices", "discard").out == "The draft is discarded.\n"
    assert local("prices", "discard").out == "There was no draft.\n"
    assert local("prices", "diff").out.startswith("Nothing waits")
    assert local("prices", "publish").code == 1


def test_a_large_move_wants_confirm(local: Command, policies: Path, tmp_path: Path) -> None:
    called(tmp_path / "data", "openai/gpt-4o-mini", "mini", (Line("input", 7, 150_000, 1, 1050, 1050, "r"),))
    (policies / "prices.yaml").write_text(OWN.format("150"))
    assert local("config", "reload").code == 0
    assert "A change of prices.yaml waits: openai/gpt-4o-mini" in local("prices", "list").out
    (row,) = [line for line in local("prices", "diff").out.split("\n") if "  input  " in line]
    assert row.split("  ")[0] == "openai/gpt-4o-mini"
    assert all(
        word in row for word in ("0.15 USD / 1M tokens", "150 USD / 1M tokens", "+99900", "20", "yes", "to confirm")
    )
    refused = local("prices", "publish")
    assert (refused.code, "publish with --confirm" in refused.err) == (1, True)
    assert local("prices", "publish", "--confirm").out.startswith("Version 2 of the prices is in force")
    assert json.loads(local("prices", "explain", "mini", "--json").out)["file_line"] == 2
    (policies / "prices.yaml").write_text(OWN.format("150") + "  openai/gpt-99: {free: true}\n")
    assert local("config", "reload").code == 0
    assert local("prices", "explain", "odd").out.endswith("\nEvery meter costs nothing, says file:prices.yaml.\n")
    nothing = local("prices", "diff").out
    assert nothing.startswith("Nothing waits")


def test_a_call_and_the_queue_are_told_to_finance(local: Command, policies: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    id = called(data, "openai/gpt-4o-mini", "mini", (Line("input", 7, 123_457, 1, 864, 864, "gone"),))
    told = local("prices", "explain", id).out
    (line,) = [line for line in told.split("\n") if line.startswith("input")]
    assert line.split() == [
        "input", "7", "×", "0.123457", "USD", "/", "1M", "tokens", "=", "0.000000864199", "≈", "0.000000864",
        "–", "–", "gone",
    ]  # fmt: skip
    assert 'usage as reported (provider): {"prompt_tokens":7}' in told
    assert "The provider itself says 0.000099 USD, +11358.33 % of ours: MORE THAN 1 % APART" in told
    assert "Total of the call: 0.000000864 USD" in told
    assert "has a price" in local("prices", "unpriced").out
    called(data, "openai/gpt-99", "odd", (Line("input", 7, None, 1, None, None, ""),))
    (queued,) = [line for line in local("prices", "unpriced").out.split("\n") if line.startswith("odd")]
    assert "no price source knows it" in queued
    assert "unpriced" in local("prices", "explain", "odd").out
    assert local("prices", "explain", "req_x").code == 1


def test_what_cannot_be_is_said_before_anything_is_sent(local: Command, policies: Path, tmp_path: Path) -> None:
    assert local("prices", "import").code == 2
    assert local("prices", "import", "x", "--shipped").code == 2
    assert "cannot be read" in local("prices", "import", str(tmp_path / "none")).err
    (tmp_path / "page.html").write_text("<html>")
    assert "not JSON" in local("prices", "import", str(tmp_path / "page.html")).err
    (policies / "prices.yaml").write_text("prices:\n  openai/m: {rates: {input: 2.5}}\n")
    wrong = local("config", "validate")
    assert (wrong.code, "prices.yaml:2: price of openai/m: input: '2.5' is no price" in wrong.err) == (1, True)
    listed = local("prices", "list")
    assert (listed.code, "prices.yaml:2:" in listed.err) == (0, True), "what is in force is still shown"
    assert json.loads(local("config", "schema", "prices").out)["title"] == "Faregate prices"
