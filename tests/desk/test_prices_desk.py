"""The price book over HTTP on the real stores: what goes into force by itself, what waits, and for whose yes."""

from __future__ import annotations

import base64
import gzip
import logging
from pathlib import Path

import pytest
from sqlalchemy import text
from store.stores import postgres_database, postgres_server, store

from desk.prices_world import OWN, PRICES, ROUTES, TOKENS, Desk, desk, packed, small_desk
from gateway.desk.parts import MAX_BODY_BYTES
from gateway.store.config_store import SqlConfigStore
from gateway.store.engine import open_engine, writing
from gateway.system import SystemClock, SystemEntropy
from gateway.vault.peppers import load_peppers

__all__ = ["desk", "postgres_database", "postgres_server", "small_desk", "store"]


async def test_small_moves_go_by_themselves_and_large_ones_wait_for_a_yes(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    await desk.called("openai/gpt-4o-mini", "mini", TOKENS)
    assert (await desk.number(), await desk.input_rate()) == (1, 150_000)
    desk.write(OWN.format("0.1875"))  # + 25 %
    await desk.reload()
    assert (await desk.number(), await desk.input_rate()) == (2, 187_500)
    desk.write(OWN.format("150"))
    with caplog.at_level(logging.WARNING, "faregate.desk"):
        for _ in range(3):
            await desk.reload()
    assert [record.message.partition(":")[0] for record in caplog.records] == ["new prices wait"], "told once"
    assert (await desk.number(), await desk.input_rate()) == (2, 187_500), "the last valid prices stay"
    assert (await desk.get())["waiting"]["models"] == ["openai/gpt-4o-mini"]
    diff = await desk.get("/diff")
    assert (diff["of"], diff["against"], diff["needs_confirmation"]) == ("file", 2, True)
    move = diff["data"][0]
    assert (move["model"], move["meter"], move["old"], move["new"], move["percent"], move["in_use"]) == (
        "openai/gpt-4o-mini", "input", "0.1875 USD / 1M tokens", "150 USD / 1M tokens", "79900", True,
    )  # fmt: skip
    refused = await desk.operator.post(f"{PRICES}/publish", {})
    assert (refused.status, refused.json()["error"]["code"]) == (409, "price_move_unconfirmed")
    assert refused.json()["error"]["confirm"] == diff["confirm"]
    other = await desk.operator.post(f"{PRICES}/publish", {"confirm": "0" * 64})
    assert (other.status, "not what would be published now" in other.text) == (409, True)
    assert await desk.input_rate() == 187_500
    done = await desk.operator.post(f"{PRICES}/publish", {"confirm": diff["confirm"]})
    assert (done.status, done.json()["version"]["number"]) == (200, 3)
    assert await desk.input_rate() == 150_000_000
    assert (await desk.get("/diff"))["of"] == "nothing"
    assert (await desk.operator.post(f"{PRICES}/publish", {})).status == 409
    log = (await desk.operator.get("/admin/v1/log")).json()["data"]
    assert [(row["subject"], row["actor"]) for row in log if row["kind"] == "prices.published"] == [
        ("prices:3", "local"), ("prices:2", "local"), ("prices:1", "local"),
    ]  # fmt: skip


async def test_while_prices_wait_routes_go_on_and_new_models_have_prices(small_desk: Desk) -> None:
    desk = small_desk
    await desk.called("openai/gpt-4o-mini", "mini", TOKENS)
    desk.write(OWN.format("150"))
    await desk.reload()
    (desk.settings.config_dir / "routes.yaml").write_text(ROUTES + "  more: openai/gpt-4.1\n")
    assert (await desk.reload())["changed"]
    sheets = await desk.sheets()
    assert "openai/gpt-4.1" in sheets
    assert await desk.input_rate() == 150_000
    desk.write("prices:\n  openai/gpt-4o-mini: {rates: {input: x}}\n")
    refused = await desk.operator.post("/admin/v1/config/reload")
    assert "prices.yaml:2: price of openai/gpt-4o-mini: input: 'x' is no price" in refused.json()["error"]["message"]
    (desk.settings.config_dir / "routes.yaml").write_text("providers: {}\nmodels: {a: b}\n")
    both = await desk.operator.post("/admin/v1/config/reload")
    files = [Path(problem["file"]).name for problem in both.json()["error"]["problems"]]
    assert files == ["prices.yaml", "routes.yaml"], "all mistakes are told at once"
    (desk.settings.config_dir / "routes.yaml").write_text(ROUTES)
    assert await desk.input_rate() == 150_000
    desk.write("")
    await desk.reload()
    assert ((await desk.get())["waiting"], await desk.number()) == (None, 1), "taken back, nothing waits"


async def test_a_model_that_nobody_uses_moves_freely_and_a_remark_is_no_version(small_desk: Desk) -> None:
    desk = small_desk
    await desk.called("openai/gpt-4o", "big", TOKENS)
    desk.write(OWN.format("150"))
    await desk.reload()
    assert (await desk.number(), await desk.input_rate()) == (2, 150_000_000)
    desk.write("# a remark\n" + OWN.format("150.00"))
    assert not (await desk.reload())["changed"]
    assert await desk.number() == 2


async def test_without_the_ledger_a_model_that_a_route_names_is_in_use(desk: Desk) -> None:
    engine = open_engine(desk.settings.database_url, desk.settings.data_dir, "ledger")
    async with writing(engine) as connection:
        schema = "" if connection.dialect.name == "sqlite" else "faregate_ledger."
        await connection.execute(text(f"DROP TABLE {schema}rollup_hour"))
    await engine.dispose()
    desk.write(OWN.format("150"))
    await desk.reload()
    assert (await desk.number(), await desk.input_rate()) == (1, 150_000)
    assert (await desk.get())["waiting"]["models"] == ["openai/gpt-4o-mini"]


async def test_what_was_confirmed_is_in_force_though_a_crash_came_between(desk: Desk) -> None:
    """The version is stored, and the policy that is made of it is not: the next compilation needs no second yes."""
    await desk.called("openai/gpt-4o-mini", "mini", TOKENS)
    desk.write(OWN.format("150"))
    engine = open_engine(desk.settings.database_url, desk.settings.data_dir, "config")
    peppers = load_peppers(desk.settings.secrets_dir / "peppers.json")
    config = SqlConfigStore(engine, peppers, SystemEntropy(), SystemClock(), "test")
    gate = desk.app.state.policy_files.prices
    written, content = gate.read_file()
    version = gate.candidate(written, content, await config.prices_in_force(), None)
    await config.publish_prices(version, actor="ada", after=1)
    assert await desk.input_rate() == 150_000
    await desk.reload()
    assert (await desk.number(), await desk.input_rate()) == (2, 150_000_000)
    await engine.dispose()


async def test_an_import_is_a_draft_until_it_is_published(desk: Desk) -> None:
    await desk.called("openai/gpt-4o", "big", TOKENS)
    brought = await desk.operator.post(f"{PRICES}/import", packed("gpt-4o", "2.6"))
    assert brought.status == 201, brought.text
    draft = brought.json()["draft"]
    assert (draft["recorded_by"], draft["sources"][0]["recorded_by"], draft["sources"][1]["recorded_by"]) == (
        "local", "local", "bundled",
    )  # fmt: skip
    await desk.reload()
    assert (await desk.number(), await desk.input_rate("gpt-4o")) == (1, 2_500_000), "a draft is not in force"
    diff = await desk.get("/diff")
    changed = [(move["model"], move["meter"], move["percent"], move["in_use"]) for move in diff["data"]]
    assert ("openai/gpt-4o", "input", "4", True) in changed
    assert {model[:13] for model, *_ in changed} == {"openai/gpt-4o"}, "and its dated names"
    assert (diff["of"], diff["needs_confirmation"], diff["models_lost"]) == ("draft", False, 0)
    (opinion,) = diff["divergences"]
    assert (opinion["model"], opinion["meter"], opinion["percent"], opinion["in_use"]) == (
        "openai/gpt-4o", "input", "-3.85", True,
    )  # fmt: skip
    done = (await desk.operator.post(f"{PRICES}/publish", {})).json()
    assert (done["version"]["number"], await desk.input_rate("gpt-4o")) == (2, 2_600_000)
    assert (await desk.get())["draft"] is None
    desk.write(OWN.format("0.16"))
    await desk.reload()
    assert (await desk.number(), await desk.input_rate("gpt-4o")) == (3, 2_600_000), "an import stays under a new file"
    back = await desk.operator.post(f"{PRICES}/import", {"name": "shipped", "shipped": True})
    assert back.status == 201
    assert (await desk.operator.send("DELETE", f"{PRICES}/draft")).json() == {"discarded": True}
    assert (await desk.operator.send("DELETE", f"{PRICES}/draft")).json() == {"discarded": False}


async def test_a_draft_that_moves_a_model_in_use_needs_its_own_yes(small_desk: Desk) -> None:
    desk = small_desk
    await desk.called("openai/gpt-4o", "big", TOKENS)
    await desk.operator.post(f"{PRICES}/import", packed("gpt-4o", "2500"))
    confirm = (await desk.get("/diff"))["confirm"]
    assert (await desk.operator.post(f"{PRICES}/publish", {})).status == 409
    await desk.operator.post(f"{PRICES}/import", packed("gpt-4o", "2600"))
    late = await desk.operator.post(f"{PRICES}/publish", {"confirm": confirm})
    assert late.status == 409, "what was looked at is not what would be published"
    assert (await desk.number(), await desk.input_rate("gpt-4o")) == (1, 2_500_000)
    confirm = (await desk.get("/diff"))["confirm"]
    assert (await desk.operator.post(f"{PRICES}/publish", {"confirm": confirm})).status == 200
    assert await desk.input_rate("gpt-4o") == 2_600_000_000


async def test_only_an_import_may_be_larger_than_what_the_desk_takes_otherwise(small_desk: Desk) -> None:
    plain = base64.b64encode(gzip.decompress(base64.b64decode(packed("gpt-4o", "2.6")["content"]))).decode()
    assert len(plain) > MAX_BODY_BYTES
    assert (await small_desk.operator.post(f"{PRICES}/import", {"name": "d", "content": plain})).status == 201
    assert (await small_desk.operator.post(f"{PRICES}/publish", {"confirm": plain})).status == 413
    caller = await small_desk.key("data")
    assert (await caller.post(f"{PRICES}/import", {"name": "d", "content": plain})).status == 403


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"name": "x", "content": "not base64!"}, "must be a file in base64"),
        ({"name": "x"}, "Send a file's content"),
        ({"name": "x", "content": base64.b64encode(b"[]").decode()}, "0 providers"),
    ],
)
async def test_what_is_no_source_is_refused_and_leaves_no_draft(
    small_desk: Desk, body: dict[str, str], said: str
) -> None:
    desk = small_desk
    answer = await desk.operator.post(f"{PRICES}/import", body)
    assert (answer.status, said in answer.json()["error"]["message"]) == (400, True), answer.text
    assert (await desk.get())["draft"] is None
