"""What an event of a stream costs in CPU, as it comes and translated, for every pair of dialects.

One process, no network: the taps of the path are fed one event at a time, as providers send them. The stream is an
answer of 1000 deltas of text with a tool call of 200 at its end: `python -m benchmarks.translation`.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from gateway.core.neutral import Ask, Began, Event, Finish, Finished, PartBegan, PartEnded, PartGrew
from gateway.core.ports import StreamTap
from gateway.core.usage import Meter, Usage, UsageSource
from gateway.dialects.anthropic_messages.codec import CODEC as MESSAGES
from gateway.dialects.discover import discover, discover_translations
from gateway.dialects.openai_chat.codec import CODEC as CHAT
from gateway.dialects.openai_responses.codec import CODEC as RESPONSES
from gateway.dialects.sse import EventCutter
from gateway.dialects.translate.ports import Codec

TEXTS, ARGUMENTS, ROUNDS = 1000, 200, 15
CODECS: dict[str, Codec] = {codec.surface: codec for codec in (CHAT, MESSAGES, RESPONSES)}
_TURNS: list[Any] = [{"role": "user", "content": "hi"}]
_TOOL = {"name": "look", "parameters": {"type": "object", "properties": {"a": {"type": "string"}}}}
ASKED: dict[str, dict[str, Any]] = {
    "chat.completions": {
        "messages": _TURNS,
        "stream_options": {"include_usage": True},
        "tools": [{"type": "function", "function": _TOOL}],
    },
    "messages": {
        "messages": _TURNS,
        "max_tokens": 4000,
        "tools": [{"name": "look", "input_schema": _TOOL["parameters"]}],
    },
    "responses": {"input": "hi", "tools": [{"type": "function", **_TOOL}]},
}
USAGE = Usage({Meter.INPUT: 100, Meter.OUTPUT: 1200}, UsageSource.PROVIDER)


def _said() -> Iterator[Event]:
    yield Began("up1", "model-1")
    yield PartBegan(0, "text")
    for number in range(TEXTS):
        yield PartGrew(0, f" word{number % 10}")
    yield PartEnded(0)
    yield PartBegan(1, "tool", "call_1", "look")
    yield PartGrew(1, '{"a":"')
    for _ in range(ARGUMENTS):
        yield PartGrew(1, "abc ")
    yield PartGrew(1, '"}')
    yield PartEnded(1)
    yield Finished(Finish.TOOLS)


def stream_of(surface: str) -> list[bytes]:
    """The events of the answer as a provider of this dialect sends them."""
    writer = CODECS[surface].writer(Ask("m", ()), True, 1_790_000_000)
    said = b"".join([writer.write(event) for event in _said()])
    return EventCutter().split(said + b"".join(writer.end(USAGE)))


def event_costs(rounds: int = ROUNDS) -> dict[tuple[str, str], float]:
    """Median µs an event by (the caller's dialect, the provider's); the same twice: passed as it came."""
    surfaces = discover()
    wires = {(own, wire.name): wire for own, made in discover_translations(surfaces).items() for wire in made}
    costs = {}
    for theirs in CODECS:
        events = stream_of(theirs)
        for own in CODECS:
            asked = json.dumps({"model": "m", "stream": True, **ASKED[own]}).encode()
            head = surfaces[own].read_head(asked)

            def tap(own: str = own, theirs: str = theirs, asked: bytes = asked, head: Any = head) -> StreamTap:
                if own == theirs:
                    return surfaces[own].tap(head)
                attempt = wires[own, theirs].for_attempt(8000, 0)
                attempt.outgoing(asked, head, "model-1")
                return attempt.tap(head)

            costs[own, theirs] = statistics.median([_timed(tap, events) for _ in range(rounds)])
    return costs


def _timed(make: Callable[[], StreamTap], events: list[bytes]) -> float:
    tap = make()
    started = time.process_time_ns()
    for event in events:
        tap.feed(event)
    tap.finish()
    took = time.process_time_ns() - started
    if not tap.complete:
        raise AssertionError(f"the stream did not end: {tap.error}")
    return took / 1000 / len(events)


def main() -> None:
    for (own, theirs), cost in event_costs().items():
        how = "as it comes" if own == theirs else f"from {theirs}"
        sys.stdout.write(f"{own:<17} {how:<22} {cost:6.2f} µs an event {1_000_000 / cost:10,.0f} events/s\n")


if __name__ == "__main__":
    main()
