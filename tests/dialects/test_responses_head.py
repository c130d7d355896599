"""What is read of a Responses request, and how a wrong one is refused: by member, with what it must be."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dialects.examples_responses import compact
from gateway.core.errors import BadRequest
from gateway.core.quirks import Quirks
from gateway.dialects.discover import discover

RESPONSES = discover()["responses"]


def asked(**more: Any) -> bytes:
    return compact({"model": "m", "input": "hi", **more})


def test_every_fact_of_a_response() -> None:
    body = asked(
        stream=True,
        max_output_tokens=50,
        user="u-7",
        service_tier="flex",
        background=True,
        previous_response_id="resp_1",
        prompt_cache_key="conversation 5",
        tools=[{"type": "function", "name": "f"}, {"type": "web_search"}, {"type": "mcp"}],
        max_tool_calls=3,
        top_k=5,
    )
    head = RESPONSES.read_head(body)
    assert (head.stream, head.max_output_tokens, head.choices, head.background) == (True, 50, 1, True)
    assert (head.user, head.service_tier, head.messages, head.tools) == ("u-7", "flex", 1, 3)
    assert (head.previous_id, head.session) == ("resp_1", "conversation 5")
    assert (head.hosted_tools, head.tool_calls_max, head.tool_meters) == (("web_search", "mcp"), 3, ("web_search",))
    assert head.unknown_fields == ("top_k",)
    assert head.text_bytes == len(body)
    assert head.output_expected


def test_null_is_as_good_as_absent_in_a_response() -> None:
    absent = ["stream", "background", "max_output_tokens", "max_tool_calls", "user", "service_tier", "tools"]
    absent += ["previous_response_id", "conversation", "prompt", "context_management", "safety_identifier"]
    head = RESPONSES.read_head(asked(**dict.fromkeys(absent)))
    assert (head.stream, head.background, head.max_output_tokens, head.user, head.previous_id) == (
        False, False, None, "", "",
    )  # fmt: skip
    assert (head.media, head.hosted_tools, head.tool_calls_max) == (0, (), None)


def test_a_limit_of_nothing_is_no_limit() -> None:
    assert RESPONSES.read_head(asked(max_output_tokens=0)).max_output_tokens is None


WRONG = [
    ({"model": 5}, "model", "non-empty string"),
    ({"model": ""}, "model", "non-empty string"),
    ({"input": 5}, "input", "array of objects"),
    ({"input": ["hi"]}, "input[0]", "array of objects"),
    ({"stream": "yes"}, "stream", "true, false or null"),
    ({"background": 1}, "background", "true, false or null"),
    ({"max_output_tokens": -1}, "max_output_tokens", "from 0 to 2147483647"),
    ({"max_output_tokens": 1.5}, "max_output_tokens", "number with a fraction"),
    ({"max_tool_calls": -1}, "max_tool_calls", "from 0 to 2147483647"),
    ({"previous_response_id": 5}, "previous_response_id", "the id of a response"),
    ({"tools": {}}, "tools", "array of objects"),
    ({"context_management": "auto"}, "context_management", "array of objects"),
    ({"prompt": {"id": "pmpt_1"}}, "prompt", "instructions and input"),
    ({"conversation": "conv_1"}, "conversation", "previous_response_id"),
    ({"request_id": "resp_victim"}, "request_id", "cannot be chosen"),
    ({"response_id": "resp_victim"}, "response_id", "cannot be chosen"),
    ({"id": "resp_victim"}, "id", "cannot be chosen"),
]


@pytest.mark.parametrize(("change", "param", "says"), WRONG, ids=lambda value: str(value)[:40])
def test_a_wrong_member_of_a_response_is_named(change: dict[str, Any], param: str, says: str) -> None:
    with pytest.raises(BadRequest) as caught:
        RESPONSES.read_head(compact({"model": "m", "input": "hi"} | change))
    assert caught.value.param == param
    assert says in caught.value.message


def test_what_is_no_text_counts_as_media() -> None:
    image = {"type": "input_image", "image_url": "https://x/y.png"}
    file = {"type": "input_file", "file_id": "file-1"}
    shot = {"type": "computer_call_output", "output": {"type": "computer_screenshot", "image_url": "data:x"}}
    head = RESPONSES.read_head(asked(input=[{"role": "user", "content": [image, file]}, shot]))
    assert (head.media, head.messages, head.audio) == (3, 2, False)
    assert RESPONSES.read_head(asked(input=[{"content": [{"type": "input_audio", "input_audio": {}}]}])).audio
    said = 'use {"type": "input_image", "image_url": 1}'
    assert RESPONSES.read_head(asked(input=said)).media == 0


def test_what_the_provider_keeps_has_no_length_here() -> None:
    assert RESPONSES.read_head(asked(previous_response_id="resp_1")).media == 1
    assert RESPONSES.read_head(asked(input=[{"type": "item_reference", "id": "msg_1"}])).media == 1


@pytest.mark.parametrize(
    ("tools", "more", "hosted", "most", "meters"),
    [
        ([{"type": "function"}, {"type": "custom"}, {"type": "local_shell"}], {}, (), None, ()),
        ([{"type": "web_search_preview_2025_03_11"}], {}, ("web_search_preview_2025_03_11",), None, ("web_search",)),
        ([{"type": "image_generation"}], {"max_tool_calls": 2}, ("image_generation",), None, ()),
        ([{"type": "code_interpreter"}], {"max_tool_calls": 2}, ("code_interpreter",), 2, ("code_container",)),
        ([{"type": "new_thing"}], {"max_tool_calls": 2}, ("new_thing",), None, ()),
        ([{"type": "namespace", "tools": [{"type": "function"}]}], {}, (), None, ()),
        ([{"type": "namespace", "tools": [{"type": "file_search"}]}], {"max_tool_calls": 1}, ("file_search",), 1,
         ("file_search",)),
        ([{"type": "namespace", "tools": 5}], {}, ("namespace",), None, ()),
        ([], {"context_management": [{"type": "compaction"}], "max_tool_calls": 1}, ("compaction",), None, ()),
    ],
)  # fmt: skip
def test_tools_that_run_at_the_provider(
    tools: list[Any], more: dict[str, Any], hosted: tuple[str, ...], most: int | None, meters: tuple[str, ...]
) -> None:
    head = RESPONSES.read_head(asked(tools=tools, **more))
    assert (head.hosted_tools, head.tool_calls_max, head.tool_meters) == (hosted, most, meters)


def test_escapes_hide_nothing() -> None:
    body = b'{"model":"m","input":[{"content":[{"type":"input_\\u0069mage","\\u0069mage_url":"x"}]}]}'
    assert RESPONSES.read_head(body).media == 1


def test_members_a_provider_refuses_are_left_out_and_told() -> None:
    body = asked(safety_identifier="x", store=True)
    sent, dropped = RESPONSES.outgoing(body, RESPONSES.read_head(body), "m", Quirks(refused=("safety_identifier",)))
    assert json.loads(sent) == {"model": "m", "input": "hi", "store": True}
    assert dropped == ("safety_identifier",)


def test_tags_for_the_gateway_are_read_and_not_sent_on() -> None:
    body = asked(metadata={"tags": ["feature:search", "beta"], "k": "v"})
    head = RESPONSES.read_head(body)
    assert head.tags == (("feature", "search"), ("beta", "true"))
    assert json.loads(RESPONSES.outgoing(body, head, "m")[0])["metadata"] == {"k": "v"}
    plain = asked(metadata={"k": "v"})
    assert RESPONSES.outgoing(plain, RESPONSES.read_head(plain), "m")[0] is plain


@pytest.mark.parametrize(
    ("said", "written"), [(b"", 5), (b',"max_tool_calls":null', 5), (b',"max_tool_calls":0', None)]
)
def test_a_routes_limit_to_tool_calls_replaces_nothing(said: bytes, written: int | None) -> None:
    limited = RESPONSES.with_tool_limit(b'{"model":"m","input":"hi"%b}' % said, 5)
    assert (None if limited is None else json.loads(limited)["max_tool_calls"]) == written
