"""Prices are shared: by two desks on one store, by two people who import at once, by every organisation, and by the
releases that follow one another."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import gzip
import threading
from typing import Any

import msgspec

from desk.asking import Asking
from desk.prices_world import OWN, PRICES, SHIPPED, Desk, desk, postgres_database, postgres_server, small_desk, store
from gateway.core.config import Policy
from gateway.core.price_admin import PriceDraft, PriceVersion
from gateway.desk.policy_files import PolicyFiles
from gateway.desk.prices.file import NOTHING
from gateway.pricing.versions import NOTHING_WRITTEN, imported_of, make_version
from gateway.routing.compile import Sheets
from gateway.store.config_store import SqlConfigStore
from gateway.store.engine import open_engine
from gateway.system import SystemClock, SystemEntropy
from gateway.vault.peppers import load_peppers

__all__ = ["desk", "postgres_database", "postgres_server", "small_desk", "store"]


async def newest(here: Desk) -> tuple[Policy, PriceVersion]:
    engine = open_engine(here.settings.database_url, here.settings.data_dir, "config")
    peppers = load_peppers(here.settings.secrets_dir / "peppers.json")
    config = SqlConfigStore(engine, peppers, SystemEntropy(), SystemClock(), "test")
    snapshot, version = await config.snapshot(), await config.prices_in_force()
    await engine.dispose()
    assert snapshot is not None
    assert version is not None
    return snapshot.policy, version


async def test_a_desk_that_compiled_before_another_published_does_not_bring_the_old_prices_back(desk: Desk) -> None:
    """It has compiled; the other one publishes and stores its policy; then it stores, and finds that it is late."""
    parts = desk.app.state.policy_files._parts
    compiled, go_on = threading.Event(), threading.Event()

    def slowly(sheets: Sheets) -> Policy:
        made: Policy = parts.prices.compile_with(sheets)
        compiled.set()
        assert go_on.wait(30)
        return made

    late = PolicyFiles(dataclasses.replace(parts, prices=dataclasses.replace(parts.prices, compile_with=slowly)))
    routes = desk.settings.config_dir / "routes.yaml"
    routes.write_text(routes.read_text() + "  more: openai/gpt-4.1\n")
    reloading = asyncio.create_task(late.reload("late"))
    await asyncio.to_thread(compiled.wait, 30)
    desk.write(OWN.format("0.16"))
    await desk.reload()
    assert (await desk.number(), await desk.input_rate()) == (2, 160_000)
    go_on.set()
    await reloading
    assert await desk.input_rate() == 160_000
    assert "openai/gpt-4.1" in await desk.sheets()


async def test_a_version_that_changes_nothing_in_use_leaves_no_yes_behind(small_desk: Desk) -> None:
    """The policy is stored once more, so nothing looks as if its publication had been cut off."""
    here = small_desk
    here.write("prices:\n  openai/gpt-5:\n    rates: {input: 1 USD / 1M tokens}\n")
    await here.reload()
    answer = await here.operator.post(f"{PRICES}/publish", {})
    assert answer.status == 409, "it is in force already"
    policy, version = await newest(here)
    assert version.number == 2
    assert policy.revision > version.revision
    revision = policy.revision
    assert not (await here.reload())["changed"]
    assert (await newest(here))[0].revision == revision, "once is enough"


async def test_two_who_import_at_once_both_have_their_source_in_the_draft(small_desk: Desk) -> None:
    genai, litellm = SHIPPED
    bodies = []
    for source, member in ((genai, b" "), (litellm, b"\n")):
        content = base64.b64encode(gzip.compress(gzip.decompress(source.content) + member)).decode()
        bodies.append({"name": f"new {source.kind}", "content": content})
    answers = await asyncio.gather(*(small_desk.operator.post(f"{PRICES}/import", body) for body in bodies))
    assert [answer.status for answer in answers] == [201, 201]
    draft = (await small_desk.get())["draft"]
    assert [source["recorded_by"] for source in draft["sources"]] == ["local", "local"]
    assert {source["sha256"] for source in draft["sources"]}.isdisjoint({genai.sha256, litellm.sha256})


async def test_finance_of_one_of_several_orgs_does_not_set_the_prices_of_all(small_desk: Desk) -> None:
    here = small_desk
    finance, admin = await here.key("finance"), await here.key("admin")
    assert (await finance.post(f"{PRICES}/import", {"name": "x", "shipped": True})).status == 201
    here.operator.headers["x-faregate-org"] = "elsewhere"
    await here.operator.post("/admin/v1/keys", {"name": "theirs", "role": "data"})

    async def statuses(asking: Asking) -> list[Any]:
        answers = [
            await asking.post(f"{PRICES}/import", {"name": "x", "shipped": True}),
            await asking.send("DELETE", f"{PRICES}/draft"),
            await asking.post(f"{PRICES}/publish", {}),
        ]
        return [answer.status for answer in answers]

    assert await statuses(finance) == [403, 403, 403]
    refused = await finance.post(f"{PRICES}/publish", {})
    assert "every organisation here" in refused.json()["error"]["message"]
    assert (await finance.get(PRICES)).status == 200, "it may look"
    assert await statuses(admin) == [201, 200, 409]


async def test_what_ships_again_is_renewed_with_the_next_release(small_desk: Desk) -> None:
    """Somebody imported a source by hand before the release that ships it; then they went back to what ships."""
    gate = small_desk.app.state.policy_files.prices
    genai, litellm = gate.bundled()
    brought = msgspec.structs.replace(genai, recorded_by="ada")  # as the store has it: who brought it first
    older = msgspec.structs.replace(brought, sha256="0" * 64, name="genai-prices 0.1")
    shipped = gate.candidate(NOTHING, "", None, PriceDraft(brought, litellm, 1, "ben"))
    assert imported_of(shipped) == ()
    pinned = gate.candidate(NOTHING, "", shipped, PriceDraft(older, litellm, 1, "ada"))
    assert imported_of(pinned) == ("genai",)
    assert gate.candidate(NOTHING, "", pinned, None).genai == older, "an import stays"
    next_release = msgspec.structs.replace(shipped, genai=older)  # it was what shipped when it was published
    assert gate.candidate(NOTHING, "", next_release, None).genai == genai
    before = make_version(genai, litellm, NOTHING_WRITTEN)
    assert gate.candidate(NOTHING, "", before, None).sha256 == before.sha256, "an upgrade makes no new version of it"


async def test_a_rate_that_is_to_come_is_with_the_workers_before_it_counts(small_desk: Desk) -> None:
    """What is dated is in the version and in the policy at once; what is only announced in neither."""
    here = small_desk
    here.write(
        "prices:\n  openai/gpt-4o-mini:\n    rates:\n      - {input: 0.16 USD / 1M tokens}\n"
        "      - {input: 0.17 USD / 1M tokens, from: 2999-01-01}\n"
        "pending:\n  - {for: openai/gpt-4o, rates: {input: 9 USD / 1M tokens, from: 2026-01-01}}\n"
        "  - {for: openai/gpt-4o, rates: {input: 8 USD / 1M tokens, from: 2999-01-01}}\n"
    )
    await here.reload()
    rows = (await here.sheets())["openai/gpt-4o-mini"].rows
    plain = [row for row in rows if row.meter == "input" and row.tier == "standard"]
    assert [(row.rate_pico, row.from_ms > 0) for row in plain] == [(160_000, False), (170_000, True)]
    told = await here.get()
    assert [one["due"] for one in told["pending"]] == [True, False], "whose day has come is pointed out"
    assert {9_000_000, 8_000_000}.isdisjoint(row.rate_pico for row in (await here.sheets())["openai/gpt-4o"].rows)
