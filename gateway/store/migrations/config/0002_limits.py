"""Limits of their own over any scope, and suspensions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from gateway.store.engine import BIG, STRICT, TEXT

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_PRESENT = sa.text("removed_ms = 0")


def upgrade() -> None:
    op.create_table(
        "scoped_limit",
        sa.Column("id", TEXT, primary_key=True, nullable=False),
        sa.Column("org", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("content", TEXT, nullable=False),
        sa.Column("created_ms", BIG, nullable=False),
        sa.Column("created_by", TEXT, nullable=False),
        sa.Column("removed_ms", BIG, nullable=False),
        **STRICT,
    )
    op.create_index(
        "scoped_limit_name",
        "scoped_limit",
        ["org", "name"],
        unique=True,
        sqlite_where=_PRESENT,
        postgresql_where=_PRESENT,
    )
    op.create_table(
        "limit_suspension",
        sa.Column("id", TEXT, primary_key=True, nullable=False),
        sa.Column("org", TEXT, nullable=False),
        sa.Column("scope", TEXT, nullable=False),
        sa.Column("limit_id", TEXT, nullable=False),
        sa.Column("until_ms", BIG, nullable=False),
        sa.Column("reason", TEXT, nullable=False),
        sa.Column("actor", TEXT, nullable=False),
        sa.Column("created_ms", BIG, nullable=False),
        **STRICT,
    )
    op.create_index("limit_suspension_by_org", "limit_suspension", ["org", "until_ms"])


def downgrade() -> None:
    """Keys, their limits and the log stay; limits of their own are gone with what they were about."""
    for table in ("limit_suspension", "scoped_limit"):
        op.drop_table(table)
