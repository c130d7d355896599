"""downgrade: a call that limits have no room for goes on with the model they name, planned and reserved afresh.

Each model is tried once, so that limits which point at each other end. What does not fit there either is refused with
what the first refusal said.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.core.errors import BadRequest, ModelNotAllowed, ModelNotFound, ModelUnpriced, RateLimited
from gateway.core.limits import Want
from gateway.core.ports import Composed, Disconnect
from gateway.flow.reserve import NoRoom, reserve
from gateway.flow.services import Services
from gateway.flow.state import Attempt, Passage, Target

DOWNGRADES_MAX = 8
"""Models tried after the one asked for."""
_HEADER = b"x-faregate-downgraded"


async def downgraded(
    passage: Passage,
    services: Services,
    disconnect: Disconnect,
    composed: Composed,
    no_room: NoRoom,
    tried: set[str],
) -> tuple[Attempt, Sequence[Target]]:
    """An attempt at the first model that limits in the way name and that has room, with that model's plan.

    A limit of the model gone on with may name another one. `tried` are the models of this call so far, and grows: none
    is gone on with twice, also when its attempts fail. Raises the refusal of the model asked for.
    """
    asked = composed.head.model
    tried.add(_real(passage, asked))
    ways = list(no_room.ways)
    while ways and len(tried) <= DOWNGRADES_MAX:
        limit_id, model = ways.pop(0)
        if _real(passage, model) in tried:
            continue
        tried.add(_real(passage, model))
        try:
            targets = services.plans.of(passage.policy, services.providers, passage.caller.key, model, passage.surface)
            targets = services.issued.bound(passage, composed.head, targets)
            admits = _admits(passage, services, composed, model)
            attempt = await reserve(
                passage, services, disconnect, composed, targets[0], until_ns=no_room.until_ns, admits=admits
            )
        except NoRoom as again:
            ways.extend(again.ways)
        except (BadRequest, ModelNotAllowed, ModelNotFound, ModelUnpriced, RateLimited):
            continue  # no such call is served there, the key may not use it, it has gone, or no limit is sure there
        else:
            _tell(passage, services, limit_id, asked, model)
            return attempt, targets
    raise no_room.refusal


def _real(passage: Passage, model: str) -> str:
    """The model that an alias stands for: under another name it is no other model."""
    route = passage.policy.models.get(model)
    return route.alias_of or model if route is not None else model


def _admits(passage: Passage, services: Services, composed: Composed, model: str) -> tuple[Want, ...]:
    """One request of each limit on requests to this model that the call has not been counted in already."""
    now_ms, caller, user = services.clock.now_ms(), passage.caller, composed.head.user
    before = services.wants.admit(caller.key, composed.head.model, now_ms, caller, user)
    counted = {want.take.counter for want in before}
    wants = services.wants.admit(caller.key, model, now_ms, caller, user)
    return tuple([want for want in wants if want.take.counter not in counted])


def _tell(passage: Passage, services: Services, limit_id: str, asked: str, model: str) -> None:
    passage.verdicts.append(f"limit {limit_id}:downgrade {model}")
    services.metrics.call_changed(limit_id, "downgrade")
    told = f"{asked} -> {model}".encode("latin-1", "replace")
    passage.headers = (*[header for header in passage.headers if header[0] != _HEADER], (_HEADER, told))
