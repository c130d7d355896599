"""A limit to the calls of tools that run at the provider, written into a request that names them and has none.

Only where the model's route says so (`max_tool_calls`): what such tools cost has no bound otherwise, and agents name
them in every turn.
"""

from __future__ import annotations

import msgspec

from gateway.core.ports import Composed
from gateway.flow.state import Passage, Target


def tools_limited(passage: Passage, composed: Composed, target: Target) -> Composed:
    """The call as it goes to this deployment; the same object where nothing is written."""
    head, most = composed.head, target.deployment.max_tool_calls
    if not most or not head.hosted_tools or head.tool_calls_max is not None:
        return composed
    body = target.wire.with_tool_limit(composed.body, most)
    if body is None:
        return composed
    limited = passage.surface.read_head(body)
    head = msgspec.structs.replace(head, tool_calls_max=limited.tool_calls_max, text_bytes=len(body))
    return msgspec.structs.replace(composed, body=body, head=head)
