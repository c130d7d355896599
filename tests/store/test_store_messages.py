"""What an operator is told when SQL does not answer: what it was, and what to do about it."""

from __future__ import annotations

import uuid
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url

from gateway.core.errors import StoreUnavailable
from gateway.store import migrate
from gateway.store.engine import open_engine, reading
from store.stores import postgres_database, postgres_server

__all__ = ["postgres_database", "postgres_server"]


async def refusal(url: str, *statements: str) -> str:
    engine = open_engine(url, Path(), "ledger")

    async def ask() -> None:
        async with reading(engine) as connection:
            for statement in statements:
                await connection.execute(text(statement))

    try:
        with pytest.raises(StoreUnavailable) as caught:
            await ask()
    finally:
        await engine.dispose()
    return caught.value.message


async def test_a_host_that_is_not_known_is_named() -> None:
    said = await refusal("postgresql://role:secret-word@nowhere.invalid/ledger")
    assert "'nowhere.invalid' of FAREGATE_DATABASE_URL" in said
    assert "secret-word" not in said


async def test_a_database_that_is_missing_is_to_be_created(postgres_server: str) -> None:
    said = await refusal(make_url(postgres_server).set(database="not_there").render_as_string(hide_password=False))
    assert "create the database first" in said
    assert "db upgrade" not in said


async def test_a_schema_that_is_missing_is_to_be_upgraded(postgres_database: str) -> None:
    said = await refusal(postgres_database, "SELECT * FROM faregate_ledger.call")
    assert said.endswith("if the schema was never created, run: faregate db upgrade")


async def test_a_role_without_grants_is_told_where_they_stand(postgres_database: str, tmp_path: Path) -> None:
    await migrate.upgrade(postgres_database, tmp_path, "ledger")
    role = f"reader_{uuid.uuid4().hex}"
    owner = await asyncpg.connect(postgres_database)
    try:
        await owner.execute(f"CREATE ROLE {role}")
        said = await refusal(postgres_database, f"SET LOCAL ROLE {role}", "SELECT * FROM faregate_ledger.call")
    finally:
        await owner.execute(f"DROP ROLE {role}")
        await owner.close()
    assert "Two roles" in said
