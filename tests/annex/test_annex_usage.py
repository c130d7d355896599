"""What the annex says of usage, read by the worker's own dialect; and litellm's shapes made OpenAI's."""

from __future__ import annotations

import base64
import json
import struct
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.annex.shapes import ChatStream, chat_reply, embedding_reply
from gateway.annex.usage import cost_text, reported_usage
from gateway.core.usage import Meter
from gateway.dialects.discover import discover
from gateway.dialects.openai_chat.usage import read_usage

CHAT = discover()["chat.completions"]

BEDROCK = {
    # litellm's account of a Converse reply {inputTokens 40, outputTokens 7, cacheRead 50, cacheWrite 10}
    "completion_tokens": 7,
    "prompt_tokens": 100,
    "total_tokens": 107,
    "prompt_tokens_details": {"cached_tokens": 50, "cache_creation_tokens": 10, "text_tokens": 40},
    "cache_creation_input_tokens": 10,
    "cache_read_input_tokens": 50,
    "cost": 0.000225,
}


def meters(usage: object, **more: Any) -> dict[Meter, int]:
    reported = reported_usage(usage, "bedrock", **{"has_output": True, **more})
    assert reported is not None
    read = read_usage(msgspec.json.encode(reported), has_output=more.get("has_output", True))
    assert (read.fault, read.unknown_fields) == ("", ())
    return read.meters


def test_cached_tokens_reach_the_worker_under_names_it_knows() -> None:
    expected = {Meter.INPUT: 40, Meter.CACHE_READ: 50, Meter.CACHE_WRITE: 10, Meter.OUTPUT: 7}
    assert meters(BEDROCK, produced=True) == expected
    only_on_top = {name: value for name, value in BEDROCK.items() if name != "prompt_tokens_details"}
    assert meters(only_on_top, produced=True) == expected


def test_an_embedding_has_no_output() -> None:
    assert meters({"prompt_tokens": 9, "completion_tokens": 0, "total_tokens": 9}, has_output=False) == {Meter.INPUT: 9}


@pytest.mark.parametrize(
    ("usage", "why"),
    [
        (None, "said nothing"),
        ("12", "no object"),
        ({}, "empty"),
        ({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, "litellm's zeros"),
        ({"prompt_tokens": 0, "completion_tokens": 9, "total_tokens": 9}, "a call has input"),
        ({"prompt_tokens": 9, "completion_tokens": 0, "total_tokens": 9}, "there was output"),
        ({"prompt_tokens": 9, "total_tokens": 9}, "no word of output"),
        ({"completion_tokens": 9}, "no word of input"),
    ],
)
def test_what_no_vendor_reported_is_not_sent(usage: object, why: str) -> None:
    assert reported_usage(usage, "bedrock", has_output=True, produced=True) is None, why


def test_vendors_whose_tokens_litellm_counts_report_nothing() -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}
    assert reported_usage(usage, "predibase", has_output=True, produced=True) is None
    assert reported_usage(usage, "bedrock", has_output=True, produced=True) == usage


def test_a_reply_without_output_may_report_zero() -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 0, "total_tokens": 9}
    assert reported_usage(usage, "bedrock", has_output=True, produced=False) == usage


def test_a_contradiction_is_left_for_the_worker_to_find() -> None:
    reported = reported_usage(
        {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 99}, "x", has_output=True, produced=True
    )
    assert read_usage(msgspec.json.encode(reported)).fault


COUNT = st.none() | st.integers(0, 10**6)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "prompt_tokens": COUNT,
            "completion_tokens": COUNT,
            "total_tokens": COUNT,
            "cache_read_input_tokens": COUNT,
            "cache_creation_input_tokens": COUNT,
            "prompt_tokens_details": st.none()
            | st.dictionaries(st.sampled_from(["cached_tokens", "text_tokens"]), COUNT),
        },
    ),
    st.booleans(),
)
def test_no_number_is_sent_that_was_not_there(usage: dict[str, Any], produced: bool) -> None:
    reported = reported_usage(usage, "x", has_output=True, produced=produced)
    if reported is None:
        return
    details = usage.get("prompt_tokens_details") or {}
    known = {value for value in (*usage.values(), *details.values()) if isinstance(value, int)}
    said = reported.pop("prompt_tokens_details", {})
    assert isinstance(said, dict)
    assert {*reported.values(), *said.values()} <= known
    assert reported["prompt_tokens"], "a call has input"


@pytest.mark.parametrize(
    ("cost", "text"),
    [(1.5e-05, "0.000015"), (2, "2"), (0.0, ""), (None, ""), (float("nan"), ""), (True, ""), ("1", ""), (-1.0, "")],
)
def test_a_cost_is_told_as_decimal_text(cost: object, text: str) -> None:
    assert cost_text(cost) == text


@given(st.floats(1e-12, 1e6))
def test_the_text_is_the_number_litellm_said(cost: float) -> None:
    assert "e" not in cost_text(cost).lower()
    assert float(Decimal(cost_text(cost))) == cost


def test_empty_extras_are_left_out_and_the_rest_stays() -> None:
    fields = {"id": "c", "choices": [{"message": {"content": "hi"}}], "vertex_ai_safety_results": [], "x": {"y": 1}}
    assert json.loads(chat_reply(fields, "v")) == {
        "id": "c",
        "choices": [{"message": {"content": "hi"}}],
        "x": {"y": 1},
    }


def test_embeddings_as_numbers_or_as_floats_in_base64() -> None:
    fields = {"data": [{"index": 0, "embedding": [0.5, -1.25]}], "usage": {"prompt_tokens": 3, "total_tokens": 3}}
    assert json.loads(embedding_reply(fields, "v", base64=False)) == fields
    packed = json.loads(embedding_reply(fields, "v", base64=True))["data"][0]["embedding"]
    assert struct.unpack("<2f", base64.b64decode(packed)) == (0.5, -1.25)


def test_a_stream_has_one_id_and_its_usage_last() -> None:
    stream = ChatStream("bedrock")
    chunks = [
        {"id": "a", "created": 1, "model": "m", "choices": [{"delta": {"role": "assistant", "content": ""}}]},
        {"id": "b", "created": 2, "model": "m", "choices": [{"delta": {"content": "hi"}}], "usage": BEDROCK},
        {"id": "c", "created": 3, "model": "m", "choices": [{"delta": {}, "finish_reason": "stop"}], "citations": []},
        {"id": "d", "created": 4, "model": "m", "choices": []},
    ]
    data = b"".join([*(stream.feed(chunk) for chunk in chunks), *stream.end(usage_asked=True)])
    assert data.endswith(b"\n\ndata: [DONE]\n\n")
    events = [json.loads(part.removeprefix(b"data: ")) for part in data.split(b"\n\n")[:-2]]
    assert {(event["id"], event["created"], event["object"]) for event in events} == {("a", 1, "chat.completion.chunk")}
    assert [len(event["choices"]) for event in events] == [1, 1, 1, 0]
    assert ["usage" in event for event in events] == [False, False, False, True]
    head = CHAT.read_head(b'{"model":"m","stream":true,"messages":[{"role":"user","content":"x"}]}')
    tap = CHAT.tap(head)
    tap.feed(data)
    tap.finish()
    assert (tap.finish_reason, tap.upstream_id, tap.usage.meters[Meter.CACHE_READ]) == ("stop", "a", 50)


def test_a_stream_without_reported_usage_sends_none() -> None:
    stream = ChatStream("bedrock")
    stream.feed({"id": "a", "choices": [{"delta": {"content": "hi"}}]})
    stream.feed({"id": "a", "choices": [], "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}})
    assert list(stream.end(usage_asked=True)) == [b"data: [DONE]\n\n"]


def test_usage_is_sent_only_if_it_was_asked_for() -> None:
    stream = ChatStream("bedrock")
    stream.feed({"id": "a", "choices": [{"delta": {"content": "hi"}}], "usage": BEDROCK})
    assert list(stream.end(usage_asked=False)) == [b"data: [DONE]\n\n"]
