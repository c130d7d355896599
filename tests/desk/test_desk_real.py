"""The desk over the real store, vault and compiler, as `gateway.app` wires it, on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from store.ledger_entries import Book
from store.stores import Store, postgres_database, postgres_server, store

from desk.asking import Asking
from gateway.app import open_local
from gateway.core.admin import KeyChange
from gateway.core.ids import CALL, print_id
from gateway.desk.parts import LOCAL_HEADER
from gateway.settings import Settings
from gateway.store import migrate
from gateway.store.config_store import SqlConfigStore
from gateway.store.engine import PARTS, open_engine
from gateway.store.ledger_writer import LedgerWriter
from gateway.system import SystemClock, SystemEntropy
from gateway.vault.peppers import load_peppers

__all__ = ["postgres_database", "postgres_server", "store"]

ROUTES = "providers:\n  openai:\n    kind: openai\nmodels:\n  gpt: openai/gpt-4o-mini\n"


@dataclass
class Real:
    settings: Settings
    app: object
    operator: Asking

    def asking(self, secret: str) -> Asking:
        return Asking(self.app, authorization=f"Bearer {secret}")  # type: ignore[arg-type]

    async def secret(self, name: str, **members: object) -> tuple[str, str]:
        answer = await self.operator.post("/admin/v1/keys", {"name": name, **members})
        assert answer.status == 201, answer.text
        return answer.json()["key"]["id"], answer.json()["secret"]


@pytest.fixture
async def real(store: Store, tmp_path: Path) -> AsyncIterator[Real]:
    policies = tmp_path / "policies"
    policies.mkdir()
    (policies / "routes.yaml").write_text(ROUTES)
    settings = Settings(data_dir=store.data_dir, config_dir=policies, database_url=store.url, key_env="test")
    for part in PARTS:
        await migrate.upgrade(store.url, store.data_dir, part)
    async with open_local(settings) as (app, token):
        yield Real(settings, app, Asking(app, **{LOCAL_HEADER: token}))


async def test_the_life_of_a_key(real: Real) -> None:
    operator = real.operator
    key_id, secret = await real.secret("app", team="search", budget="5USD/month", rpm=60, tags={"env": "prod"})
    app = real.asking(secret)
    usage = await app.get("/v1/usage")
    assert usage.status == 200, usage.text
    nothing = {"usd": "0", "nano_usd": 0}
    others = ("list", "contracted", "billed", "estimated", "prior_period")
    assert usage.json()["month"]["cost"] == {**nothing, **dict.fromkeys(others, nothing)}
    assert {limit["text"] for limit in usage.json()["limits"]} == {"5USD/month", "60requests/60s"}
    path = f"/admin/v1/keys/{key_id}"
    assert (await operator.patch(path, {"budget": "7USD/month"})).status == 200
    assert {limit["text"] for limit in (await operator.get(path)).json()["limits"]} == {"7USD/month", "60requests/60s"}
    assert (await operator.post(f"{path}/pause")).json()["key"]["state"] == "paused"
    assert (await app.get("/v1/usage")).status == 403
    assert (await operator.post(f"{path}/resume")).json()["key"]["state"] == "active"
    rotated = (await operator.post(f"{path}/rotate", {"overlap_s": 60})).json()["secret"]
    assert [(await asking.get("/v1/usage")).status for asking in (app, real.asking(rotated))] == [200, 200]
    assert (await operator.post("/admin/v1/keys", {"name": "app"})).status == 409
    assert (await operator.post("/admin/v1/keys", {"name": "app", "if_absent": True})).json()["key"]["id"] == key_id
    assert (await operator.post(f"{path}/revoke")).json()["key"]["state"] == "revoked"
    assert [(await asking.get("/v1/usage")).status for asking in (app, real.asking(rotated))] == [401, 401]
    assert (await operator.post(f"{path}/resume")).status == 409
    kinds = [row["kind"] for row in (await operator.get("/admin/v1/log")).json()["data"]]
    assert kinds == ["key.revoked", "key.rotated", "key.resumed", "key.paused", "key.updated", "key.created"]


async def test_orgs_do_not_see_each_other(real: Real) -> None:
    real.operator.headers["x-faregate-org"] = "elsewhere"
    foreign, _ = await real.secret("foreign", role="admin")
    del real.operator.headers["x-faregate-org"]
    mine, secret = await real.secret("boss", role="admin")
    boss = real.asking(secret)
    assert [key["id"] for key in (await boss.get("/admin/v1/keys")).json()["data"]] == [mine]
    assert (await boss.get(f"/admin/v1/keys/{foreign}")).status == 404
    assert (await boss.post(f"/admin/v1/keys/{foreign}/revoke")).status == 404
    log = (await boss.get("/admin/v1/log")).text
    assert mine in log
    assert foreign not in log


async def test_files_become_the_configuration(real: Real) -> None:
    operator = real.operator
    assert (await operator.post("/admin/v1/config/validate")).json()["changed"] is True
    first = (await operator.post("/admin/v1/config/reload")).json()
    assert first["changed"] is True
    assert (await operator.post("/admin/v1/config/reload")).json() == {**first, "changed": False}
    routes = real.settings.config_dir / "routes.yaml"
    routes.write_text(ROUTES.replace("openai/gpt", "opnai/gpt"))
    refused = await operator.post("/admin/v1/config/reload")
    assert refused.status == 400
    assert "routes.yaml:5:" in refused.json()["error"]["message"]
    shown = (await operator.get("/admin/v1/config")).json()
    assert (shown["revision"], shown["models"]) == (first["revision"], ["gpt"])
    assert "routes.yaml:5:" in shown["problem"]


async def test_the_ledger_is_told_to_its_owners(real: Real) -> None:
    key_id, secret = await real.secret("app", team="search")
    _, other = await real.secret("other", team="ads")
    _, boss = await real.secret("boss", role="admin")
    engine = open_engine(real.settings.database_url, real.settings.data_dir, "ledger")
    entries = Book().call(1, org="default", team="search", key_id=key_id, model_asked="gpt")
    await LedgerWriter(engine).load(entries)
    await engine.dispose()
    call_id = print_id(CALL, entries[0].call_id)
    answer = await real.asking(secret).get(f"/v1/requests/{call_id}")
    assert answer.status == 200, answer.text
    call = answer.json()
    assert call["cost"]["nano_usd"] == sum(line["cost"]["nano_usd"] for line in call["attempts"][0]["lines"]) > 0
    assert (await real.asking(other).get(f"/v1/requests/{call_id}")).status == 404
    spend = (await real.asking(boss).get("/admin/v1/spend", by="team,key,day", since="2026-09-01")).json()
    assert [row["group"] for row in spend["data"]] == [{"team": "search", "key": key_id, "day": "2026-09-21"}]
    assert spend["total"]["cost"]["nano_usd"] == call["cost"]["nano_usd"]


async def test_a_person_signs_in_and_looks(real: Real) -> None:
    _, secret = await real.secret("boss", role="admin")
    person = Asking(real.app)  # type: ignore[arg-type]
    form = await person.get("/ui/sign-in")
    token = re.search(r'name="csrf" value="([^"]+)"', form.text)
    assert token is not None
    assert (await person.form("/ui/sign-in", csrf=token.group(1), key=secret)).status == 303
    page = await person.get("/ui")
    assert page.status == 200
    assert "No call has been made yet" in page.text


async def test_a_key_made_elsewhere_is_known_here_soon(real: Real) -> None:
    """Another desk on the same database: this one follows it."""
    peppers = load_peppers(real.settings.secrets_dir / "peppers.json")
    engine = open_engine(real.settings.database_url, real.settings.data_dir, "config")
    elsewhere = SqlConfigStore(engine, peppers, SystemEntropy(), SystemClock(), "test")
    created = await elsewhere.create_key(KeyChange(name="new", role="admin"), actor="other desk")
    await engine.dispose()
    asking = real.asking(created.secret)
    deadline = time.monotonic() + 10
    while (await asking.get("/admin/v1/keys")).status != 200:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
