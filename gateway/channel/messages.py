"""What is said over the sockets of bookkeeper and supervisor: two closed unions, requests to them and their replies.

On the wire each is a map whose member `op` names it.
"""

from __future__ import annotations

import msgspec

from gateway.core.config import KeyDelta, Policy, Update


class Subscribe(msgspec.Struct, frozen=True, tag_field="op", tag="subscribe"):
    """A worker wants every change after `revision` from now on. Answered by Updates, forever."""

    worker: str
    revision: int


class Acknowledge(msgspec.Struct, frozen=True, tag_field="op", tag="acknowledge"):
    """The worker serves by `revision` now."""

    revision: int


class Publish(msgspec.Struct, frozen=True, tag_field="op", tag="publish"):
    """The desk has committed changes. Answered by Published when the workers have them, or after a second."""

    revision: int
    deltas: tuple[KeyDelta, ...]
    policy: Policy | None


class Adopt(msgspec.Struct, frozen=True, tag_field="op", tag="adopt"):
    """The supervisor has seen a worker die. Answered by Adopted once every orphaned journal is closed and folded."""


class AskStatus(msgspec.Struct, frozen=True, tag_field="op", tag="status"):
    """Answered by a Status."""


class Restart(msgspec.Struct, frozen=True, tag_field="op", tag="restart"):
    """To the supervisor: every process anew, from the code that is on disk now. Answered by Restarted."""


class Push(msgspec.Struct, frozen=True, tag_field="op", tag="push"):
    """An Update for a worker; one without policy and keys says only that the configuration is still current."""

    update: Update


class Published(msgspec.Struct, frozen=True, tag_field="op", tag="published"):
    acknowledged: bool


class Adopted(msgspec.Struct, frozen=True, tag_field="op", tag="adopted"):
    """Names of the journals that were adopted; `failed` says what could not be, empty when all is well."""

    journals: tuple[str, ...]
    failed: str = ""


class Restarted(msgspec.Struct, frozen=True, tag_field="op", tag="restarted"):
    """What became of it, for people. `failed` says what could not be replaced and goes on as it was; empty when all is
    new."""

    done: tuple[str, ...]
    failed: str = ""


class Status(msgspec.Struct, frozen=True, tag_field="op", tag="bookkeeping"):
    """How the bookkeeper stands. Counts are since it started.

    `behind_ms` is the usage recording delay: 0 when everything is in SQL, else the age of the newest record that is.
    `journal_fault` and `store_fault` say what stops a journal or SQL now, empty when nothing does. `fresh_ms` is when
    the configuration was last read successfully.
    """

    ts_ms: int
    behind_ms: int
    behind_bytes: int
    loaded_records: int
    loaded_calls: int
    dead_letters: int
    anomalies: int
    open_holds: int
    store_errors: int
    store_fault: str
    journal_fault: str
    revision: int
    fresh_ms: int
    workers: int
    checkpoint_ms: int


Request = Subscribe | Acknowledge | Publish | Adopt | AskStatus | Restart
Reply = Push | Published | Adopted | Status | Restarted
