"""What the vendors' APIs answer with an error, and translations therefore never write."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dialects.examples_messages import event
from dialects.translating import (
    CALL,
    CHAT,
    GPT,
    LOOK,
    MESSAGES,
    RESPONSES,
    USER,
    asked_of_claude,
    began,
    chat,
    events_of,
    sent,
    tapped,
)
from gateway.core.errors import BadRequest

RESULT = {"role": "tool", "tool_call_id": "call_1", "content": "42"}
CALLING = {"role": "assistant", "content": None, "tool_calls": [CALL]}
MARKED = {"type": "text", "text": "t", "cache_control": {"type": "ephemeral"}}
OLD_GPT = "gpt-4o"


def kinds(message: Any) -> list[str]:
    content = message["content"]
    return ["text"] if isinstance(content, str) else [block["type"] for block in content]


# ---------------------------------------------------------------- by Anthropic


def test_blocks_of_blanks_are_not_sent() -> None:
    blank = {"role": "user", "content": [{"type": "text", "text": " \n"}, {"type": "text", "text": "x"}]}
    body = asked_of_claude({"role": "system", "content": [{**MARKED, "text": ""}]}, blank)
    assert "system" not in body
    assert [message["content"] for message in body["messages"]] == [[{"type": "text", "text": "x"}]]


def test_what_the_system_says_between_a_call_and_its_result_comes_after_it() -> None:
    hint = {"role": "system", "content": "Be brief."}
    body = asked_of_claude(USER, CALLING, hint, RESULT, tools=[LOOK])
    assert [kinds(message) for message in body["messages"][1:]] == [["tool_use"], ["tool_result", "text"]]
    assert "Be brief." in body["messages"][2]["content"][1]["text"]


@pytest.mark.parametrize("theirs", [MESSAGES, RESPONSES])
def test_instructions_alone_are_what_is_asked(theirs: str) -> None:
    body = sent(CHAT, theirs, chat({"role": "system", "content": "A"}, {"role": "system", "content": "B"}))
    asked = body["messages"] if theirs == MESSAGES else body["input"]
    assert "B" in json.dumps(asked)
    assert len(asked) == 1
    assert body["system" if theirs == MESSAGES else "instructions"] == "A"


def test_a_conversation_begins_with_the_user() -> None:
    body = asked_of_claude({"role": "assistant", "content": "Hello!"}, USER)
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user"]


def test_an_answer_to_be_gone_on_with_ends_in_no_blanks() -> None:
    body = asked_of_claude(USER, {"role": "assistant", "content": "The answer is \n"})
    assert body["messages"][-1]["content"] == "The answer is"


def test_an_answer_of_thinking_alone_is_not_sent() -> None:
    thought = {"type": "thinking", "thinking": "Hm.", "signature": "SIG"}
    body = asked_of_claude(USER, {"role": "assistant", "content": "", "thinking_blocks": [thought]}, USER)
    assert [message["role"] for message in body["messages"]] == ["user", "user"]


def test_tools_of_a_conversation_that_the_call_leaves_out_are_there_and_not_to_be_called() -> None:
    body = asked_of_claude(USER, CALLING, RESULT)
    assert [tool["name"] for tool in body["tools"]] == ["look"]
    assert body["tool_choice"] == {"type": "none"}


@pytest.mark.parametrize("parameters", [{}, {"properties": {}}, {"type": "object"}, None])
def test_a_schema_of_arguments_has_its_type_and_properties(parameters: Any) -> None:
    tool = {"type": "function", "function": {"name": "look", "parameters": parameters}}
    assert asked_of_claude(tools=[tool])["tools"][0]["input_schema"] == {"type": "object", "properties": {}}


def test_a_schema_of_the_answer_has_nothing_that_anthropic_does_not_know() -> None:
    schema = {
        "type": "object",
        "additionalProperties": True,
        "properties": {
            "minimum": {
                "type": ["object", "null"],
                "properties": {"a": {"type": "integer", "minimum": 1, "maximum": 9}},
            },
            "type": {"type": "string", "description": "A word.", "maxLength": 5},
            "properties": {"type": "array", "minItems": 2, "items": {"oneOf": [{"type": "object"}, {"type": "null"}]}},
            "given": {"const": {"properties": {}}},
        },
    }
    asked = {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}}
    made = asked_of_claude(**asked)["output_config"]["format"]["schema"]
    closed_object = {"type": "object", "additionalProperties": False}
    assert made["additionalProperties"] is False
    inner = made["properties"]
    assert set(inner) == {"minimum", "type", "properties", "given"}, "properties may have any name"
    assert inner["minimum"]["additionalProperties"] is False
    assert inner["minimum"]["properties"]["a"] == {"type": "integer", "description": "(minimum: 1, maximum: 9)"}
    assert inner["type"] == {"type": "string", "description": "A word. (maxLength: 5)"}
    assert inner["properties"] == {
        "type": "array",
        "description": "(minItems: 2)",
        "items": {"anyOf": [closed_object, {"type": "null"}]},
    }
    assert inner["given"] == {"const": {"properties": {}}}


def test_images_are_images_whatever_they_are_called() -> None:
    def source(part: Any) -> Any:
        return asked_of_claude({"role": "user", "content": [part]})["messages"][0]["content"][0]

    jpg = source({"type": "image_url", "image_url": {"url": "data:image/jpg;base64,AAAA"}})
    assert jpg["source"]["media_type"] == "image/jpeg"
    png = source({"type": "file", "file": {"filename": "a.png", "file_data": "data:image/png;base64,AAAA"}})
    assert png["type"] == "image"
    assert "title" not in png
    pdf = source({"type": "file", "file": {"filename": "a.pdf", "file_data": "JVBERi0xLjQK"}})
    assert pdf["source"] == {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0xLjQK"}
    for url in ("", "ftp://x.test/a.png", "AAAA"):
        with pytest.raises(BadRequest, match=r"messages\[0\].content\[0\] must hold"):
            source({"type": "image_url", "image_url": {"url": url}})
    with pytest.raises(BadRequest, match=r"messages\[0\].content\[0\]"):
        source({"type": "image_url"})


# ---------------------------------------------------------------- by OpenAI


def messages(*turns: Any, **more: Any) -> dict[str, Any]:
    return {"max_tokens": 50, "messages": list(turns) or [USER], **more}


@pytest.mark.parametrize("theirs", [CHAT, RESPONSES])
def test_a_reasoning_model_is_sent_no_temperature_unless_it_does_not_reason(theirs: str) -> None:
    _, body, dropped = began(MESSAGES, theirs, messages(temperature=0.5, top_p=0.9), GPT)
    assert not {"temperature", "top_p"} & set(body)
    assert dropped == ("temperature", "top_p")
    _, body, dropped = began(MESSAGES, theirs, messages(temperature=0.5, thinking={"type": "disabled"}), GPT)
    assert (body["temperature"], dropped) == (0.5, ())
    assert sent(MESSAGES, theirs, messages(temperature=0.5), OLD_GPT)["temperature"] == 0.5
    assert sent(MESSAGES, theirs, messages(temperature=0.5), "gpt-5-chat-latest")["temperature"] == 0.5


def test_more_stop_sequences_than_openai_takes_are_named() -> None:
    stops = ["a", "b", "c", "d", "e"]
    _, body, dropped = began(MESSAGES, CHAT, messages(stop_sequences=stops), OLD_GPT)
    assert (body["stop"], dropped) == (stops[:4], ("stop_sequences",))
    assert began(MESSAGES, CHAT, messages(stop_sequences=stops[:4]), OLD_GPT)[2] == ()
    _, body, dropped = began(MESSAGES, CHAT, messages(stop_sequences=["a"]), GPT)
    assert ("stop" in body, dropped) == (False, ("stop_sequences",))


@pytest.mark.parametrize(("theirs", "member"), [(CHAT, "user"), (RESPONSES, "safety_identifier")])
def test_a_long_id_of_the_user_is_made_to_fit(theirs: str, member: str) -> None:
    """Claude Code's has some 150 characters, OpenAI takes 64."""
    ids = [sent(MESSAGES, theirs, messages(metadata={"user_id": text}), GPT)[member] for text in ("u" * 64, "u" * 65)]
    assert ids[0] == "u" * 64
    assert len(ids[1]) == 64
    assert ids[1] != "u" * 64


def test_a_limit_below_the_least_of_responses_is_sent_as_that() -> None:
    assert sent(CHAT, RESPONSES, chat(max_tokens=1), GPT)["max_output_tokens"] == 16
    assert sent(CHAT, RESPONSES, chat(max_tokens=17), GPT)["max_output_tokens"] == 17


@pytest.mark.parametrize(
    ("model", "kept"), [(GPT, False), ("openai/gpt-4o", False), ("anthropic/claude-opus-4-8", True)]
)
def test_cache_markers_are_sent_only_to_models_whose_sellers_know_them(model: str, kept: bool) -> None:
    body = sent(MESSAGES, CHAT, messages({"role": "user", "content": [MARKED]}, system=[MARKED]), model)
    assert ("cache_control" in json.dumps(body)) is kept


def test_only_a_schema_that_openai_takes_as_strict_is_sent_as_such() -> None:
    loose = {"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": False}
    strict = {**loose, "required": ["a"]}
    for schema, expected in ((loose, False), (strict, True)):
        tools = [{"name": "look", "input_schema": schema, "strict": True}]
        asked = messages(tools=tools, output_config={"format": {"type": "json_schema", "schema": schema}})
        by_chat, by_responses = sent(MESSAGES, CHAT, asked, GPT), sent(MESSAGES, RESPONSES, asked, GPT)
        assert by_chat["tools"][0]["function"].get("strict", False) is expected
        assert by_chat["response_format"]["json_schema"]["strict"] is expected
        assert by_responses["tools"][0]["strict"] is expected
        assert by_responses["text"]["format"]["strict"] is expected


def test_reasoning_that_led_to_nothing_is_not_sent() -> None:
    thought = {"type": "thinking", "thinking": "Hm.", "signature": packed_by_responses()}
    said = {"role": "assistant", "content": "Yes.", "thinking_blocks": [thought]}
    lost = {"role": "assistant", "content": "", "thinking_blocks": [thought]}
    items = [item["type"] for item in sent(CHAT, RESPONSES, chat(USER, said, USER), GPT)["input"]]
    assert items == ["message", "reasoning", "message", "message"]
    items = [item["type"] for item in sent(CHAT, RESPONSES, chat(USER, lost, USER), GPT)["input"]]
    assert items == ["message", "message"]


def packed_by_responses() -> str:
    """The signature of a thought as a caller of another dialect holds it."""
    tap = tapped(MESSAGES, RESPONSES, messages(), GPT)
    item = {"id": "rs_1", "type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}]}
    stream = [
        {"type": "response.created", "response": {"id": "resp_1", "model": "m"}},
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        {"type": "response.output_item.done", "output_index": 0, "item": {**item, "encrypted_content": "E"}},
    ]
    told = events_of(tap.feed(b"".join(event(one) for one in stream)))
    (signature,) = [one["delta"]["signature"] for one in told if one["type"] == "content_block_delta"]
    return str(signature)


def test_a_pdf_without_an_ending_gets_one() -> None:
    source = {"type": "base64", "media_type": "application/pdf", "data": "JVBE"}
    document = {"type": "document", "title": "Report", "source": source}
    part = sent(MESSAGES, CHAT, messages({"role": "user", "content": [document]}), GPT)["messages"][0]["content"][0]
    assert part["file"]["filename"] == "Report.pdf"


def test_what_stands_for_something_kept_at_the_provider_is_refused() -> None:
    asked = {"input": [{"type": "item_reference", "id": "msg_1"}, {"role": "user", "content": "x"}]}
    with pytest.raises(BadRequest, match=r"input\.item_reference"):
        sent(RESPONSES, MESSAGES, asked)


def test_what_the_model_was_to_see_is_refused_not_left_out() -> None:
    part = {"type": "video_url", "video_url": {"url": "https://x.test/a.mp4"}}
    with pytest.raises(BadRequest, match=r"messages\.content\.video_url"):
        asked_of_claude({"role": "user", "content": [part]})
    with pytest.raises(BadRequest, match=r"messages\.content\.container_upload"):
        sent(MESSAGES, CHAT, messages({"role": "user", "content": [{"type": "container_upload", "file_id": "f"}]}), GPT)
    with pytest.raises(BadRequest, match=r"input\.content\.input_video"):
        sent(RESPONSES, MESSAGES, {"input": [{"role": "user", "content": [{"type": "input_video"}]}]})
    search = [{"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}, {"type": "text", "text": "x"}]
    _, _, dropped = began(MESSAGES, CHAT, messages(USER, {"role": "assistant", "content": search}, USER), GPT)
    assert dropped == ("messages.server_tool_use",), "what a tool at the provider did is told by what was answered"


@pytest.mark.parametrize("theirs", [MESSAGES, RESPONSES])
def test_messages_that_say_nothing_are_refused_in_words(theirs: str) -> None:
    with pytest.raises(BadRequest, match="say nothing"):
        sent(CHAT, theirs, chat({"role": "user", "content": ""}))


def test_a_file_by_its_url_is_refused_with_what_can_be_done() -> None:
    document = {"type": "document", "source": {"type": "url", "url": "https://x.test/a.pdf"}}
    with pytest.raises(BadRequest, match=r"the URL of a file.*as base64"):
        sent(MESSAGES, CHAT, messages({"role": "user", "content": [document]}), GPT)
