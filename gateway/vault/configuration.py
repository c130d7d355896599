"""core.ports.Configuration: the two layers a worker holds, patched by what it is pushed."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path

from gateway.core.config import LimitChange, Policy, Snapshot, Update
from gateway.core.errors import ConfigInvalid
from gateway.limits.rules import NO_RULES, Rules, rules_of
from gateway.vault.credentials import Credentials
from gateway.vault.keyring import MemoryKeyRing
from gateway.vault.last_good import read_last_good

NOTHING = Policy(revision=0, hash="", providers={}, models={}, wildcards=(), sheets={})
"""Before the first configuration: no model exists."""


def freeze_heap() -> None:
    """Moves everything loaded so far out of the garbage collector's sight: 10^5 keys would be walked at each full
    collection, in the middle of calls."""
    gc.collect()
    gc.freeze()


def _no_use(_: Rules) -> None:
    return


class WorkerConfiguration:
    """Policy, swapped whole, of which a call pins the one it starts with; all keys and SQL's limits, patched by deltas.

    `use_rules` is told the limits beside the keys' own, whenever they are others.
    """

    __slots__ = (
        "_base",
        "_credentials",
        "_freeze",
        "_keys",
        "_limits",
        "_policy",
        "_revision",
        "_rules",
        "_touched",
        "_use_rules",
    )

    def __init__(
        self,
        keys: MemoryKeyRing,
        credentials: Credentials,
        freeze: Callable[[], None] = freeze_heap,
        use_rules: Callable[[Rules], None] = _no_use,
    ) -> None:
        self._keys = keys
        self._credentials = credentials
        self._freeze = freeze
        self._use_rules = use_rules
        self._policy = NOTHING
        self._revision = 0
        self._limits: dict[str, LimitChange] = {}
        self._touched: dict[str, int] = {}
        self._base = 0
        self._rules = NO_RULES

    @property
    def policy(self) -> Policy:
        return self._policy

    @property
    def keys(self) -> MemoryKeyRing:
        return self._keys

    @property
    def rules(self) -> Rules:
        """The limits of files and of SQL that are no key's own."""
        return self._rules

    @property
    def revision(self) -> int:
        """The newest change that is included: what is acknowledged to the publisher."""
        return self._revision

    @property
    def ready(self) -> bool:
        """False before the first policy: nothing can be routed yet."""
        return self._policy is not NOTHING

    def load(self, snapshot: Snapshot, fresh_ms: int) -> None:
        """Replaces everything, also by an older revision (a database restored from a backup), and freezes the heap."""
        self._policy = snapshot.policy
        self._keys.load(snapshot.keys, snapshot.revision, fresh_ms)
        # Without limits it is an older version's: asking for everything again is the only way to hear of them.
        known = snapshot.limits is not None
        self._limits = {change.id: change for change in snapshot.limits or ()}
        self._touched = {}
        self._base = self._revision = snapshot.revision if known else 0
        self._ruled()
        self._credentials.reload()
        self._freeze()

    def load_last_good(self, path: Path) -> bool:
        """Starts from the last-good file; False when there is none. It is not fresh: until the first update an unknown
        key is answered with 503, because it may be a new one. Raises ConfigInvalid when the file is damaged."""
        snapshot = read_last_good(path)
        if snapshot is None:
            return False
        self.load(snapshot, fresh_ms=0)
        return True

    def apply(self, update: Update) -> None:
        """Applies what was pushed. Repeated and overtaken updates change nothing."""
        policy = update.policy
        first = policy is not None and not self.ready
        others = self._apply_limits(update)
        if policy is not None and policy.revision > self._policy.revision:
            self._policy = policy
            self._credentials.reload()
            others = True
        self._keys.apply(update.keys, update.fresh_ms)
        self._revision = max(self._revision, update.revision)
        if others:
            self._ruled()
        if first:
            self._freeze()

    def _apply_limits(self, update: Update) -> bool:
        """Whether SQL's limits are others now. A change that is not newer than what is known of its limit is none."""
        others = False
        for delta in update.keys:
            change = delta.change
            if change is None or delta.revision <= self._touched.get(change.id, self._base):
                continue
            self._touched[change.id] = delta.revision
            others = True
            if change.gone:
                self._limits.pop(change.id, None)
            else:
                self._limits[change.id] = change
        return others

    def _ruled(self) -> None:
        self._rules = rules_of(self._policy, self._limits.values())
        self._use_rules(self._rules)

    def snapshot(self) -> Snapshot:
        """What the last-good file should hold now."""
        return Snapshot(self._revision, self._policy, self._keys.records(), tuple(self._limits.values()))

    def reload_credentials(self) -> None:
        """Reads credential files again at their next use: after a rotation of a provider's key."""
        self._credentials.reload()

    def credential(self, reference: str) -> str:
        """The secret behind a reference. Raises ConfigInvalid that names the providers concerned and the reference."""
        try:
            return self._credentials.resolve(reference).reveal()
        except ConfigInvalid as error:
            owners = [name for name, row in self._policy.providers.items() if row.credential == reference]
            if not owners:
                raise
            raise ConfigInvalid(f"provider {', '.join(owners)}: {error.message}") from error
