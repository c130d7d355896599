"""What is asked of a response that its provider keeps: it goes to the provider that issued the id, and costs nothing.

Such a call is admitted, recorded and answered as any other; it holds no money, and no other deployment can answer it.
"""

from __future__ import annotations

from typing import Literal
from urllib.parse import parse_qsl

import msgspec

from gateway.core.call import Head
from gateway.core.config import Deployment
from gateway.core.errors import BadRequest, ResponseNotFound
from gateway.core.ports import Composed, Exchange
from gateway.flow.admit import admit
from gateway.flow.answer import WholeAnswer
from gateway.flow.dispatch import dispatch
from gateway.flow.relay import relay_stream, relay_whole
from gateway.flow.services import Services
from gateway.flow.state import Passage, Target

QUERY_CHARS_MAX = 2048
_NO = frozenset({"", "0", "false"})


class Asked(msgspec.Struct, frozen=True, array_like=True):
    """What is asked of a response: `name` is its id as the caller knows it, `action` what stands after it in the
    path, `query` what stands after that, as it came."""

    method: Literal["GET", "POST", "DELETE"]
    name: str
    action: Literal["", "/cancel", "/input_items"] = ""
    query: str = ""

    async def walk(self, exchange: Exchange, passage: Passage, services: Services) -> None:
        """Answers it. Raises ResponseNotFound for an id that was not issued to the caller's organisation."""
        head = Head(model="", stream=_asks_stream(self.query), output_expected=False)
        passage.composed = composed = Composed(b"", head)
        admit(passage, services, "", services.clock.now_ms())
        if (
            len(self.query) > QUERY_CHARS_MAX
            or not (self.query.isascii() and self.query.isprintable())
            or "#" in self.query
        ):
            raise BadRequest("The query of the path is too long, or has characters that no query has.")
        answer = await dispatch(passage, services, exchange, composed, (self._target(passage, services),))
        if isinstance(answer, WholeAnswer):
            await relay_whole(passage, services, exchange, answer)
        else:
            await relay_stream(passage, services, exchange, answer)

    def _target(self, passage: Passage, services: Services) -> Target:
        upstream_id, name = services.issued.found(passage, self.name)
        provider = passage.policy.providers[name]
        row = services.providers[provider.kind]
        if not row.keeps_responses:
            raise ResponseNotFound(f"Response with id {self.name[:100]!r} is not kept: its provider keeps none.")
        path = self.action + (f"?{self.query}" if self.query else "")
        wire = services.issued.kept(passage, name, upstream_id, path)
        deployment = Deployment(f"{name}/*", name, "*")
        return Target(deployment, provider, row, wire, None, "", self.method)


def _asks_stream(query: str) -> bool:
    """Whether the provider may answer with a stream. It may also where this says so and it does not: then whole."""
    asked = [value for name, value in parse_qsl(query[:QUERY_CHARS_MAX]) if name == "stream"]
    return any(value.lower() not in _NO for value in asked)
