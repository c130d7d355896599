"""Streams as providers really send them, case by case."""

from __future__ import annotations

import json
from collections import deque
from itertools import repeat
from typing import Any

import pytest

from dialects.examples import CHAT_STREAM, DONE, USAGE, USAGE_ONLY, chunk, compact, event, text_event
from gateway.core.errors import UpstreamInvalidReply
from gateway.core.ports import StreamTap
from gateway.core.usage import Meter
from gateway.dialects.discover import discover

CHAT = discover()["chat.completions"]


def tap(**more: Any) -> StreamTap:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True, **more}
    return CHAT.tap(CHAT.read_head(compact(body)))


ASKED = {"stream_options": {"include_usage": True}}


def test_usage_is_stripped_only_if_not_asked_for() -> None:
    silent, asked = tap(), tap(**ASKED)
    without = CHAT_STREAM.replace(USAGE_ONLY, b"").replace(DONE, b"")
    assert silent.feed(CHAT_STREAM) == without
    assert asked.feed(CHAT_STREAM) == CHAT_STREAM.replace(DONE, b"")
    for read in (silent, asked):
        assert read.usage is not None
        assert read.usage.meters == {Meter.INPUT: 9, Meter.OUTPUT: 3}
        assert json.loads(read.usage.raw) == USAGE
        assert (read.model_served, read.upstream_id, read.finish_reason) == ("m-1", "chatcmpl-1", "stop")
        assert (read.events, read.output_bytes, read.error, read.complete) == (4, 5, "", True)


def test_usage_beside_a_choice_stays() -> None:
    """llama.cpp and Mistral: the last choice carries it."""
    last = event(chunk({}, "stop", usage=USAGE, timings={"x": 1}))
    read = tap()
    assert read.feed(text_event("a") + last + DONE) == text_event("a") + last
    assert read.usage is not None
    assert read.usage.output_tokens() == 3


def test_groq_usage() -> None:
    last = event(chunk({}, "stop", x_groq={"id": "req", "usage": USAGE}))
    read = tap()
    assert read.feed(text_event("a") + last) == text_event("a") + last
    assert read.usage is not None
    assert read.usage.input_tokens() == 9


def test_running_usage_is_replaced_never_summed() -> None:
    """vLLM with continuous_usage_stats."""
    read = tap()
    details = {"cached_tokens": 4}
    read.feed(
        text_event("a", usage=USAGE | {"completion_tokens": 1, "total_tokens": 10, "prompt_tokens_details": details})
    )
    assert read.usage is not None
    assert read.usage.output_tokens() == 1
    read.feed(text_event("b", usage=USAGE | {"completion_tokens": 2, "total_tokens": 11}))
    read.feed(event({"choices": [], "usage": USAGE}))
    assert read.usage.meters == {Meter.INPUT: 5, Meter.CACHE_READ: 4, Meter.OUTPUT: 3}


def test_usage_with_tier_and_fault() -> None:
    read = tap()
    read.feed(event(chunk({"content": "a"}, service_tier="flex")))
    read.feed(event({"choices": [], "usage": USAGE | {"prompt_tokens_details": {"cached_tokens": 10}}}))
    assert read.usage is not None
    assert read.usage.served_tier == "flex"
    assert "less than its cached" in read.usage.fault


def test_azures_first_event_has_neither_id_nor_choices() -> None:
    first = event({"id": "", "model": "", "choices": [], "prompt_filter_results": [{"prompt_index": 0}]})
    read = tap()
    assert read.feed(first) == first
    read.feed(text_event("a"))
    assert (read.events, read.upstream_id, read.model_served) == (2, "chatcmpl-1", "m-1")


@pytest.mark.parametrize("done", [b"data: [DONE]\n\n", b"data:[DONE]\n\n", b"data: [DONE]  \r\n\r\n", b"data: [DONE]"])
def test_nothing_follows_done(done: bytes) -> None:
    read = tap()
    assert read.feed(text_event("a") + done) + read.finish() == text_event("a")
    assert read.terminal.startswith(done)
    assert read.terminal.endswith((b"\n\n", b"\r\n\r\n"))
    assert read.feed(text_event("b")) + read.finish() == b""
    assert (read.events, read.complete) == (1, True)


def test_a_text_that_says_done_is_text() -> None:
    read = tap()
    said = text_event("a") + text_event("[DONE]") + text_event('data: [DONE]\n\n"error": {"usage": 1}')
    assert read.feed(said) == said
    assert (read.terminal, read.error, read.usage, read.events) == (b"", "", None, 3)


@pytest.mark.parametrize(
    ("error", "says"),
    [({"message": "overloaded", "code": 503}, "overloaded"), ("too bad", "too bad"), ({"x": 1}, '{"x":1}'), ({}, "{}")],
)
def test_an_error_event_is_returned_and_told(error: Any, says: str) -> None:
    read = tap()
    assert read.feed(event({"error": error})) == event({"error": error})
    assert (read.events, read.error, read.complete) == (1, says, False)
    late = tap()
    assert late.feed(text_event("a") + event({"error": error}) + DONE) == text_event("a") + event({"error": error})
    assert (late.events, late.error, late.complete) == (2, says, False)


def test_no_error_is_no_error() -> None:
    read = tap()
    read.feed(text_event("a", error=None) + text_event("b", error=None))
    assert read.error == ""


def test_a_stream_that_just_stops_is_not_complete() -> None:
    read = tap()
    read.feed(text_event("a"))
    assert not read.complete
    several = tap(n=2)
    several.feed(event(chunk({}, "stop")))
    assert not several.complete
    several.feed(event(chunk({}, "length", index=1)))
    assert several.complete
    assert several.finish_reason == "stop"


def test_refusal() -> None:
    read = tap()
    read.feed(event(chunk({"role": "assistant", "content": "", "refusal": None})))
    assert not read.refusal
    read.feed(event(chunk({"refusal": "I can"})) + event(chunk({"refusal": "not"})))
    assert read.refusal
    assert read.output_bytes == 8


def test_output_bytes_count_text_and_nothing_else() -> None:
    read = tap()
    read.feed(text_event("", obfuscation="xxxxxxxx"))
    call = {"tool_calls": [{"index": 0, "id": "call_1", "function": {"name": "f", "arguments": '{"a":1}'}}]}
    read.feed(text_event("four", obfuscation="xxxxxxxxxxx") + event(chunk({"reasoning_content": "five5"})))
    assert read.output_bytes == 9
    read.feed(event(chunk(call)))
    assert read.output_bytes == 9 + len(json.dumps('{"a":1}')) - 2
    spaced = tap()
    for text in ("", 'q"q', "back\\", "é"):
        spaced.feed(b"data: " + json.dumps(chunk({"content": text})).encode() + b"\n\n")
    assert spaced.output_bytes == 4 + 6 + 6, "quotes and backslashes are escaped once, é is written \\u00e9"


def test_comments_and_unknown_events_pass() -> None:
    odd = b": OPENROUTER PROCESSING\n\n" + b"event: ping\ndata: {}\n\n" + b"id: 7\n\n" + b"data: not json\n\n" + b"\n"
    read = tap()
    assert read.feed(odd) + read.finish() == odd
    assert (read.events, read.error) == (2, "")


def test_data_on_several_lines_is_one_event() -> None:
    pretty = json.dumps({"id": "x", "model": "y", "choices": [], "usage": USAGE}, indent=1).encode()
    lines = b"".join(b"data: " + line + b"\n" for line in pretty.split(b"\n")) + b"\n"
    read = tap()
    assert read.feed(lines) == b""
    assert read.usage is not None
    assert (read.upstream_id, read.usage.input_tokens()) == ("x", 9)


def test_line_separators_of_other_alphabets_do_not_cut() -> None:
    said = text_event("a\u2028b\u2029c\x85d") + text_event("e\u2028f")
    read = tap()
    assert read.feed(said) == said
    assert read.events == 2


def test_the_last_event_without_its_blank_line() -> None:
    for ending in (b"", b"\n"):
        read = tap()
        said = event(chunk({}, "stop"))[:-2] + ending
        assert read.feed(said) == b""
        assert read.finish() == event(chunk({}, "stop"))
        assert read.complete


@pytest.mark.parametrize("ending", [b"", b"\r", b"\n", b"\r\n"])
def test_what_follows_an_unfinished_event_is_an_event_of_its_own(ending: bytes) -> None:
    read = tap()
    rest = read.feed(event(chunk({}, "stop"))[:-2] + ending) + read.finish()
    lines = (rest + b"data: next\n\n").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    assert lines == event(chunk({}, "stop")) + b"data: next\n\n"


@pytest.mark.parametrize("size", [100_000, 3])
def test_an_endless_line_is_cut_off(size: int) -> None:
    """A provider that never ends its line costs 4 MiB, and linear time even in the smallest pieces."""
    read = tap()
    piece = b"a" * size
    with pytest.raises(UpstreamInvalidReply, match="4194304"):
        deque(map(read.feed, repeat(piece, 6 * 1024 * 1024 // size)), maxlen=0)


def test_an_event_over_the_limit_is_refused_at_any_chunking() -> None:
    with pytest.raises(UpstreamInvalidReply):
        tap().feed(text_event("a" * 5_000_000))
    fits = text_event("a" * 4_000_000)
    assert tap().feed(fits) == fits
