"""`completions`: the legacy text endpoint. Its reply and stream differ from chat's only in where the text stands."""

from __future__ import annotations

import msgspec

from gateway.core.call import Head, ReplyFacts
from gateway.core.quirks import PLAIN, Quirks
from gateway.dialects.json_body import is_null, open_object, text_of
from gateway.dialects.openai_chat.reply import cost_of, first_finish, open_reply, text_bytes, usage_of
from gateway.dialects.openai_chat.request import (
    NAME_CHARS_MAX,
    ChoiceCount,
    ModelName,
    StreamOptions,
    TokenCount,
    TriesCount,
    asks_usage,
    read_typed,
    unknown_fields,
)
from gateway.dialects.openai_chat.stream import COMPLETION_SPELLINGS
from gateway.dialects.openai_chat.surface import OpenAIEndpoint
from gateway.dialects.openai_simple.texts import count_texts

_KNOWN = frozenset({
    "model", "prompt", "best_of", "echo", "frequency_penalty", "logit_bias", "logprobs", "max_tokens", "n",
    "presence_penalty", "seed", "stop", "stream", "stream_options", "suffix", "temperature", "top_p", "user",
})  # fmt: skip


class _CompletionHead(msgspec.Struct):
    model: ModelName
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: TokenCount | None = None
    n: ChoiceCount | None = None
    best_of: TriesCount | None = None
    user: str | None = None


_HEAD = msgspec.json.Decoder(_CompletionHead)


class Completions(OpenAIEndpoint):
    """POST /completions."""

    __slots__ = ()
    spellings = COMPLETION_SPELLINGS

    def read_head(self, body: bytes) -> Head:
        """Each prompt is answered `n` times, of `best_of` tries that are all billed: `choices` is their product."""
        members = open_object(body)
        head = read_typed(_HEAD, body)
        prompt = members.get("prompt")
        prompts = 1 if prompt is None or is_null(prompt) else count_texts(prompt, "prompt")
        return Head(
            model=head.model,
            stream=bool(head.stream),
            usage_asked=asks_usage(head.stream_options),
            max_output_tokens=head.max_tokens or None,
            choices=prompts * max(head.n or 1, head.best_of or 1),
            user=(head.user or "")[:NAME_CHARS_MAX],
            messages=prompts,
            text_bytes=len(body),
            unknown_fields=unknown_fields(members, _KNOWN),
            inputs=prompts,
        )

    def read_reply(self, body: bytes, quirks: Quirks = PLAIN) -> ReplyFacts:
        members, choices = open_reply(body, "choices")
        return ReplyFacts(
            usage=usage_of(members, quirks),
            model_served=text_of(members.get("model")),
            finish_reason=first_finish(choices),
            upstream_id=text_of(members.get("id")),
            output_bytes=sum(text_bytes(choice.get("text")) for choice in choices),
            reported_nusd=cost_of(members, quirks),
        )


MEMBER = Completions("completions", "/completions")
