"""Sums by the day of what callers choose (user, session, declared tags); closed months are chained; an index of the
ends without a price, which costs one reading of `posting`.

Columns come without a rewrite of any table: NULL says that a row is in no such sum, which is right for all that are
there. Months that were closed before are chained as they are found. The way back forgets sums and chain; rows stay.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from gateway.store.engine import BIG, BLOB, CLUSTERED, STRICT, TEXT
from gateway.store.period_chain import chain_of_all

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

UNPRICED_END = sa.text("state = 'unpriced' AND kind = 'attempt'")
_GROUPED = ("call", "attempt")
_KEY = (
    ("org", TEXT),
    ("dimension", TEXT),
    ("day_ms", BIG),
    ("team", TEXT),
    ("value", TEXT),
    ("key_id", TEXT),
    ("model", TEXT),
)
_FIGURES = (
    "calls",
    "errors",
    "unpriced_calls",
    "input_tokens",
    "output_tokens",
    "list_nusd",
    "effective_nusd",
    "estimated_nusd",
    "margin_nusd",
    "prior_list_nusd",
    "prior_effective_nusd",
    "prior_margin_nusd",
)


def upgrade() -> None:
    schema = op.get_context().version_table_schema
    for table in _GROUPED:
        op.add_column(table, sa.Column("summed_by", TEXT, nullable=True), schema=schema)
    op.create_index(
        "posting_unpriced",
        "posting",
        ["attempt_id"],
        schema=schema,
        sqlite_where=UNPRICED_END,
        postgresql_where=UNPRICED_END,
    )
    op.create_table(
        "rollup_value",
        *(sa.Column(name, kind, primary_key=True, nullable=False) for name, kind in _KEY),
        *(sa.Column(name, BIG, nullable=False) for name in _FIGURES),
        **CLUSTERED,
    )
    chain = op.create_table(
        "period_chain",
        sa.Column("org", TEXT, primary_key=True, nullable=False),
        sa.Column("months", BIG, nullable=False),
        sa.Column("end_ms", BIG, nullable=False),
        sa.Column("digest", BLOB, nullable=False),
        **STRICT,
    )
    rows = chain_of_all(op.get_bind())
    if rows:
        op.bulk_insert(chain, rows)


def downgrade() -> None:
    schema = op.get_context().version_table_schema
    op.drop_table("period_chain")
    op.drop_table("rollup_value")
    op.drop_index("posting_unpriced", table_name="posting", schema=schema)
    for table in reversed(_GROUPED):
        op.drop_column(table, "summed_by", schema=schema)
