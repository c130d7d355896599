"""The configuration: orgs, teams, keys, limits, compiled policies, the log of changes.

Tables have no schema here: PostgreSQL's is put in by the engine (`schema_translate_map`).
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from gateway.store.engine import BIG, BLOB, CLUSTERED, STRICT, TEXT

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_LIVE = sa.text("state <> 'revoked'")


def upgrade() -> None:
    _owners()
    _keys()
    _history()


def _owners() -> None:
    op.create_table(
        "org",
        sa.Column("name", TEXT, primary_key=True, nullable=False),
        sa.Column("created_ms", BIG, nullable=False),
        sa.Column("created_by", TEXT, nullable=False),
        **CLUSTERED,
    )
    op.create_table(
        "team",
        sa.Column("org", TEXT, primary_key=True, nullable=False),
        sa.Column("name", TEXT, primary_key=True, nullable=False),
        sa.Column("created_ms", BIG, nullable=False),
        sa.Column("created_by", TEXT, nullable=False),
        sa.ForeignKeyConstraint(["org"], ["org.name"]),
        **CLUSTERED,
    )


def _keys() -> None:
    op.create_table(
        "api_key",
        sa.Column("key_id", TEXT, primary_key=True, nullable=False),
        sa.Column("org", TEXT, nullable=False),
        sa.Column("team", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("role", TEXT, nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("prefix", TEXT, nullable=False),
        sa.Column("hashes", BLOB, nullable=False),
        sa.Column("models", TEXT, nullable=False),
        sa.Column("tags", TEXT, nullable=False),
        sa.Column("created_ms", BIG, nullable=False),
        sa.Column("created_by", TEXT, nullable=False),
        sa.Column("expires_ms", BIG, nullable=False),
        sa.ForeignKeyConstraint(["org", "team"], ["team.org", "team.name"]),
        **STRICT,
    )
    op.create_index("api_key_name", "api_key", ["org", "name"], unique=True, sqlite_where=_LIVE, postgresql_where=_LIVE)
    op.create_index("api_key_by_org", "api_key", ["org", "created_ms", "key_id"])
    op.create_table(
        "limit_rule",
        sa.Column("id", TEXT, primary_key=True, nullable=False),
        sa.Column("dimension", TEXT, nullable=False),
        sa.Column("value", TEXT, nullable=False),
        sa.Column("unit", TEXT, nullable=False),
        sa.Column("amount", BIG, nullable=False),
        sa.Column("window_kind", TEXT, nullable=False),
        sa.Column("window_length_s", BIG, nullable=False),
        sa.Column("window_zone", TEXT, nullable=False),
        sa.Column("on_exceed", TEXT, nullable=False),
        sa.Column("hold", TEXT, nullable=False),
        sa.UniqueConstraint(
            "dimension", "value", "unit", "window_kind", "window_length_s", "window_zone", name="limit_rule_window"
        ),
        **STRICT,
    )


def _history() -> None:
    op.create_table(
        "policy_revision",
        sa.Column("hash", TEXT, primary_key=True, nullable=False),
        sa.Column("content", BLOB, nullable=False),
        sa.Column("created_ms", BIG, nullable=False),
        **STRICT,
    )
    op.create_table(
        "config_change",
        sa.Column("revision", BIG, primary_key=True, nullable=False, autoincrement=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("subject", TEXT, nullable=False),
        sa.Column("actor", TEXT, nullable=False),
        sa.Column("payload", BLOB, nullable=False),
        sa.Column("ts_ms", BIG, nullable=False),
        **STRICT,
    )
    op.create_index("config_change_by_kind", "config_change", ["kind", "revision"])


def downgrade() -> None:
    for table in ("config_change", "policy_revision", "limit_rule", "api_key", "team", "org"):
        op.drop_table(table)
