"""A draft as a response object, whole or as the events of a stream in OpenAI's order, numbered from 0."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gateway.simulator.attempts import REFUSALS
from gateway.simulator.draft import Choice, Draft
from gateway.simulator.responses_shapes import ResponseRequest
from gateway.simulator.shapes import encode

Fields = dict[str, Any]
FAILED = {"code": "server_error", "message": "The simulated provider failed on request (x-sim-fault)."}


def response_usage(usage: dict[str, Any]) -> Fields:
    """Chat's usage object in the words of this API."""
    details = usage["prompt_tokens_details"]
    return {
        "input_tokens": usage["prompt_tokens"],
        "input_tokens_details": {"cached_tokens": details["cached_tokens"], "cache_write_tokens": 0},
        "output_tokens": usage["completion_tokens"],
        "output_tokens_details": {
            "reasoning_tokens": usage.get("completion_tokens_details", {}).get("reasoning_tokens", 0)
        },
        "total_tokens": usage["total_tokens"],
    }


class ResponsePrinter:
    """Prints one draft of one choice. `usage` None leaves usage out where the reply would have it. `called` is the
    function that the answer's text is the arguments of, empty where it is a message."""

    done = b""
    refusals = REFUSALS

    def __init__(
        self,
        draft: Draft,
        request: ResponseRequest,
        reply_id: str,
        created_s: int,
        usage: Fields | None,
        called: str = "",
    ) -> None:
        self._choice: Choice = draft.choices[0]
        self._draft = draft
        self._request = request
        self._usage = None if usage is None else response_usage(usage)
        self._called = called
        self._id = reply_id
        self._created_s = created_s
        self._number = 0

    @property
    def streams(self) -> bool:
        return bool(self._request.stream)

    # ------------------------------------------------------------ the object

    def response(self, status: str) -> Fields:
        """The response as it stands with a status: without output and usage until it has ended."""
        request = self._request
        is_over = status in ("completed", "incomplete")
        is_cut = status == "incomplete"
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._created_s,
            "completed_at": self._created_s if is_over else None,
            "status": status,
            "background": bool(request.background),
            "error": None,
            "frequency_penalty": 0.0,
            "incomplete_details": {"reason": "max_output_tokens"} if is_cut else None,
            "instructions": request.instructions,
            "max_output_tokens": request.max_output_tokens,
            "max_tool_calls": request.max_tool_calls,
            "metadata": request.metadata or {},
            "model": self._draft.model,
            "output": self.output() if is_over else [],
            "parallel_tool_calls": request.parallel_tool_calls is not False,
            "presence_penalty": 0.0,
            "previous_response_id": request.previous_response_id,
            "prompt_cache_key": request.prompt_cache_key,
            "reasoning": {"effort": None, "summary": None},
            "safety_identifier": request.safety_identifier,
            "service_tier": request.tier,
            "store": request.store is not False,
            "temperature": 1.0,
            "text": request.text or {"format": {"type": "text"}},
            "tool_choice": request.tool_choice or "auto",
            "tools": request.tools or [],
            "top_logprobs": 0,
            "top_p": 1.0,
            "truncation": "disabled",
            "usage": self._usage if is_over else None,
        }

    @property
    def last_status(self) -> str:
        return "incomplete" if self._choice.finish_reason == "length" else "completed"

    def output(self) -> list[Fields]:
        """The items of the answer: reasoning where there was some, then a message or a call."""
        items = [self._reasoning(done=True)] if self._choice.thoughts else []
        if self._choice.answer or not items:
            items.append(self._item(done=True))
        return items

    def _item_id(self, kind: str) -> str:
        return f"{kind}_{self._id.removeprefix('resp_')}"

    def _reasoning(self, *, done: bool) -> Fields:
        part = {"type": "summary_text", "text": "".join(self._choice.thoughts)}
        return {"id": self._item_id("rs"), "type": "reasoning", "summary": [part] if done else []}

    def _item(self, *, done: bool) -> Fields:
        status = (self.last_status if self.last_status != "failed" else "incomplete") if done else "in_progress"
        text = "".join(self._choice.answer) if done else ""
        if self._called:
            return {
                "id": self._item_id("fc"),
                "type": "function_call",
                "status": status,
                "arguments": text,
                "call_id": self._item_id("call"),
                "name": self._called,
            }
        content = [self._part(text)] if done else []
        return {
            "id": self._item_id("msg"),
            "type": "message",
            "status": status,
            "role": "assistant",
            "content": content,
        }

    @staticmethod
    def _part(text: str) -> Fields:
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}

    def whole(self) -> bytes:
        return encode(self.response(self.last_status))

    # ------------------------------------------------------------ the stream

    def _event(self, kind: str, **more: Any) -> bytes:
        event = {"type": kind, "sequence_number": self._number, **more}
        self._number += 1
        return b"event: " + kind.encode() + b"\ndata: " + encode(event) + b"\n\n"

    def openings(self) -> bytes:
        first = self._event("response.created", response=self.response("in_progress"))
        return first + self._event("response.in_progress", response=self.response("in_progress"))

    def tokens(self) -> Iterator[bytes]:
        """One delta for each token; what opens and ends an item comes with the deltas beside it."""
        thoughts, answer = self._choice.thoughts, self._choice.answer
        place = {"item_id": self._item_id("rs"), "output_index": 0, "summary_index": 0}
        opened = b""
        if thoughts:
            opened = self._event("response.output_item.added", output_index=0, item=self._reasoning(done=False))
            empty = {"type": "summary_text", "text": ""}
            opened += self._event("response.reasoning_summary_part.added", **place, part=empty)
        for token in thoughts:
            yield opened + self._event("response.reasoning_summary_text.delta", **place, delta=token)
            opened = b""
        if not answer:
            return
        if thoughts:
            opened = self._end_reasoning()
        opened += self._open_item()
        for token in answer:
            yield opened + self._delta(token)
            opened = b""

    def _end_reasoning(self) -> bytes:
        item = self._reasoning(done=True)
        place = {"item_id": item["id"], "output_index": 0, "summary_index": 0}
        part = item["summary"][0]
        ended = self._event("response.reasoning_summary_text.done", **place, text=part["text"])
        ended += self._event("response.reasoning_summary_part.done", **place, part=part)
        return ended + self._event("response.output_item.done", output_index=0, item=item)

    @property
    def _place(self) -> Fields:
        kind = "fc" if self._called else "msg"
        return {"item_id": self._item_id(kind), "output_index": 1 if self._choice.thoughts else 0}

    def _open_item(self) -> bytes:
        index = self._place["output_index"]
        opened = self._event("response.output_item.added", output_index=index, item=self._item(done=False))
        if self._called:
            return opened
        return opened + self._event("response.content_part.added", **self._place, content_index=0, part=self._part(""))

    def _delta(self, token: str) -> bytes:
        if self._called:
            return self._event("response.function_call_arguments.delta", **self._place, delta=token)
        return self._event("response.output_text.delta", **self._place, content_index=0, delta=token, logprobs=[])

    def endings(self) -> bytes:
        """What ends the items, and the terminal event."""
        item = self._item(done=True)
        place = self._place
        text = "".join(self._choice.answer)
        ended = b""
        if self._choice.thoughts and not self._choice.answer:
            ended = self._end_reasoning()
        else:
            if not self._choice.answer:
                ended = self._open_item()
            if self._called:
                ended += self._event(
                    "response.function_call_arguments.done", **place, arguments=text, name=self._called
                )
            else:
                ended += self._event("response.output_text.done", **place, content_index=0, text=text, logprobs=[])
                ended += self._event("response.content_part.done", **place, content_index=0, part=self._part(text))
            ended += self._event("response.output_item.done", output_index=place["output_index"], item=item)
        status = self.last_status
        return ended + self._event(f"response.{status}", response=self.response(status))

    def usage_chunk(self) -> bytes:
        return b""

    @property
    def error_event(self) -> bytes:
        """As OpenAI says it: the error, and what failed."""
        said = {"type": FAILED["code"], "code": None, "message": FAILED["message"], "param": None}
        first = self._event("error", error=said)
        if self._number == 1:
            return first
        failed = self.response("failed") | {"error": FAILED}
        return first + self._event("response.failed", response=failed)

    def replayed(self, after: int) -> bytes:
        """The whole stream again, from the event after number `after` on."""
        self._number = 0
        pieces = self.openings() + b"".join(self.tokens()) + self.endings()
        events = [event + b"\n\n" for event in pieces.split(b"\n\n") if event]
        return b"".join(events[after + 1 :])
