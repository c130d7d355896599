"""Lines keep all of what they say, postings what they spent from; corrections, closed months and margins have a place.

Columns come without a rewrite of any table: NULL, or 0 in the rollups, is right for every row that is there. The way
back forgets what only they hold; rows stay, and the journals still have it.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from gateway.store.engine import BIG, BLOB, STRICT, TEXT

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_ADDED = {
    "call": (("counted_ms", BIG),),
    "posting": (
        ("billed_nusd", BIG),
        ("region", TEXT),
        ("unknown_usage", TEXT),
        ("takes", BLOB),
        ("counted_ms", BIG),
        ("priced_calls", BIG),
        ("correction_id", BLOB),
    ),
    "ledger_line": (
        ("billed_nusd", BIG),
        ("uplift_ppm", BIG),
        ("part", TEXT),
        ("currency", TEXT),
        ("native_nano", BIG),
    ),
}
_SUMS = ("margin_nusd", "prior_list_nusd", "prior_effective_nusd", "prior_margin_nusd")


def upgrade() -> None:
    schema = op.get_context().version_table_schema
    for table, columns in _ADDED.items():
        for name, kind in columns:
            op.add_column(table, sa.Column(name, kind, nullable=True), schema=schema)
    for name in _SUMS:
        op.add_column("rollup_hour", sa.Column(name, BIG, nullable=False, server_default="0"), schema=schema)
    _correction()
    _period()


def downgrade() -> None:
    schema = op.get_context().version_table_schema
    op.drop_table("period")
    op.drop_table("correction")
    for name in reversed(_SUMS):
        op.drop_column("rollup_hour", name, schema=schema)
    for table, columns in _ADDED.items():
        for name, _ in reversed(columns):
            op.drop_column(table, name, schema=schema)


def _correction() -> None:
    op.create_table(
        "correction",
        sa.Column("correction_id", BLOB, primary_key=True, nullable=False),
        sa.Column("org", TEXT, primary_key=True, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("actor", TEXT, nullable=False),
        sa.Column("reason", TEXT, nullable=False),
        sa.Column("first_ms", BIG, nullable=False),
        sa.Column("last_ms", BIG, nullable=False),
        sa.Column("postings", BIG, nullable=False),
        sa.Column("list_nusd", BIG, nullable=False),
        sa.Column("effective_nusd", BIG, nullable=False),
        sa.Column("billed_nusd", BIG, nullable=False),
        sa.Column("prior_effective_nusd", BIG, nullable=False),
        **STRICT,
    )


def _period() -> None:
    op.create_table(
        "period",
        sa.Column("month_ms", BIG, primary_key=True, nullable=False),
        sa.Column("org", TEXT, primary_key=True, nullable=False),
        sa.Column("end_ms", BIG, nullable=False),
        sa.Column("closed_ms", BIG, nullable=False),
        sa.Column("actor", TEXT, nullable=False),
        sa.Column("reason", TEXT, nullable=False),
        sa.Column("rollups", BIG, nullable=False),
        sa.Column("calls", BIG, nullable=False),
        sa.Column("attempts", BIG, nullable=False),
        sa.Column("list_nusd", BIG, nullable=False),
        sa.Column("effective_nusd", BIG, nullable=False),
        sa.Column("billed_nusd", BIG, nullable=False),
        sa.Column("prior_effective_nusd", BIG, nullable=False),
        sa.Column("digest", BLOB, nullable=False),
        **STRICT,
    )
