"""The ledger: calls, attempts, postings and their lines, rollups, cursors, dead letters, refusal counts.

Tables have no schema here: PostgreSQL's is put in by the engine (`schema_translate_map`).
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from gateway.store.engine import BIG, BLOB, CLUSTERED, FLAG, STRICT, TEXT

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    _attempt()
    _call()
    _dead_letter()
    _journal_cursor()
    _ledger_line()
    _posting()
    _refusal_stat()
    _rollup_hour()


def downgrade() -> None:
    for table in (
        "refusal_stat",
        "rollup_hour",
        "journal_cursor",
        "dead_letter",
        "ledger_line",
        "posting",
        "attempt",
        "call",
    ):
        op.drop_table(table)
    op.drop_table("detached", if_exists=True)  # what the way back of 0002 may have left


def _attempt() -> None:
    op.create_table(
        "attempt",
        sa.Column("attempt_id", BLOB, primary_key=True, nullable=False),
        sa.Column("call_id", BLOB, nullable=False),
        sa.Column("journal_id", BLOB, nullable=False),
        sa.Column("seq", BIG, nullable=False),
        sa.Column("number", BIG, nullable=False),
        sa.Column("held_ms", BIG, nullable=False),
        sa.Column("started_ms", BIG, nullable=False),
        sa.Column("org", TEXT, nullable=False),
        sa.Column("team", TEXT, nullable=False),
        sa.Column("key_id", TEXT, nullable=False),
        sa.Column("endpoint", TEXT, nullable=False),
        sa.Column("model_asked", TEXT, nullable=False),
        sa.Column("provider", TEXT, nullable=False),
        sa.Column("deployment", TEXT, nullable=False),
        sa.Column("model", TEXT, nullable=False),
        sa.Column("bound_nusd", BIG, nullable=True),
        sa.Column("input_estimate", BIG, nullable=False),
        sa.Column("config_revision", BIG, nullable=False),
        sa.UniqueConstraint("journal_id", "seq", name="attempt_delivery"),
        **STRICT,
    )
    op.create_index("attempt_by_call", "attempt", ["call_id"])


def _call() -> None:
    op.create_table(
        "call",
        sa.Column("call_id", BLOB, primary_key=True, nullable=False),
        sa.Column("journal_id", BLOB, nullable=True),
        sa.Column("seq", BIG, nullable=True),
        sa.Column("started_ms", BIG, nullable=False),
        sa.Column("ended_ms", BIG, nullable=True),
        sa.Column("org", TEXT, nullable=False),
        sa.Column("team", TEXT, nullable=False),
        sa.Column("key_id", TEXT, nullable=False),
        sa.Column("end_user", TEXT, nullable=False),
        sa.Column("session", TEXT, nullable=False),
        sa.Column("tags", TEXT, nullable=False),
        sa.Column("endpoint", TEXT, nullable=False),
        sa.Column("stream", FLAG, nullable=False),
        sa.Column("model_asked", TEXT, nullable=False),
        sa.Column("model_planned", TEXT, nullable=False),
        sa.Column("model_served", TEXT, nullable=False),
        sa.Column("deployment", TEXT, nullable=False),
        sa.Column("provider", TEXT, nullable=False),
        sa.Column("outcome", TEXT, nullable=False),
        sa.Column("status", BIG, nullable=False),
        sa.Column("error_code", TEXT, nullable=False),
        sa.Column("finish_reason", TEXT, nullable=False),
        sa.Column("refusal", FLAG, nullable=False),
        sa.Column("attempts", BIG, nullable=False),
        sa.Column("causes", TEXT, nullable=False),
        sa.Column("cost_state", TEXT, nullable=False),
        sa.Column("list_nusd", BIG, nullable=True),
        sa.Column("effective_nusd", BIG, nullable=True),
        sa.Column("input_tokens", BIG, nullable=False),
        sa.Column("output_tokens", BIG, nullable=False),
        sa.Column("ttft_us", BIG, nullable=False),
        sa.Column("duration_us", BIG, nullable=False),
        sa.Column("overhead_us", BIG, nullable=False),
        sa.Column("config_revision", BIG, nullable=False),
        sa.Column("verdicts", TEXT, nullable=False),
        sa.Column("features", TEXT, nullable=False),
        sa.Column("row_ids", TEXT, nullable=False),
        sa.Column("raw_usage", BLOB, nullable=False),
        sa.Column("trace_id", BLOB, nullable=False),
        sa.Column("span_id", BLOB, nullable=False),
        sa.Column("parent_span_id", BLOB, nullable=False),
        sa.Column("prompt", TEXT, nullable=False),
        sa.Column("prompt_version", TEXT, nullable=False),
        sa.Column("experiment", TEXT, nullable=False),
        sa.Column("variant", TEXT, nullable=False),
        sa.Column("purpose", TEXT, nullable=False),
        sa.Column("client_retry", BIG, nullable=False),
        sa.UniqueConstraint("journal_id", "seq", name="call_delivery"),
        **STRICT,
    )
    op.create_index("call_by_key", "call", ["org", "key_id", "started_ms", "call_id"])
    op.create_index("call_by_org", "call", ["org", "started_ms", "call_id"])
    op.create_index("call_by_team", "call", ["org", "team", "started_ms", "call_id"])


def _dead_letter() -> None:
    op.create_table(
        "dead_letter",
        sa.Column("journal_id", BLOB, primary_key=True, nullable=False),
        sa.Column("seq", BIG, primary_key=True, nullable=False),
        sa.Column("call_id", BLOB, nullable=False),
        sa.Column("record_type", BIG, nullable=False),
        sa.Column("reason", TEXT, nullable=False),
        sa.Column("detail", TEXT, nullable=False),
        sa.Column("payload", BLOB, nullable=False),
        sa.Column("recorded_ms", BIG, nullable=False),
        **STRICT,
    )


def _journal_cursor() -> None:
    op.create_table(
        "journal_cursor",
        sa.Column("journal_id", BLOB, primary_key=True, nullable=False),
        sa.Column("seq", BIG, nullable=False),
        sa.Column("segment", BIG, nullable=False),
        sa.Column("offset", BIG, nullable=False),
        sa.Column("newest_ms", BIG, nullable=False),
        **CLUSTERED,
    )


def _ledger_line() -> None:
    op.create_table(
        "ledger_line",
        sa.Column("attempt_id", BLOB, primary_key=True, nullable=False),
        sa.Column("kind", TEXT, primary_key=True, nullable=False),
        sa.Column("revision", BIG, primary_key=True, nullable=False),
        sa.Column("line_no", BIG, primary_key=True, nullable=False),
        sa.Column("journal_id", BLOB, nullable=False),
        sa.Column("seq", BIG, nullable=False),
        sa.Column("meter", TEXT, nullable=False),
        sa.Column("quantity", BIG, nullable=False),
        sa.Column("rate_pico", BIG, nullable=True),
        sa.Column("per", BIG, nullable=False),
        sa.Column("list_nusd", BIG, nullable=True),
        sa.Column("effective_nusd", BIG, nullable=True),
        sa.Column("row_id", TEXT, nullable=False),
        **CLUSTERED,
    )


def _posting() -> None:
    op.create_table(
        "posting",
        sa.Column("attempt_id", BLOB, primary_key=True, nullable=False),
        sa.Column("kind", TEXT, primary_key=True, nullable=False),
        sa.Column("revision", BIG, primary_key=True, nullable=False),
        sa.Column("call_id", BLOB, nullable=False),
        sa.Column("journal_id", BLOB, nullable=False),
        sa.Column("seq", BIG, nullable=False),
        sa.Column("posted_ms", BIG, nullable=False),
        sa.Column("outcome", TEXT, nullable=False),
        sa.Column("cause", TEXT, nullable=False),
        sa.Column("status", BIG, nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("source", TEXT, nullable=False),
        sa.Column("list_nusd", BIG, nullable=True),
        sa.Column("effective_nusd", BIG, nullable=True),
        sa.Column("input_tokens", BIG, nullable=False),
        sa.Column("output_tokens", BIG, nullable=False),
        sa.Column("reasoning_tokens", BIG, nullable=False),
        sa.Column("raw_usage", BLOB, nullable=False),
        sa.Column("served_tier", TEXT, nullable=False),
        sa.Column("model_served", TEXT, nullable=False),
        sa.Column("finish_reason", TEXT, nullable=False),
        sa.Column("upstream_id", TEXT, nullable=False),
        sa.Column("ttft_us", BIG, nullable=False),
        sa.Column("duration_us", BIG, nullable=False),
        sa.UniqueConstraint("journal_id", "seq", name="posting_delivery"),
        **STRICT,
    )
    op.create_index("posting_by_call", "posting", ["call_id"])


def _refusal_stat() -> None:
    op.create_table(
        "refusal_stat",
        sa.Column("hour_ms", BIG, primary_key=True, nullable=False),
        sa.Column("code", TEXT, primary_key=True, nullable=False),
        sa.Column("count", BIG, nullable=False),
        **CLUSTERED,
    )


def _rollup_hour() -> None:
    op.create_table(
        "rollup_hour",
        sa.Column("org", TEXT, primary_key=True, nullable=False),
        sa.Column("hour_ms", BIG, primary_key=True, nullable=False),
        sa.Column("team", TEXT, primary_key=True, nullable=False),
        sa.Column("key_id", TEXT, primary_key=True, nullable=False),
        sa.Column("model", TEXT, primary_key=True, nullable=False),
        sa.Column("provider", TEXT, primary_key=True, nullable=False),
        sa.Column("deployment", TEXT, primary_key=True, nullable=False),
        sa.Column("endpoint", TEXT, primary_key=True, nullable=False),
        sa.Column("calls", BIG, nullable=False),
        sa.Column("errors", BIG, nullable=False),
        sa.Column("refused", BIG, nullable=False),
        sa.Column("unpriced_calls", BIG, nullable=False),
        sa.Column("duration_us", BIG, nullable=False),
        sa.Column("attempts", BIG, nullable=False),
        sa.Column("input_tokens", BIG, nullable=False),
        sa.Column("output_tokens", BIG, nullable=False),
        sa.Column("list_nusd", BIG, nullable=False),
        sa.Column("effective_nusd", BIG, nullable=False),
        sa.Column("estimated_nusd", BIG, nullable=False),
        **CLUSTERED,
    )
