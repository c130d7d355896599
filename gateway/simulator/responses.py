"""The simulated Responses API: create, read again, delete, cancel, list the input, count it, compact it.

What it keeps it keeps in memory, the newest thousand. A response in the background is ready once its tokens would have
been sent; until then it is `queued`, and can be cancelled.
"""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qs

import msgspec

from gateway.simulator.attempts import EVENT_STREAM
from gateway.simulator.draft import Choice, Draft, PromptCache, draft_reply
from gateway.simulator.exchange import Exchange, Refused
from gateway.simulator.knobs import Knobs
from gateway.simulator.responses_printing import ResponsePrinter, response_usage
from gateway.simulator.responses_shapes import ResponseRequest, arguments_for, as_chat
from gateway.simulator.shapes import ANSWER_TOKENS_MAX, chat_prompt, encode, last_question
from gateway.simulator.text import tokenize, topics_of

KEPT_MAX = 1000
_REQUEST = msgspec.json.Decoder(ResponseRequest)


@dataclass(slots=True)
class Kept:
    """A response that can be asked for again: its printer, what went into it, and when it is ready."""

    printer: ResponsePrinter
    items: list[dict[str, Any]]
    background: bool
    ready_s: float
    cancelled: bool = False

    @property
    def status(self) -> str:
        if self.cancelled:
            return "cancelled"
        return self.printer.last_status if time.monotonic() >= self.ready_s else "queued"

    def printed(self) -> bytes:
        return encode(self.printer.response(self.status))


@dataclass(frozen=True, slots=True)
class Drafted:
    """One request drafted: what it will say, how it is printed, and the items that went into it."""

    draft: Draft
    voice: ResponsePrinter
    items: list[dict[str, Any]]
    reply_id: str


class Responses:
    """The kept responses of one process."""

    def __init__(self, seed: int, cache: PromptCache) -> None:
        self._seed = seed
        self._cache = cache
        self._kept: OrderedDict[str, Kept] = OrderedDict()

    @staticmethod
    def read(body: bytes) -> ResponseRequest:
        try:
            request = _REQUEST.decode(body)
        except (ValueError, RecursionError) as error:
            raise Refused(400, f"The request body is wrong: {error}") from error
        if request.input is None and not request.previous_response_id:
            raise Refused(400, "input is missing.")
        return request

    def _before(self, request: ResponseRequest) -> list[dict[str, Any]]:
        name = request.previous_response_id
        if not name:
            return []
        kept = self._kept.get(name)
        if kept is None:
            message = f"Previous response with id '{name}' not found."
            raise Refused(400, message, code="previous_response_not_found")
        return [*kept.items, *kept.printer.output()]

    def drafted(self, request: ResponseRequest, knobs: Knobs) -> Drafted:
        """What the request will be answered with. Raises Refused for a previous response that is not kept."""
        before = self._before(request)
        chat = as_chat(request, before)
        draft = draft_reply(chat, knobs.tokens, self._seed, self._cache)
        called = request.called()
        if called:
            arguments = arguments_for(request, called, topics_of(last_question(chat))[0])
            draft = replace(draft, choices=(_calling(draft.choices[0], arguments, request.max_output_tokens),))
        reply_id = f"resp_sim{os.urandom(16).hex()}"
        voice = ResponsePrinter(draft, request, reply_id, int(time.time()), _told_usage(draft, knobs.fault), called)
        return Drafted(draft, voice, [*before, *request.items()], reply_id)

    def keep_in_background(self, request: ResponseRequest, drafted: Drafted, knobs: Knobs) -> bytes:
        """The first reply of a response in the background, which is ready when its last token would be there."""
        wait_ms = knobs.latency_ms + knobs.ttft_ms + drafted.draft.tokens * knobs.token_interval_ms
        self.keep(request, drafted, time.monotonic() + wait_ms / 1000)
        return encode(drafted.voice.response("queued"))

    def keep(self, request: ResponseRequest, drafted: Drafted, ready_s: float = 0.0) -> None:
        """Keeps what may be asked for again, from the monotonic time `ready_s` on."""
        if request.store is False and not request.background:
            return
        self._kept[drafted.reply_id] = Kept(drafted.voice, drafted.items, bool(request.background), ready_s)
        while len(self._kept) > KEPT_MAX:
            self._kept.popitem(last=False)

    def _found(self, name: str) -> Kept:
        kept = self._kept.get(name)
        if kept is None:
            raise Refused(404, f"Response with id '{name}' not found.")
        return kept

    # ------------------------------------------------------------ what is kept

    async def serve_kept(self, exchange: Exchange, method: str, name: str, action: str, query: str) -> None:
        """`GET /responses/{name}`, `DELETE`, `POST …/cancel`, `GET …/input_items`. Raises Refused."""
        match method, action:
            case "GET", "":
                await self._read(exchange, self._found(name), query)
            case "DELETE", "":
                self._found(name)
                del self._kept[name]
                await exchange.reply(200, encode({"id": name, "object": "response.deleted", "deleted": True}))
            case "POST", "cancel":
                kept = self._found(name)
                if not kept.background:
                    raise Refused(400, "Cannot cancel a synchronous response.")
                if kept.status == "queued":
                    kept.cancelled = True
                await exchange.reply(200, kept.printed())
            case "GET", "input_items":
                await exchange.reply(200, self._listed(self._found(name), query))
            case _:
                raise Refused(404, f"The simulated provider has no {method} of {action!r}.", code="not_found")

    async def _read(self, exchange: Exchange, kept: Kept, query: str) -> None:
        asked = parse_qs(query)
        if asked.get("stream", ["false"])[0] != "true":
            await exchange.reply(200, kept.printed())
            return
        after = _number(asked, "starting_after", -1)
        await exchange.start(200, EVENT_STREAM)
        await exchange.write(kept.printer.replayed(after), last=True)

    @staticmethod
    def _listed(kept: Kept, query: str) -> bytes:
        asked = parse_qs(query)
        items = [{"id": f"item_{at}", **item} for at, item in enumerate(kept.items)]
        if asked.get("order", ["desc"])[0] == "desc":
            items.reverse()
        limit = _number(asked, "limit", 20)
        shown = items[:limit]
        ids: list[str | None] = [str(item["id"]) for item in shown] or [None]
        listed = {"object": "list", "data": shown, "first_id": ids[0], "last_id": ids[-1]}
        return encode(listed | {"has_more": len(items) > limit})

    # ------------------------------------------------------------ counting and compacting

    def counted(self, request: ResponseRequest) -> bytes:
        tokens = len(chat_prompt(as_chat(request, self._before(request))))
        return encode({"object": "response.input_tokens", "input_tokens": tokens})

    def compacted(self, request: ResponseRequest, draft: Draft) -> bytes:
        """The user's messages, and all else as one item that stands for it."""
        items = [*self._before(request), *request.items()]
        own = [item for item in items if item.get("role") == "user"]
        short = {"id": f"cmp_{os.urandom(8).hex()}", "type": "compaction", "encrypted_content": "".join(_words(draft))}
        return encode(
            {
                "id": f"resp_sim{os.urandom(16).hex()}",
                "object": "response.compaction",
                "created_at": int(time.time()),
                "output": [*own, short],
                "usage": response_usage(draft.usage()),
            }
        )


def _number(asked: dict[str, list[str]], name: str, otherwise: int) -> int:
    """A number of a query. Raises Refused for what is none."""
    said = asked.get(name, [str(otherwise)])[0]
    if said != str(otherwise) and not (said.isascii() and said.isdigit() and len(said) <= 9):
        raise Refused(400, f"{name} is wrong: it must be a whole number.")
    return int(said)


def _told_usage(draft: Draft, fault: str) -> dict[str, Any] | None:
    """What the reply says it used: the truth, unless it was asked to lie."""
    match fault:
        case "no-usage":
            return None
        case "bad-usage":
            return draft.usage() | {"prompt_tokens_details": {"cached_tokens": draft.prompt_tokens + 7}}
        case _:
            return draft.usage()


def _words(draft: Draft) -> tuple[str, ...]:
    return draft.choices[0].answer


def _calling(choice: Choice, arguments: str, limit: int | None) -> Choice:
    """The choice with a call in place of its words, cut where the limit cuts it."""
    room = (limit or ANSWER_TOKENS_MAX) - len(choice.thoughts)
    pieces = tokenize(arguments)
    reason = "tool_calls" if len(pieces) <= room else "length"
    return Choice(choice.thoughts, tuple(pieces[: max(0, room)]), reason)
