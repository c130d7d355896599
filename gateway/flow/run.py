"""The request path. Read it top to bottom: this is what happens to a call, and all branching is here.

A call that cannot be identified is counted. From identification on, every call ends with exactly one SETTLE, whatever
happens to it: an answer, a refusal, a failure, a caller that goes away, a shutdown. Settling is one synchronous append,
so it also happens while a cancellation is passing through.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable

import msgspec

from gateway.core.call import AnswerHead
from gateway.core.caller import Permission
from gateway.core.errors import CallRefused, FaregateError, NotServed
from gateway.core.handover import GOODBYE, HandedOver
from gateway.core.ids import CALL, make_id, print_id
from gateway.core.ports import Exchange, Surface
from gateway.core.records import Features
from gateway.core.tokens import estimate_tokens
from gateway.flow.abandon import ClientGone
from gateway.flow.admit import admit, tell_tokens
from gateway.flow.answer import WholeAnswer, call_headers
from gateway.flow.attribution import completed
from gateway.flow.dispatch import dispatch
from gateway.flow.guard import guard, require_tags
from gateway.flow.identify import identify
from gateway.flow.own_credential import own_credential
from gateway.flow.relay import relay_stream, relay_whole
from gateway.flow.services import Services
from gateway.flow.settle import end_open_attempts, settle, synced
from gateway.flow.state import Passage
from gateway.flow.trace import read_traceparent

CLIENT_CLOSED = 499


Walk = Callable[[Exchange, Passage, Services], Awaitable[None]]


async def run(
    exchange: Exchange, surface: Surface, permission: Permission, services: Services, walk: Walk | None = None
) -> None:
    """Answers one call on `exchange`. Raises only what refuses it before it was identified (not recorded then).
    `walk` is what happens to it in between, where that is not what happens to a call of a model."""
    passage = _identified(exchange, surface, permission, services)
    try:
        await (walk or _walk)(exchange, passage, services)
    except ClientGone:
        end_open_attempts(passage, services, "client_gone", "client_gone")
        settle(passage, services, "client_gone", CLIENT_CLOSED, "client_gone")
    except HandedOver:
        _leave_to_successor(passage, services)
        raise
    except FaregateError as error:
        end_open_attempts(passage, services, "error", error.code)
        status = 200 if exchange.started else error.status
        settle(passage, services, "refused" if isinstance(error, CallRefused) else "error", status, error.code)
        await _answer_error(exchange, passage, services, error)
    finally:
        if not passage.settled:
            _settle_interrupted(passage, services, sys.exception())


def _leave_to_successor(passage: Passage, services: Services) -> None:
    """The call goes on in another worker, as a new one. A call without an attempt leaves no record here: it holds
    nothing, and its successor counts it."""
    if passage.attempts:
        settle(passage, services, "error", 503, "handed_over")
    passage.settled = True


def _settle_interrupted(passage: Passage, services: Services, cause: BaseException | None) -> None:
    """A cancellation from outside, or a fault of our own, which whoever called us answers with 500."""
    code, status = "cancelled", CLIENT_CLOSED
    if cause is not None and cause.args[:1] == (GOODBYE,):
        code, status = GOODBYE, 503
    elif cause is not None and not isinstance(cause, asyncio.CancelledError):
        code, status = "internal_error", 500
        cause.add_note(f"The call is {print_id(CALL, passage.call_id)}.")
    end_open_attempts(passage, services, "lost", code)
    settle(passage, services, "error", status, code)


def _identified(exchange: Exchange, surface: Surface, permission: Permission, services: Services) -> Passage:
    """identify, and the policy this call will see to its end."""
    clock, configuration = services.clock, services.configuration
    now_ms = clock.now_ms()
    stale_ms = int(services.settings.stale_keys_s * 1000)
    caller = identify(exchange.headers, configuration.keys, permission, now_ms, stale_ms)
    chance = services.entropy.bytes(18)
    call_id = make_id(now_ms, chance)
    trace_id, parent_span_id = read_traceparent(exchange.headers.get("traceparent", ""), call_id)
    retry = exchange.headers.get("x-stainless-retry-count", "0")
    return Passage(
        call_id=call_id,
        surface=surface,
        policy=configuration.policy,
        started_ms=now_ms,
        received_ns=exchange.received_ns,
        trace_id=trace_id,
        span_id=chance[10:],
        parent_span_id=parent_span_id,
        client_retry=int(retry) if retry.isdecimal() and len(retry) < 4 else 0,
        caller=caller,
        own_credential=own_credential(exchange.headers),
    )


async def _walk(exchange: Exchange, passage: Passage, services: Services) -> None:
    surface, caller, clock = passage.surface, passage.caller, services.clock
    asked_ns = clock.monotonic_ns()
    try:
        body = await exchange.body()
    except CallRefused:
        if exchange.disconnect.gone:
            raise ClientGone from None  # nobody is left to be refused
        raise
    finally:
        passage.waited_ns += clock.monotonic_ns() - asked_ns

    head = surface.read_head(body)
    passage.caller = caller = completed(caller, head)
    passage.composed = composed = services.composer.compose(caller, body, head)
    passage.features = Features(
        body_bytes=len(body),
        messages=composed.head.messages,
        tools=composed.head.tools,
        media=composed.head.media,
        input_estimate=estimate_tokens(composed.head.text_bytes),
        max_output_tokens=composed.head.max_output_tokens or 0,
        choices=composed.head.choices,
    )
    passage.composed = composed = guard(services.guards, caller, composed, surface, passage.policy, passage.verdicts)
    joined = surface.joined(composed.head, exchange.headers)
    if joined is not composed.head:
        passage.composed = composed = msgspec.structs.replace(composed, head=joined)

    if passage.policy.tags.required:
        require_tags(passage, services)

    admit(passage, services, composed.head.model, clock.now_ms())

    remembered = await services.recall.find(caller, composed)
    if remembered is not None:
        await _answer_here(exchange, passage, services, remembered)
        return

    passage.composed = composed = services.issued.gone_on(passage, composed)
    try:
        targets = services.plans.of(passage.policy, services.providers, caller.key, composed.head.model, surface)
    except NotServed:
        own = surface.own_reply(composed.head)
        if own is None:
            raise
        await _answer_here(exchange, passage, services, own)
        return
    targets = services.issued.bound(passage, composed.head, targets)
    answer = await dispatch(passage, services, exchange, composed, targets)  # reserve is taken for each attempt
    if isinstance(answer, WholeAnswer):
        await relay_whole(passage, services, exchange, answer)  # settles before the last byte
    else:
        await relay_stream(passage, services, exchange, answer)


async def _answer_here(exchange: Exchange, passage: Passage, services: Services, body: bytes) -> None:
    """A whole answer that no provider was asked for: it costs nothing."""
    settle(passage, services, "ok", 200)
    await synced(passage, services)
    length = str(len(body)).encode()
    headers = (*call_headers(passage), (b"content-type", b"application/json"), (b"content-length", length))
    await exchange.start(AnswerHead(200, headers))
    await exchange.finish(body)


async def _answer_error(exchange: Exchange, passage: Passage, services: Services, error: FaregateError) -> None:
    """The error in the caller's dialect: as a reply, or inside the stream when that has begun."""
    surface = passage.surface
    error.request_id = print_id(CALL, passage.call_id)
    if passage.attempts:  # what they cost is final once the caller knows of it
        tell_tokens(passage, services)
        await synced(passage, services)
    if exchange.started:
        await exchange.finish(surface.stream_error(error))
        return
    body = surface.error_body(error)
    headers = [header for header in call_headers(passage) if header[0].decode() not in error.headers]
    headers.extend((name.encode(), value.encode("latin-1", "replace")) for name, value in error.headers.items())
    headers.append((b"content-type", b"application/json"))
    headers.append((b"content-length", str(len(body)).encode()))
    await exchange.start(AnswerHead(error.status, tuple(headers)))
    await exchange.finish(body)
