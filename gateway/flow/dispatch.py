"""dispatch: attempts at the planned deployments until one answers; each is reserved, announced, sent and ended.

Nothing reaches the caller before the first event is known to be good, so a failure until then is another deployment's
chance. After `first_event_wait_s` without an event the caller gets 200 and heartbeats while we still wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import TypeVar

from gateway.core.call import AnswerHead
from gateway.core.errors import (
    AttemptFailed,
    ConfigInvalid,
    UpstreamAuthError,
    UpstreamInvalidReply,
    UpstreamLost,
    UpstreamNotStarted,
    UpstreamServerError,
    UpstreamStreamError,
    UpstreamTimeout,
)
from gateway.core.ids import ATTEMPT, print_id
from gateway.core.ports import Composed, Exchange, StreamTap
from gateway.core.upstream import UpstreamReply, UpstreamRequest
from gateway.flow.abandon import Abandonable
from gateway.flow.answer import Answer, StreamAnswer, WholeAnswer, answer_headers
from gateway.flow.downgrade import downgraded
from gateway.flow.endpoints import EVENT_STREAM
from gateway.flow.reserve import NoRoom, reserve
from gateway.flow.services import Services
from gateway.flow.settle import end_attempt, void_attempt
from gateway.flow.state import Attempt, Passage, Target

_ERROR_BODY_BYTES = 1024 * 1024
_SECRET_BYTES_MIN = 16
"""Shorter ones (`none`, `EMPTY`) are no secrets, and words of other people's messages."""
_RETRY_ADVICE = frozenset({b"retry-after", b"retry-after-ms", b"x-should-retry"})
_STREAM_HEADERS = ((b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no"))
_STREAM_TYPE = (b"content-type", b"text/event-stream; charset=utf-8")

T = TypeVar("T")


async def dispatch(
    passage: Passage, services: Services, exchange: Exchange, composed: Composed, targets: Sequence[Target]
) -> Answer:
    """The first good answer. Raises a refusal of reserve, or AttemptFailed naming every cause."""
    failures: list[AttemptFailed] = []
    tried: set[str] = set()
    at = 0
    while at < len(targets):
        target = targets[at]
        at += 1
        try:
            attempt = await reserve(passage, services, exchange.disconnect, composed, target)
        except NoRoom as no_room:
            attempt, targets = await downgraded(passage, services, exchange.disconnect, composed, no_room, tried)
            target, at = attempt.target, 1
        try:
            with Abandonable(exchange.disconnect, patience_s(services, target)):
                return await _send(passage, services, exchange, attempt)
        except AttemptFailed as failure:
            if isinstance(failure, UpstreamNotStarted):
                void_attempt(passage, services, attempt, failure.cause, failure.message)
            else:
                end_attempt(passage, services, attempt, _failed(failure), failure.cause)
            passage.causes.append(f"{target.deployment.id}: {failure.cause}")
            failures.append(failure)
    raise _combined(failures)


def patience_s(services: Services, target: Target) -> float:
    """How long an attempt goes on after its caller has gone: not at all where that stops the provider's billing."""
    return 0.0 if target.provider.on_disconnect == "cancel" else services.settings.drain_max_s


def _failed(failure: AttemptFailed) -> str:
    """The outcome of an attempt that was sent and failed."""
    match failure:
        case UpstreamTimeout():
            return "timeout"
        case UpstreamLost():
            return "lost"
        case _:
            return "error"


def _combined(failures: Sequence[AttemptFailed]) -> AttemptFailed:
    """The last failure, with the causes of those before it in its message."""
    last = failures[-1]
    if len(failures) > 1:
        last.message = "; ".join(failure.message for failure in failures)
    return last


async def _send(passage: Passage, services: Services, exchange: Exchange, attempt: Attempt) -> Answer:
    row = attempt.target.row
    request = _request(passage, services, exchange, attempt)
    reply = await waited(passage, services, services.upstream.send(request, attempt.mark_sent))
    said = reply.headers
    attempt.status = reply.status
    attempt.upstream_id = row.upstream_id(said)
    attempt.reported_nusd = row.reported_nusd(said)
    headers = row.caller_headers(said)
    try:
        if reply.status >= 300:
            return await _refused(passage, services, attempt, reply, headers)
        if attempt.hold.stream and said.get("content-type", "").lower().startswith(EVENT_STREAM):
            return await _first_event(passage, services, exchange, attempt, reply, headers)
        return await _whole(passage, services, attempt, reply, headers)
    except BaseException:
        reply.abort()
        raise


async def waited(passage: Passage, services: Services, awaited: Awaitable[T]) -> T:
    """What the other side gives or takes, and the time that took, also when it does not."""
    asked_ns = services.clock.monotonic_ns()
    try:
        return await awaited
    finally:
        passage.waited_ns += services.clock.monotonic_ns() - asked_ns


def _request(passage: Passage, services: Services, exchange: Exchange, attempt: Attempt) -> UpstreamRequest:
    target, composed = attempt.target, attempt.composed
    head = composed.head
    row, wire, provider, model = target.row, attempt.wire, target.provider, target.deployment.model
    url = row.url(provider, wire.name, wire.upstream_path, model)
    endpoint = services.endpoints.of(
        services.configuration, provider, wire, url, head.stream, target.once, callers_own=attempt.callers_own
    )
    headers: tuple[tuple[str, str], ...] = ((row.request_id_header, print_id(ATTEMPT, attempt.hold.attempt_id)),)
    prefixes = row.forwarded_prefixes
    if row.dialect_prefixes and target.wire is passage.surface:  # what a translation needs it says itself
        prefixes += row.dialect_prefixes
    if prefixes:
        sent = {name: value for name, value in exchange.headers.items() if name.startswith(prefixes)}
        headers += tuple((dict(wire.upstream_headers) | sent).items())
    else:
        headers += wire.upstream_headers
    if attempt.callers_own:
        headers += passage.own_credential
    body, attempt.dropped = wire.outgoing(composed.body, head, model, row.quirks)
    return UpstreamRequest(endpoint, headers, body)


async def _refused(
    passage: Passage,
    services: Services,
    attempt: Attempt,
    reply: UpstreamReply,
    headers: tuple[tuple[bytes, bytes], ...],
) -> WholeAnswer:
    """A 4xx is the caller's to see, byte for byte; our own credential's refusal and a 5xx are failed attempts."""
    body = await waited(passage, services, reply.read(_ERROR_BODY_BYTES))
    status, provider = reply.status, attempt.target.provider
    if status in (401, 403) and not attempt.callers_own:
        raise UpstreamAuthError(
            f"The provider {provider.name} refused the gateway's own credential ({status}). Its operator must check "
            f"{provider.credential or 'the credential of that provider'}; your key is fine."
        )
    body = _without_credential(services, provider.credential, body)
    wire = attempt.wire
    facts = wire.read_error(status, body)
    attempt.error_code = f"upstream_{facts.code or status}"
    if status >= 500:
        said = f": {facts.message}" if facts.message else "."
        advice = {name.decode(): value.decode() for name, value in headers if name in _RETRY_ADVICE}
        raise UpstreamServerError(f"The provider {provider.name} answered {status}{said}", status, advice)
    if status < 400:
        raise UpstreamInvalidReply(
            f"The provider {provider.name} answered {status}, a redirect, which is not followed. Its operator must "
            "check its base_url."
        )
    content_type = reply.headers.get("content-type", "application/json")
    told = wire.caller_error(status, body)
    if told is not body:
        content_type = "application/json"
    return WholeAnswer(attempt=attempt, status=status, content_type=content_type, headers=headers, body=told)


def _without_credential(services: Services, reference: str, body: bytes) -> bytes:
    """A refusal that quotes our own credential is the one body that is not passed on byte for byte."""
    try:
        secret = services.configuration.credential(reference).encode()
    except ConfigInvalid:
        return body
    return body.replace(secret, b"***") if len(secret) >= _SECRET_BYTES_MIN else body


async def _whole(
    passage: Passage,
    services: Services,
    attempt: Attempt,
    reply: UpstreamReply,
    headers: tuple[tuple[bytes, bytes], ...],
) -> WholeAnswer:
    body = await waited(passage, services, reply.read(services.settings.max_reply_bytes))
    attempt.first_token_ns = services.clock.monotonic_ns()
    wire, quirks = attempt.wire, attempt.target.row.quirks
    facts = wire.read_reply(body, quirks)
    attempt.usage = attempt.composed.head.own_usage if facts.usage is None else facts.usage
    if facts.reported_nusd is not None:
        attempt.reported_nusd = facts.reported_nusd
    attempt.model_served = facts.model_served
    attempt.finish_reason = facts.finish_reason
    attempt.refusal = facts.refusal
    attempt.output_bytes = facts.output_bytes
    attempt.upstream_id = facts.upstream_id or attempt.upstream_id
    content_type = reply.headers.get("content-type", "application/json")
    body = wire.caller_reply(body, attempt.composed.head, quirks)
    return WholeAnswer(attempt=attempt, status=reply.status, content_type=content_type, headers=headers, body=body)


async def _first_event(
    passage: Passage,
    services: Services,
    exchange: Exchange,
    attempt: Attempt,
    reply: UpstreamReply,
    headers: tuple[tuple[bytes, bytes], ...],
) -> StreamAnswer:
    """Waits for the first event; an error there is a failed attempt, not an answer."""
    clock = services.clock
    tap = attempt.wire.tap(attempt.composed.head, attempt.target.row.quirks)
    chunks = reply.chunks()
    first = bytearray()
    ended = False
    heartbeats = _Heartbeats(passage, services, exchange, attempt, headers)
    begun_ns = clock.monotonic_ns()
    idle_ns = services.settings.progress_idle_s * 1e9
    while not (tap.events or tap.terminal or tap.error):
        chunk = await waited(passage, services, heartbeats.next(chunks))
        if chunk is None:
            first += tap.finish()
            ended = True
            break
        first += tap.feed(chunk)
        if clock.monotonic_ns() - begun_ns >= idle_ns and tap.events == 0:
            raise no_progress(attempt, services.settings.progress_idle_s)
    attempt.first_token_ns = clock.monotonic_ns()
    observe_stream(attempt, tap)
    if tap.error:
        attempt.nothing_came = not tap.output_bytes
        raise UpstreamStreamError(
            f"The provider {attempt.target.provider.name} began its stream with an error: {tap.error}"
        )
    if ended and not tap.events:
        raise UpstreamInvalidReply(
            f"The provider {attempt.target.provider.name} ended its stream before the first event."
        )
    return StreamAnswer(attempt, reply, chunks, tap, headers, bytes(first), ended)


class _Heartbeats:
    """Waits for chunks; once `first_event_wait_s` is over, and each `heartbeat_s` from then on, the caller is told so.

    A provider's comments are chunks too: they must not put that off.
    """

    __slots__ = ("_attempt", "_due_ns", "_exchange", "_headers", "_passage", "_services")

    def __init__(
        self,
        passage: Passage,
        services: Services,
        exchange: Exchange,
        attempt: Attempt,
        headers: tuple[tuple[bytes, bytes], ...],
    ) -> None:
        self._passage = passage
        self._services = services
        self._exchange = exchange
        self._attempt = attempt
        self._headers = headers
        first_s = services.settings.heartbeat_s if exchange.started else services.settings.first_event_wait_s
        self._due_ns = services.clock.monotonic_ns() + int(first_s * 1e9)

    async def next(self, chunks: AsyncIterator[bytes]) -> bytes | None:
        """The next chunk, None at the end."""
        pending = asyncio.ensure_future(anext(chunks, None))
        try:
            while not (await asyncio.wait((pending,), timeout=self._left_s()))[0]:
                await self._beat()
            return pending.result()
        finally:
            if not pending.done():
                pending.cancel()
                await asyncio.gather(pending, return_exceptions=True)
            elif not pending.cancelled():
                pending.exception()  # known, should the wait itself have been cancelled just then

    def _left_s(self) -> float:
        return max(0.0, (self._due_ns - self._services.clock.monotonic_ns()) / 1e9)

    async def _beat(self) -> None:
        if not self._exchange.started:
            await start_stream(self._passage, self._services, self._exchange, self._attempt, self._headers)
        await self._exchange.write(self._passage.surface.heartbeat())
        self._due_ns = self._services.clock.monotonic_ns() + int(self._services.settings.heartbeat_s * 1e9)


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


def no_progress(attempt: Attempt, idle_s: float) -> UpstreamTimeout:
    """A stream that is kept open with comments and says nothing."""
    provider = attempt.target.provider.name
    return UpstreamTimeout(
        f"The provider {provider} kept its stream open with comments and sent no event for {idle_s:g} s.",
        extra={"timeout": "progress"},
    )


def observe_stream(attempt: Attempt, tap: StreamTap) -> None:
    """Copies what the tap has read so far into the attempt."""
    attempt.usage = tap.usage
    if tap.reported_nusd is not None:
        attempt.reported_nusd = tap.reported_nusd
    attempt.output_bytes = tap.output_bytes
    attempt.unmetered_bytes = tap.unmetered_bytes
    attempt.finished = tap.complete or bool(tap.terminal)
    attempt.model_served = tap.model_served
    attempt.finish_reason = tap.finish_reason
    attempt.refusal = tap.refusal
    attempt.upstream_id = tap.upstream_id or attempt.upstream_id
