"""Laws of the Messages tap: chunking changes nothing, and a slow reader that decodes everything agrees with it."""

from __future__ import annotations

import json
import re
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from dialects.examples_messages import (
    USAGE,
    block_start,
    block_stop,
    message_delta,
    message_start,
    text,
    thinking,
    tool_input,
)
from dialects.test_stream_laws import cut, outcome, payloads
from gateway.core.quirks import Quirks
from gateway.dialects.anthropic_messages.stream import MessagesTap

WORDS = ['"', "\\", '\\"', '"usage"', '"text":"', "\u2028", "event: error", "é", "message_stop", '"error"']
TEXT = st.text(max_size=12) | st.sampled_from(WORDS)
INDEX = st.integers(0, 3)
PLAIN = st.builds(text, TEXT, INDEX)
OTHER = st.one_of(
    st.builds(thinking, TEXT, INDEX),
    st.builds(tool_input, TEXT, INDEX),
    st.just(message_start()),
    st.builds(block_start, INDEX),
    st.builds(block_stop, INDEX),
    st.builds(message_delta, st.sampled_from(["end_turn", "refusal", None]), st.sampled_from([USAGE, None, {}])),
    st.just(block_start(0, type="fallback", to={"model": "m-2"})),
    st.just({"type": "ping"}),
    st.builds(lambda said: {"type": "future", "text": said}, TEXT),
    st.builds(lambda said: {"type": "error", "error": {"type": "x", "message": said}}, TEXT),
)


@st.composite
def printed(draw: st.DrawFn, named: bool = False) -> bytes:
    """A stream with one way of printing, most of it plain text, and rarely anything at all. `named`: every event has
    its name."""
    style = draw(st.sampled_from([{"separators": (",", ":")}, {}, {"separators": (",", ":"), "ensure_ascii": False}]))
    end = draw(st.sampled_from([b"\n", b"\n", b"\n", b"\r\n", b"\r"]))
    parts: list[bytes] = []
    begun, padded = draw(st.booleans()), draw(st.booleans())
    values = [message_start()] if begun else []
    values += draw(st.lists(PLAIN | PLAIN | PLAIN | OTHER, max_size=10))
    for value in values:
        data = json.dumps(value, **style).encode("utf-8", "replace")  # type: ignore[arg-type]
        name = b"" if not named and draw(st.integers(0, 9)) == 0 else b"event: " + value["type"].encode() + end
        pad = b" " * (draw(st.integers(0, 6)) if padded else 0)
        parts.append(name + b"data: " + data[:-1] + pad + data[-1:] + end + end)
    strange = [b": ping" + end + end, end, b"data: x" + end + b"data: y" + end + end, b"event: e" + end + end]
    for extra in draw(st.lists(st.sampled_from(strange) | st.binary(max_size=6), max_size=0 if named else 2)):
        parts.insert(draw(st.integers(0, len(parts))), extra)
    stop = b"event: message_stop" + end + b'data: {"type":"message_stop"}' + end
    ending = draw(st.sampled_from([b"", stop + end, stop, stop + end + b"data: more" + end + end]))
    return b"".join(parts) + ending


@given(printed(), st.lists(st.integers(0, 10_000), max_size=12), st.booleans())
@settings(max_examples=400)
def test_any_chunking_of_messages_gives_the_same(data: bytes, places: list[int], error_field: bool) -> None:
    quirks = Quirks(error_field=error_field)
    whole = outcome(MessagesTap(quirks), [data])
    assert outcome(MessagesTap(quirks), cut(data, places)) == whole
    assert outcome(MessagesTap(quirks), [data[at : at + 1] for at in range(len(data))]) == whole


@given(
    st.binary(max_size=60) | st.text('event:data \r\n"[]{}:x,', max_size=60).map(str.encode),
    st.lists(st.integers(0, 60)),
)
def test_any_bytes_in_any_chunking_of_messages(data: bytes, places: list[int]) -> None:
    assert outcome(MessagesTap(), cut(data, places)) == outcome(MessagesTap(), [data])


@given(printed(named=True), st.lists(st.integers(0, 10_000), max_size=4))
@settings(max_examples=400)
def test_a_reader_that_decodes_every_message_event_agrees(data: bytes, places: list[int]) -> None:
    read = MessagesTap()
    relayed = b"".join([read.feed(piece) for piece in cut(data, places)]) + read.finish()
    expected = Slow(data)
    assert read.output_bytes == expected.output_bytes
    assert read.events == expected.events
    assert (read.usage is not None) == expected.has_usage
    assert (bool(read.error), read.finish_reason) == (expected.has_error, expected.finish_reason)
    assert [json.loads(one) for one in payloads(relayed)] == expected.relayed
    assert bool(read.terminal) == expected.stopped


class Slow:
    """The same facts by decoding every event."""

    def __init__(self, data: bytes) -> None:
        self.events = self.output_bytes = 0
        self.has_usage = self.has_error = self.stopped = self.begun = False
        self.finish_reason = ""
        self.relayed: list[Any] = []
        for payload in payloads(data):
            if self.stopped:
                return
            self.read(payload, json.loads(payload))

    def read(self, payload: str, value: Any) -> None:
        kind = value["type"]
        self.begun = self.begun or kind == "message_start"
        self.events += kind != "ping" or self.begun
        if kind == "message_stop":
            self.stopped = True
            return
        self.relayed.append(value)
        if kind == "error":
            self.has_error = True
            return
        written = re.findall(r'"(?:text|thinking|partial_json)": ?"((?:[^"\\]|\\.)*)"', payload)
        self.output_bytes += sum(len(said) for said in written)
        self.finish_reason = value.get("delta", {}).get("stop_reason") or self.finish_reason
        if kind in ("message_start", "message_delta"):
            self.has_usage = self.has_usage or bool((value.get("message") or value).get("usage"))
