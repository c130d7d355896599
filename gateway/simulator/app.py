"""The simulator as a raw ASGI application: its routes, its control, and what it refuses."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import TypeVar

import msgspec

from gateway.simulator import messages
from gateway.simulator.attempts import REFUSALS, Attempt, OpenAIVoice, TextReply
from gateway.simulator.draft import Draft, PromptCache, draft_reply
from gateway.simulator.embeddings import embedding_items, embedding_reply
from gateway.simulator.exchange import Exchange, Receive, Refused, Scope, Send
from gateway.simulator.knobs import Knobs, knobs_for, read_control
from gateway.simulator.responses import Responses
from gateway.simulator.shapes import (
    CHAT_MODELS,
    CONTEXT_TOKENS,
    EMBEDDING_CONTEXT_TOKENS,
    EMBEDDING_MODEL,
    MODELS,
    EmbeddingRequest,
    TextRequest,
    encode,
)
from gateway.simulator.witness import Witness

_TEXT = msgspec.json.Decoder(TextRequest)
_EMBEDDING = msgspec.json.Decoder(EmbeddingRequest)
_INPUTS_MAX = 2048

R = TypeVar("R")


class Simulator:
    """State of one process: defaults, gate, prompt cache, witness, and how much was served."""

    def __init__(self, witness: Witness, defaults: Knobs, seed: int) -> None:
        self.witness = witness
        self.defaults = defaults
        self._seed = seed
        self._gate = asyncio.Event()
        self._gate.set()
        self._cache = PromptCache()
        self._responses = Responses(seed, self._cache)
        self._started_s = int(time.time())
        self._requests = 0
        self._running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        exchange = Exchange(scope, receive, send)
        try:
            await self._route(exchange, scope["method"], scope["path"])
        except Refused as refusal:
            await exchange.reply(refusal.status, refusal.body)
        except ConnectionResetError:
            return
        finally:
            exchange.end()

    async def _route(self, exchange: Exchange, method: str, path: str) -> None:
        match method, path.rstrip("/").removeprefix("/v1").split("/"):
            case "POST", ["", "chat", "completions"]:
                await self._counted(self._text(exchange, is_chat=True))
            case "POST", ["", "completions"]:
                await self._counted(self._text(exchange, is_chat=False))
            case "POST", ["", "messages"]:
                await self._counted(self._message(exchange, counts=False))
            case "POST", ["", "messages", "count_tokens"]:
                await self._counted(self._message(exchange, counts=True))
            case "POST", ["", "responses"]:
                await self._counted(self._response(exchange))
            case "POST", ["", "responses", "input_tokens"]:
                await self._counted(self._input_tokens(exchange))
            case "POST", ["", "responses", "compact"]:
                await self._counted(self._compact(exchange))
            case _, ["", "responses", name, *rest] if len(rest) < 2:
                await self._witnessed_as_free(exchange, name)
                await self._responses.serve_kept(exchange, method, name, "".join(rest), exchange.query)
            case "POST", ["", "embeddings"]:
                await self._counted(self._embeddings(exchange))
            case "GET", ["", "models"]:
                await exchange.reply(200, encode({"object": "list", "data": [self._model(name) for name in MODELS]}))
            case "GET", ["", "models", name] if name in MODELS:
                await exchange.reply(200, encode(self._model(name)))
            case "POST", ["", "control"]:
                await self._control(exchange)
            case "GET", ["", "control" | "health"]:
                await exchange.reply(200, self._state())
            case _:
                raise Refused(404, f"The simulated provider has no {method} {path}.", code="not_found")

    async def _counted(self, answering: Coroutine[None, None, None]) -> None:
        self._requests += 1
        self._running += 1
        try:
            await answering
        finally:
            self._running -= 1

    async def _text(self, exchange: Exchange, *, is_chat: bool) -> None:
        request = _read(_TEXT, await exchange.body())
        knobs = _knobs(exchange, self.defaults)
        if is_chat != (request.messages is not None) or request.messages == []:
            raise Refused(400, "messages must be a non-empty array." if is_chat else "Use prompt, not messages.")
        _check_model(request.model, CHAT_MODELS)
        draft = draft_reply(request, knobs.tokens, self._seed, self._cache)
        _check_size(draft.longest_prompt_tokens, CONTEXT_TOKENS)
        attempt = Attempt(exchange, self.witness, request.model, draft.prompt_tokens)
        voice = OpenAIVoice.of(draft, request, knobs.fault)
        await TextReply(exchange, attempt, voice, draft, knobs).send(self._gate)

    async def _response(self, exchange: Exchange) -> None:
        request = self._responses.read(await exchange.body())
        knobs = _knobs(exchange, self.defaults)
        _check_model(request.model, CHAT_MODELS)
        drafted = self._responses.drafted(request, knobs)
        draft = drafted.draft
        _check_size(draft.prompt_tokens, CONTEXT_TOKENS)
        attempt = Attempt(exchange, self.witness, request.model, draft.prompt_tokens)
        if not request.background or request.stream or knobs.fault in REFUSALS:
            self._responses.keep(request, drafted)
            await TextReply(exchange, attempt, drafted.voice, draft, knobs).send(self._gate)
            return
        if await exchange.until(self._gate):
            body = self._responses.keep_in_background(request, drafted, knobs)
            attempt.end(draft.usage(), completed=True)
            await attempt.durable()
            await exchange.reply(200, body)
        attempt.end(Draft.nothing(), completed=False, cancelled=True)

    async def _input_tokens(self, exchange: Exchange) -> None:
        """A count of tokens, which is witnessed as using none."""
        request = self._responses.read(await exchange.body())
        _check_model(request.model, CHAT_MODELS)
        body = self._responses.counted(request)
        await self._witnessed_as_free(exchange, request.model)
        await exchange.reply(200, body)

    async def _witnessed_as_free(self, exchange: Exchange, what: str) -> None:
        attempt = Attempt(exchange, self.witness, what, 0)
        attempt.end(Draft.nothing(), completed=True)
        await attempt.durable()

    async def _compact(self, exchange: Exchange) -> None:
        request = self._responses.read(await exchange.body())
        knobs = _knobs(exchange, self.defaults)
        _check_model(request.model, CHAT_MODELS)
        draft = self._responses.drafted(request, knobs).draft
        attempt = Attempt(exchange, self.witness, request.model, draft.prompt_tokens)
        attempt.sent_tokens = draft.tokens
        attempt.end(draft.usage(), completed=True)
        await attempt.durable()
        await exchange.reply(200, self._responses.compacted(request, draft))

    async def _message(self, exchange: Exchange, *, counts: bool) -> None:
        """Anthropic's Messages, or the count of a message's tokens, which is witnessed as using none."""
        try:
            request = _read(messages.DECODER, await exchange.body())
            knobs = _knobs(exchange, self.defaults)
            _check_model(request.model, CHAT_MODELS)
            draft = messages.draft_message(request, knobs.tokens, self._seed, self._cache)
            _check_size(draft.draft.prompt_tokens, CONTEXT_TOKENS)
        except Refused as refused:
            raise messages.in_own_words(refused) from None
        attempt = Attempt(exchange, self.witness, request.model, 0 if counts else draft.draft.prompt_tokens)
        if counts:
            attempt.end(Draft.nothing(), completed=True)
            await attempt.durable()
            await exchange.reply(200, encode({"input_tokens": draft.draft.prompt_tokens}))
            return
        voice = messages.MessageVoice.of(draft, request, knobs.fault)
        await TextReply(exchange, attempt, voice, draft.draft, knobs).send(self._gate)

    async def _embeddings(self, exchange: Exchange) -> None:
        """Latency and refusals apply; faults of streams and replies do not."""
        request = _read(_EMBEDDING, await exchange.body())
        knobs = _knobs(exchange, self.defaults)
        _check_model(request.model, (EMBEDDING_MODEL,))
        items = embedding_items(request)
        if not 1 <= len(items) <= _INPUTS_MAX:
            raise Refused(400, f"input must hold from 1 to {_INPUTS_MAX} texts.")
        _check_size(max(len(pieces) for pieces in items), EMBEDDING_CONTEXT_TOKENS)
        tokens = sum(len(pieces) for pieces in items)
        attempt = Attempt(exchange, self.witness, request.model, tokens)
        usage: dict[str, object] = {"prompt_tokens": tokens, "total_tokens": tokens}
        try:
            if not (await exchange.until(self._gate) and await exchange.pause(knobs.latency_ms / 1000)):
                attempt.end(usage, completed=False, cancelled=True)
                return
            if knobs.fault in REFUSALS:
                status, body = REFUSALS[knobs.fault]
                attempt.end({"prompt_tokens": 0, "total_tokens": 0}, completed=False)
            else:
                status, body = 200, embedding_reply(request, items)
                attempt.end(usage, completed=True)
            await attempt.durable()
            await exchange.reply(status, body)
        finally:
            attempt.end(usage, completed=False)

    async def _control(self, exchange: Exchange) -> None:
        try:
            self.defaults, gate = read_control(await exchange.body(), self.defaults)
        except ValueError as error:
            raise Refused(400, str(error)) from error
        if gate == "closed":
            self._gate.clear()
        elif gate == "open":
            self._gate.set()
        await exchange.reply(200, self._state())

    def _state(self) -> bytes:
        state = msgspec.structs.asdict(self.defaults)
        state |= {"gate": "open" if self._gate.is_set() else "closed"}
        return encode(state | {"requests": self._requests, "running": self._running})

    def _model(self, name: str) -> dict[str, object]:
        return {"id": name, "object": "model", "created": self._started_s, "owned_by": "faregate-simulator"}


def _read(decoder: msgspec.json.Decoder[R], body: bytes) -> R:
    try:
        return decoder.decode(body)
    except (ValueError, RecursionError) as error:
        raise Refused(400, f"The request body is wrong: {error}") from error


def _knobs(exchange: Exchange, defaults: Knobs) -> Knobs:
    try:
        return knobs_for(exchange.headers, defaults)
    except ValueError as error:
        raise Refused(400, str(error)) from error


def _check_model(model: str, known: tuple[str, ...]) -> None:
    if model not in known:
        message = f"The simulated provider has no model {model[:100]!r} here; it has {', '.join(known)}."
        raise Refused(404, message, code="model_not_found")


def _check_size(tokens: int, window: int) -> None:
    if tokens > window:
        message = f"This model's context window is {window} tokens; a text of the request has {tokens}."
        raise Refused(400, message, code="context_length_exceeded")


def create_simulator(
    log: Path | None = None, *, latency_ms: float = 0.0, tokens_per_s: float = 0.0, seed: int = 0
) -> Simulator:
    """The application. Without `log` nothing is witnessed; `tokens_per_s` 0 sends tokens as fast as it can.

    Close its `witness` when the server has stopped.
    """
    interval_ms = 1000 / tokens_per_s if tokens_per_s > 0 else 0.0
    return Simulator(Witness(log), Knobs(latency_ms=latency_ms, token_interval_ms=interval_ms), seed)
