"""guard: every policy sees the final text and the model asked for; the first denial ends the call with 403. Tags that
its team must send and the call lacks are a 400, or only told while that is tried out.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from gateway.core.caller import Caller
from gateway.core.config import Policy
from gateway.core.errors import ModelNotAllowed, PolicyDenied
from gateway.core.ports import Composed, Guard, Surface
from gateway.flow.services import Services
from gateway.flow.state import Passage
from gateway.policies.required_tags import NAME, missing_tags, refusal_of

_MISSING_HEADER = b"x-faregate-missing-tags"


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


def require_tags(passage: Passage, services: Services) -> None:
    """Raises TagsRequired for a call without tags that are required of its team; notes those that will be."""
    caller = passage.caller
    refused, asked = missing_tags(passage.policy.tags.required, caller)
    if asked:
        passage.verdicts.append(f"{NAME}:dry_run {','.join(asked)}")
        for name in asked:
            services.metrics.tag_missing(name, refused=False)
        passage.headers = (*passage.headers, (_MISSING_HEADER, ",".join(asked).encode("latin-1", "replace")))
    if refused:
        passage.verdicts.append(f"{NAME}:deny")
        for name in refused:
            services.metrics.tag_missing(name, refused=True)
        raise refusal_of(refused, caller)
