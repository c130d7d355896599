"""dispatch: attempts at the planned deployments until one answers; each is reserved, announced, sent and ended.

Nothing reaches the caller before the first event is known to be good, so a failure until then is another deployment's
chance. After `first_event_wait_s` without an event the caller gets 200 and heartbeats while we still wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec

from gateway.core.call import AnswerHead
from gateway.core.errors import (
    AttemptFailed,
    ConfigInvalid,
    UpstreamAuthError,
    UpstreamInvalidReply,
    UpstreamNotStarted,
    UpstreamServerError,
    UpstreamStreamError,
)
from gateway.core.ids import ATTEMPT, print_id
from gateway.core.ports import Composed, Exchange, StreamTap, UpstreamReply, UpstreamRequest
from gateway.core.records import Dispatch
from gateway.flow.abandon import Abandonable
from gateway.flow.answer import EVENT_STREAM, Answer, StreamAnswer, WholeAnswer, answer_headers
from gateway.flow.reserve import reserve
from gateway.flow.services import Services
from gateway.flow.settle import end_attempt, void_attempt
from gateway.flow.state import Attempt, Passage, Target
from gateway.providers.row import ProviderRow

_ERROR_BODY_BYTES = 1024 * 1024
_STREAM_HEADERS = ((b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no"))
_STREAM_TYPE = (b"content-type", b"text/event-stream; charset=utf-8")


async def dispatch(
    passage: Passage, services: Services, exchange: Exchange, composed: Composed, targets: Sequence[Target]
) -> Answer:
    """The first good answer. Raises a refusal of reserve, or AttemptFailed naming every cause."""
    failures: list[AttemptFailed] = []
    for target in targets:
        with Abandonable(exchange.disconnect, True):
            attempt = await reserve(passage, services, composed, target)
        try:
            with Abandonable(exchange.disconnect, target.provider.on_disconnect == "cancel"):
                return await _send(passage, services, exchange, composed, attempt)
        except AttemptFailed as failure:
            if isinstance(failure, UpstreamNotStarted) or failure.extra.get("timeout") == "connect":
                void_attempt(passage, services, attempt, failure.cause, failure.message)
            else:
                end_attempt(passage, services, attempt, "error" if attempt.status else "lost", failure.cause)
            passage.causes.append(f"{target.deployment.id}: {failure.cause}")
            failures.append(failure)
    raise _combined(failures)


def _combined(failures: Sequence[AttemptFailed]) -> AttemptFailed:
    """The last failure, with the causes of those before it in its message."""
    last = failures[-1]
    if len(failures) > 1:
        last.message = "; ".join(failure.message for failure in failures)
    return last


async def _send(
    passage: Passage, services: Services, exchange: Exchange, composed: Composed, attempt: Attempt
) -> Answer:
    clock = services.clock
    target = attempt.target
    row = services.providers[target.provider.kind]
    request = _request(passage, services, exchange, composed, attempt, row)
    announced = Dispatch(ts_ms=clock.now_ms(), attempt_id=attempt.hold.attempt_id)
    services.journal.append(announced, passage.call_id)
    services.limits.apply(announced, passage.call_id)
    attempt.dispatched = True
    sent_ns = clock.monotonic_ns()
    try:
        reply = await services.upstream.send(request)
    finally:
        passage.upstream_ns += clock.monotonic_ns() - sent_ns
    attempt.status = reply.status
    attempt.upstream_id = reply.headers.get("x-request-id", "")[:200]
    headers = row.caller_headers(reply.headers)
    try:
        if reply.status >= 400:
            return await _refused(passage, services, attempt, reply, headers)
        if composed.head.stream and reply.headers.get("content-type", "").startswith(EVENT_STREAM):
            return await _first_event(passage, services, exchange, composed, attempt, reply, headers)
        return await _whole(passage, services, attempt, reply, headers)
    except BaseException:
        reply.abort()
        raise


def _request(
    passage: Passage,
    services: Services,
    exchange: Exchange,
    composed: Composed,
    attempt: Attempt,
    row: ProviderRow,
) -> UpstreamRequest:
    provider = attempt.target.provider
    surface = passage.surface
    try:
        secret = services.configuration.credential(provider.credential)
    except ConfigInvalid as error:
        raise UpstreamNotStarted(
            f"The gateway has no usable credential for {provider.name}: {error.message}"
        ) from error
    headers = [
        ("content-type", "application/json"),
        ("accept", EVENT_STREAM if composed.head.stream else "application/json"),
        ("accept-encoding", "identity"),
        ("user-agent", "faregate"),
        (row.request_id_header, print_id(ATTEMPT, attempt.hold.attempt_id)),
        *provider.headers,
    ]
    if secret:
        headers.append((provider.auth_header, f"{provider.auth_scheme} {secret}".strip()))
    for prefix in row.forwarded_prefixes:
        headers.extend((name, value) for name, value in exchange.headers.items() if name.startswith(prefix))
    return UpstreamRequest(
        pool=provider.name,
        url=provider.base_url + surface.upstream_path,
        headers=tuple(headers),
        body=surface.upstream_body(composed.body, composed.head, attempt.target.deployment.model),
        connect_timeout_s=provider.connect_timeout_s,
        timeout_s=provider.timeout_s,
        idle_timeout_s=provider.idle_timeout_s,
        keepalive_s=provider.keepalive_s,
        ca_bundle=provider.ca_bundle,
        proxy=provider.proxy,
    )


async def _refused(
    passage: Passage,
    services: Services,
    attempt: Attempt,
    reply: UpstreamReply,
    headers: tuple[tuple[bytes, bytes], ...],
) -> WholeAnswer:
    """A 4xx is the caller's to see, byte for byte; our own credential's refusal and a 5xx are failed attempts."""
    body = await reply.read(_ERROR_BODY_BYTES)
    status, provider = reply.status, attempt.target.provider
    if status in (401, 403):
        raise UpstreamAuthError(
            f"The provider {provider.name} refused the gateway's own credential ({status}). Its operator must check "
            f"{provider.credential or 'the credential of that provider'}; your key is fine."
        )
    if status >= 500:
        raise UpstreamServerError(f"The provider {provider.name} answered {status}{_quoted(body)}", status)
    end_attempt(passage, services, attempt, "error", f"http_{status}")
    content_type = reply.headers.get("content-type", "application/json")
    return WholeAnswer(attempt=attempt, status=status, content_type=content_type, headers=headers, body=body)


def _quoted(body: bytes) -> str:
    try:
        parsed: Any = msgspec.json.decode(body)
        return f": {str(parsed['error']['message'])[:300]}"
    except (msgspec.DecodeError, KeyError, TypeError):
        return "."


async def _whole(
    passage: Passage,
    services: Services,
    attempt: Attempt,
    reply: UpstreamReply,
    headers: tuple[tuple[bytes, bytes], ...],
) -> WholeAnswer:
    clock = services.clock
    waited_ns = clock.monotonic_ns()
    body = await reply.read(services.settings.max_reply_bytes)
    attempt.first_token_ns = clock.monotonic_ns()
    passage.upstream_ns += attempt.first_token_ns - waited_ns
    facts = passage.surface.read_reply(body)
    attempt.usage = facts.usage
    attempt.model_served = facts.model_served
    attempt.finish_reason = facts.finish_reason
    attempt.refusal = facts.refusal
    attempt.output_bytes = facts.output_bytes
    attempt.upstream_id = facts.upstream_id or attempt.upstream_id
    content_type = reply.headers.get("content-type", "application/json")
    return WholeAnswer(attempt=attempt, status=reply.status, content_type=content_type, headers=headers, body=body)


async def _first_event(
    passage: Passage,
    services: Services,
    exchange: Exchange,
    composed: Composed,
    attempt: Attempt,
    reply: UpstreamReply,
    headers: tuple[tuple[bytes, bytes], ...],
) -> StreamAnswer:
    """Waits for the first event; an error there is a failed attempt, not an answer."""
    clock = services.clock
    tap = passage.surface.tap(composed.head)
    chunks = reply.chunks()
    waited_ns = clock.monotonic_ns()
    first = bytearray()
    ended = False
    beat_after_s = services.settings.first_event_wait_s
    while not (tap.events or tap.terminal or tap.error):
        chunk = await _next_or_beat(passage, services, exchange, attempt, chunks, headers, beat_after_s)
        if chunk is None:
            first += tap.finish()
            ended = True
            break
        first += tap.feed(chunk)
    attempt.first_token_ns = clock.monotonic_ns()
    passage.upstream_ns += attempt.first_token_ns - waited_ns
    observe_stream(attempt, tap)
    if tap.error:
        raise UpstreamStreamError(
            f"The provider {attempt.target.provider.name} began its stream with an error: {tap.error}"
        )
    if ended and not tap.events:
        raise UpstreamInvalidReply(
            f"The provider {attempt.target.provider.name} ended its stream before the first event."
        )
    return StreamAnswer(attempt, reply, chunks, tap, headers, bytes(first), ended)


async def _next_or_beat(
    passage: Passage,
    services: Services,
    exchange: Exchange,
    attempt: Attempt,
    chunks: AsyncIterator[bytes],
    headers: tuple[tuple[bytes, bytes], ...],
    beat_after_s: float,
) -> bytes | None:
    """The next chunk, None at the end; heartbeats to the caller (after a 200) as long as it does not come."""
    pending = asyncio.ensure_future(anext(chunks, None))
    try:
        timeout_s = services.settings.heartbeat_s if exchange.started else beat_after_s
        while not (await asyncio.wait((pending,), timeout=timeout_s))[0]:
            if not exchange.started:
                await start_stream(passage, services, exchange, attempt, headers)
            await exchange.write(passage.surface.heartbeat())
            timeout_s = services.settings.heartbeat_s
        return pending.result()
    finally:
        if not pending.done():
            pending.cancel()
            await asyncio.gather(pending, return_exceptions=True)


async def start_stream(
    passage: Passage,
    services: Services,
    exchange: Exchange,
    attempt: Attempt,
    headers: tuple[tuple[bytes, bytes], ...],
) -> None:
    """200 and the stream's headers."""
    sent = answer_headers(passage, attempt, headers, services.clock.monotonic_ns())
    await exchange.start(AnswerHead(200, (_STREAM_TYPE, *_STREAM_HEADERS, *sent)))


def observe_stream(attempt: Attempt, tap: StreamTap) -> None:
    """Copies what the tap has read so far into the attempt."""
    attempt.usage = tap.usage
    attempt.output_bytes = tap.output_bytes
    attempt.model_served = tap.model_served
    attempt.finish_reason = tap.finish_reason
    attempt.refusal = tap.refusal
    attempt.upstream_id = tap.upstream_id or attempt.upstream_id
