"""What alerts know of the configuration, arranged so that a counter's limit and its owner are found at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.core.alerts import AlertPolicy
from gateway.core.caller import KeyRecord
from gateway.core.config import Snapshot
from gateway.core.limits import Limit, Suspension
from gateway.limits.rules import NO_RULES, Rules, rules_of


@dataclass(frozen=True, slots=True)
class Known:
    """One revision. `limits` are all there are, the keys' own among them, by id."""

    revision: int
    policy: AlertPolicy
    limits: Mapping[str, Limit] = field(default_factory=dict)
    keys: Mapping[str, KeyRecord] = field(default_factory=dict)
    suspensions: tuple[Suspension, ...] = ()
    rules: Rules = NO_RULES


NOTHING = Known(-1, AlertPolicy())
"""Before the first configuration: nothing is judged."""


def changed_limits(before: Known, now: Known) -> frozenset[str]:
    """The ids of limits that are there now and were not, or were others. By identity first: what a change did not touch
    is the same object."""
    if before.limits == now.limits:
        return frozenset()
    return frozenset(
        id for id, limit in now.limits.items() if (known := before.limits.get(id)) is not limit and known != limit
    )


def known_of(snapshot: Snapshot) -> Known:
    rules = rules_of(snapshot.policy, snapshot.limits or ())
    limits = {limit.id: limit for key in snapshot.keys for limit in key.limits}
    limits |= {limit.id: limit for limit in rules.limits}
    keys = {key.key_id: key for key in snapshot.keys}
    return Known(snapshot.revision, snapshot.policy.alerts, limits, keys, rules.suspensions, rules)
