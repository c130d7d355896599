"""The cases of translation that others got wrong: each a request or a stream, and what becomes of it."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from dialects.examples_messages import block_start, block_stop, event, message_delta, message_start, text, thinking
from dialects.translating import (
    CALL,
    CHAT,
    CLAUDE,
    GPT,
    LOOK,
    MESSAGES,
    OLD_CLAUDE,
    RESPONSES,
    STOP,
    SURFACES,
    USER,
    WIRES,
    asked_of_claude,
    began,
    chat,
    dropped_by_claude,
    events_of,
    sent,
    tapped,
)
from gateway.core.errors import BadRequest

# ---------------------------------------------------------------- chat → Messages


def test_1_leading_system_messages_are_the_system_later_ones_keep_their_place() -> None:
    body = asked_of_claude(
        {"role": "system", "content": "A"},
        {"role": "developer", "content": "B"},
        USER,
        {"role": "assistant", "content": "yes"},
        {"role": "system", "content": "C"},
    )
    assert body["system"] == "A\n\nB"
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user"]
    assert "C" in body["messages"][2]["content"]


def test_1_cache_markers_make_the_system_blocks_and_stay() -> None:
    marked = {"type": "text", "text": "A", "cache_control": {"type": "ephemeral", "ttl": "1h"}}
    body = asked_of_claude({"role": "system", "content": [marked]}, {"role": "user", "content": [marked]})
    assert body["system"] == [marked]
    assert body["messages"][0]["content"] == [marked]


@pytest.mark.parametrize(
    ("given", "most", "expected"),
    [
        ({}, 64_000, 64_000),
        ({}, 0, 4096),
        ({"max_tokens": 5}, 9, 5),
        ({"max_tokens": 5, "max_completion_tokens": 7}, 9, 7),
    ],
)
def test_2_the_limit_that_has_to_be_said(given: dict[str, int], most: int, expected: int) -> None:
    assert sent(CHAT, MESSAGES, chat(**given), CLAUDE, most)["max_tokens"] == expected


def test_3_results_of_tools_are_one_user_turn_before_what_the_user_says() -> None:
    other = {**CALL, "id": "call_2"}
    body = asked_of_claude(
        USER,
        {"role": "assistant", "content": "I look.", "tool_calls": [CALL, other]},
        {"role": "tool", "tool_call_id": "call_1", "content": "one"},
        {"role": "tool", "tool_call_id": "call_2", "content": [{"type": "text", "text": "two"}]},
        {"role": "user", "content": "and?"},
        tools=[LOOK],
    )
    kinds = [[block["type"] for block in message["content"]] for message in body["messages"][1:]]
    assert kinds == [["text", "tool_use", "tool_use"], ["tool_result", "tool_result", "text"]]
    assert body["messages"][1]["content"][1]["input"] == {"a": 1}


@pytest.mark.parametrize(
    ("choice", "parallel", "expected"),
    [
        ("required", None, {"type": "any"}),
        ("none", False, {"type": "none"}),
        ("auto", False, {"type": "auto", "disable_parallel_tool_use": True}),
        (None, False, {"type": "auto", "disable_parallel_tool_use": True}),
        ({"type": "function", "function": {"name": "look"}}, None, {"type": "tool", "name": "look"}),
    ],
)
def test_7_choice_of_tools(choice: Any, parallel: bool | None, expected: Any) -> None:
    asked = {} if choice is None else {"tool_choice": choice}
    asked |= {} if parallel is None else {"parallel_tool_calls": parallel}
    body = asked_of_claude(tools=[LOOK], **asked)
    assert body["tool_choice"] == expected
    assert body["tools"], "history may name them"


def test_13_usage_that_comes_with_choices_is_one_event_of_its_own_at_the_end() -> None:
    tap = tapped(MESSAGES, CHAT, {"max_tokens": 9, "messages": [USER]}, GPT)
    chunk: dict[str, Any] = {"id": "c", "model": "m", "choices": [{"index": 0, "delta": {"content": "x"}}]}
    usage = {"prompt_tokens": 1000, "completion_tokens": 5, "total_tokens": 1005}
    last = {**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": usage}
    relayed = tap.feed(
        b"".join(b"data: " + json.dumps(one).encode() + b"\n\n" for one in (chunk, last)) + b"data: [DONE]\n\n"
    )
    told = [one for one in events_of(relayed) if "usage" in one]
    assert [one["usage"]["input_tokens"] for one in told] == [1000]
    assert tap.terminal == STOP


def test_14_thinking_comes_with_its_seal_and_goes_back_with_it() -> None:
    tap = tapped(CHAT, MESSAGES, chat(reasoning_effort="high"))
    stream = [message_start(), block_start(type="thinking", thinking=""), thinking("Hm.")]
    signature = {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "SIG"}}
    stream += [signature, block_stop(), block_start(1), text("Yes.", 1), block_stop(1), message_delta()]
    deltas = [
        one["choices"][0]["delta"]
        for one in events_of(tap.feed(b"".join(event(one) for one in stream) + STOP))
        if one["choices"]
    ]
    (blocks,) = [delta["thinking_blocks"] for delta in deltas if "thinking_blocks" in delta]
    assert blocks == [{"index": 0, "type": "thinking", "thinking": "Hm.", "signature": "SIG"}]
    assert "".join(delta.get("reasoning_content") or "" for delta in deltas) == "Hm."

    turn = {"role": "assistant", "content": None, "tool_calls": [CALL], "thinking_blocks": blocks}
    result = {"role": "tool", "tool_call_id": "call_1", "content": "42"}
    body = asked_of_claude(USER, turn, result, tools=[LOOK], reasoning_effort="high")
    thought = {"type": "thinking", "thinking": "Hm.", "signature": "SIG"}
    assert body["messages"][1]["content"][0] == thought, "before the tool it led to"
    assert body["thinking"] == {"type": "adaptive"}


def test_14_without_the_seal_no_thinking_is_sent_or_asked_for() -> None:
    turn = {"role": "assistant", "content": None, "tool_calls": [CALL], "reasoning_content": "Hm."}
    result = {"role": "tool", "tool_call_id": "call_1", "content": "42"}
    _, body, dropped = began(CHAT, MESSAGES, chat(USER, turn, result, tools=[LOOK], reasoning_effort="high"), CLAUDE)
    assert [block["type"] for block in body["messages"][1]["content"]] == ["tool_use"]
    assert "thinking" not in body
    assert dropped == ("reasoning_effort",)


def test_15_redacted_thinking_is_kept_and_never_shown() -> None:
    tap = tapped(CHAT, MESSAGES, chat())
    stream = [message_start(), block_start(type="redacted_thinking", data="OPAQUE"), block_stop()]
    stream += [block_start(1), text("Yes.", 1), block_stop(1), message_delta()]
    relayed = tap.feed(b"".join(event(one) for one in stream) + STOP)
    deltas = [one["choices"][0]["delta"] for one in events_of(relayed) if one["choices"]]
    assert {"thinking_blocks": [{"index": 0, "type": "redacted_thinking", "data": "OPAQUE"}]} in deltas
    assert not any(delta.get("reasoning_content") for delta in deltas)


@pytest.mark.parametrize(
    ("model", "effort", "thinking_asked", "config"),
    [
        (CLAUDE, "none", None, None),
        (CLAUDE, "minimal", {"type": "adaptive"}, {"effort": "low"}),
        (CLAUDE, "xhigh", {"type": "adaptive"}, {"effort": "xhigh"}),
        (OLD_CLAUDE, "low", {"type": "enabled", "budget_tokens": 2048}, None),
        (OLD_CLAUDE, "max", {"type": "enabled", "budget_tokens": 7999}, None),
    ],
)
def test_17_effort(model: str, effort: str, thinking_asked: Any, config: Any) -> None:
    body = asked_of_claude(model=model, reasoning_effort=effort)
    assert body.get("thinking") == thinking_asked
    assert body.get("output_config") == config
    assert body["max_tokens"] == 8000


def test_17_a_budget_that_does_not_fit_is_not_asked_for() -> None:
    _, body, dropped = began(CHAT, MESSAGES, chat(reasoning_effort="high", max_tokens=1000), OLD_CLAUDE)
    assert "thinking" not in body
    assert dropped == ("reasoning_effort",)


def test_18_sampling() -> None:
    assert asked_of_claude(model=OLD_CLAUDE, temperature=1.7)["temperature"] == 1
    assert asked_of_claude(model=OLD_CLAUDE, temperature=0.2, top_p=0.5)["top_p"] == 0.5
    assert dropped_by_claude("claude-sonnet-4-5", temperature=0.2, top_p=0.5) == ("top_p",)
    assert dropped_by_claude(temperature=0.2, seed=1, logit_bias={"1": 1}) == ("seed", "logit_bias", "temperature")
    assert dropped_by_claude("claude-sonnet-4-5", temperature=0.2, reasoning_effort="low") == ("temperature",)
    assert dropped_by_claude(logprobs=False, frequency_penalty=0, store=None) == (), "they ask for nothing"


@pytest.mark.parametrize(("theirs", "model"), [(MESSAGES, CLAUDE), (RESPONSES, GPT)])
def test_19_several_choices_are_refused_never_one(theirs: str, model: str) -> None:
    with pytest.raises(BadRequest, match="n is 3") as refused:
        sent(CHAT, theirs, chat(n=3), model)
    assert refused.value.param == "n"


def test_21_formats() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "object", "properties": {}}}}
    asked = {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}}
    made = asked_of_claude(**asked)["output_config"]["format"]
    assert made["type"] == "json_schema"
    assert made["schema"]["additionalProperties"] is False
    assert made["schema"]["properties"]["a"]["additionalProperties"] is False

    wire, body, _ = began(CHAT, MESSAGES, chat(**asked), OLD_CLAUDE)
    assert body["tool_choice"]["name"] == body["tools"][0]["name"]
    assert body["tools"][0]["input_schema"] == schema
    use = {"type": "tool_use", "id": "toolu_1", "name": body["tools"][0]["name"], "input": {"a": {}}}
    usage = {"input_tokens": 1, "output_tokens": 1}
    reply = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [use], "usage": usage}
    raw = json.dumps({**reply, "stop_reason": "tool_use"}).encode()
    wire.read_reply(raw)
    choice = json.loads(wire.caller_reply(raw, SURFACES[CHAT].read_head(json.dumps({"model": "m", **chat()}).encode())))
    message = choice["choices"][0]["message"]
    assert (json.loads(message["content"]), message.get("tool_calls")) == ({"a": {}}, None)
    assert choice["choices"][0]["finish_reason"] == "stop"

    assert "JSON" in asked_of_claude(response_format={"type": "json_object"})["system"]


def test_22_images() -> None:
    def image(url: str) -> Any:
        part = {"type": "image_url", "image_url": {"url": url, "detail": "low"}}
        return asked_of_claude({"role": "user", "content": [part]})["messages"][0]["content"][0]["source"]

    assert image("data:image/webp;base64,AAAA") == {"type": "base64", "media_type": "image/webp", "data": "AAAA"}
    assert image("https://x.test/a.png") == {"type": "url", "url": "https://x.test/a.png"}
    for url in ("data:image/tiff;base64,AAAA", "data:;base64,AAAA"):
        with pytest.raises(BadRequest):
            image(url)


def test_23_files_and_audio() -> None:
    pdf = {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBE"}}
    block = asked_of_claude({"role": "user", "content": [pdf]})["messages"][0]["content"][0]
    assert block["source"] == {"type": "base64", "media_type": "application/pdf", "data": "JVBE"}
    assert block["title"] == "a.pdf"
    plain = base64.b64encode("grüß".encode()).decode()
    note = {"type": "file", "file": {"filename": "a.txt", "file_data": f"data:text/plain;base64,{plain}"}}
    assert asked_of_claude({"role": "user", "content": [note]})["messages"][0]["content"][0]["source"]["data"] == "grüß"
    audio = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "mp3"}}
    with pytest.raises(BadRequest, match="audio/mp3"):
        asked_of_claude({"role": "user", "content": [audio]})


def test_26_27_ids_and_names_that_do_not_fit_are_made_to_and_come_back() -> None:
    name = "server.tool/" + "x" * 80
    call = {"id": "call:1 ü", "type": "function", "function": {"name": name, "arguments": "{}"}}
    result = {"role": "tool", "tool_call_id": "call:1 ü", "content": "42"}
    tool = {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": {}}}}
    asked = chat(USER, {"role": "assistant", "tool_calls": [call]}, result, tools=[tool], stream=True)
    body = json.dumps({"model": "m", **asked}).encode()
    wire = WIRES[CHAT, MESSAGES].for_attempt(8000, 0)
    head = SURFACES[CHAT].read_head(body)
    made = json.loads(wire.outgoing(body, head, CLAUDE)[0])
    use, answer = made["messages"][1]["content"][0], made["messages"][2]["content"][0]
    fitting = made["tools"][0]["name"]
    assert use["id"] == answer["tool_use_id"]
    assert use["name"] == fitting
    assert all(one.isascii() and one.replace("_", "").replace("-", "").isalnum() for one in (use["id"], fitting))
    tap = wire.tap(head)
    stream = [message_start(), block_start(type="tool_use", id="toolu_1", name=fitting, input={}), block_stop()]
    relayed = tap.feed(b"".join(event(one) for one in [*stream, message_delta("tool_use")]) + STOP)
    calls = [call for one in events_of(relayed) for c in one["choices"] for call in c["delta"].get("tool_calls", ())]
    assert calls[0]["function"]["name"] == name


def test_37_an_email_address_is_not_passed_on_as_the_users_id() -> None:
    assert asked_of_claude(user="u-17")["metadata"] == {"user_id": "u-17"}
    assert "@" not in asked_of_claude(user="jo@example.org")["metadata"]["user_id"]


def test_39_tiers_of_one_vendor_are_not_those_of_another() -> None:
    assert dropped_by_claude(service_tier="flex") == ("service_tier",)
    assert dropped_by_claude(service_tier="auto") == ()
