"""Compiled configuration: what workers hold. Policy is swapped whole; Keys are patched by deltas.

Everything here is msgpack-able, holds no secret (credentials are references) and is stored by hash, so that any
decision can be explained later.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from gateway.core.alerts import AlertPolicy
from gateway.core.caller import KeyRecord, TagPolicy
from gateway.core.charge import PriceSheet
from gateway.core.limits import Limit, Suspension

OnDisconnect = Literal["cancel", "drain"]


class ProviderSettings(msgspec.Struct, frozen=True):
    """One provider of `routes.yaml`: a vendor's defaults (its `kind` row) with the file's overrides applied.

    `credential` is a reference, `env:NAME` or `file:/path`, or empty when the provider wants none. `auth_header` and
    `auth_scheme` say how it is sent (`authorization`, `Bearer`). `networks` are the addresses it may have besides
    public ones, `api_version` is Azure's. Times are seconds. `unix_socket` is the socket of a process of ours that
    serves it, by its name in the run folder; `options` and `environment` are that process's: what goes into each call,
    with references to secrets, and the variables it is given.
    """

    name: str
    kind: str
    dialect: str
    base_url: str
    credential: str = ""
    auth_header: str = "authorization"
    auth_scheme: str = "Bearer"
    ca_bundle: str = ""
    proxy: str = ""
    on_disconnect: OnDisconnect = "cancel"
    keepalive_s: float = 15.0
    connect_timeout_s: float = 5.0
    timeout_s: float = 600.0
    idle_timeout_s: float = 120.0
    headers: tuple[tuple[str, str], ...] = ()
    networks: tuple[str, ...] = ()
    client_certificate: str = ""
    connections_max: int = 1000
    api_version: str = ""
    unix_socket: str = ""
    options: tuple[tuple[str, str], ...] = ()
    environment: tuple[str, ...] = ()
    region: str = ""
    """Where its address computes, when that changes its prices: `eu`, `us`, `fedramp`, `regional`."""
    caller_credentials: bool = False
    """A credential of the caller's own goes up in place of ours, where it sends one beside its key."""


OnUnsupported = Literal["warn", "drop", "reject"]
"""What becomes of members that a translation has no words for. `warn`: left out and named in a header, except those
without which the answer would be another one, which are refused; `drop`: all are left out; `reject`: all refused."""


class Deployment(msgspec.Struct, frozen=True):
    """Provider + model + credential. `id` is `provider/model`; a wildcard's model is `*` until `planned`."""

    id: str
    provider: str
    model: str
    priced_as: str = ""
    """The model name to price it as, when it differs from `model` (an Azure deployment name, a fine-tune)."""
    translate_to: str = ""
    """The surface in which its provider is always spoken to; empty: the caller's where the provider serves it."""
    on_unsupported: OnUnsupported = "warn"
    max_tool_calls: int = 0
    """Written into a request that names tools of the provider and sets no limit to their calls. 0: nothing is."""


class ModelRoute(msgspec.Struct, frozen=True):
    """A public model name and where it goes. One deployment per model for now; the tuple is the seam for more."""

    name: str
    deployments: tuple[Deployment, ...]
    alias_of: str = ""
    line: int = 0


class Policy(msgspec.Struct, frozen=True):
    """A compiled `routes.yaml` with the prices its deployments can reach, and the limits of `limits.yaml`. Pinned by
    each call.

    `models` are exact names, aliases included; `wildcards` are patterns ending in `*`, longest first. `sheets` maps
    `kind/model` to its prices. `hash` is the SHA-256 of the compiled bytes with revision 0 and hash empty.
    """

    revision: int
    hash: str
    providers: dict[str, ProviderSettings]
    models: dict[str, ModelRoute]
    wildcards: tuple[ModelRoute, ...]
    sheets: dict[str, PriceSheet]
    limits: tuple[Limit, ...] = ()
    tags: TagPolicy = TagPolicy()
    """Which tags have sums and which must be sent: the `tags` of `limits.yaml`."""
    alerts: AlertPolicy = AlertPolicy()
    """Who is told of money, when and how: `alerts.yaml`, or what holds without one."""


class LimitChange(msgspec.Struct, frozen=True, array_like=True):
    """What has become of a limit that SQL owns, or of a suspension: its new state, or neither when it is gone."""

    id: str
    limit: Limit | None = None
    suspension: Suspension | None = None

    @property
    def gone(self) -> bool:
        return self.limit is None and self.suspension is None


class KeyDelta(msgspec.Struct, frozen=True, array_like=True):
    """One committed change of a key: its new record, or None when it is revoked.

    With `change`, the change of a limit instead: `key_id` is then the limit's id, and no key has such an id.
    """

    revision: int
    key_id: str
    key: KeyRecord | None
    change: LimitChange | None = None


class Snapshot(msgspec.Struct, frozen=True):
    """All a worker needs to serve, and the last-good file's content. `revision` is the newest change included.

    `limits` are the limits and suspensions of SQL that are no key's own; None in what a version wrote that knew none.
    """

    revision: int
    policy: Policy
    keys: tuple[KeyRecord, ...]
    limits: tuple[LimitChange, ...] | None = None


class Update(msgspec.Struct, frozen=True):
    """What is pushed to a worker: a new policy, deltas of keys and limits in commit order, or both.

    `fresh_ms` is when the configuration was last read from SQL successfully.
    """

    revision: int
    fresh_ms: int
    policy: Policy | None = None
    keys: tuple[KeyDelta, ...] = ()
