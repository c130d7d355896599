"""What an attempt has opened: a whole reply, or a stream whose first event is there; and the headers of answers."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec

from gateway.core.ids import CALL, print_id
from gateway.core.money import print_usd
from gateway.core.ports import StreamTap
from gateway.core.upstream import UpstreamReply
from gateway.flow.state import Attempt, Passage
from gateway.limits.headers import kept


class WholeAnswer(msgspec.Struct, frozen=True):
    """A reply read to its end; `status` 4xx is the provider's own refusal, passed on unchanged."""

    attempt: Attempt
    status: int
    content_type: str
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


class StreamAnswer(msgspec.Struct, frozen=True):
    """A stream from its first event on: `first` is what may be relayed already, `chunks` what follows."""

    attempt: Attempt
    reply: UpstreamReply
    chunks: AsyncIterator[bytes]
    tap: StreamTap
    headers: tuple[tuple[bytes, bytes], ...]
    first: bytes
    ended: bool


Answer = WholeAnswer | StreamAnswer


def call_headers(passage: Passage) -> list[tuple[bytes, bytes]]:
    """The headers of every answer, refusals included."""
    call_id = print_id(CALL, passage.call_id).encode()
    return [*[(name, call_id) for name in passage.surface.id_headers], *passage.headers]


def answer_headers(
    passage: Passage, attempt: Attempt, upstream: tuple[tuple[bytes, bytes], ...], now_ns: int
) -> list[tuple[bytes, bytes]]:
    """Headers of an answer that came from a deployment: who served it, at what cost where known, our own share."""
    deployment = attempt.hold.deployment.encode("latin-1", "replace")
    headers = [*call_headers(passage), (b"x-faregate-deployment", deployment)]
    if attempt.capped:
        headers.append((b"x-faregate-budget-clamped", b"%d" % attempt.capped))
    if attempt.dropped:
        headers.append((b"x-faregate-dropped-params", ", ".join(attempt.dropped).encode("latin-1", "replace")))
    end = attempt.end
    if end is not None:
        headers.append((b"x-faregate-cost-state", end.state.encode()))
        if end.effective_nusd is not None:
            headers.append((b"x-faregate-cost-usd", print_usd(end.effective_nusd).encode()))
    overhead_us = max(0, now_ns - passage.received_ns - passage.waited_ns) // 1000
    headers.append((b"x-faregate-overhead-us", str(overhead_us).encode()))
    headers.extend(upstream)
    headers.extend(kept(passage.headers, upstream))
    return headers
