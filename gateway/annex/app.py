"""The annex as a raw ASGI application: `/{provider}/v1/…` in OpenAI's shape, each call done by the engine."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from contextlib import aclosing
from typing import Any

import msgspec

from gateway.annex import shapes
from gateway.annex.engine import Engine, Whole
from gateway.annex.exchange import Exchange, Receive, Scope, Send
from gateway.annex.failures import OutcomeUnknown, Refusal
from gateway.annex.fields import Asked, read_request
from gateway.annex.spec import AnnexSpec, ServedProvider
from gateway.annex.usage import cost_text

LOG = logging.getLogger("faregate.annex")

CALLS_MAX = 1000
"""Calls at a time; a worker has at most as many connections to one provider."""
CANCEL_S = 5.0
"""How long a call may take to end after its caller has gone; it is only told in the log."""
COST_HEADER = "x-litellm-response-cost"


class AnnexApp:
    """Serves the providers of one spec."""

    def __init__(self, spec: AnnexSpec, engine: Engine) -> None:
        self._spec = spec
        self._engine = engine
        self._running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        exchange = Exchange(scope, receive, send)
        try:
            await self._route(exchange, scope["method"], scope["path"])
        except Refusal as refusal:
            await exchange.reply(refusal.status, refusal.body, refusal.headers)
        except OutcomeUnknown as unknown:
            LOG.warning("%s: connection cut, the vendor may have billed: %s", scope["path"], unknown)
            await exchange.cut()
        except ConnectionResetError:
            return
        finally:
            exchange.end()

    async def _route(self, exchange: Exchange, method: str, path: str) -> None:
        match method, path.split("/"):
            case "POST", ["", provider, "v1", "chat", "completions"]:
                await self._call(exchange, provider, "chat")
            case "POST", ["", provider, "v1", "embeddings" | "rerank" as endpoint]:
                await self._call(exchange, provider, endpoint)
            case "GET", ["", "health"]:
                names = [provider.name for provider in self._spec.providers]
                await exchange.reply(200, msgspec.json.encode({"providers": names, "running": self._running}))
            case _:
                raise Refusal(404, f"The annex has no {method} {path[:200]}.", code="not_found")

    async def _call(self, exchange: Exchange, name: str, endpoint: str) -> None:
        """One call, ended at once when its caller goes."""
        if self._running >= CALLS_MAX:
            message = f"The annex runs {CALLS_MAX} calls already. Try again in a moment."
            raise Refusal(503, message, code="annex_busy", headers={"retry-after": "1"})
        self._running += 1
        try:
            provider, asked = self._asked(name, await exchange.body(), endpoint)
            await _while_wanted(exchange, self._answer(exchange, provider, asked, endpoint))
        finally:
            self._running -= 1

    def _asked(self, name: str, body: bytes, endpoint: str) -> tuple[ServedProvider, Asked]:
        provider = self._spec.provider(name)
        asked = read_request(body, endpoint)
        if provider is None:
            message = f"The annex does not serve the provider {name[:64]} yet. Try again in a moment."
            raise Refusal(503, message, code="annex_starting", headers={"retry-after": "1"})
        if not provider.serves(asked.model):
            message = (
                f"The annex does not serve {asked.model[:200]} for the provider {name}. In routes.yaml write the model "
                "as litellm calls it, vendor/model; a * may stand for models, not for the vendor."
            )
            raise Refusal(404, message, kind="invalid_request_error", code="model_not_found")
        return provider, asked

    async def _answer(self, exchange: Exchange, provider: ServedProvider, asked: Asked, endpoint: str) -> None:
        vendor = asked.model.partition("/")[0]
        if endpoint == "chat" and asked.stream:
            await self._stream(exchange, provider, asked, vendor)
        elif endpoint == "chat":
            whole = await self._engine.chat(provider, asked.model, asked.fields)
            await _reply(exchange, shapes.chat_reply(whole.fields, vendor), whole)
        elif endpoint == "embeddings":
            whole = await self._engine.embeddings(provider, asked.model, asked.fields)
            await _reply(exchange, shapes.embedding_reply(whole.fields, vendor, base64=asked.base64), whole)
        else:
            whole = await self._engine.rerank(provider, asked.model, asked.fields)
            await _reply(exchange, msgspec.json.encode(whole.fields), whole)

    async def _stream(self, exchange: Exchange, provider: ServedProvider, asked: Asked, vendor: str) -> None:
        """Nothing is sent before the first chunk, so that a refusal has its status."""
        shape = shapes.ChatStream(vendor)
        chunks = self._engine.chat_stream(provider, asked.model, asked.fields)
        async with aclosing(chunks):
            try:
                async for chunk in chunks:
                    data = shape.feed(chunk)
                    if data and not exchange.started:
                        await exchange.start_events()
                    if data:
                        await exchange.write(data)
            except Refusal as refusal:
                if not exchange.started:
                    raise
                # An error event and no [DONE]: what was streamed so far is estimated.
                await exchange.write(b"data: " + refusal.body + b"\n\n", last=True)
                return
        if not exchange.started:
            await exchange.start_events()
        for data in shape.end(usage_asked=asked.usage_asked):
            await exchange.write(data)
        await exchange.write(b"", last=True)


async def _reply(exchange: Exchange, body: bytes, whole: Whole) -> None:
    cost = cost_text(whole.cost)
    await exchange.reply(200, body, {COST_HEADER: cost} if cost else None)


async def _while_wanted(exchange: Exchange, answering: Coroutine[Any, Any, None]) -> None:
    """Runs until done, or until the client has gone: then the work is cancelled and the vendor's connection closed."""
    work = asyncio.ensure_future(answering)
    try:
        await asyncio.wait((work, exchange.gone()), return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            work.result()
    finally:
        if not work.done():
            work.cancel()
            _, late = await asyncio.wait((work,), timeout=CANCEL_S)
            if late:
                LOG.warning("a cancelled call is still running after %.0f s", CANCEL_S)
