"""The configuration's tables: whose keys there are, their limits, compiled policies, and the log of every change.

`config_change` is the order of things: its revision is taken under the one write lock, dense, so revision order is
commit order. Everything else is the present state. Times are ms UTC, money integer nano-USD.
"""

from __future__ import annotations

from typing import ClassVar

from sqlalchemy import ForeignKeyConstraint, Index, MetaData, UniqueConstraint, text
from sqlmodel import Field, SQLModel

from gateway.store.engine import BIG, BLOB, CLUSTERED, STRICT, TEXT

LIVE = text("state <> 'revoked'")
"""A revoked key's name is free again."""
PRESENT = text("removed_ms = 0")
"""A removed limit's name is free again."""


class ConfigTable(SQLModel):
    """The base: keeps the configuration's tables apart from the ledger's."""

    metadata: ClassVar[MetaData] = MetaData()


class OrgTable(ConfigTable, table=True):
    """The isolation boundary; a row is made when it is first named."""

    __tablename__ = "org"
    __table_args__ = (CLUSTERED,)

    name: str = Field(primary_key=True, sa_type=TEXT)
    created_ms: int = Field(sa_type=BIG)
    created_by: str = Field(sa_type=TEXT)


class TeamTable(ConfigTable, table=True):
    """A team of an org; a row is made when it is first named."""

    __tablename__ = "team"
    __table_args__ = (ForeignKeyConstraint(["org"], ["org.name"]), CLUSTERED)

    org: str = Field(primary_key=True, sa_type=TEXT)
    name: str = Field(primary_key=True, sa_type=TEXT)
    created_ms: int = Field(sa_type=BIG)
    created_by: str = Field(sa_type=TEXT)


class ApiKeyTable(ConfigTable, table=True):
    """A key: never its secret. `state` is active, paused or revoked; expiry is read off `expires_ms` (0: never).

    `hashes` is msgpack of (pepper version, digest, ends ms) tuples, emptied by revocation. `models` and `tags` are
    JSON. `prefix` is what of its newest text may be shown.
    """

    __tablename__ = "api_key"
    __table_args__ = (
        ForeignKeyConstraint(["org", "team"], ["team.org", "team.name"]),
        Index("api_key_name", "org", "name", unique=True, sqlite_where=LIVE, postgresql_where=LIVE),
        Index("api_key_by_org", "org", "created_ms", "key_id"),
        STRICT,
    )

    key_id: str = Field(primary_key=True, sa_type=TEXT)
    org: str = Field(sa_type=TEXT)
    team: str = Field(sa_type=TEXT)
    name: str = Field(sa_type=TEXT)
    role: str = Field(sa_type=TEXT)
    state: str = Field(sa_type=TEXT)
    prefix: str = Field(sa_type=TEXT)
    hashes: bytes = Field(sa_type=BLOB)
    models: str = Field(sa_type=TEXT)
    tags: str = Field(sa_type=TEXT)
    created_ms: int = Field(sa_type=BIG)
    created_by: str = Field(sa_type=TEXT)
    expires_ms: int = Field(sa_type=BIG)


class LimitTable(ConfigTable, table=True):
    """A limit of one key. Its id is in the name of its counters, so a changed amount keeps what was spent."""

    __tablename__ = "limit_rule"
    __table_args__ = (
        UniqueConstraint(
            "dimension", "value", "unit", "window_kind", "window_length_s", "window_zone", name="limit_rule_window"
        ),
        STRICT,
    )

    id: str = Field(primary_key=True, sa_type=TEXT)
    dimension: str = Field(sa_type=TEXT)
    value: str = Field(sa_type=TEXT)
    unit: str = Field(sa_type=TEXT)
    amount: int = Field(sa_type=BIG)
    window_kind: str = Field(sa_type=TEXT)
    window_length_s: int = Field(sa_type=BIG)
    window_zone: str = Field(sa_type=TEXT)
    on_exceed: str = Field(sa_type=TEXT)
    hold: str = Field(sa_type=TEXT)


class ScopedLimitTable(ConfigTable, table=True):
    """A limit of its own that SQL owns: over any scope within one org. `content` is the JSON of its core.limits.Limit.

    A removed one stays, so that the log can say whose it was; its name is free again.
    """

    __tablename__ = "scoped_limit"
    __table_args__ = (
        Index("scoped_limit_name", "org", "name", unique=True, sqlite_where=PRESENT, postgresql_where=PRESENT),
        STRICT,
    )

    id: str = Field(primary_key=True, sa_type=TEXT)
    org: str = Field(sa_type=TEXT)
    name: str = Field(sa_type=TEXT)
    content: str = Field(sa_type=TEXT)
    created_ms: int = Field(sa_type=BIG)
    created_by: str = Field(sa_type=TEXT)
    removed_ms: int = Field(sa_type=BIG)


class SuspensionTable(ConfigTable, table=True):
    """A time in which limits refuse nothing, with who wanted it and why. It stays after its end."""

    __tablename__ = "limit_suspension"
    __table_args__ = (Index("limit_suspension_by_org", "org", "until_ms"), STRICT)

    id: str = Field(primary_key=True, sa_type=TEXT)
    org: str = Field(sa_type=TEXT)
    scope: str = Field(sa_type=TEXT)
    limit_id: str = Field(sa_type=TEXT)
    until_ms: int = Field(sa_type=BIG)
    reason: str = Field(sa_type=TEXT)
    actor: str = Field(sa_type=TEXT)
    created_ms: int = Field(sa_type=BIG)


class PriceSourceTable(ConfigTable, table=True):
    """A price source as it was read, by the digest of its JSON. `content` is that JSON, compressed."""

    __tablename__ = "price_source"
    __table_args__ = (STRICT,)

    sha256: str = Field(primary_key=True, sa_type=TEXT)
    kind: str = Field(sa_type=TEXT)
    name: str = Field(sa_type=TEXT)
    content: bytes = Field(sa_type=BLOB)
    recorded_ms: int = Field(sa_type=BIG)
    recorded_by: str = Field(sa_type=TEXT)


class PriceVersionTable(ConfigTable, table=True):
    """A published price book: never changed. `revision` is that of its publication in `config_change`."""

    __tablename__ = "price_version"
    __table_args__ = (
        ForeignKeyConstraint(["genai"], ["price_source.sha256"]),
        ForeignKeyConstraint(["litellm"], ["price_source.sha256"]),
        Index("price_version_by_revision", "revision"),
        STRICT,
    )

    number: int = Field(primary_key=True, sa_type=BIG, sa_column_kwargs={"autoincrement": False})
    sha256: str = Field(sa_type=TEXT)
    genai: str = Field(sa_type=TEXT)
    litellm: str = Field(sa_type=TEXT)
    written: bytes = Field(sa_type=BLOB)
    file_text: str = Field(sa_type=TEXT)
    published_ms: int = Field(sa_type=BIG)
    published_by: str = Field(sa_type=TEXT)
    revision: int = Field(sa_type=BIG)


class PriceDraftTable(ConfigTable, table=True):
    """The sources that were imported and are not published: one row (id 1), or none."""

    __tablename__ = "price_draft"
    __table_args__ = (
        ForeignKeyConstraint(["genai"], ["price_source.sha256"]),
        ForeignKeyConstraint(["litellm"], ["price_source.sha256"]),
        STRICT,
    )

    id: int = Field(primary_key=True, sa_type=BIG, sa_column_kwargs={"autoincrement": False})
    genai: str = Field(sa_type=TEXT)
    litellm: str = Field(sa_type=TEXT)
    recorded_ms: int = Field(sa_type=BIG)
    recorded_by: str = Field(sa_type=TEXT)


class PolicyRevisionTable(ConfigTable, table=True):
    """A compiled policy by the hash of its bytes; `config_change` says when it was in use."""

    __tablename__ = "policy_revision"
    __table_args__ = (STRICT,)

    hash: str = Field(primary_key=True, sa_type=TEXT)
    content: bytes = Field(sa_type=BLOB)
    created_ms: int = Field(sa_type=BIG)


class ConfigChangeTable(ConfigTable, table=True):
    """One committed change. `payload` is the msgpack KeyDelta of a key's or limit's change, empty for a policy's."""

    __tablename__ = "config_change"
    __table_args__ = (Index("config_change_by_kind", "kind", "revision"), STRICT)

    revision: int = Field(primary_key=True, sa_type=BIG, sa_column_kwargs={"autoincrement": False})
    kind: str = Field(sa_type=TEXT)
    subject: str = Field(sa_type=TEXT)
    actor: str = Field(sa_type=TEXT)
    payload: bytes = Field(sa_type=BLOB)
    ts_ms: int = Field(sa_type=BIG)
