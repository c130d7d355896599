"""Limits of their own in SQL, on SQLite and PostgreSQL: one org's, in the one log, in the snapshot."""

from __future__ import annotations

import msgspec
import pytest

from gateway.core.config import KeyDelta, LimitChange
from gateway.core.errors import Conflict, NotFound, StoreUnavailable
from gateway.core.limits import HoldKind, Limit, OnExceed, Suspension, Unit, Window, WindowKind
from gateway.store import migrate
from store.config_opened import ACTOR, Opened, opened, policy, postgres_database, postgres_server, store

__all__ = ["opened", "postgres_database", "postgres_server", "store"]

SCOPE = (("org", "acme"), ("team", "growth"), ("user", "*"))
USERS = Limit(
    "", Unit.USD, 5 * 10**9, Window(WindowKind.MONTH, zone="Europe/Vienna"), SCOPE, OnExceed.DRY_RUN, HoldKind.ESTIMATE,
    name="users", max_values=7, alerts=(50, 80), increase=10**9, increase_until_ms=99,
)  # fmt: skip


async def test_a_limit_is_what_it_was(opened: Opened) -> None:
    config = opened.config
    made, revision = await config.create_limit("acme", USERS, actor=ACTOR)
    assert made.limit == msgspec.structs.replace(USERS, id=made.limit.id, origin="sql")
    assert (made.org, made.created_by, made.created_ms) == ("acme", ACTOR, opened.clock.now_ms())
    for name in ("users", made.limit.id):
        assert await config.limit("acme", name) == made
    newest, deltas, _ = await config.changes_since(revision - 1)
    assert (newest, deltas) == (
        revision,
        (KeyDelta(revision, made.limit.id, None, LimitChange(made.limit.id, made.limit)),),
    )


async def test_each_write_is_one_revision_and_nothing_new_is_none(opened: Opened) -> None:
    config = opened.config
    made, first = await config.create_limit("acme", USERS, actor=ACTOR)
    more = msgspec.structs.replace(made.limit, amount=7 * 10**9)
    changed, second = await config.replace_limit("acme", more, actor=ACTOR)
    assert (changed.limit, second) == (more, first + 1)
    assert await config.replace_limit("acme", more, actor=ACTOR) == (changed, second)
    assert await config.remove_limit("acme", "users", actor=ACTOR) == second + 1
    _, deltas, _ = await config.changes_since(second)
    assert [delta.change for delta in deltas] == [LimitChange(made.limit.id)]
    assert [row.kind for row in await config.log(3)] == ["limit.removed", "limit.updated", "limit.created"]
    assert await config.org_of_limit(made.limit.id) == "acme", "the log still knows whose it was"
    with pytest.raises(NotFound):
        await config.limit("acme", "users")
    again, _ = await config.create_limit("acme", USERS, actor=ACTOR)
    assert again.limit.id != made.limit.id, "the name is free again, the counters are others"


async def test_names_are_an_orgs_own(opened: Opened) -> None:
    config = opened.config
    made, _ = await config.create_limit("acme", USERS, actor=ACTOR)
    await config.create_limit("other", USERS, actor=ACTOR)
    with pytest.raises(Conflict):
        await config.create_limit("acme", USERS, actor=ACTOR)
    second, _ = await config.create_limit("acme", msgspec.structs.replace(USERS, name="more"), actor=ACTOR)
    with pytest.raises(Conflict):
        await config.replace_limit("acme", msgspec.structs.replace(second.limit, name="users"), actor=ACTOR)
    for call in (config.limit("other", made.limit.id), config.remove_limit("other", made.limit.id, actor=ACTOR)):
        with pytest.raises(NotFound):
            await call
    assert [view.limit.name for view in await config.limits("acme")] == ["more", "users"]
    nameless, _ = await config.create_limit("acme", msgspec.structs.replace(USERS, name=""), actor=ACTOR)
    assert nameless.limit.name == nameless.limit.id


async def test_a_suspension_stays_after_its_end_and_lasts_no_longer(opened: Opened) -> None:
    config, now_ms = opened.config, opened.clock.now_ms()
    asked = Suspension("", SCOPE, now_ms + 1000, "incident", ACTOR, 0, "lim_x")
    made, revision = await config.suspend("acme", asked)
    assert made == msgspec.structs.replace(asked, id=made.id, created_ms=now_ms)
    _, (delta,), _ = await config.changes_since(revision - 1)
    assert delta.change == LimitChange(made.id, suspension=made)
    with pytest.raises(NotFound):
        await config.end_suspension("other", made.id, actor=ACTOR)
    ended = await config.end_suspension("acme", made.id, actor=ACTOR)
    assert ended == revision + 1
    assert await config.end_suspension("acme", made.id, actor=ACTOR) == ended, "over already"
    (kept,) = await config.suspensions("acme")
    assert (kept.until_ms, kept.reason, kept.actor) == (now_ms, "incident", ACTOR)
    assert await config.suspensions("other") == []


async def test_a_snapshot_holds_every_orgs_limits_and_what_is_suspended_now(opened: Opened) -> None:
    config, now_ms = opened.config, opened.clock.now_ms()
    await config.save_policy(policy("gpt"), actor=ACTOR)
    made = [(await config.create_limit(org, USERS, actor=ACTOR))[0].limit for org in ("acme", "other")]
    gone, _ = await config.create_limit("acme", msgspec.structs.replace(USERS, name="gone"), actor=ACTOR)
    await config.remove_limit("acme", gone.limit.id, actor=ACTOR)
    lasting, _ = await config.suspend("acme", Suspension("", SCOPE, now_ms + 1000, "incident", ACTOR, 0))
    await config.suspend("acme", Suspension("", SCOPE, now_ms, "over", ACTOR, 0))
    snapshot = await config.snapshot()
    assert snapshot is not None
    assert sorted(snapshot.limits, key=lambda change: change.id) == sorted(
        [*(LimitChange(limit.id, limit) for limit in made), LimitChange(lasting.id, suspension=lasting)],
        key=lambda change: change.id,
    )


async def test_the_schema_before_serves_on_without_limits(opened: Opened) -> None:
    """During an upgrade a new version runs on the schema of the one before."""
    where = opened.where
    await opened.config.save_policy(policy("gpt"), actor=ACTOR)
    await migrate.downgrade(where.url, where.data_dir, "config", "0001")
    snapshot = await opened.config.snapshot()
    assert snapshot is not None
    assert snapshot.limits == ()
    for call in (opened.config.limits("acme"), opened.config.create_limit("acme", USERS, actor=ACTOR)):
        with pytest.raises(StoreUnavailable, match="db upgrade"):
            await call
    await migrate.upgrade(where.url, where.data_dir, "config")
    assert await opened.config.limits("acme") == []
