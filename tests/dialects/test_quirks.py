"""What a dialect does for a provider's quirks, one by one; rows combine them (`tests/providers`)."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dialects.examples import DONE, USAGE, USAGE_ONLY, chunk, compact, event, text_event
from gateway.core.quirks import PLAIN, REPORTED_NUSD_MAX, Quirks, ReportedCost, read_amount
from gateway.dialects.openai_chat.stream import OpenAITap
from gateway.dialects.openai_chat.surface import MEMBER as CHAT
from gateway.dialects.openai_chat.usage import read_usage, reported_nusd
from gateway.dialects.openai_simple.embeddings import MEMBER as EMBEDDINGS

BESIDE = Quirks(usage_in="choice_event")
OWN = event({"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "m-1", "choices": [], "usage": USAGE})


def tap(quirks: Quirks, asked: bool = True) -> OpenAITap:
    body = {"model": "m", "messages": [{}], "stream": True, "stream_options": {"include_usage": asked}}
    return CHAT.tap(CHAT.read_head(compact(body)), quirks)


def through(read: OpenAITap, stream: bytes) -> bytes:
    return read.feed(stream) + read.finish()


# ---------------------------------------------------------------- where usage stands


def test_usage_beside_a_choice_becomes_an_event_of_its_own_and_is_said_once() -> None:
    last = event(chunk({}, "stop", usage=USAGE))
    read = tap(BESIDE)
    assert through(read, text_event("a") + last + DONE) == text_event("a") + event(chunk({}, "stop", usage=None)) + OWN
    assert read.terminal == DONE
    assert read.usage is not None
    assert read.usage.output_tokens() == 3


def test_running_usage_is_said_once_too() -> None:
    said = [
        text_event(text, usage=USAGE | {"completion_tokens": n, "total_tokens": 9 + n})
        for n, text in ((1, "a"), (2, "b"))
    ]
    last = event(chunk({}, "stop", usage=USAGE))
    relayed = through(tap(BESIDE), b"".join(said) + last + DONE)
    assert (
        relayed
        == text_event("a", usage=None) + text_event("b", usage=None) + event(chunk({}, "stop", usage=None)) + OWN
    )


def test_a_provider_that_does_both_says_it_once() -> None:
    last = event(chunk({}, "stop", usage=USAGE))
    assert through(tap(BESIDE), last + USAGE_ONLY + DONE) == event(chunk({}, "stop", usage=None)) + USAGE_ONLY


@pytest.mark.parametrize(
    ("quirks", "asked"),
    [(BESIDE, False), (PLAIN, True), (PLAIN, False)],
    ids=["not asked", "plain", "plain, not asked"],
)
def test_otherwise_the_providers_bytes_stay(quirks: Quirks, asked: bool) -> None:
    said = text_event("a") + event(chunk({}, "stop", usage=USAGE))
    assert through(tap(quirks, asked), said + DONE) == said


def test_usage_in_x_groq_is_said_where_clients_look() -> None:
    last = event(chunk({}, "stop", x_groq={"id": "r", "usage": USAGE}))
    assert through(tap(BESIDE), last + DONE) == last + OWN
    assert through(tap(BESIDE, asked=False), last + DONE) == last


def test_moved_usage_comes_without_a_done_and_not_after_an_error() -> None:
    last = event(chunk({}, "stop", usage=USAGE))
    assert through(tap(BESIDE), last) == event(chunk({}, "stop", usage=None)) + OWN
    error = event({"error": {"message": "lost"}})
    assert through(tap(BESIDE), last + error) == event(chunk({}, "stop", usage=None)) + error


def test_an_event_with_other_fields_keeps_its_usage() -> None:
    """Nothing but data lines can be written anew without loss; the usage is then said twice rather than never."""
    last = b"id: 7\n" + event(chunk({}, "stop", usage=USAGE))
    assert through(tap(BESIDE), last + DONE) == last + OWN


# ---------------------------------------------------------------- how a stream ends


def test_a_missing_done_is_added_to_a_complete_stream_only() -> None:
    whole, cut, failed = tap(Quirks(done=False)), tap(Quirks(done=False)), tap(Quirks(done=False))
    assert through(whole, text_event("a") + event(chunk({}, "stop"))) == text_event("a") + event(chunk({}, "stop"))
    assert (whole.terminal, whole.complete) == (DONE, True)
    through(cut, text_event("a"))
    assert (cut.terminal, cut.complete) == (b"", False)
    through(failed, event(chunk({}, "stop")) + event({"error": "late"}))
    assert (failed.terminal, failed.complete) == (b"", False)
    plain = tap(PLAIN)
    through(plain, event(chunk({}, "stop")))
    assert plain.terminal == b""


@pytest.mark.parametrize(
    ("field", "data", "says"),
    [
        (b'{"code":500,"message":"boom"}', b'{"error":{"code":500,"message":"boom"}}', "boom"),
        (b"out of memory", b'{"error":"out of memory"}', "out of memory"),
        (b'"quoted"', b'{"error":"\\"quoted\\""}', "quoted"),
    ],
)
def test_an_error_field_becomes_an_event_that_clients_read(field: bytes, data: bytes, says: str) -> None:
    read = tap(Quirks(error_field=True))
    assert through(read, text_event("a") + b"error: " + field + b"\n\n") == text_event("a") + b"data: " + data + b"\n\n"
    assert (read.error, read.events, read.complete) == (says, 2, False)
    plain = tap(PLAIN)
    assert through(plain, b"error: " + field + b"\n\n") == b"error: " + field + b"\n\n"
    assert plain.error == ""


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (b'event: error\ndata: {"code":400,"details":"too many"}\n\n', "too many"),
        (b"event: error\ndata: plain words\n\n", "plain words"),
        (b"event: error\ndata: {}\n\n", "{}"),
        (b'data: {"object":"error","message":"flat","code":"3505"}\n\n', "flat"),
        (b'data: {"object":"error"}\n\n', "error"),
        (b'data: {"error":["a","b"]}\n\n', "a; b"),
    ],
)
@pytest.mark.parametrize("before", [b"", text_event("a") * 6], ids=["first", "later"])
def test_every_shape_of_an_error_event_is_an_error(said: bytes, error: str, before: bytes) -> None:
    read = tap(PLAIN)
    assert through(read, before + said + DONE) == before + said
    assert (read.error, read.complete) == (error, False)


def test_an_object_called_error_with_choices_is_no_error() -> None:
    read = tap(PLAIN)
    read.feed(event({"object": "error", "choices": [{"index": 0, "delta": {"content": "a"}}]}))
    assert read.error == ""


# ---------------------------------------------------------------- what it cost


@given(st.decimals(0, 999_999, places=14, allow_nan=False), st.sampled_from([1, 10**10]))
@example(Decimal("0.0000000005"), 1)
@example(Decimal("0.0000000015"), 1)
def test_an_amount_is_read_exactly(amount: Decimal, per_usd: int) -> None:
    with localcontext(prec=80):
        exact = (amount * 10**9 / per_usd).to_integral_value(ROUND_HALF_EVEN)
    for text in (f"{amount:f}", str(amount).replace("E+", "E"), f" {amount:f} "):
        assert read_amount(text, per_usd) == int(exact)


@given(st.floats(0, 1000, allow_nan=False))
def test_an_amount_printed_by_a_float_is_what_was_printed(number: float) -> None:
    exact = (Decimal(repr(number)) * 10**9).to_integral_value(ROUND_HALF_EVEN)
    said = repr(number)
    assert read_amount(said) in ((int(exact),) if "e-" not in said or int(said.partition("e-")[2]) < 100 else (None, 0))


@pytest.mark.parametrize(
    "text", ["", "-1", "+1", "1,5", "0x1", "nan", "inf", "1e999999999", "1e99", "1_0", "١", "1000001", "1." + "0" * 41]
)
def test_what_is_no_amount_is_none(text: str) -> None:
    assert read_amount(text) is None


def test_an_amount_has_a_limit() -> None:
    assert read_amount("1000000") == REPORTED_NUSD_MAX
    assert read_amount("1000000.000000001") is None


COST = ReportedCost(("cost", "total"), per_usd=100, own_key=("details", "theirs"))


@pytest.mark.parametrize(
    ("usage", "nusd"),
    [
        ({"cost": {"total": 5}}, 50_000_000),
        ({"cost": {"total": "5"}}, 50_000_000),
        ({"cost": {"total": 5}, "is_byok": True, "details": {"theirs": 1}}, 60_000_000),
        ({"cost": {"total": 0}, "is_byok": True, "details": {"theirs": 1}}, 10_000_000),
        ({"cost": {"total": 5}, "is_byok": True, "details": {"theirs": None}}, 50_000_000),
        ({"cost": {"total": 5}, "is_byok": True}, 50_000_000),
        ({"cost": {"total": 5}, "is_byok": False, "details": {"theirs": 1}}, 50_000_000),
        ({"cost": {"total": None}}, None),
        ({"cost": {"total": -5}}, None),
        ({"cost": {"total": [5]}}, None),
        ({"cost": 5}, None),
        ({"cost": None}, None),
        ({}, None),
    ],
)
def test_a_reported_cost_is_found_in_the_usage(usage: dict[str, Any], nusd: int | None) -> None:
    assert reported_nusd(compact(usage), COST) == nusd


def test_a_cost_is_reported_by_replies_of_every_surface_and_never_without_the_quirk() -> None:
    quirks = Quirks(reported_cost=ReportedCost(("cost",)))
    usage = USAGE | {"cost": 0.0000125}
    reply = compact({"choices": [{"index": 0, "message": {}}], "usage": usage})
    assert CHAT.read_reply(reply, quirks).reported_nusd == 12_500
    assert CHAT.read_reply(reply).reported_nusd is None
    embedded = compact({"data": [], "usage": {"prompt_tokens": 1, "total_tokens": 1, "cost": 0.5}})
    assert EMBEDDINGS.read_reply(embedded, quirks).reported_nusd == 500_000_000
    read = tap(quirks)
    read.feed(text_event("a", usage=usage | {"cost": None}) + event({"choices": [], "usage": usage}) + DONE)
    assert read.reported_nusd == 12_500


def test_reasoning_that_no_other_number_holds_is_output() -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 30, "reasoning_tokens": 400}
    outside = read_usage(usage, reasoning_outside=True)
    assert (outside.output_tokens(), outside.reasoning_tokens, outside.fault) == (420, 400, "")
    inside = read_usage(usage)
    assert (inside.output_tokens(), inside.fault) == (20, "")
    wrong = read_usage(usage | {"reasoning_tokens": -1}, reasoning_outside=True)
    assert "reasoning_tokens is not a whole number" in wrong.fault
