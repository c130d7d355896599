"""guard: every policy sees the final text and the model asked for; the first denial ends the call with 403."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from gateway.core.caller import Caller
from gateway.core.config import Policy
from gateway.core.errors import ModelNotAllowed, PolicyDenied
from gateway.core.ports import Composed, Guard, Surface


def guard(
    guards: Sequence[Guard],
    caller: Caller,
    composed: Composed,
    surface: Surface,
    configuration: Policy,
    verdicts: list[str],
) -> Composed:
    """The composed call after every rewrite; each verdict is appended to `verdicts`. Raises PolicyDenied."""
    for policy in guards:
        verdict = policy.check(caller, composed.head, composed.body, configuration)
        verdicts.append(verdict.recorded())
        if verdict.action == "deny":
            denied = ModelNotAllowed if policy.name == "allowed_models" else PolicyDenied
            raise denied(verdict.reason, param="model" if denied is ModelNotAllowed else None)
        if verdict.action == "rewrite":
            composed = msgspec.structs.replace(composed, body=verdict.body, head=surface.read_head(verdict.body))
    return composed
