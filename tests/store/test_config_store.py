"""The contract of the configuration's store, on SQLite and PostgreSQL: keys made, changed, ended, read."""

from __future__ import annotations

import msgspec
import pytest
from sqlalchemy import select
from vault.fakes import ring

from gateway.core.admin import ConfigStore, KeyChange
from gateway.core.errors import BadRequest, Conflict, NotFound
from gateway.core.limits import HoldKind, Limit, OnExceed, Unit, Window, WindowKind
from gateway.store.config_reads import CHANGE, KEY
from gateway.store.engine import reading
from gateway.vault.keys import imported_digest, parse
from store.config_opened import (
    ACTOR,
    MONTH,
    Opened,
    limit,
    opened,
    postgres_database,
    postgres_server,
    store,
)

__all__ = ["opened", "postgres_database", "postgres_server", "store"]


async def test_it_is_the_port(opened: Opened) -> None:
    config: ConfigStore = opened.config
    assert await config.snapshot() is None
    assert await config.changes_since(0) == (0, (), None)
    assert await config.orgs() == []
    assert await config.log() == []
    assert await config.key_records() == ()


# ---------------------------------------------------------------- making keys


async def test_a_new_key_is_shown_once_and_stored_hashed(opened: Opened) -> None:
    created = await opened.config.create_key(KeyChange(name="app"), actor=ACTOR)
    parsed = parse(created.secret)
    assert parsed is not None
    view = created.view
    assert (view.key_id, view.prefix) == (parsed[0], f"fg_live_{parsed[0]}")
    assert (view.name, view.org, view.team, view.role, view.state) == ("app", "default", "default", "data", "active")
    assert (view.created_ms, view.expires_ms, created.revision) == (opened.clock.ms, 0, 1)
    assert await opened.config.key(view.key_id) == view
    (record,) = await opened.config.key_records()
    assert record.hashes[0][0] == 3
    assert ring(record, known=opened.peppers).find(created.secret, 0) == record
    async with reading(opened.engine) as connection:
        everything = str([(await connection.execute(select(table))).all() for table in (KEY, CHANGE)])
    assert parsed[1] not in everything


async def test_all_members_are_kept(opened: Opened) -> None:
    change = KeyChange(
        name="app", org="acme", team="web", role="finance", models=("gpt-4o", "openai/*", "gpt-4o"),
        tags=(("env", "prod"), ("app", "x")), expires_ms=opened.clock.ms + 5,
        limits=(limit(5), limit(3, Unit.REQUESTS, Window(WindowKind.ROLLING, 60))),
    )  # fmt: skip
    view = (await opened.config.create_key(change, actor=ACTOR)).view
    assert view.models == ("gpt-4o", "openai/*")
    assert view.tags == {"app": "x", "env": "prod"}
    assert [(rule.unit, rule.amount) for rule in view.limits] == [(Unit.USD, 5), (Unit.REQUESTS, 3)]
    assert all(rule.scope == (("key", view.key_id),) and rule.origin == "sql" and rule.id for rule in view.limits)
    assert await opened.config.key(view.key_id) == view
    (record,) = await opened.config.key_records()
    assert (record.limits, record.tags, record.expires_ms) == (view.limits, change_tags(view.tags), view.expires_ms)
    assert await opened.config.orgs() == ["acme"]
    assert await opened.config.teams("acme") == ["web"]


def change_tags(tags: dict[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(tags.items())


async def test_a_name_is_taken_once_per_org_until_revoked(opened: Opened) -> None:
    first = await opened.config.create_key(KeyChange(name="app"), actor=ACTOR)
    with pytest.raises(Conflict, match="has a key named 'app' already"):
        await opened.config.create_key(KeyChange(name="app", team="other"), actor=ACTOR)
    await opened.config.create_key(KeyChange(name="app", org="acme"), actor=ACTOR)
    await opened.config.revoke_key(first.view.key_id, actor=ACTOR)
    again = await opened.config.create_key(KeyChange(name="app"), actor=ACTOR)
    assert again.view.key_id != first.view.key_id
    assert await opened.config.teams("default") == ["default"], "a refused write leaves nothing"


async def test_if_absent_returns_the_present_one_without_its_secret(opened: Opened) -> None:
    first = await opened.config.create_key(KeyChange(name="app"), actor=ACTOR, if_absent=True)
    again = await opened.config.create_key(KeyChange(name="app", team="other"), actor=ACTOR, if_absent=True)
    assert first.secret
    assert (again.secret, again.view, again.revision) == ("", first.view, 1)
    assert await opened.counts() == (1, 0, 1)
    await opened.config.revoke_key(first.view.key_id, actor=ACTOR)
    assert (await opened.config.create_key(KeyChange(name="app"), actor=ACTOR, if_absent=True)).secret


async def test_an_imported_key_keeps_working_unchanged(opened: Opened) -> None:
    text = "sk-1234567890abcdef"
    created = await opened.config.import_key(imported_digest(text).hex(), KeyChange(name="old"), actor=ACTOR)
    assert created.secret == ""
    assert created.view.key_id == created.view.prefix == "sha_" + imported_digest(text).hex()[:12]
    (record,) = await opened.config.key_records()
    keys = ring(record, known=opened.peppers)
    assert keys.find(text, 0) == record
    with pytest.raises(Conflict, match="imported already as 'old'"):
        await opened.config.import_key(imported_digest(text).hex(), KeyChange(name="new"), actor=ACTOR)
    await opened.config.revoke_key(created.view.key_id, actor=ACTOR)
    with pytest.raises(Conflict, match="revoked, which is final"):
        await opened.config.import_key(imported_digest(text).hex(), KeyChange(name="new"), actor=ACTOR)


@pytest.mark.parametrize("digest", ["", "xy" * 32, "ab" * 31, "ab " * 32, "ab" * 33])
async def test_an_import_needs_a_sha256_and_no_role(opened: Opened, digest: str) -> None:
    with pytest.raises(BadRequest, match="64 hex digits"):
        await opened.config.import_key(digest, KeyChange(), actor=ACTOR)
    with pytest.raises(BadRequest, match="only call models"):
        await opened.config.import_key("ab" * 32, KeyChange(role="admin"), actor=ACTOR)


BAD = {
    "empty name": (KeyChange(name=""), "name"),
    "NUL in a name": (KeyChange(name="a\0b"), "name"),
    "long name": (KeyChange(name="a" * 129), "name"),
    "spaces around a name": (KeyChange(name=" a"), "name"),
    "line in an org": (KeyChange(org="a\nb"), "org"),
    "empty team": (KeyChange(team=""), "team"),
    "role": (KeyChange(role="root"), "role"),
    "model": (KeyChange(models=("a b",)), "models"),
    "empty model": (KeyChange(models=("",)), "models"),
    "models": (KeyChange(models=tuple(map(str, range(201)))), "models"),
    "tag without a name": (KeyChange(tags=(("", "x"),)), "tags"),
    "tag twice": (KeyChange(tags=(("a", "x"), ("a", "y"))), "tags"),
    "long tag": (KeyChange(tags=(("a", "x" * 300),)), "tags"),
    "control in a tag": (KeyChange(tags=(("a", "\x1b"),)), "tags"),
    "negative expiry": (KeyChange(expires_ms=-1), "expires_ms"),
    "huge expiry": (KeyChange(expires_ms=2**63), "expires_ms"),
    "past expiry": (KeyChange(expires_ms=1), "expires_ms"),
    "negative amount": (KeyChange(limits=(limit(-1),)), "limits"),
    "huge amount": (KeyChange(limits=(limit(2**63),)), "limits"),
    "float amount": (KeyChange(limits=(limit(0.5),)), "limits"),  # type: ignore[arg-type]
    "window without length": (KeyChange(limits=(limit(1, window=Window(WindowKind.ROLLING)),)), "limits"),
    "zone": (KeyChange(limits=(limit(1, window=Window(WindowKind.DAY, 0, "Mars/Base")),)), "limits"),
    "path as zone": (KeyChange(limits=(limit(1, window=Window(WindowKind.DAY, 0, "../../etc")),)), "limits"),
    "unit": (KeyChange(limits=(limit(1, "euro"),)), "limits"),  # type: ignore[arg-type]
    "limit twice": (KeyChange(limits=(limit(1), limit(2))), "limits"),
}


@pytest.mark.parametrize("case", BAD)
async def test_what_cannot_be_set_is_refused_with_its_member(opened: Opened, case: str) -> None:
    change, param = BAD[case]
    with pytest.raises(BadRequest) as caught:
        await opened.config.create_key(change, actor=ACTOR)
    assert caught.value.param == param
    assert await opened.counts() == (0, 0, 0)


async def test_every_text_that_is_allowed_can_be_stored(opened: Opened) -> None:
    change = KeyChange(name="Zoë's käy 🗝", org="Ünïcode % _ '", team='"x"', tags=(("ключ", "значение"),))
    view = (await opened.config.create_key(change, actor="o'Brien")).view
    assert await opened.config.key(view.key_id) == view
    assert (await opened.config.keys("Ünïcode % _ '", '"x"')) == [view]
    assert await opened.config.keys("%") == []


# ---------------------------------------------------------------- changing keys


async def test_an_update_sets_what_it_names_and_nothing_else(opened: Opened) -> None:
    made = await opened.config.create_key(KeyChange(name="app", models=("a",), tags=(("k", "v"),)), actor=ACTOR)
    view, revision = await opened.config.update_key(made.view.key_id, KeyChange(team="web", models=()), actor="other")
    assert revision == 2
    assert view == msgspec.structs.replace(made.view, team="web", models=())
    assert await opened.config.teams("default") == ["default", "web"]
    assert [(row.kind, row.actor) for row in await opened.config.log()] == [
        ("key.updated", "other"), ("key.created", ACTOR)
    ]  # fmt: skip


async def test_an_update_that_changes_nothing_takes_no_revision(opened: Opened) -> None:
    made = await opened.config.create_key(KeyChange(name="app", limits=(limit(5),)), actor=ACTOR)
    for change in (KeyChange(), KeyChange(name="app", role="data", org="default", limits=(limit(5),))):
        assert await opened.config.update_key(made.view.key_id, change, actor=ACTOR) == (made.view, 1)
    assert await opened.config.set_paused(made.view.key_id, False, actor=ACTOR) == (made.view, 1)


@pytest.mark.parametrize("role", ["admin", "finance", "metrics"])
async def test_no_key_can_be_raised_to_another_role(opened: Opened, role: str) -> None:
    made = await opened.config.create_key(KeyChange(name="app"), actor=ACTOR)
    with pytest.raises(BadRequest, match="role is set when it is made") as caught:
        await opened.config.update_key(made.view.key_id, KeyChange(role=role), actor=ACTOR)
    assert caught.value.param == "role"
    with pytest.raises(BadRequest, match="stays in its org"):
        await opened.config.update_key(made.view.key_id, KeyChange(org="acme"), actor=ACTOR)
    assert await opened.config.key(made.view.key_id) == made.view


async def test_a_changed_limit_keeps_its_id_and_others_stay(opened: Opened) -> None:
    day = Window(WindowKind.DAY, 0, "Europe/Berlin")
    made = await opened.config.create_key(KeyChange(limits=(limit(5), limit(9, Unit.TOKENS, day))), actor=ACTOR)
    usd, tokens = made.view.limits
    raised = Limit("ignored", Unit.USD, 7, MONTH, (("org", "everyone"),), OnExceed.ALERT, HoldKind.ESTIMATE, "file:1")
    change = KeyChange(limits=(raised, limit(1, Unit.TOKENS, Window(WindowKind.DAY))))
    view, _ = await opened.config.update_key(made.view.key_id, change, actor=ACTOR)
    by_id = {rule.id: rule for rule in view.limits}
    assert len(by_id) == 3
    assert by_id[tokens.id] == tokens
    assert by_id[usd.id] == msgspec.structs.replace(usd, amount=7, on_exceed=OnExceed.ALERT, hold=HoldKind.ESTIMATE)
    assert await opened.config.key(view.key_id) == view


async def test_windows_have_one_spelling(opened: Opened) -> None:
    made = await opened.config.create_key(
        KeyChange(limits=(limit(5, window=Window(WindowKind.TOTAL, 7, "Europe/Berlin")),)), actor=ACTOR
    )
    change = KeyChange(limits=(limit(6, window=Window(WindowKind.TOTAL)),))
    view, _ = await opened.config.update_key(made.view.key_id, change, actor=ACTOR)
    assert [(rule.id, rule.amount) for rule in view.limits] == [(made.view.limits[0].id, 6)]


async def test_pausing_ends_and_expiry_is_read_off_the_clock(opened: Opened) -> None:
    made = await opened.config.create_key(KeyChange(expires_ms=opened.clock.ms + 10), actor=ACTOR)
    paused, _ = await opened.config.set_paused(made.view.key_id, True, actor=ACTOR)
    assert paused.state == "paused"
    assert (await opened.config.key_records())[0].paused
    resumed, revision = await opened.config.set_paused(made.view.key_id, False, actor=ACTOR)
    assert (resumed.state, revision) == ("active", 3)
    opened.clock.ms += 10
    assert (await opened.config.key(made.view.key_id)).state == "expired"
    extended, _ = await opened.config.update_key(made.view.key_id, KeyChange(expires_ms=0), actor=ACTOR)
    assert extended.state == "active"


async def test_revocation_is_final_and_forgets_the_hashes(opened: Opened) -> None:
    made = await opened.config.create_key(KeyChange(name="app"), actor=ACTOR)
    key_id = made.view.key_id
    view, revision = await opened.config.revoke_key(key_id, actor=ACTOR)
    assert (view.state, revision) == ("revoked", 2)
    assert await opened.config.revoke_key(key_id, actor=ACTOR) == (view, 2)
    assert await opened.config.key_records() == ()
    for attempt in (
        opened.config.update_key(key_id, KeyChange(name="b"), actor=ACTOR),
        opened.config.set_paused(key_id, False, actor=ACTOR),
        opened.config.rotate_key(key_id, 0, actor=ACTOR),
    ):
        with pytest.raises(Conflict, match="revoked, which is final"):
            await attempt
    async with reading(opened.engine) as connection:
        assert (await connection.execute(select(KEY.c.hashes))).scalar_one() == msgspec.msgpack.encode(())
    assert [view.state for view in await opened.config.keys("default")] == ["revoked"]


async def test_a_rotation_overlaps_as_long_as_asked(opened: Opened) -> None:
    made = await opened.config.create_key(KeyChange(name="app"), actor=ACTOR)
    rotated = await opened.config.rotate_key(made.view.key_id, 60, actor=ACTOR)
    assert rotated.view.key_id == made.view.key_id
    assert rotated.view.prefix == made.view.prefix
    keys = ring(*await opened.config.key_records(), known=opened.peppers)
    ends_ms = opened.clock.ms + 60_000
    assert keys.find(made.secret, ends_ms - 1) is not None
    assert keys.find(made.secret, ends_ms) is None
    assert keys.find(rotated.secret, ends_ms) is not None


async def test_a_rotation_after_a_leak_ends_the_old_secret_at_once(opened: Opened) -> None:
    made = await opened.config.create_key(KeyChange(), actor=ACTOR)
    first = await opened.config.rotate_key(made.view.key_id, 600, actor=ACTOR)
    second = await opened.config.rotate_key(made.view.key_id, 600, actor=ACTOR)
    (record,) = await opened.config.key_records()
    assert len(record.hashes) == 2
    keys = ring(record, known=opened.peppers)
    found = [keys.find(secret, opened.clock.ms) is not None for secret in (made.secret, first.secret, second.secret)]
    assert found == [False, True, True]
    third = await opened.config.rotate_key(made.view.key_id, 0, actor=ACTOR)
    keys = ring(*await opened.config.key_records(), known=opened.peppers)
    found = [keys.find(secret, 0) is not None for secret in (first.secret, second.secret, third.secret)]
    assert found == [False, False, True]
    with pytest.raises(BadRequest, match="overlap"):
        await opened.config.rotate_key(made.view.key_id, 31 * 86_400, actor=ACTOR)


async def test_an_imported_key_rotates_into_one_of_ours(opened: Opened) -> None:
    made = await opened.config.import_key(imported_digest("sk-a").hex(), KeyChange(name="old"), actor=ACTOR)
    rotated = await opened.config.rotate_key(made.view.key_id, 60, actor=ACTOR)
    assert rotated.view.prefix == "fg_live_" + made.view.key_id[4:]
    keys = ring(*await opened.config.key_records(), known=opened.peppers)
    assert keys.find("sk-a", opened.clock.ms) is not None
    assert keys.find(rotated.secret, opened.clock.ms) is not None


async def test_what_is_not_there_is_not_found(opened: Opened) -> None:
    for attempt in (
        opened.config.key("nobody"),
        opened.config.update_key("nobody", KeyChange(), actor=ACTOR),
        opened.config.set_paused("nobody", True, actor=ACTOR),
        opened.config.revoke_key("nobody", actor=ACTOR),
        opened.config.rotate_key("nobody", 0, actor=ACTOR),
    ):
        with pytest.raises(NotFound, match="There is no key 'nobody'"):
            await attempt


async def test_lists_are_in_order_by_org_and_team_in_pages(opened: Opened) -> None:
    made = []
    for number in range(5):
        opened.clock.ms += 1
        change = KeyChange(name=f"k{number}", team="ab"[number % 2], limits=(limit(number),))
        made.append((await opened.config.create_key(change, actor=ACTOR)).view)
    await opened.config.create_key(KeyChange(org="acme"), actor=ACTOR)
    assert await opened.config.keys("default") == made
    assert await opened.config.keys("default", "b") == [made[1], made[3]]
    assert await opened.config.keys("default", limit=2, offset=1) == made[1:3]
    assert await opened.config.keys("default", limit=0) == []
    assert await opened.config.keys("nobody") == []
    assert await opened.config.orgs() == ["acme", "default"]
    assert await opened.config.teams("default") == ["a", "b"]
