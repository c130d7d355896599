"""relay: bytes to the caller as they arrive, meters read beside them; settled before the last byte is let go.

A stream that just stops is never passed off as complete: it ends with an error event and no terminal event. A caller
that goes away stops the provider, or the reply is read on for its usage where the provider bills it anyway.
"""

from __future__ import annotations

import asyncio

from gateway.core.call import AnswerHead
from gateway.core.errors import AttemptFailed, UpstreamLost, UpstreamStreamError
from gateway.core.ids import CALL, print_id
from gateway.core.money import print_usd
from gateway.core.ports import Exchange, StreamTap
from gateway.core.records import Progress
from gateway.core.tokens import estimate_tokens
from gateway.flow.abandon import Abandonable
from gateway.flow.admit import tell_tokens
from gateway.flow.answer import StreamAnswer, WholeAnswer, answer_headers
from gateway.flow.dispatch import no_progress, observe_stream, patience_s, start_stream, waited
from gateway.flow.services import Services
from gateway.flow.settle import conclude, synced
from gateway.flow.shrink import may_shrink, shrink
from gateway.flow.state import Passage

_USAGE_COMMENT_HEADER = "x-faregate-usage-comment"
_YES = frozenset({"1", "true", "yes"})
_READ_OUT_S = 0.25
_READ_OUT_BYTES = 64 * 1024


async def relay_whole(passage: Passage, services: Services, exchange: Exchange, answer: WholeAnswer) -> None:
    """Settles, then sends status, headers and body."""
    attempt = answer.attempt
    gone = exchange.disconnect.gone
    if answer.status < 400:
        conclude(passage, services, attempt, "ok", "", "client_gone" if gone else "ok", answer.status)
    else:
        outcome, cause = "client_gone" if gone else "error", f"http_{answer.status}"
        conclude(passage, services, attempt, "error", cause, outcome, answer.status, attempt.error_code)
    tell_tokens(passage, services)  # its own hold is not held any more
    await synced(passage, services)
    if exchange.started:  # heartbeats of an earlier attempt: what is no stream can only be told as an error
        provider = attempt.target.provider.name
        no_stream = UpstreamStreamError(f"The provider {provider} answered {answer.status} and no stream.")
        await exchange.finish(passage.surface.stream_error(no_stream))
        return
    headers = answer_headers(passage, attempt, answer.headers, services.clock.monotonic_ns())
    body = answer.body
    headers.append((b"content-type", answer.content_type.encode("latin-1", "replace")))
    headers.append((b"content-length", str(len(body)).encode()))
    await exchange.start(AnswerHead(answer.status, tuple(headers)))
    await exchange.finish(body)


async def relay_stream(passage: Passage, services: Services, exchange: Exchange, answer: StreamAnswer) -> None:
    """Relays to the end. Raises ClientGone when the caller goes (after its reply was read on, where that is due)."""
    attempt, tap = answer.attempt, answer.tap
    failure: AttemptFailed | None = None
    complete = False
    try:
        if not exchange.started:
            await waited(passage, services, start_stream(passage, services, exchange, attempt, answer.headers))
        with Abandonable(exchange.disconnect, patience_s(services, attempt.target)):
            await _pump(passage, services, exchange, answer)
        complete = tap.complete
    except AttemptFailed as failed:
        failure = failed
    finally:
        observe_stream(attempt, tap)
        if not complete:
            answer.reply.abort()
    if not complete:
        await _cut(passage, services, exchange, answer, failure or _incomplete(answer))
        return
    try:
        outcome = "client_gone" if exchange.disconnect.gone else "ok"
        conclude(passage, services, attempt, "ok", "", outcome, 200)
        await synced(passage, services)
        await exchange.finish(_last_bytes(passage, exchange, answer))
        await _read_out(answer)
    finally:
        answer.reply.abort()


async def _read_out(answer: StreamAnswer) -> None:
    """The caller has everything. HTTP's own end comes after the terminal event: with it the provider's connection can
    serve the next call, without it every stream would cost a new one."""
    left = _READ_OUT_BYTES
    try:
        async with asyncio.timeout(_READ_OUT_S):
            async for chunk in answer.chunks:
                left -= len(chunk)
                if left < 0:
                    return
    except (TimeoutError, AttemptFailed):
        return


async def _pump(passage: Passage, services: Services, exchange: Exchange, answer: StreamAnswer) -> None:
    tap, settings, clock = answer.tap, services.settings, services.clock
    asked_ns = noted_ns = clock.monotonic_ns()
    noted_bytes = tap.output_bytes
    every_ns = int(settings.progress_s * 1e9)
    every_bytes = settings.progress_tokens * 3
    moved_ns, events = asked_ns, tap.events
    shrinks = may_shrink(answer.attempt)
    try:
        if shrinks and tap.usage is not None:
            shrinks = _still_shrinks(passage, services, answer)
        if answer.first:
            await exchange.write(answer.first)
        if answer.ended or _over(tap):
            return
        async for chunk in answer.chunks:
            now_ns = clock.monotonic_ns()
            passage.waited_ns += now_ns - asked_ns
            asked_ns = now_ns
            relayed = tap.feed(chunk)
            if tap.events != events:
                moved_ns, events = now_ns, tap.events
            elif now_ns - moved_ns >= settings.progress_idle_s * 1e9:
                raise no_progress(answer.attempt, settings.progress_idle_s)
            if now_ns - noted_ns >= every_ns or tap.output_bytes - noted_bytes >= every_bytes:
                noted_ns, noted_bytes = now_ns, tap.output_bytes
                _note_progress(passage, services, answer)
            if shrinks and tap.usage is not None:
                shrinks = _still_shrinks(passage, services, answer)
            asked_ns = clock.monotonic_ns()
            if relayed:
                await exchange.write(relayed)
            if _over(tap):
                return
        rest = tap.finish()
        if rest:
            await exchange.write(rest)
    finally:
        passage.waited_ns += clock.monotonic_ns() - asked_ns


def _still_shrinks(passage: Passage, services: Services, answer: StreamAnswer) -> bool:
    """Shrinks the hold at the first usage that tells the prompt, if more than the stream's end is to come."""
    usage = answer.tap.usage
    if usage is None or answer.tap.complete:
        return usage is None
    return not shrink(passage, services, answer.attempt, usage)


def _note_progress(passage: Passage, services: Services, answer: StreamAnswer) -> None:
    hold = answer.attempt.hold
    if not passage.surface.billed:
        return  # what has come of a free reply matters to nobody, a crash included
    progress = Progress(
        ts_ms=services.clock.now_ms(),
        attempt_id=hold.attempt_id,
        input_tokens=hold.input_estimate,
        output_tokens=estimate_tokens(answer.tap.output_bytes),
    )
    services.journal.append(progress, passage.call_id)
    services.limits.apply(progress, passage.call_id)


def _over(tap: StreamTap) -> bool:
    """The terminal event has come (and is kept back), or an error in its place."""
    return bool(tap.terminal or tap.error)


def _incomplete(answer: StreamAnswer) -> AttemptFailed:
    provider = answer.attempt.target.provider.name
    if answer.tap.error:
        return UpstreamStreamError(f"The provider {provider} reported an error inside the stream: {answer.tap.error}")
    return UpstreamLost(
        f"The provider {provider} ended the stream before it was complete. What was received is booked; try again."
    )


async def _cut(
    passage: Passage, services: Services, exchange: Exchange, answer: StreamAnswer, failure: AttemptFailed
) -> None:
    """Ends a stream that cannot be completed: booked, settled, an error event, no terminal event."""
    gone = exchange.disconnect.gone
    outcome = "client_gone" if gone else "truncated"
    passage.causes.append(f"{answer.attempt.hold.deployment}: {failure.cause}")
    status = 499 if gone else 200
    conclude(passage, services, answer.attempt, outcome, failure.cause, outcome, status, failure.code)
    await synced(passage, services)
    await exchange.finish(answer.tap.ending(failure))


def _last_bytes(passage: Passage, exchange: Exchange, answer: StreamAnswer) -> bytes:
    end = answer.attempt.end
    comment = b""
    if end is not None and exchange.headers.get(_USAGE_COMMENT_HEADER, "").lower() in _YES:
        cost = None if end.effective_nusd is None else print_usd(end.effective_nusd)
        comment = passage.surface.usage_comment(cost, end.state, print_id(CALL, passage.call_id))
    return comment + answer.tap.terminal
