"""What is said over the sockets of bookkeeper and supervisor: two closed unions, requests to them and their replies.

On the wire each is a map whose member `op` names it.
"""

from __future__ import annotations

import msgspec

from gateway.core.config import KeyDelta, Policy, Update
from gateway.core.records import Correct


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


class AppendCorrections(msgspec.Struct, frozen=True, tag_field="op", tag="correct"):
    """The desk has computed corrections: (call id, record) each. Answered by CorrectionsAppended once they are durable;
    repeated as it is, it appends nothing twice."""

    corrections: tuple[tuple[bytes, Correct], ...]


class AskLoaded(msgspec.Struct, frozen=True, tag_field="op", tag="ask_loaded"):
    """Is everything that began before a time ended and in SQL? Answered by AllLoaded."""

    before_ms: int


class CorrectionsAppended(msgspec.Struct, frozen=True, tag_field="op", tag="corrected"):
    """See core.corrections.Appended. `failed` says why nothing was done, for people; `status` is its HTTP one."""

    appended: int = 0
    again: int = 0
    stale: tuple[bytes, ...] = ()
    failed: str = ""
    status: int = 0


class AllLoaded(msgspec.Struct, frozen=True, tag_field="op", tag="all_loaded"):
    """`missing` says what is not, for people; empty: all is."""

    missing: str


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
    alerts_made: int = 0
    alerts_sent: int = 0
    alerts_failed: int = 0
    """Attempts to deliver that failed; most are tried again."""
    alerts_given_up: int = 0
    alerts_waiting: int = 0


Request = Subscribe | Acknowledge | Publish | Adopt | AskStatus | Restart | AppendCorrections | AskLoaded
Reply = Push | Published | Adopted | Status | Restarted | CorrectionsAppended | AllLoaded
