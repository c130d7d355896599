"""The official SDKs against models whose provider is spoken to in another dialect than theirs, on a running server.

`translate_to` has the simulated provider, which serves all three, spoken to in each; so what an SDK gets of a
translation can be compared with what it gets as it is.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest
from live.running import ROUTES, Running, running, wait_for

pytestmark = pytest.mark.xdist_group("live")
CHAT, MESSAGES, RESPONSES = "chat.completions", "messages", "responses"
INTO = {f"small-by-{surface.partition('.')[0]}": surface for surface in (CHAT, MESSAGES, RESPONSES)}
MODELS = "".join(
    f"  {name}: {{{{ provider: simulated, model: sim-small, translate_to: {surface} }}}}\n"
    for name, surface in INTO.items()
)
STRICT = "  strict: {{ provider: simulated, model: sim-small, translate_to: messages, on_unsupported: reject }}\n"
LENIENT = "  lenient: {{ provider: simulated, model: sim-small, translate_to: messages, on_unsupported: drop }}\n"
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
PDF = base64.b64encode(b"%PDF-1.4\n1 0 obj<<>>endobj\ntrailer<<>>\n%%EOF").decode()
QUESTION = "Name three rivers."
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
ASKED: dict[str, Any] = {"messages": [{"role": "user", "content": QUESTION}], "max_tokens": 300}


@pytest.fixture(scope="module")
def translating(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    routes = ROUTES.replace("aliases:", f"{MODELS}{STRICT}{LENIENT}aliases:")
    with running(tmp_path_factory.mktemp("translating"), routes) as server:
        server.new_key("app")
        yield server


@pytest.fixture
def gpt(translating: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=translating.url + "/v1", api_key=translating.keys["app"], max_retries=0) as made:
        yield made


@pytest.fixture
def claude(translating: Running) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=translating.url, api_key=translating.keys["app"], max_retries=0) as made:
        yield made


def recorded(server: Running, request_id: str) -> Any:
    def look() -> Any:
        reply = server.call("GET", f"/v1/requests/{request_id}", key=server.keys["app"])
        return reply.json if reply.status == 200 and reply.json["outcome"] != "running" else None

    return wait_for(f"{request_id} in the ledger", look)


def check_booked(server: Running, headers: Any, surface: str, asked: int, answered: int) -> None:
    """The ledger has the caller's endpoint and the provider's own counts; the answer's cost is the ledger's."""
    row = recorded(server, headers["x-request-id"])
    assert (row["outcome"], row["endpoint"]) == ("ok", surface)
    assert (row["usage"]["input_tokens"], row["usage"]["output_tokens"]) == (asked, answered)
    assert row["attempts"][0]["source"] == "provider"
    assert row["cost"]["state"] == "priced"
    assert row["cost"]["nano_usd"] > 0


@pytest.mark.parametrize("model", [name for name, surface in INTO.items() if surface != CHAT])
def test_chat(translating: Running, gpt: openai.OpenAI, model: str) -> None:
    raw = gpt.chat.completions.with_raw_response.create(model=model, **ASKED)
    whole = raw.parse()
    plain = gpt.chat.completions.create(model="sim-small", **ASKED)
    assert whole.choices[0].message.content == plain.choices[0].message.content
    assert whole.choices[0].finish_reason == "stop"
    assert whole.usage is not None
    check_booked(translating, raw.headers, CHAT, whole.usage.prompt_tokens, whole.usage.completion_tokens)
    with gpt.chat.completions.stream(model=model, stream_options={"include_usage": True}, **ASKED) as stream:
        for _ in stream:
            pass
        final = stream.get_final_completion()
    assert final.choices[0].message.content == whole.choices[0].message.content
    assert final.usage == whole.usage


@pytest.mark.parametrize("model", [name for name, surface in INTO.items() if surface != CHAT])
def test_chat_with_tools(gpt: openai.OpenAI, model: str) -> None:
    tool = {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}
    asked = {**ASKED, "tools": [tool], "tool_choice": {"type": "function", "function": {"name": "weather"}}}
    whole = gpt.chat.completions.create(model=model, **asked)
    (call,) = whole.choices[0].message.tool_calls or ()
    assert call.function.name == "weather"
    assert whole.choices[0].finish_reason == "tool_calls"
    with gpt.chat.completions.stream(model=model, **asked) as stream:
        for _ in stream:
            pass
        (streamed,) = stream.get_final_completion().choices[0].message.tool_calls or ()
    assert (streamed.function.name, streamed.function.arguments) == ("weather", call.function.arguments)
    result = {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
    turns = [*ASKED["messages"], whole.choices[0].message.model_dump(exclude_none=True), result]
    again = gpt.chat.completions.create(model=model, messages=turns, max_tokens=300, tools=[tool])
    assert again.choices[0].message.content


@pytest.mark.parametrize("model", [name for name, surface in INTO.items() if surface != MESSAGES])
def test_messages(translating: Running, claude: anthropic.Anthropic, model: str) -> None:
    raw = claude.messages.with_raw_response.create(model=model, **ASKED)
    whole = raw.parse()
    plain = claude.messages.create(model="sim-small", **ASKED)
    assert whole.content[0].text == plain.content[0].text
    assert whole.stop_reason == "end_turn"
    check_booked(translating, raw.headers, MESSAGES, whole.usage.input_tokens, whole.usage.output_tokens)
    with claude.messages.stream(model=model, **ASKED) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == whole.content[0].text
    assert final.usage.output_tokens == whole.usage.output_tokens
    assert final.usage.input_tokens == whole.usage.input_tokens


@pytest.mark.parametrize("model", ["small-by-responses"])
def test_messages_with_tools(claude: anthropic.Anthropic, model: str) -> None:
    tool = {"name": "weather", "input_schema": SCHEMA}
    asked = {**ASKED, "tools": [tool], "tool_choice": {"type": "tool", "name": "weather"}}
    whole = claude.messages.create(model=model, **asked)
    (use,) = [block for block in whole.content if block.type == "tool_use"]
    assert use.name == "weather"
    assert whole.stop_reason == "tool_use"
    with claude.messages.stream(model=model, **asked) as stream:
        streamed = stream.get_final_message()
    assert [block.input for block in streamed.content if block.type == "tool_use"] == [use.input]
    result = {"type": "tool_result", "tool_use_id": use.id, "content": "sunny"}
    turns = [
        *ASKED["messages"],
        {"role": "assistant", "content": [use.model_dump()]},
        {"role": "user", "content": [result]},
    ]
    assert claude.messages.create(model=model, max_tokens=300, messages=turns, tools=[tool]).content[0].text


@pytest.mark.parametrize("model", [name for name, surface in INTO.items() if surface != RESPONSES])
def test_responses(translating: Running, gpt: openai.OpenAI, model: str) -> None:
    raw = gpt.responses.with_raw_response.create(model=model, input=QUESTION, max_output_tokens=300)
    whole = raw.parse()
    plain = gpt.responses.create(model="sim-small", input=QUESTION, max_output_tokens=300)
    assert whole.output_text == plain.output_text
    assert whole.status == "completed"
    assert whole.usage is not None
    check_booked(translating, raw.headers, RESPONSES, whole.usage.input_tokens, whole.usage.output_tokens)
    with gpt.responses.stream(model=model, input=QUESTION, max_output_tokens=300) as stream:
        numbers = [event.sequence_number for event in stream]
        final = stream.get_final_response()
    assert numbers == list(range(len(numbers)))
    assert final.output_text == whole.output_text
    assert final.usage == whole.usage


@pytest.mark.parametrize("model", ["small-by-messages"])
def test_responses_with_tools(gpt: openai.OpenAI, model: str) -> None:
    tool = {"type": "function", "name": "weather", "parameters": SCHEMA, "strict": False}
    choice = {"type": "function", "name": "weather"}
    with gpt.responses.stream(model=model, input=QUESTION, tools=[tool], tool_choice=choice) as stream:
        for _ in stream:
            pass
        final = stream.get_final_response()
    (call,) = [item for item in final.output if item.type == "function_call"]
    assert call.name == "weather"
    items = [{"role": "user", "content": QUESTION}, call.model_dump(exclude={"parsed_arguments"})]
    items.append({"type": "function_call_output", "call_id": call.call_id, "output": "sunny"})
    assert gpt.responses.create(model=model, input=items, tools=[tool]).output_text


def seen_by_chat(gpt: openai.OpenAI, model: str, part: Any) -> Any:
    turn: Any = {"role": "user", "content": [{"type": "text", "text": "What is it?"}, part]}
    return gpt.chat.completions.create(model=model, max_tokens=20, messages=[turn])


@pytest.mark.parametrize("model", [name for name, surface in INTO.items() if surface != CHAT])
def test_chat_with_images_and_files(gpt: openai.OpenAI, model: str) -> None:
    """The provider counts what it saw: as much as without a translation, and more than the words alone."""
    for part in (
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}", "detail": "high"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{PDF}"}},
    ):
        plain = seen_by_chat(gpt, "sim-small", {"type": "text", "text": "."})
        assert seen_by_chat(gpt, model, part).usage.prompt_tokens > plain.usage.prompt_tokens + 50
    audio = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
    with pytest.raises(openai.BadRequestError, match="audio of the type audio/wav"):
        seen_by_chat(gpt, model, audio)
    with pytest.raises(openai.BadRequestError, match=r"messages\[0\].content\[1\] must hold an http"):
        seen_by_chat(gpt, model, {"type": "image_url", "image_url": {"url": "file:///a.png"}})
    with pytest.raises(openai.BadRequestError, match=r"messages\.content\.video_url"):
        seen_by_chat(gpt, model, {"type": "video_url", "video_url": {"url": "https://x.test/a.mp4"}})


@pytest.mark.parametrize("model", [name for name, surface in INTO.items() if surface != CHAT])
def test_chat_asks_for_more_than_a_provider_gives(gpt: openai.OpenAI, model: str) -> None:
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError, match="n is 2") as refused:
            gpt.chat.completions.create(model=model, n=2, stream=stream, **ASKED)
        assert refused.value.param == "n"
    raw = gpt.chat.completions.with_raw_response.create(model=model, logprobs=True, top_logprobs=2, **ASKED)
    assert raw.headers["x-faregate-dropped-params"] == "logprobs, top_logprobs"
    assert raw.parse().choices[0].logprobs is None
    with pytest.raises(openai.BadRequestError, match="temperature must be a number"):
        gpt.chat.completions.create(model=model, extra_body={"temperature": "x"}, **ASKED)


@pytest.mark.parametrize("model", [name for name, surface in INTO.items() if surface != MESSAGES])
def test_messages_with_images_and_documents(claude: anthropic.Anthropic, model: str) -> None:
    def seen(part: Any) -> int:
        turn: Any = {"role": "user", "content": [{"type": "text", "text": "What is it?"}, part]}
        return claude.messages.create(model=model, max_tokens=20, messages=[turn]).usage.input_tokens

    words = seen({"type": "text", "text": "."})
    assert seen({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}) > words + 50
    assert (
        seen({"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": PDF}}) > words
    )
    with pytest.raises(anthropic.BadRequestError, match="web_search_20250305"):
        claude.messages.create(model=model, tools=[{"type": "web_search_20250305", "name": "web_search"}], **ASKED)


@pytest.mark.parametrize("model", [name for name, surface in INTO.items() if surface != RESPONSES])
def test_responses_with_images_and_what_only_its_provider_has(gpt: openai.OpenAI, model: str) -> None:
    image: Any = {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}", "detail": "auto"}
    text: Any = {"type": "input_text", "text": "What is it?"}
    whole = gpt.responses.create(model=model, input=[{"role": "user", "content": [text, image]}])
    words = gpt.responses.create(model=model, input=[{"role": "user", "content": [text]}])
    assert whole.usage is not None
    assert words.usage is not None
    assert whole.usage.input_tokens > words.usage.input_tokens + 50
    for given, member in (
        ({"background": True, "input": "x"}, "background"),
        ({"tools": [{"type": "web_search"}], "input": "x"}, "tools.web_search"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input.item_reference"),
    ):
        with pytest.raises(openai.BadRequestError, match=member):
            gpt.responses.create(model=model, **given)


def test_what_was_left_out_is_named_refused_or_dropped(gpt: openai.OpenAI) -> None:
    raw = gpt.chat.completions.with_raw_response.create(model="small-by-messages", seed=1, logit_bias={"1": 1}, **ASKED)
    assert raw.headers["x-faregate-dropped-params"] == "logit_bias, seed"
    with pytest.raises(openai.BadRequestError, match=r"seed.*on_unsupported: reject"):
        gpt.chat.completions.create(model="strict", seed=1, **ASKED)
    with pytest.raises(openai.BadRequestError, match="web_search_options"):
        gpt.chat.completions.create(
            model="small-by-messages", web_search_options={}, extra_body={"web_search_options": {"a": 1}}, **ASKED
        )
    dropped = gpt.chat.completions.with_raw_response.create(
        model="lenient", extra_body={"web_search_options": {"search_context_size": "low"}}, **ASKED
    )
    assert dropped.headers["x-faregate-dropped-params"] == "web_search_options"


def test_a_stream_that_breaks_is_told_in_the_callers_dialect(gpt: openai.OpenAI, claude: anthropic.Anthropic) -> None:
    cut = {"x-sim-fault": "truncated", "x-sim-tokens": "20"}
    with pytest.raises(openai.APIError, match="before it was complete"):
        list(gpt.chat.completions.create(model="small-by-messages", stream=True, extra_headers=cut, **ASKED))
    with (
        pytest.raises(anthropic.APIStatusError, match="before it was complete"),
        claude.messages.stream(model="small-by-chat", extra_headers=cut, **ASKED) as stream,
    ):
        list(stream)


def test_a_refusal_of_the_provider_has_the_callers_shape(gpt: openai.OpenAI, claude: anthropic.Anthropic) -> None:
    limited = {"x-sim-fault": "refuse-429"}
    with pytest.raises(openai.RateLimitError) as of_chat:
        gpt.chat.completions.create(model="small-by-messages", extra_headers=limited, **ASKED)
    assert of_chat.value.code
    with pytest.raises(anthropic.RateLimitError) as of_messages:
        claude.messages.create(model="small-by-chat", extra_headers=limited, **ASKED)
    assert of_messages.value.body["error"]["type"] == "rate_limit_error"


def test_every_call_is_in_the_ledger_to_the_nano_dollar(translating: Running) -> None:
    assert translating.verified().returncode == 0
