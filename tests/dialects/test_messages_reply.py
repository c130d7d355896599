"""Whole messages: the short way through says what the long way says."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.usage import Meter
from gateway.dialects.anthropic_messages.reply import read_any_reply, read_reply
from gateway.dialects.anthropic_messages.usual import usual_reply

BASE = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m-1", "stop_reason": "end_turn"}
TEXT = [{"type": "text", "text": "hello"}]
USAGE = {"input_tokens": 9, "output_tokens": 3}


def reply(content: Any = TEXT, usage: Any = USAGE, **more: Any) -> bytes:
    return json.dumps(BASE | {"content": content, "usage": usage} | more).encode()


COUNT = st.none() | st.integers(0, 50)
USUAL = st.fixed_dictionaries(
    {"input_tokens": st.integers(0, 50), "output_tokens": st.integers(0, 50)},
    optional={
        "cache_creation_input_tokens": COUNT,
        "cache_read_input_tokens": COUNT,
        "cache_creation": st.none()
        | st.fixed_dictionaries(
            {},
            optional={"ephemeral_5m_input_tokens": st.integers(0, 20), "ephemeral_1h_input_tokens": st.integers(0, 20)},
        ),
        "output_tokens_details": st.none() | st.fixed_dictionaries({"thinking_tokens": st.integers(0, 60)}),
        "service_tier": st.sampled_from([None, "standard", "priority"]),
        "speed": st.sampled_from([None, "standard", "fast"]),
        "inference_geo": st.sampled_from([None, "us", "global"]),
        "server_tool_use": st.sampled_from([None, {"web_search_requests": 1}]),
        "iterations": st.none(),
        "something": st.just(1),
    },
)


@given(USUAL, st.sampled_from(["end_turn", "refusal", "max_tokens", None]), st.text(max_size=8))
def test_the_short_way_agrees_with_the_long_one(usage: Any, reason: str | None, text: str) -> None:
    said = reply([{"type": "text", "text": text}, {"type": "text", "text": "x"}], usage, stop_reason=reason)
    short = usual_reply(said)
    whole = read_any_reply(said)
    assert short is None or (short == whole and not whole.usage.fault)  # type: ignore[union-attr]
    assert read_reply(said) == whole


def test_the_usual_message_goes_the_short_way() -> None:
    facts = usual_reply(reply(usage=USAGE | {"cache_creation_input_tokens": 4, "cache_read_input_tokens": 7}))
    assert facts is not None
    assert facts.usage is not None
    assert facts.usage.meters == {Meter.INPUT: 9, Meter.CACHE_READ: 7, Meter.CACHE_WRITE: 4, Meter.OUTPUT: 3}
    assert (facts.model_served, facts.upstream_id, facts.finish_reason) == ("m-1", "msg_1", "end_turn")


def test_a_refusal_is_one_by_its_stop_reason() -> None:
    assert read_reply(reply(stop_reason="refusal")).refusal
    assert not read_reply(reply()).refusal


def test_what_was_written_is_measured_in_every_kind_of_block() -> None:
    blocks = [
        {"type": "thinking", "thinking": "ab", "signature": "zzzz"},
        {"type": "text", "text": "é"},
        {"type": "tool_use", "id": "t", "name": "n", "input": {"a": 1}},
    ]
    assert read_reply(reply(blocks)).output_bytes == 2 + 2 + len('{"a": 1}')


def test_no_usage_is_none_and_zeros_are_zeros() -> None:
    assert read_reply(reply(usage=None)).usage is None
    nothing = read_reply(reply(usage={"input_tokens": 0, "output_tokens": 0})).usage
    assert nothing is not None
    assert (nothing.meters, nothing.fault) == ({}, "")
