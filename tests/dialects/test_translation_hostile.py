"""Bodies from hostile or careless hands: every codec refuses what it cannot read in words that name the member."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dialects.translating import CHAT, CLAUDE, GPT, MESSAGES, RESPONSES, SURFACES, WIRES
from gateway.core.errors import BadRequest, UpstreamInvalidReply
from gateway.core.ports import Wire

PAIRS = sorted(WIRES)
MODELS = {CHAT: GPT, MESSAGES: CLAUDE, RESPONSES: GPT}
PNG = "data:image/png;base64,AAAA"
MARK = {"type": "ephemeral"}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer", "minimum": 1}}}

CHAT_ASK: dict[str, Any] = {
    "model": "m",
    "messages": [
        {"role": "system", "content": [{"type": "text", "text": "s", "cache_control": MARK}]},
        {
            "role": "user",
            "name": "u",
            "content": [
                {"type": "text", "text": "t"},
                {"type": "image_url", "image_url": {"url": PNG, "detail": "low"}},
                {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBE"}},
            ],
        },
        {
            "role": "assistant",
            "content": None,
            "reasoning_content": "r",
            "thinking_blocks": [{"type": "thinking", "thinking": "r", "signature": "S"}],
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "x"},
    ],
    "max_tokens": 100,
    "n": 1,
    "temperature": 0.5,
    "top_p": 0.5,
    "stop": ["a"],
    "tools": [{"type": "function", "function": {"name": "f", "parameters": SCHEMA, "strict": True}}],
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}},
    "reasoning_effort": "low",
    "user": "u",
    "seed": 1,
}
MESSAGES_ASK: dict[str, Any] = {
    "model": "m",
    "max_tokens": 100,
    "system": [{"type": "text", "text": "s", "cache_control": MARK}],
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "t"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
                {"type": "document", "title": "d", "source": {"type": "url", "url": "https://x.test/a.pdf"}},
            ],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "r", "signature": "S"},
                {"type": "tool_use", "id": "t1", "name": "f", "input": {}},
            ],
        },
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "x", "is_error": True}]},
    ],
    "tools": [{"name": "f", "input_schema": SCHEMA, "strict": True}],
    "tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": True},
    "thinking": {"type": "enabled", "budget_tokens": 2000},
    "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": SCHEMA}},
    "metadata": {"user_id": "u"},
    "temperature": 1,
    "top_k": 5,
    "stop_sequences": ["a"],
}
RESPONSES_ASK: dict[str, Any] = {
    "model": "m",
    "instructions": "s",
    "input": [
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "t"},
                {"type": "input_image", "image_url": PNG, "detail": "low"},
                {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBE"},
            ],
        },
        {
            "type": "reasoning",
            "id": "rs_1",
            "summary": [{"type": "summary_text", "text": "r"}],
            "encrypted_content": "E",
        },
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "x"},
    ],
    "max_output_tokens": 100,
    "temperature": 0.5,
    "tools": [{"type": "function", "name": "f", "parameters": SCHEMA, "strict": False}],
    "tool_choice": {"type": "function", "name": "f"},
    "text": {"format": {"type": "json_schema", "name": "x", "schema": SCHEMA}, "verbosity": "low"},
    "reasoning": {"effort": "low"},
    "safety_identifier": "u",
}
ASKS = {CHAT: CHAT_ASK, MESSAGES: MESSAGES_ASK, RESPONSES: RESPONSES_ASK}
PLAIN_ASKS: dict[str, dict[str, Any]] = {
    CHAT: {"model": "m", "messages": [{"role": "user", "content": "x"}]},
    MESSAGES: {"model": "m", "messages": [{"role": "user", "content": "x"}], "max_tokens": 100},
    RESPONSES: {"model": "m", "input": "x"},
}
USAGE = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
REPLIES: dict[str, dict[str, Any]] = {
    CHAT: {
        "id": "c",
        "object": "chat.completion",
        "model": "m",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {**CHAT_ASK["messages"][2], "content": "t"}}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    },
    MESSAGES: {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [{"type": "text", "text": "t"}, *MESSAGES_ASK["messages"][1]["content"]],
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "usage": USAGE,
    },
    RESPONSES: {
        "id": "resp_1",
        "object": "response",
        "status": "completed",
        "model": "m",
        "output": [
            RESPONSES_ASK["input"][1],
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "t"}]},
            RESPONSES_ASK["input"][2],
        ],
        "usage": USAGE,
    },
}
DEEP: Any = 1
for _ in range(50):
    DEEP = {"a": [DEEP]}
GARBAGE = st.sampled_from([
    None, True, 0, -1, 1.5, 2**63, 2**64, 10**30, "", "x", "\u2028", "data:,", "http://", [], {}, [None], [{}], [[]],
    {"type": None}, {"type": "text"}, {"type": "no_such"}, {"role": "owner"}, [{"type": 5}], "\ud83d\ude00", "e" * 300,
    DEEP, {"type": "object", "properties": {"properties": {"type": "object"}}},
])  # fmt: skip


def places(value: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a body, by the keys that lead to it."""
    inner: list[tuple[Any, ...]] = []
    if isinstance(value, dict):
        inner = [place for key, item in value.items() for place in places(item, (*way, key))]
    elif isinstance(value, list):
        inner = [place for at, item in enumerate(value) for place in places(item, (*way, at))]
    return [*([way] if way else []), *inner]


def spoilt(body: dict[str, Any], way: tuple[Any, ...], garbage: Any, how: str) -> dict[str, Any]:
    """The body with one of its values replaced, gone, twice there or beside an unknown one."""
    made = copy.deepcopy(body)
    holder: Any = made
    for key in way[:-1]:
        if not isinstance(holder, dict | list) or (isinstance(holder, dict) and key not in holder):
            return made
        holder = holder[key] if not isinstance(holder, list) or key < len(holder) else None
    if isinstance(holder, list) and way[-1] < len(holder):
        if how == "gone":
            del holder[way[-1]]
        elif how == "twice":
            holder.insert(way[-1], copy.deepcopy(holder[way[-1]]))
        else:
            holder[way[-1]] = garbage
    elif isinstance(holder, dict) and way[-1] in holder:
        if how == "gone":
            del holder[way[-1]]
        else:
            holder[way[-1] if how == "other" else "no_such_member"] = garbage
    return made


@st.composite
def spoilt_bodies(draw: st.DrawFn, body: dict[str, Any], ascii_only: bool = False) -> bytes:
    made = body
    for _ in range(draw(st.integers(1, 3))):
        way = draw(st.sampled_from(places(made)))
        made = spoilt(made, way, draw(GARBAGE), draw(st.sampled_from(["other", "other", "gone", "twice", "beside"])))
        if not made:
            break
    return json.dumps(made, ensure_ascii=ascii_only or draw(st.booleans())).encode("utf-8", "surrogatepass")


def asked(own: str, wire: Wire, body: bytes, model: str) -> bytes | None:
    """The body as sent, or None when it was refused in words that an application's author can act on."""
    try:
        head = SURFACES[own].read_head(body)
        sent, _ = wire.for_attempt(8000, 0).outgoing(body, head, model)
    except BadRequest as refusal:
        words = str(refusal)
        assert 10 < len(words) < 700
        assert "Expected `" not in words, words
        assert "msgspec" not in words
        return None
    return sent


@pytest.mark.parametrize("pair", PAIRS, ids="-into-".join)
@settings(max_examples=150)
@given(data=st.data())
def test_a_spoilt_request_is_sent_or_refused_in_words(pair: tuple[str, str], data: st.DataObject) -> None:
    own, theirs = pair
    body = data.draw(spoilt_bodies(ASKS[own]))
    sent = asked(own, WIRES[pair], body, MODELS[theirs])
    if sent is not None:
        SURFACES[theirs].read_head(sent)
        json.loads(sent)


@pytest.mark.parametrize("pair", PAIRS, ids="-into-".join)
@settings(max_examples=150)
@given(data=st.data())
def test_a_spoilt_reply_is_told_or_an_invalid_reply(pair: tuple[str, str], data: st.DataObject) -> None:
    own, theirs = pair
    wire = WIRES[pair].for_attempt(8000, 0)
    ask = json.dumps(PLAIN_ASKS[own]).encode()
    head = SURFACES[own].read_head(ask)
    wire.outgoing(ask, head, MODELS[theirs])
    body = data.draw(spoilt_bodies(REPLIES[theirs], ascii_only=True))
    try:
        wire.read_reply(body)
        told = wire.caller_reply(body, head)
    except UpstreamInvalidReply:
        return
    SURFACES[own].read_reply(told)


@pytest.mark.parametrize("pair", PAIRS, ids="-into-".join)
@settings(max_examples=150)
@given(data=st.data())
def test_a_spoilt_event_never_breaks_a_stream(pair: tuple[str, str], data: st.DataObject) -> None:
    """What cannot be read says nothing; the stream around it goes on in the caller's dialect."""
    own, theirs = pair
    wire = WIRES[pair].for_attempt(8000, 0)
    ask = json.dumps({**PLAIN_ASKS[own], "stream": True}).encode()
    head = SURFACES[own].read_head(ask)
    wire.outgoing(ask, head, MODELS[theirs])
    tap = wire.tap(head)
    events = list(EVENTS[theirs])
    at = data.draw(st.integers(0, len(events) - 1))
    events[at] = json.loads(data.draw(spoilt_bodies(events[at])).decode("utf-8", "surrogatepass"))
    done = b"data: [DONE]\n\n" if theirs == CHAT else b""
    try:
        relayed = tap.feed(b"".join([event_of(event) for event in events]) + done) + tap.finish()
    except UpstreamInvalidReply:
        return
    for line in relayed.split(b"\n"):
        if line.startswith(b"data: {"):
            json.loads(line[6:])


def event_of(members: Any) -> bytes:
    kind = members.get("type") if isinstance(members, dict) else None
    named = f"event: {kind}\n" if isinstance(kind, str) and "\n" not in kind else ""
    return f"{named}data: {json.dumps(members)}\n\n".encode("utf-8", "replace")


def _delta(**delta: Any) -> dict[str, Any]:
    return {"id": "c", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}


_CALL = {"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
_ADDED = {"type": "function_call", "id": "fc", "call_id": "c1", "name": "f", "arguments": ""}
EVENTS: dict[str, tuple[Any, ...]] = {
    CHAT: (
        _delta(role="assistant", content="", reasoning_content="r"),
        _delta(content="t"),
        _delta(tool_calls=[_CALL]),
        {"id": "c", "model": "m", "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]},
        {"id": "c", "model": "m", "choices": [], "usage": REPLIES[CHAT]["usage"]},
    ),
    MESSAGES: (
        {"type": "message_start", "message": {"id": "m", "model": "m", "content": [], "usage": USAGE}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "S"}},
        {"type": "content_block_stop", "index": 0},
        {
            "type": "content_block_start",
            "index": 1,
            "content_block": {"type": "tool_use", "id": "t", "name": "f", "input": {}},
        },
        {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": "{}"}},
        {"type": "content_block_stop", "index": 1},
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": USAGE},
        {"type": "message_stop"},
    ),
    RESPONSES: (
        {"type": "response.created", "response": {"id": "r", "model": "m", "status": "in_progress", "output": []}},
        {"type": "response.output_item.added", "output_index": 0, "item": {"type": "reasoning", "id": "rs"}},
        {"type": "response.reasoning_summary_text.delta", "output_index": 0, "summary_index": 0, "delta": "r"},
        {"type": "response.output_item.done", "output_index": 0, "item": RESPONSES_ASK["input"][1]},
        {"type": "response.output_text.delta", "output_index": 1, "delta": "t"},
        {"type": "response.output_item.added", "output_index": 2, "item": _ADDED},
        {"type": "response.function_call_arguments.delta", "output_index": 2, "delta": "{}"},
        {"type": "response.output_item.done", "output_index": 2, "item": {**_ADDED, "arguments": "{}"}},
        {"type": "response.completed", "response": REPLIES[RESPONSES]},
    ),
}


@pytest.mark.parametrize(
    ("own", "changed", "words"),
    [
        (CHAT, {"temperature": "x"}, "temperature must be a number"),
        (CHAT, {"stop": 5}, "stop is a whole number: it must be text, an array or null"),
        (CHAT, {"messages": [{"role": "user", "content": 7}]}, "messages[0].content is a whole number"),
        (CHAT, {"messages": [{"role": "user", "content": ["x"]}]}, "messages[0].content[0] must be an object"),
        (CHAT, {"messages": [{"role": "owner", "content": "x"}]}, "messages[0].role is 'owner'"),
        (
            CHAT,
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": []}}]},
            "The schema of the tool",
        ),
        (MESSAGES, {"tools": [{"input_schema": {}}]}, "tools[0].name is missing"),
        (MESSAGES, {"top_k": []}, "top_k must be a number"),
        (MESSAGES, {"messages": [{"role": "user", "content": [{"type": "text", "text": 1}]}]}, "content[0].text is"),
        (MESSAGES, {"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "content[0].source.type must be"),
        (RESPONSES, {"input": [1]}, "input[0] is wrong: input must be a string, or an array of objects"),
        (RESPONSES, {"input": [{"role": "user", "content": [1]}]}, "input[0].content[0] must be an object"),
        (RESPONSES, {"input": [{"type": "function_call", "arguments": {}}]}, "input[0].arguments is an object"),
        (
            RESPONSES,
            {"input": [{"role": "user", "content": [{"type": "input_image"}]}]},
            "input[0].content[0] must hold",
        ),
        (RESPONSES, {"max_output_tokens": 2**63}, "max_output_tokens"),
    ],
)
def test_a_refusal_names_the_member_and_what_it_must_be(own: str, changed: dict[str, Any], words: str) -> None:
    body = json.dumps({**PLAIN_ASKS[own], **changed}).encode()
    for pair in PAIRS:
        if pair[0] == own:
            with pytest.raises(BadRequest) as refused:
                WIRES[pair].for_attempt(8000, 0).outgoing(body, SURFACES[own].read_head(body), MODELS[pair[1]])
            assert words in str(refused.value)
            assert refused.value.param
