"""compose: a prompt reference and variables become messages. Its one member so far passes the body through."""

from __future__ import annotations

from gateway.core.call import Head
from gateway.core.caller import Caller
from gateway.core.ports import Composed


class AsSent:
    """The Composer for callers that send their own messages: body and head stay as they are."""

    __slots__ = ()

    def compose(self, caller: Caller, body: bytes, head: Head) -> Composed:
        return Composed(body=body, head=head)
