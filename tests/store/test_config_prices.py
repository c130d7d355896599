"""Price books in SQL, on SQLite and PostgreSQL: sources by digest, versions that never change, one draft."""

from __future__ import annotations

import gzip
import hashlib

import msgspec
import pytest
from sqlalchemy import select

from gateway.core.config import KeyDelta
from gateway.core.errors import Conflict, NotFound, StoreUnavailable
from gateway.core.price_admin import BUNDLED, PriceDraft, PriceSource, PriceVersion, SourceKind
from gateway.store import migrate
from gateway.store.config_reads import CHANGE, PRICE_SOURCE
from gateway.store.engine import reading
from store.config_opened import ACTOR, Opened, opened, policy, postgres_database, postgres_server, store

__all__ = ["opened", "postgres_database", "postgres_server", "store"]


def source(kind: SourceKind, text: str, by: str = BUNDLED) -> PriceSource:
    plain = text.encode()
    return PriceSource(kind, f"{kind} {text}", hashlib.sha256(plain).hexdigest(), 0, by, gzip.compress(plain, mtime=0))


GENAI, LITELLM = source("genai", "[]"), source("litellm", "{}")
NEWER = source("genai", "[1]", "ada")
FIRST = PriceVersion(0, "a" * 64, GENAI, LITELLM, b"\x93\x90\x90\x90", "prices:\n")


async def test_a_version_is_numbered_kept_and_never_changed(opened: Opened) -> None:
    config, now_ms = opened.config, opened.clock.now_ms()
    assert await config.prices_in_force() is None
    one = await config.publish_prices(FIRST, actor=ACTOR, after=0)
    assert (one.number, one.published_by, one.published_ms, one.revision) == (1, ACTOR, now_ms, 1)
    assert (one.genai.content, one.genai.recorded_ms, one.genai.recorded_by) == (GENAI.content, now_ms, BUNDLED)
    assert await config.prices_in_force() == one
    opened.clock.ms += 5
    two = await config.publish_prices(msgspec.structs.replace(FIRST, genai=NEWER), actor="ada", after=1)
    assert (two.number, two.genai.recorded_by, two.litellm) == (2, "ada", one.litellm)
    assert await config.price_version(1) == one, "what was published stays what it was"
    listed = await config.price_versions()
    assert [(row.number, row.genai.name, row.genai.content, row.written) for row in listed] == [
        (2, NEWER.name, b"", b""),
        (1, GENAI.name, b"", b""),
    ]
    async with reading(opened.engine) as connection:
        kept = (await connection.execute(select(PRICE_SOURCE.c.sha256))).all()
    assert len(kept) == 3, "versions share their sources"
    with pytest.raises(NotFound, match="no version 3"):
        await config.price_version(3)


async def test_two_that_publish_at_once_do_not_overwrite_each_other(opened: Opened) -> None:
    await opened.config.publish_prices(FIRST, actor=ACTOR, after=0)
    with pytest.raises(Conflict, match="published meanwhile"):
        await opened.config.publish_prices(FIRST, actor="late", after=0)
    assert [row.number for row in await opened.config.price_versions()] == [1]


async def test_there_is_one_draft_until_it_is_published_or_discarded(opened: Opened) -> None:
    config = opened.config
    await config.publish_prices(FIRST, actor=ACTOR, after=0)
    assert await config.price_draft() is None
    assert not await config.drop_price_draft(actor=ACTOR)
    first = await config.save_price_draft(PriceDraft(NEWER, LITELLM, 0, ""), actor="ada", over=None, after=1)
    assert (first.recorded_by, first.recorded_ms) == ("ada", opened.clock.now_ms())
    other = source("litellm", '{"a":{}}', "ben")
    second = await config.save_price_draft(PriceDraft(first.genai, other, 0, ""), actor="ben", over=first, after=1)
    assert await config.price_draft() == second
    assert second.genai.recorded_by == "ada", "who brought a source is not forgotten by the next import"
    assert (await config.prices_in_force() or FIRST).number == 1, "a draft is not in force"
    made = msgspec.structs.replace(FIRST, genai=second.genai, litellm=second.litellm)
    assert (await config.publish_prices(made, actor="cy", after=1)).number == 2
    assert await config.price_draft() is None
    await config.save_price_draft(PriceDraft(NEWER, LITELLM, 0, ""), actor="ada", over=None, after=2)
    assert await config.drop_price_draft(actor="cy")
    assert await config.price_draft() is None
    kinds = [row.kind for row in await config.log(20)]
    assert kinds == [
        "prices.discarded",
        "prices.imported",
        "prices.published",
        "prices.imported",
        "prices.imported",
        "prices.published",
    ]


async def test_two_that_import_at_once_do_not_drop_each_others_source(opened: Opened) -> None:
    config = opened.config
    await config.publish_prices(FIRST, actor=ACTOR, after=0)
    first = await config.save_price_draft(PriceDraft(NEWER, LITELLM, 0, ""), actor="ada", over=None, after=1)
    other = source("litellm", '{"a":{}}', "ben")
    with pytest.raises(Conflict, match="imported"):
        await config.save_price_draft(PriceDraft(GENAI, other, 0, ""), actor="ben", over=None, after=1)
    assert await config.price_draft() == first
    await config.drop_price_draft(actor="ada")
    with pytest.raises(Conflict, match="published meanwhile"):
        await config.save_price_draft(PriceDraft(GENAI, other, 0, ""), actor="ben", over=None, after=0)


async def test_a_policy_with_old_prices_is_never_stored_after_newer_ones(opened: Opened) -> None:
    config = opened.config
    await config.publish_prices(FIRST, actor=ACTOR, after=0)
    old = await config.save_policy(policy("a"), actor=ACTOR, prices=1)
    await config.publish_prices(FIRST, actor="another desk", after=1)
    with pytest.raises(Conflict, match="Version 2 of the prices"):
        await config.save_policy(policy("b"), actor=ACTOR, prices=1)
    again = await config.save_policy(policy("a"), actor=ACTOR, prices=2)
    assert (again.hash, again.revision > old.revision) == (old.hash, True), "it says by what it was compiled"
    assert await config.save_policy(policy("a"), actor=ACTOR, prices=2) == again


async def test_a_call_finds_the_version_of_its_configuration(opened: Opened) -> None:
    config = opened.config
    assert await config.price_version_at(10) == 0
    await config.publish_prices(FIRST, actor=ACTOR, after=0)  # 1
    first = await config.save_policy(policy("a"), actor=ACTOR)  # 2
    await config.publish_prices(FIRST, actor=ACTOR, after=1)  # 3
    second = await config.save_policy(policy("b"), actor=ACTOR)  # 4
    assert [await config.price_version_at(one.revision) for one in (first, second)] == [1, 2]


async def test_workers_hear_of_policies_not_of_price_books(opened: Opened) -> None:
    """And a process of the version before decodes the change as the end of a key that nobody has."""
    await opened.config.publish_prices(FIRST, actor=ACTOR, after=0)
    newest, deltas, _ = await opened.config.changes_since(0)
    assert (newest, deltas) == (1, ())
    (row,) = await opened.config.log()
    async with reading(opened.engine) as connection:
        payload = (await connection.execute(select(CHANGE.c.payload))).scalar_one()
    assert msgspec.msgpack.decode(payload, type=KeyDelta) == KeyDelta(1, row.subject, None)
    assert row.subject == "prices:1"


async def test_a_schema_of_the_revision_before_says_what_to_run(opened: Opened) -> None:
    await migrate.downgrade(opened.where.url, opened.where.data_dir, "config", "0002")
    with pytest.raises(StoreUnavailable, match="faregate db upgrade"):
        await opened.config.prices_in_force()
    assert await opened.config.snapshot() is None, "what else is stored is read as ever"
