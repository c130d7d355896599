"""The cases of translation: Messages and Responses into the others, and what comes back of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dialects.examples_messages import block_start, block_stop, event, message_delta, message_start, text
from dialects.examples_messages import tool_input as messages_input
from dialects.translating import (
    CALL,
    CHAT,
    CLAUDE,
    GPT,
    LOOK,
    MESSAGES,
    RESPONSES,
    STOP,
    SURFACES,
    USER,
    WIRES,
    began,
    chat,
    events_of,
    sent,
    tapped,
)
from gateway.core.errors import BadRequest, UpstreamLost

# ---------------------------------------------------------------- Messages → chat


def messages(*turns: Any, **more: Any) -> dict[str, Any]:
    return {"max_tokens": 50, "messages": list(turns) or [USER], **more}


def test_5_6_tools_in_a_stream_are_numbered_without_gaps_and_have_arguments_once() -> None:
    tap = tapped(CHAT, MESSAGES, chat(tools=[LOOK]))
    stream = [message_start(), block_start(), text("I look."), block_stop()]
    stream += [
        block_start(1, type="tool_use", id="toolu_1", name="look", input={}),
        messages_input("", 1),
        block_stop(1),
    ]
    stream += [block_start(2, type="tool_use", id="toolu_2", name="look", input={}), messages_input('{"a"', 2)]
    stream += [messages_input(":1}", 2), block_stop(2), message_delta("tool_use")]
    relayed = tap.feed(b"".join(event(one) for one in stream) + STOP)
    calls = [call for one in events_of(relayed) for c in one["choices"] for call in c["delta"].get("tool_calls", ())]
    texts = {0: "", 1: ""}
    for call in calls:
        texts[call["index"]] += call["function"].get("arguments", "")
    assert texts == {0: "{}", 1: '{"a":1}'}
    assert [call["id"] for call in calls if "id" in call] == ["toolu_1", "toolu_2"]
    assert [call["function"]["name"] for call in calls if "name" in call["function"]] == ["look", "look"], (
        "said once each"
    )


def test_9_10_usage_is_the_whole_prompt_here_and_the_uncached_there() -> None:
    wire, _, _ = began(CHAT, MESSAGES, chat(), CLAUDE)
    usage = {
        "input_tokens": 500,
        "cache_creation_input_tokens": 200,
        "cache_read_input_tokens": 300,
        "output_tokens": 7,
    }
    reply = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [],
        "stop_reason": "end_turn",
    }
    raw = json.dumps({**reply, "usage": usage}).encode()
    wire.read_reply(raw)
    told = json.loads(wire.caller_reply(raw, SURFACES[CHAT].read_head(json.dumps({"model": "m", **chat()}).encode())))
    assert told["usage"]["prompt_tokens"] == 1000
    assert told["usage"]["prompt_tokens_details"] == {"cached_tokens": 300, "cache_write_tokens": 200}
    assert told["usage"]["total_tokens"] == 1007

    wire, _, _ = began(MESSAGES, CHAT, messages(), GPT)
    details = {"cached_tokens": 300, "cache_write_tokens": 200}
    said = {"prompt_tokens": 1000, "completion_tokens": 7, "total_tokens": 1007, "prompt_tokens_details": details}
    choice = {"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}
    raw = json.dumps(
        {"id": "c", "object": "chat.completion", "model": "m", "choices": [choice], "usage": said}
    ).encode()
    wire.read_reply(raw)
    head = SURFACES[MESSAGES].read_head(json.dumps({"model": "m", **messages()}).encode())
    assert json.loads(wire.caller_reply(raw, head))["usage"] == usage


def test_25_a_tool_that_failed_is_told_so() -> None:
    use = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "is_error": True, "content": "no such file"}
    turns = (USER, {"role": "assistant", "content": [use]}, {"role": "user", "content": [result]})
    body = sent(MESSAGES, CHAT, messages(*turns), GPT)
    assert body["messages"][2] == {
        "role": "tool",
        "tool_call_id": "toolu_1",
        "content": "The tool failed: no such file",
    }


def test_images_in_results_of_tools_are_shown_after_them() -> None:
    use = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}}
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "see"}, image]}
    turns = (USER, {"role": "assistant", "content": [use]}, {"role": "user", "content": [result]})
    body = sent(MESSAGES, CHAT, messages(*turns), GPT)
    assert body["messages"][2]["content"].startswith("see")
    assert body["messages"][3]["content"][0]["image_url"]["url"] == "data:image/png;base64,AAAA"


@pytest.mark.parametrize("tool", [{"type": "web_search_20250305", "name": "web_search"}])
@pytest.mark.parametrize("theirs", [CHAT, RESPONSES])
def test_30_tools_that_run_at_the_provider_are_refused_not_removed(tool: Any, theirs: str) -> None:
    with pytest.raises(BadRequest, match="web_search_20250305"):
        sent(MESSAGES, theirs, messages(tools=[tool]), GPT)


def test_35_an_error_in_the_stream_is_one_in_the_callers_words() -> None:
    tap = tapped(CHAT, MESSAGES, chat())
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    tap.feed(event(message_start()) + event(block_start()) + event(text("Ye")) + event(error))
    assert "Overloaded" in tap.error
    assert not tap.complete


@pytest.mark.parametrize(("own", "ended"), [(MESSAGES, b"event: error"), (CHAT, b'data: {"error"')])
def test_35_a_failed_response_is_an_error_never_an_end(own: str, ended: bytes) -> None:
    tap = tapped(own, RESPONSES, messages(), GPT)
    error = {"code": "server_error", "message": "It broke."}
    failed = {"id": "resp_1", "model": "m", "status": "failed", "error": error, "output": []}
    stream = [
        {"type": "response.created", "response": {"id": "resp_1", "model": "m"}},
        {"type": "response.output_text.delta", "output_index": 0, "delta": "Ye"},
        {"type": "response.failed", "response": failed},
    ]
    relayed = tap.feed(b"".join(event(one) for one in stream))
    assert "It broke." in tap.error
    assert not tap.complete
    assert not tap.terminal
    told = relayed + tap.ending(UpstreamLost(tap.error))
    assert ended in told
    assert b"end_turn" not in told
    assert b"[DONE]" not in told


def test_38_a_second_message_start_changes_nothing() -> None:
    tap = tapped(CHAT, MESSAGES, chat())
    stream = [message_start(), message_start(), block_start(), text("Yes."), block_stop(), message_delta()]
    told = events_of(tap.feed(b"".join(event(one) for one in stream) + STOP))
    assert [one["choices"][0]["delta"].get("role") for one in told if one["choices"]].count("assistant") == 1
    assert tap.usage is not None
    assert tap.usage.input_tokens() == 9


# ---------------------------------------------------------------- Responses ⇄ the others


def test_30_responses_into_chat() -> None:
    items = [
        {
            "role": "user",
            "content": [{"type": "input_text", "text": "hi"}, {"type": "input_image", "image_url": "https://x.test/a"}],
        },
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "X"},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "I look."}]},
        {"type": "function_call", "call_id": "call_1", "name": "look", "arguments": '{"a":1}'},
        {"type": "function_call_output", "call_id": "call_1", "output": "42"},
    ]
    tool = {"type": "function", "name": "look", "parameters": {"type": "object", "properties": {}}, "strict": True}
    form = {"type": "json_schema", "name": "x", "schema": {"type": "object"}, "strict": True}
    asked = {
        "input": items,
        "instructions": "Be kind.",
        "tools": [tool],
        "text": {"format": form},
        "max_output_tokens": 99,
    }
    body = sent(RESPONSES, CHAT, asked, GPT)
    assert [message["role"] for message in body["messages"]] == ["system", "user", "assistant", "tool"]
    assert body["messages"][2]["tool_calls"] == [CALL]
    assert body["messages"][2]["content"] == "I look."
    assert body["tools"][0]["function"]["strict"] is True
    assert body["max_completion_tokens"] == 99
    assert body["response_format"]["json_schema"]["schema"] == {"type": "object"}


@pytest.mark.parametrize(
    "member", [{"previous_response_id": "resp_1"}, {"background": True}, {"conversation": "conv_1"}]
)
@pytest.mark.parametrize("theirs", [CHAT, MESSAGES])
def test_33_state_that_the_provider_does_not_have_is_refused(member: dict[str, Any], theirs: str) -> None:
    with pytest.raises(BadRequest, match=next(iter(member))):
        sent(RESPONSES, theirs, {"input": "hi", **member}, CLAUDE)


def test_31_chat_into_responses() -> None:
    turn = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    result = {"role": "tool", "tool_call_id": "call_1", "content": "42"}
    asked = chat({"role": "system", "content": "Be kind."}, USER, turn, result, tools=[LOOK], reasoning_effort="low")
    body = sent(CHAT, RESPONSES, asked, GPT)
    assert body["instructions"] == "Be kind."
    assert [item["type"] for item in body["input"]] == ["message", "function_call", "function_call_output"]
    assert body["tools"][0]["strict"] is False, "chat's default; the Responses API's own is strict"
    assert body["store"] is False
    assert body["include"] == ["reasoning.encrypted_content"]
    assert body["reasoning"]["effort"] == "low"


def test_custom_tools_are_functions_of_one_text_elsewhere() -> None:
    asked = {
        "input": "hi",
        "tools": [{"type": "custom", "name": "patch", "description": "Applies it."}],
        "stream": True,
    }
    body = json.dumps({"model": "m", **asked}).encode()
    wire = WIRES[RESPONSES, MESSAGES].for_attempt(8000, 0)
    head = SURFACES[RESPONSES].read_head(body)
    made = json.loads(wire.outgoing(body, head, CLAUDE)[0])
    assert made["tools"][0]["input_schema"]["required"] == ["input"]
    tap = wire.tap(head)
    stream = [message_start(), block_start(type="tool_use", id="toolu_1", name="patch", input={})]
    stream += [messages_input('{"input":"*** Beg'), messages_input('in"}'), block_stop(), message_delta("tool_use")]
    told = events_of(tap.feed(b"".join(event(one) for one in stream) + STOP))
    (item,) = [one["item"] for one in told if one["type"] == "response.output_item.done"]
    assert (item["type"], item["input"]) == ("custom_tool_call", "*** Begin")


@pytest.mark.parametrize("own", [CHAT, RESPONSES, MESSAGES])
def test_34_a_prompt_that_is_too_long_is_told_in_words_that_clients_know(own: str) -> None:
    theirs = CHAT if own == MESSAGES else MESSAGES
    asked = {"input": "hi"} if own == RESPONSES else messages()
    wire, _, _ = began(own, theirs, asked, CLAUDE)
    of_chat = {
        "error": {"message": "This model's maximum context length is 8 tokens.", "code": "context_length_exceeded"}
    }
    of_claude = {"type": "error", "error": {"type": "invalid_request_error", "message": "prompt is too long: 9 > 8"}}
    told = json.loads(wire.caller_error(400, json.dumps(of_chat if theirs == CHAT else of_claude).encode()))["error"]
    assert "prompt is too long" in told["message"]
    if own != MESSAGES:
        assert told["code"] == "context_length_exceeded"


def test_tools_of_a_namespace_are_tools_like_others_and_come_back_in_it() -> None:
    inner = {"type": "function", "name": "open", "parameters": {"type": "object", "properties": {}}}
    namespace = {"type": "namespace", "name": "files", "description": "Files.", "tools": [inner]}
    asked = {"input": "hi", "tools": [namespace], "stream": True}
    body = json.dumps({"model": "m", **asked}).encode()
    wire = WIRES[RESPONSES, MESSAGES].for_attempt(8000, 0)
    head = SURFACES[RESPONSES].read_head(body)
    name = json.loads(wire.outgoing(body, head, CLAUDE)[0])["tools"][0]["name"]
    assert "." not in name
    tap = wire.tap(head)
    stream = [message_start(), block_start(type="tool_use", id="toolu_1", name=name, input={}), block_stop()]
    told = events_of(tap.feed(b"".join(event(one) for one in [*stream, message_delta("tool_use")]) + STOP))
    (item,) = [one["item"] for one in told if one["type"] == "response.output_item.done"]
    assert (item["namespace"], item["name"], item["arguments"]) == ("files", "open", "{}")
    again = {
        "input": [
            {"role": "user", "content": "hi"},
            item,
            {"type": "function_call_output", "call_id": item["call_id"], "output": "x"},
        ]
    }
    use = sent(RESPONSES, MESSAGES, again | {"tools": [namespace]})["messages"][1]["content"][0]
    assert use["name"] == name
