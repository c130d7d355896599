"""A draft as OpenAI's JSON: a whole reply, or the chunks of a stream in OpenAI's order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gateway.simulator.draft import Draft
from gateway.simulator.shapes import FINGERPRINT, TextRequest, encode

DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class Printer:
    """Prints one draft. `usage` None leaves usage out where the reply would have it."""

    draft: Draft
    request: TextRequest
    reply_id: str
    created_s: int
    usage: dict[str, object] | None

    @property
    def is_chat(self) -> bool:
        return self.request.messages is not None

    @property
    def usage_asked(self) -> bool:
        options = self.request.stream_options
        return options is not None and bool(options.include_usage)

    @property
    def tells_usage_early(self) -> bool:
        """Whether each chunk has the usage so far: the prompt's size is then known with the first."""
        options = self.request.stream_options
        return self.usage_asked and options is not None and bool(options.continuous_usage_stats)

    def _so_far(self, tokens: int) -> dict[str, object] | None:
        """What a chunk says of usage once `tokens` have been sent."""
        return self.draft.usage_of(tokens) if self.tells_usage_early and self.usage is not None else None

    def whole(self) -> bytes:
        choices = [self._whole_choice(index) for index in range(len(self.draft.choices))]
        body = self._head("chat.completion" if self.is_chat else "text_completion") | {"choices": choices}
        return encode(body if self.usage is None else body | {"usage": self.usage})

    def _whole_choice(self, index: int) -> dict[str, object]:
        choice = self.draft.choices[index]
        ended: dict[str, object] = {"index": index, "logprobs": None, "finish_reason": choice.finish_reason}
        text = "".join(choice.answer)
        if not self.is_chat:
            return ended | {"text": "".join(choice.thoughts) + text}
        message: dict[str, object] = {"role": "assistant", "content": text, "refusal": None}
        if choice.thoughts:
            message["reasoning_content"] = "".join(choice.thoughts)
        return ended | {"message": message}

    def _head(self, kind: str) -> dict[str, object]:
        return {
            "id": self.reply_id,
            "object": kind,
            "created": self.created_s,
            "model": self.draft.model,
            "service_tier": self.request.tier,
            "system_fingerprint": FINGERPRINT,
        }

    def openings(self) -> bytes:
        """The first chunk of each choice, which names the role. A legacy completion has none."""
        if not self.is_chat:
            return b""
        delta = {"role": "assistant", "content": "", "refusal": None}
        return b"".join(self._chunk(index, {"delta": delta}, None) for index in range(len(self.draft.choices)))

    def tokens(self) -> Iterator[bytes]:
        """One chunk for each token; several choices take turns."""
        before, after = self._around_text()
        sent, early = 0, self.tells_usage_early
        texts = [
            [("reasoning_content", token) for token in choice.thoughts]
            + [("content", token) for token in choice.answer]
            for choice in self.draft.choices
        ]
        for position in range(max(map(len, texts))):
            for index, text in enumerate(texts):
                if position < len(text):
                    name, token = text[position]
                    sent += 1
                    chunk = before[name] % (index, encode(token))
                    yield chunk + (after if not early else after % encode(self._so_far(sent)))

    def _around_text(self) -> tuple[dict[str, bytes], bytes]:
        """Token chunks differ in index and text only, so the rest is printed once, as a form by the text's name."""
        head = encode(self._head(self._chunk_kind))[:-1].replace(b"%", b"%%")
        start = b"data: " + head + b',"choices":[{"index":%d,'
        opened, closed = (b'"delta":{"', b"}") if self.is_chat else (b'"', b"")
        names = {name: name.encode() if self.is_chat else b"text" for name in ("content", "reasoning_content")}
        before = {name: start + opened + printed + b'":%b' for name, printed in names.items()}
        after = closed + b',"logprobs":null,"finish_reason":null}]'
        if self.tells_usage_early:
            after += b',"usage":%b'
        elif self.usage_asked:
            after += b',"usage":null'
        return before, after + b"}\n\n"

    @property
    def _chunk_kind(self) -> str:
        return "chat.completion.chunk" if self.is_chat else "text_completion"

    def endings(self) -> bytes:
        """The last chunk of each choice, which says why it ended."""
        empty: dict[str, object] = {"delta": {}} if self.is_chat else {"text": ""}
        choices = enumerate(self.draft.choices)
        sent = self.draft.tokens
        return b"".join(self._chunk(index, empty, choice.finish_reason, sent) for index, choice in choices)

    def usage_chunk(self) -> bytes:
        """The usage-only chunk, when it was asked for and there is usage to tell."""
        if not self.usage_asked or self.usage is None:
            return b""
        return self._event(self._head(self._chunk_kind) | {"choices": [], "usage": self.usage})

    def _chunk(self, index: int, part: dict[str, object], finish_reason: str | None, sent: int = 0) -> bytes:
        choice = {"index": index} | part | {"logprobs": None, "finish_reason": finish_reason}
        body = self._head(self._chunk_kind) | {"choices": [choice]}
        return self._event(body | {"usage": self._so_far(sent)} if self.usage_asked else body)

    @staticmethod
    def _event(body: dict[str, object]) -> bytes:
        return b"data: " + encode(body) + b"\n\n"
