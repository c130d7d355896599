"""Laws of a tap: chunking changes nothing, and a slow reader that decodes everything agrees with it."""

from __future__ import annotations

import json
import re
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from dialects.examples import USAGE, chunk, compact
from gateway.core.ports import StreamTap
from gateway.core.quirks import Quirks, ReportedCost
from gateway.dialects.discover import discover

CHAT = discover()["chat.completions"]
COMPLETIONS = discover()["completions"]

NONE = Quirks()
QUIRKS = Quirks(usage_in="choice_event", done=False, error_field=True, reported_cost=ReportedCost(("cost",)))

TEXT = st.text(max_size=12) | st.sampled_from(['"', "\\", '\\"', "[DONE]", '"content":"', "\u2028", '"usage":{', "é"])
FINISH = st.sampled_from(["stop", "length", "tool_calls"])
PLAIN = st.builds(lambda text: chunk({"content": text}), TEXT)
CALL = st.builds(lambda text: chunk({"tool_calls": [{"index": 0, "function": {"arguments": text}}]}), TEXT)
OTHER = st.one_of(
    st.builds(lambda text: chunk({"reasoning_content": text}), TEXT),
    st.builds(lambda text: chunk({"refusal": text}), TEXT),
    st.builds(lambda reason, index: chunk({}, reason, index=index), FINISH, st.integers(0, 2)),
    st.builds(lambda text: {"text": text, "choices": [{"index": 0, "text": text, "finish_reason": None}]}, TEXT),
    st.just({"id": "", "model": "", "choices": []}),
    st.just({"choices": [], "usage": USAGE}),
    st.builds(lambda text: {"error": {"message": text}}, TEXT),
)
SHARED = st.sampled_from(
    [{}, {"usage": None}, {"usage": None, "obfuscation": "pad"}, {"usage": USAGE}, {"x_groq": None}]
)


@st.composite
def printed(draw: st.DrawFn, errors: bool = False) -> bytes:
    """A stream with one way of printing, most of it plain text, and rarely anything at all. With `errors` there may be
    ones that only a field's name tells."""
    style = draw(st.sampled_from([{"separators": (",", ":")}, {}, {"separators": (",", ":"), "ensure_ascii": False}]))
    end = draw(st.sampled_from([b"\n", b"\n", b"\n", b"\r\n", b"\r"]))
    shared = draw(SHARED)
    parts: list[bytes] = []
    for value in draw(st.lists(PLAIN | PLAIN | PLAIN | CALL | OTHER, max_size=10)):
        padded = shared | ({"obfuscation": draw(st.text("ab", max_size=3))} if "obfuscation" in shared else {})
        text = json.dumps(padded | value if draw(st.booleans()) else value | padded, **style)  # type: ignore[arg-type]
        parts.append(b"data: " + text.encode("utf-8", "replace") + end + end)
    strange = [
        b": ping" + end + end,
        end,
        b"data: x" + end + b"data: y" + end + end,
        b"event: e" + end + end,
        b"data:" + end,
    ]
    if errors:
        strange += [b"event: error" + end + b"data: x" + end + end, b'error: {"message":"m"}' + end + end]
    for extra in draw(st.lists(st.sampled_from(strange) | st.binary(max_size=6), max_size=2)):
        parts.insert(draw(st.integers(0, len(parts))), extra)
    ending = draw(st.sampled_from([b"", b"data: [DONE]" + end + end, b"data: [DONE] ", b'data: {"choices":[]}' + end]))
    return b"".join(parts) + ending


def tap(choices: int = 1, asked: bool = False, quirks: Quirks = NONE) -> StreamTap:
    body: dict[str, Any] = {"model": "m", "messages": [{"role": "user"}], "stream": True, "n": choices}
    return CHAT.tap(CHAT.read_head(compact(body | {"stream_options": {"include_usage": asked}})), quirks)


def outcome(read: StreamTap, chunks: list[bytes]) -> tuple[object, ...]:
    relayed = b"".join([read.feed(piece) for piece in chunks]) + read.finish()
    facts = (read.usage, read.model_served, read.finish_reason, read.refusal, read.upstream_id, read.output_bytes)
    return (relayed, *facts, read.events, read.terminal, read.error, read.complete)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    at = sorted({place % (len(data) + 1) for place in places})
    return [data[start:end] for start, end in zip([0, *at], [*at, len(data)], strict=True)]


@given(printed(), st.lists(st.integers(0, 10_000), max_size=12), st.booleans(), st.integers(1, 2))
@settings(max_examples=400)
def test_any_chunking_gives_the_same(data: bytes, places: list[int], asked: bool, choices: int) -> None:
    whole = outcome(tap(choices, asked), [data])
    assert outcome(tap(choices, asked), cut(data, places)) == whole
    assert outcome(tap(choices, asked), [data[at : at + 1] for at in range(len(data))]) == whole


@given(printed(errors=True), st.lists(st.integers(0, 10_000), max_size=12), st.booleans())
@settings(max_examples=200)
def test_any_chunking_gives_the_same_with_every_quirk(data: bytes, places: list[int], asked: bool) -> None:
    whole = outcome(tap(1, asked, QUIRKS), [data])
    assert outcome(tap(1, asked, QUIRKS), cut(data, places)) == whole
    assert outcome(tap(1, asked, QUIRKS), [data[at : at + 1] for at in range(len(data))]) == whole


@given(printed())
@settings(max_examples=200)
def test_moving_usage_loses_no_event_and_says_it_at_most_once(data: bytes) -> None:
    read = tap(1, True, Quirks(usage_in="choice_event"))
    relayed = payloads(read.feed(data) + read.finish())
    plain = tap(1, True)
    before = payloads(plain.feed(data) + plain.finish())
    assert (read.usage, read.events, read.output_bytes) == (plain.usage, plain.events, plain.output_bytes)
    assert len(relayed) - len(before) in (0, 1)
    for old, new in zip(before, relayed, strict=False):
        assert old == new or json.loads(old) | {"usage": None} == json.loads(new)


@given(
    st.binary(max_size=60) | st.text('data: \r\n"[]{}:x,', max_size=60).map(str.encode), st.lists(st.integers(0, 60))
)
def test_any_bytes_in_any_chunking(data: bytes, places: list[int]) -> None:
    assert outcome(tap(), cut(data, places)) == outcome(tap(), [data])


@given(printed(), st.booleans())
@settings(max_examples=400)
def test_a_reader_that_decodes_everything_agrees(data: bytes, asked: bool) -> None:
    read = tap(asked=asked)
    relayed = read.feed(data) + read.finish()
    expected = Slow(data, asked)
    assert read.events == expected.events
    assert read.output_bytes == expected.output_bytes or (expected.malformed and read.output_bytes > 0)
    assert (read.usage is not None) == expected.has_usage
    assert bool(read.error) == expected.has_error
    assert read.finish_reason == expected.finish_reason
    assert [payload for payload in payloads(relayed) if payload != "[DONE]"] == expected.relayed


def payloads(data: bytes) -> list[str]:
    """The data of each event by the standard; an unfinished last event counts too, a byte order mark is passed over."""
    found: list[str] = []
    lines: list[str] = []
    fresh = True
    for line in [*re.split("\r\n|\n|\r", data.decode("latin-1")), ""]:
        name, _, value = (line.removeprefix("\xef\xbb\xbf") if fresh else line).partition(":")
        fresh = line == ""
        if line == "" and lines:
            found.append("\n".join(lines))
            lines = []
        elif name == "data":
            lines.append(value.removeprefix(" "))
    return found


class Slow:
    """The same facts by decoding every event."""

    TEXTS = ("content", "reasoning_content", "reasoning", "refusal", "arguments")

    def __init__(self, data: bytes, asked: bool) -> None:
        self.events = self.output_bytes = 0
        self.has_usage = self.has_error = self.malformed = False
        self.finish_reason = ""
        self.relayed: list[str] = []
        for payload in payloads(data):
            if payload.lstrip().startswith("[DONE]"):
                break
            self.events += 1
            if not self.read(payload, asked):
                self.relayed.append(payload)

    def read(self, payload: str, asked: bool) -> bool:
        """True when it is the usage-only chunk and not relayed."""
        try:
            value = json.loads(payload)
        except ValueError:
            self.malformed = True  # what looks like text in it may be counted
            return False
        if not isinstance(value, dict):
            return False
        for name in self.TEXTS:
            written = re.findall(rf'"{name}": ?"((?:[^"\\]|\\.)*)"', payload)
            self.output_bytes += sum(len(text) for text in written)
        choices = value.get("choices") or []
        for choice in choices:
            self.finish_reason = self.finish_reason or choice.get("finish_reason") or ""
        self.has_error = self.has_error or value.get("error") is not None
        usage = value.get("usage")
        self.has_usage = self.has_usage or bool(usage)
        return usage is not None and not choices and not asked and not self.has_error
