"""What a tap makes of a Messages stream: each case a stream that providers really send, or could."""

from __future__ import annotations

from typing import Any

import pytest

from dialects.examples_messages import (
    MESSAGE_STREAM,
    PING,
    STOP,
    block_start,
    block_stop,
    event,
    message_delta,
    message_start,
    text,
    thinking,
    tool_input,
)
from gateway.core.errors import UpstreamInvalidReply, UpstreamLost
from gateway.core.quirks import Quirks
from gateway.core.usage import Meter, UsageSource
from gateway.dialects.anthropic_messages.stream import MessagesTap
from gateway.dialects.sse import EVENT_BYTES_MAX


def read(*events: bytes | dict[str, Any], quirks: Quirks | None = None) -> tuple[MessagesTap, bytes]:
    tap = MessagesTap(quirks or Quirks())
    written = [one if isinstance(one, bytes) else event(one) for one in events]
    relayed = b"".join([tap.feed(one) for one in written])
    return tap, relayed + tap.finish()


def test_everything_is_relayed_but_the_end() -> None:
    tap, relayed = read(MESSAGE_STREAM)
    assert relayed + tap.terminal == MESSAGE_STREAM
    assert tap.terminal == STOP
    assert (tap.model_served, tap.upstream_id, tap.finish_reason, tap.refusal) == ("m-1", "msg_1", "end_turn", False)
    assert (tap.complete, tap.error, tap.output_bytes, tap.unmetered_bytes) == (True, "", 5, 0)
    assert tap.usage is not None
    assert (tap.usage.meters, tap.usage.source) == ({Meter.INPUT: 9, Meter.OUTPUT: 3}, UsageSource.PROVIDER)


def test_nothing_follows_the_end() -> None:
    tap, relayed = read(MESSAGE_STREAM + event(text("more")), event(text("and more")))
    assert b"more" not in relayed
    assert tap.terminal == STOP


def test_a_stream_that_just_stops_is_not_complete_and_gets_an_error() -> None:
    for end in range(1, 7):
        pieces = [event(message_start()), event(block_start()), event(text("x")), event(block_stop())]
        tap, _ = read(*[*pieces, event(message_delta()), PING][:end])
        assert not tap.complete
        ending = tap.ending(UpstreamLost("It ended."))
        assert ending.startswith(
            b'event: error\ndata: {"type":"error","error":{"type":"api_error","message":"It ended."'
        )


def test_the_output_is_estimated_until_it_is_told() -> None:
    start = message_start(usage={"input_tokens": 1200, "cache_read_input_tokens": 50, "output_tokens": 1})
    tap, _ = read(start, block_start(), text("a" * 255))
    assert tap.usage is not None
    assert tap.usage.source is UsageSource.ESTIMATED
    assert tap.usage.meters == {Meter.INPUT: 1200, Meter.CACHE_READ: 50, Meter.OUTPUT: 85}
    assert tap.unmetered_bytes == 0
    tap.feed(event(text("b" * 30)))
    assert tap.usage.meters[Meter.OUTPUT] == 95


def test_the_last_running_total_counts_and_what_it_leaves_out_stays() -> None:
    start = message_start(
        usage={
            "input_tokens": 2679,
            "cache_creation_input_tokens": 30,
            "cache_creation": {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20},
            "output_tokens": 3,
        }
    )
    first = message_delta(None, {"output_tokens": 210, "input_tokens": 10682})
    tap, _ = read(start, first, text("more", 1), message_delta("end_turn", {"output_tokens": 510}), STOP)
    assert tap.usage is not None
    assert tap.usage.meters == {
        Meter.INPUT: 10682,
        Meter.CACHE_WRITE: 10,
        Meter.CACHE_WRITE_1H: 20,
        Meter.OUTPUT: 510,
    }


def test_output_after_the_last_total_is_told_apart() -> None:
    tap, _ = read(message_start(), text("ab"), message_delta(None), text("cde"))
    assert tap.unmetered_bytes == 3


@pytest.mark.parametrize("again", [1, 2])
def test_a_message_that_begins_twice_is_not_counted_twice(again: int) -> None:
    second = message_start(id="msg_2", usage={"input_tokens": 9, "output_tokens": 1})
    tap, relayed = read(message_start(), *[second] * again, block_start(), text("x"), message_delta(), STOP)
    assert tap.usage is not None
    assert tap.usage.meters == {Meter.INPUT: 9, Meter.OUTPUT: 3}
    assert tap.upstream_id == "msg_1"
    assert relayed.count(b"event: message_start") == 1 + again


def test_iterations_are_parts() -> None:
    told = {
        "input_tokens": 20,
        "output_tokens": 5,
        "iterations": [
            {"type": "compaction", "input_tokens": 100, "output_tokens": 7},
            {"type": "message", "input_tokens": 20, "output_tokens": 5},
        ],
    }
    tap, _ = read(message_start(usage={"input_tokens": 20, "output_tokens": 1}), message_delta(usage=told), STOP)
    assert tap.usage is not None
    assert [part.label for part in tap.usage.parts] == ["compaction", "message"]
    assert tap.usage.meters == {Meter.INPUT: 120, Meter.OUTPUT: 12}


FALLBACK = block_start(0, type="fallback", **{"from": {"model": "m-1"}}, to={"model": "m-2"})


def test_a_fallback_changes_the_model_that_is_billed() -> None:
    tap, relayed = read(message_start(), FALLBACK, block_stop(), block_start(1), text("x", 1), message_delta(), STOP)
    assert tap.model_served == "m-2"
    assert tap.usage is not None
    assert [(part.model, part.meters) for part in tap.usage.parts] == [("m-2", {Meter.INPUT: 9, Meter.OUTPUT: 3})]
    assert b'"fallback"' in relayed


def test_the_word_of_a_refusal() -> None:
    tap, _ = read(message_start(), message_delta("refusal"), STOP)
    assert (tap.finish_reason, tap.refusal) == ("refusal", True)


OVERLOADED = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}


def test_an_error_is_relayed_as_it_came_and_nothing_is_added() -> None:
    tap, relayed = read(message_start(), text("x"), OVERLOADED)
    assert relayed.endswith(event(OVERLOADED))
    assert (tap.error, tap.complete) == ("Overloaded", False)
    assert tap.ending(UpstreamLost("It ended.")) == b""


@pytest.mark.parametrize(
    "unnamed",
    [
        b'data: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n',
        b'data: {"error":{"message":"Overloaded","code":500}}\n\n',
        b'event: whatever\ndata: {"error":"Overloaded"}\n\n',
    ],
)
def test_an_error_without_a_name_gets_one(unnamed: bytes) -> None:
    tap, relayed = read(message_start(), b"\n" + unnamed)
    expected = b'event: error\ndata: {"type":"error","error":{"type":"api_error","message":"Overloaded"}}\n\n'
    assert relayed == event(message_start()) + b"\n" + expected
    assert tap.error == "Overloaded"


def test_an_error_field_is_made_an_event_where_a_provider_is_known_for_it() -> None:
    said = b'error: {"code":500,"message":"out of room"}\n\n'
    tap, relayed = read(message_start(), said, quirks=Quirks(error_field=True))
    assert tap.error == "out of room"
    assert relayed.count(b"event: error\n") == 1
    plain, untouched = read(message_start(), said)
    assert plain.error == ""
    assert untouched.endswith(said)


def test_an_error_before_the_message_is_the_first_event_pings_or_not() -> None:
    for before in (b"", PING, PING * 3, b": comment\n\n"):
        tap, _ = read(before, OVERLOADED)
        assert (tap.events, tap.error) == (1, "Overloaded")


def test_pings_are_progress_only_once_the_message_has_begun() -> None:
    tap, relayed = read(PING, PING)
    assert (tap.events, relayed) == (0, PING + PING)
    tap, _ = read(PING, message_start(), PING)
    assert tap.events == 2


def test_comments_unknown_events_and_strange_line_ends_pass() -> None:
    strange = b": hello\r\n\r\n" + event({"type": "future_event", "x": "\u2028"}, b"\r\n") + b"event: lonely\n\n"
    tap, relayed = read(
        message_start(), strange, text("a\u2028b"), message_delta(), event({"type": "message_stop"}, b"\r\n")
    )
    assert strange in relayed
    assert "\u2028".encode() in relayed
    assert tap.complete
    assert tap.output_bytes == len("a\u2028b".encode())


def test_blanks_that_pad_an_event_pass_and_count_for_nothing() -> None:
    padded = [event(text("word"))[:-3] + b" " * blanks + b"}\n\n" for blanks in (0, 7, 1, 30)]
    for chunks in (padded, [b"".join(padded)], [one for one in padded for one in (one[:40], one[40:])]):
        tap, relayed = read(message_start(), text("word"), *chunks)
        assert relayed == event(message_start()) + event(text("word")) + b"".join(padded)
        assert (tap.events, tap.output_bytes) == (6, 20)


def test_every_kind_of_written_text_counts_and_signatures_do_not() -> None:
    signed = {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "zzzz"}}
    tap, _ = read(message_start(), thinking("abc"), signed, text("de", 1), tool_input('{"a":1}', 2))
    assert tap.output_bytes == 3 + 2 + len('{\\"a\\":1}')


def test_a_tools_words_are_not_taken_for_the_streams_own() -> None:
    tap, relayed = read(
        message_start(), tool_input('{"usage":{"output_tokens":999},"error":"x"}', 0), message_delta(), STOP
    )
    assert (tap.error, tap.complete) == ("", True)
    assert tap.usage is not None
    assert tap.usage.meters[Meter.OUTPUT] == 3
    assert b"999" in relayed


def test_an_event_beyond_four_mebibytes_is_refused() -> None:
    tap = MessagesTap()
    with pytest.raises(UpstreamInvalidReply):
        tap.feed(b"data: " + b"x" * (EVENT_BYTES_MAX + 1))
    assert MessagesTap().feed(event(text("x" * (EVENT_BYTES_MAX - 200))))


def test_faulty_usage_has_no_price() -> None:
    tap, _ = read(message_start(), message_delta(usage={"output_tokens": "many"}), STOP)
    assert tap.usage is not None
    assert "output_tokens" in tap.usage.fault
    assert tap.usage.meters == {}


def test_a_compaction_lowers_the_prompt_that_was_told_first() -> None:
    """The account at the end is the whole call's: what the prompt lost stands among its runs, and nothing twice."""
    runs = [
        {"type": "compaction", "input_tokens": 83_000, "output_tokens": 500},
        {"type": "message", "input_tokens": 224, "output_tokens": 28},
    ]
    usage = {"input_tokens": 224, "output_tokens": 28, "iterations": runs}
    began = message_start(usage={"input_tokens": 83_555, "output_tokens": 1, "service_tier": "priority"})
    tap, _ = read(began, block_start(), text("Yes."), block_stop(), message_delta(usage=usage), STOP)
    assert tap.usage is not None
    assert not tap.usage.fault
    assert (tap.usage.input_tokens(), tap.usage.output_tokens()) == (83_224, 528)
    assert tap.usage.served_tier == "priority", "what only the beginning said is kept"
