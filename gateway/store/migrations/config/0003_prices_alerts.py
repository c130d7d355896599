"""Price books (sources by their digests, published versions, the one draft), and alerts on their way to people."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from gateway.store.engine import BIG, BLOB, CLUSTERED, STRICT, TEXT

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "price_source",
        sa.Column("sha256", TEXT, primary_key=True, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("content", BLOB, nullable=False),
        sa.Column("recorded_ms", BIG, nullable=False),
        sa.Column("recorded_by", TEXT, nullable=False),
        **STRICT,
    )
    op.create_table(
        "price_version",
        sa.Column("number", BIG, primary_key=True, nullable=False, autoincrement=False),
        sa.Column("sha256", TEXT, nullable=False),
        sa.Column("genai", TEXT, nullable=False),
        sa.Column("litellm", TEXT, nullable=False),
        sa.Column("written", BLOB, nullable=False),
        sa.Column("file_text", TEXT, nullable=False),
        sa.Column("published_ms", BIG, nullable=False),
        sa.Column("published_by", TEXT, nullable=False),
        sa.Column("revision", BIG, nullable=False),
        sa.ForeignKeyConstraint(["genai"], ["price_source.sha256"]),
        sa.ForeignKeyConstraint(["litellm"], ["price_source.sha256"]),
        **STRICT,
    )
    op.create_index("price_version_by_revision", "price_version", ["revision"])
    op.create_table(
        "price_draft",
        sa.Column("id", BIG, primary_key=True, nullable=False, autoincrement=False),
        sa.Column("genai", TEXT, nullable=False),
        sa.Column("litellm", TEXT, nullable=False),
        sa.Column("recorded_ms", BIG, nullable=False),
        sa.Column("recorded_by", TEXT, nullable=False),
        sa.ForeignKeyConstraint(["genai"], ["price_source.sha256"]),
        sa.ForeignKeyConstraint(["litellm"], ["price_source.sha256"]),
        **STRICT,
    )
    op.create_table(
        "alert",
        sa.Column("id", TEXT, primary_key=True, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("org", TEXT, nullable=False),
        sa.Column("team", TEXT, nullable=False),
        sa.Column("key_id", TEXT, nullable=False),
        sa.Column("created_ms", BIG, nullable=False),
        sa.Column("content", TEXT, nullable=False),
        **STRICT,
    )
    op.create_index("alert_by_org", "alert", ["org", "created_ms"])
    op.create_table(
        "alert_delivery",
        sa.Column("alert_id", TEXT, primary_key=True, nullable=False),
        sa.Column("channel", TEXT, primary_key=True, nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("attempts", BIG, nullable=False),
        sa.Column("next_ms", BIG, nullable=False),
        sa.Column("ended_ms", BIG, nullable=False),
        sa.Column("error", TEXT, nullable=False),
        sa.ForeignKeyConstraint(["alert_id"], ["alert.id"]),
        **CLUSTERED,
    )


def downgrade() -> None:
    """What was charged stays: compiled policies and the ledger hold it. Which version it came from is gone. So are
    alerts; the bookkeeper's outbox still knows them, and tells nothing twice."""
    for table in ("alert_delivery", "alert", "price_draft", "price_version", "price_source"):
        op.drop_table(table)
