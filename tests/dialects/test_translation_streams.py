"""What providers send that others would be put off by, and what callers' SDKs cannot put together."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dialects.examples_messages import block_start, block_stop, event, message_delta, message_start
from dialects.translating import (
    CHAT,
    CLAUDE,
    GPT,
    LOOK,
    MESSAGES,
    RESPONSES,
    STOP,
    SURFACES,
    USER,
    began,
    chat,
    events_of,
    tapped,
)


def messages(*turns: Any, **more: Any) -> dict[str, Any]:
    return {"max_tokens": 50, "messages": list(turns) or [USER], **more}


def chunks(*deltas: Any, finish: str = "tool_calls") -> bytes:
    made: list[Any] = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    made.append({"index": 0, "delta": {}, "finish_reason": finish})
    said = [b"data: " + json.dumps({"id": "c", "model": "m", "choices": [one]}).encode() + b"\n\n" for one in made]
    return b"".join(said) + b"data: [DONE]\n\n"


def piece(index: int | None, arguments: str, ident: str | None = None, name: str | None = None) -> Any:
    call: dict[str, Any] = {"function": {"name": name, "arguments": arguments}, "id": ident}
    return {"tool_calls": [call if index is None else {"index": index, **call}]}


def uses_of(stream: bytes) -> list[tuple[str, str, str]]:
    """(id, name, arguments) of the tools in a stream of Messages, whose blocks must not overlap."""
    found: list[tuple[str, str, str]] = []
    opened: dict[str, Any] | None = None
    text = ""
    for one in events_of(stream):
        if one["type"] == "content_block_start":
            assert opened is None
            opened, text = one["content_block"], ""
        elif one["type"] == "content_block_delta":
            text += one["delta"].get("partial_json", "")
        elif one["type"] == "content_block_stop":
            assert opened is not None
            if opened["type"] == "tool_use":
                found.append((opened["id"], opened["name"], text))
            opened = None
    return found


@pytest.mark.parametrize(
    "deltas",
    [
        [
            piece(0, "", "a", "f"),
            piece(1, "", "b", "g"),
            piece(0, '{"x"'),
            piece(1, '{"y"'),
            piece(0, ":1}"),
            piece(1, ":2}"),
        ],
        [piece(0, '{"x":1}', "a", "f"), piece(0, '{"y":2}', "b", "g")],
        [piece(None, '{"x":1}', "a", "f"), piece(None, '{"y":2}', "b", "g")],
        [piece(0, '{"x":', "a", "f"), piece(0, "1}"), piece(1, '{"y"', "b", "g"), piece(1, ":2}")],
    ],
    ids=["mixed", "one-index", "no-index", "in-order"],
)
def test_parallel_calls_are_told_whole_however_a_provider_mixes_them(deltas: list[Any]) -> None:
    tap = tapped(MESSAGES, CHAT, messages(), GPT)
    assert uses_of(tap.feed(chunks(*deltas))) == [("a", "f", '{"x":1}'), ("b", "g", '{"y":2}')]
    assert tap.terminal == STOP


def test_calls_without_ids_get_some_that_differ() -> None:
    tap = tapped(MESSAGES, CHAT, messages(), GPT)
    uses = uses_of(tap.feed(chunks(piece(0, "{}", "", "f"), piece(1, "{}", "", "f"))))
    assert len({ident for ident, _, _ in uses}) == 2
    assert all(ident for ident, _, _ in uses)


def test_a_forced_call_ends_in_tool_use_though_openai_says_stop() -> None:
    tap = tapped(MESSAGES, CHAT, messages(), GPT)
    told = events_of(tap.feed(chunks(piece(0, "{}", "a", "f"), finish="stop")))
    assert [one["delta"]["stop_reason"] for one in told if one["type"] == "message_delta"] == ["tool_use"]


def test_content_in_parts_is_told_as_thinking_and_text() -> None:
    """Mistral's reasoning models."""
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}
    tap = tapped(MESSAGES, CHAT, messages(), "magistral-medium")
    told = events_of(
        tap.feed(chunks({"content": [thought]}, {"content": [{"type": "text", "text": "Yes."}]}, finish="stop"))
    )
    deltas = [one["delta"] for one in told if one["type"] == "content_block_delta"]
    assert [(delta.get("thinking"), delta.get("text")) for delta in deltas] == [("Hm.", None), (None, "Yes.")]


def test_a_call_that_comes_whole_with_its_block_keeps_its_arguments() -> None:
    tap = tapped(CHAT, MESSAGES, chat(tools=[LOOK]))
    stream = [message_start(), block_start(type="tool_use", id="toolu_1", name="look", input={"a": 1}), block_stop()]
    told = events_of(tap.feed(b"".join(event(one) for one in [*stream, message_delta("tool_use")]) + STOP))
    calls = [call for one in told for c in one["choices"] for call in c["delta"].get("tool_calls", ())]
    assert "".join(call["function"]["arguments"] for call in calls) == '{"a":1}'


def test_sealed_thoughts_of_one_stream_have_indexes_for_the_sdk() -> None:
    tap = tapped(CHAT, MESSAGES, chat())
    stream: list[Any] = [message_start()]
    for at in range(2):
        stream += [block_start(at, type="redacted_thinking", data=f"D{at}"), block_stop(at)]
    told = events_of(tap.feed(b"".join(event(one) for one in [*stream, message_delta()]) + STOP))
    blocks = [block for one in told for c in one["choices"] for block in c["delta"].get("thinking_blocks", ())]
    assert [(block["index"], block["data"]) for block in blocks] == [(0, "D0"), (1, "D1")]


def test_a_message_without_deltas_is_told_when_it_is_done() -> None:
    item = {"type": "message", "id": "m1", "role": "assistant", "content": [{"type": "output_text", "text": "Yes."}]}
    stream = [
        {"type": "response.created", "response": {"id": "resp_1", "model": "m"}},
        {"type": "response.output_item.done", "output_index": 0, "item": {"type": "reasoning", "id": None}},
        {"type": "response.output_item.done", "output_index": 1, "item": item},
    ]
    tap = tapped(MESSAGES, RESPONSES, messages(), GPT)
    told = events_of(tap.feed(b"".join(event(one) for one in stream)))
    assert [one["delta"]["text"] for one in told if one["type"] == "content_block_delta"] == ["Yes."]


@pytest.mark.parametrize("ended", [True, False])
def test_items_that_mix_are_all_told_though_one_never_ends(ended: bool) -> None:
    usage = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
    stream: list[Any] = [{"type": "response.created", "response": {"id": "resp_1", "model": "m"}}]
    for at in range(2):
        item = {"type": "function_call", "id": f"fc{at}", "call_id": f"c{at}", "name": "f", "arguments": ""}
        stream.append({"type": "response.output_item.added", "output_index": at, "item": item})
    for at in (1, 0):
        stream.append({"type": "response.function_call_arguments.delta", "output_index": at, "delta": f'{{"x":{at}}}'})
        if ended:
            item = {"type": "function_call", "id": f"fc{at}", "call_id": f"c{at}", "name": "f", "arguments": "{}"}
            stream.append({"type": "response.output_item.done", "output_index": at, "item": item})
    reply = {"id": "resp_1", "object": "response", "status": "completed", "model": "m", "output": [], "usage": usage}
    stream.append({"type": "response.completed", "response": reply})
    tap = tapped(MESSAGES, RESPONSES, messages(), GPT)
    relayed = tap.feed(b"".join(event(one) for one in stream))
    assert uses_of(relayed) == [("c0", "f", '{"x":0}'), ("c1", "f", '{"x":1}')]
    assert tap.terminal == STOP


def test_a_refusal_of_anthropic_is_no_completed_response() -> None:
    tap = tapped(RESPONSES, MESSAGES, {"input": "x"})
    tap.feed(b"".join(event(one) for one in [message_start(), message_delta("refusal")]) + STOP)
    (ended,) = events_of(tap.terminal)
    assert ended["type"] == "response.incomplete"
    assert ended["response"]["incomplete_details"] == {"reason": "content_filter"}


@pytest.mark.parametrize("own", [CHAT, RESPONSES])
def test_a_stream_that_never_says_that_it_began_is_told_from_its_beginning(own: str) -> None:
    asked: dict[str, Any] = {"input": "x"} if own == RESPONSES else chat()
    tap = tapped(own, MESSAGES, asked)
    relayed = tap.feed(b"".join(event(one) for one in [block_start(), block_stop(), message_delta()]) + STOP)
    told = events_of(relayed)
    first = told[0]["choices"][0]["delta"]["role"] if own == CHAT else told[0]["type"]
    assert first == ("assistant" if own == CHAT else "response.created")


def test_a_custom_tools_call_is_one_in_a_whole_completion() -> None:
    wire, _, _ = began(CHAT, RESPONSES, chat(tools=[{"type": "custom", "custom": {"name": "run"}}]), GPT)
    call = {"type": "custom_tool_call", "call_id": "c1", "name": "run", "input": "print(1)"}
    usage = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
    reply = {
        "id": "resp_1",
        "object": "response",
        "status": "completed",
        "model": "m",
        "output": [call],
        "usage": usage,
    }
    body = json.dumps(reply).encode()
    wire.read_reply(body)
    told = json.loads(wire.caller_reply(body, SURFACES[CHAT].read_head(json.dumps({"model": "m", **chat()}).encode())))
    (made,) = told["choices"][0]["message"]["tool_calls"]
    assert made == {"id": "c1", "type": "custom", "custom": {"name": "run", "input": "print(1)"}}


def test_a_response_repeats_the_callers_own_tools() -> None:
    wire, _, _ = began(RESPONSES, MESSAGES, {"input": "x", "tools": [{"type": "function", "name": "a.b/c"}]}, CLAUDE)
    usage = {"input_tokens": 1, "output_tokens": 1}
    reply = {"id": "m", "type": "message", "role": "assistant", "model": "m", "content": [], "usage": usage}
    body = json.dumps({**reply, "stop_reason": "end_turn"}).encode()
    wire.read_reply(body)
    told = json.loads(wire.caller_reply(body, SURFACES[RESPONSES].read_head(b'{"model":"m","input":"x"}')))
    assert [tool["name"] for tool in told["tools"]] == ["a.b/c"]
