"""`responses.input_tokens`: how many tokens a request would have. Asking costs nothing."""

from __future__ import annotations

from gateway.core.call import Head, ReplyFacts
from gateway.core.errors import UpstreamInvalidReply
from gateway.core.quirks import PLAIN, Quirks
from gateway.core.tokens import estimate_tokens
from gateway.dialects.json_body import open_members
from gateway.dialects.openai_chat.provider_errors import in_band_error
from gateway.dialects.openai_responses import request
from gateway.dialects.openai_responses.surface import Responses


class InputTokens(Responses):
    """POST /responses/input_tokens."""

    __slots__ = ()
    billed = False

    def read_head(self, body: bytes) -> Head:
        return request.read_responses_head(body, output_expected=False)

    def read_reply(self, body: bytes, quirks: Quirks = PLAIN) -> ReplyFacts:
        members = open_members(body)
        if members is None or not bytes(members.get("input_tokens", b"")).isdigit():
            error = in_band_error(members) if members is not None else ""
            raise UpstreamInvalidReply(
                f"The provider answered 200 with an error: {error}"
                if error
                else "The provider answered 200 without a number of input_tokens."
            )
        return ReplyFacts(usage=None)

    def own_reply(self, head: Head) -> bytes | None:
        """An estimate, where the model's provider does not count: but not of what another provider keeps."""
        if head.previous_id:
            return None
        return b'{"object":"response.input_tokens","input_tokens":%d}' % estimate_tokens(head.text_bytes)


MEMBER = InputTokens("responses.input_tokens", "/responses/input_tokens")
