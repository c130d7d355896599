"""The Responses API by the official OpenAI SDK, unchanged, against a running server."""

from __future__ import annotations

import json
from typing import Any

import openai
import pydantic
import pytest
from live.running import Running, wait_for

pytestmark = pytest.mark.xdist_group("live")
ASKED = "Name three rivers."
WEATHER: dict[str, Any] = {
    "type": "function",
    "name": "get_weather",
    "description": "Weather of a place",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"place": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["place", "days"],
        "additionalProperties": False,
    },
}


@pytest.fixture
def client(server: Running, app_key: str):
    with openai.OpenAI(base_url=server.url + "/v1", api_key=app_key, max_retries=0) as made:
        yield made


def recorded(server: Running, request_id: str, key: str) -> Any:
    """The call as its owner sees it, once it is in the ledger."""

    def look() -> Any:
        reply = server.call("GET", f"/v1/requests/{request_id}", key=key)
        return reply.json if reply.status == 200 and reply.json["outcome"] != "running" else None

    return wait_for(f"{request_id} in the ledger", look)


def test_a_response_is_answered_and_booked(server: Running, client: openai.OpenAI, app_key: str) -> None:
    raw = client.responses.with_raw_response.create(model="sim-small", input=ASKED, instructions="Be brief.")
    answer = raw.parse()
    assert answer.output_text
    assert answer.status == "completed"
    assert answer.id.startswith("resp_sim")
    assert "_fg1" in answer.id
    assert float(raw.headers["x-faregate-cost-usd"]) > 0
    row = recorded(server, raw.headers["x-request-id"], app_key)
    assert (row["outcome"], row["endpoint"]) == ("ok", "responses")
    assert row["usage"]["input_tokens"] == answer.usage.input_tokens
    assert row["usage"]["output_tokens"] == answer.usage.output_tokens
    assert row["cost"]["usd"] == raw.headers["x-faregate-cost-usd"]


def test_the_sdks_strict_stream_helper_is_content(server: Running, client: openai.OpenAI, app_key: str) -> None:
    text = ""
    numbers: list[int] = []
    with client.responses.stream(model="sim-reasoning", input=ASKED) as stream:
        for event in stream:
            numbers.append(event.sequence_number)
            if event.type == "response.output_text.delta":
                text += event.delta
        final = stream.get_final_response()
    assert final.output_text == text != ""
    assert [item.type for item in final.output] == ["reasoning", "message"]
    assert numbers == list(range(len(numbers)))
    assert final.usage is not None
    assert final.usage.output_tokens_details.reasoning_tokens > 0
    assert client.responses.retrieve(final.id).output_text == text


def test_a_function_is_called_and_its_answer_gone_on_from(client: openai.OpenAI) -> None:
    with client.responses.stream(
        model="sim-small", input="Weather in Bergen?", tools=[WEATHER], tool_choice="required"
    ) as stream:
        events = list(stream)
        first = stream.get_final_response()
    call = first.output[0]
    assert call.type == "function_call"
    assert json.loads(call.arguments).keys() == {"place", "days"}
    done = [event for event in events if event.type == "response.function_call_arguments.done"]
    assert done[0].arguments == call.arguments
    output: Any = [{"type": "function_call_output", "call_id": call.call_id, "output": "Rain."}]
    second = client.responses.create(model="sim-small", previous_response_id=first.id, input=output)
    assert second.output_text
    assert second.previous_response_id == first.id
    assert second.usage is not None
    alone = client.responses.input_tokens.count(model="sim-small", input=output).input_tokens
    whole = client.responses.input_tokens.count(
        model="sim-small", previous_response_id=first.id, input=output
    ).input_tokens
    assert alone < whole == second.usage.input_tokens


class Weather(pydantic.BaseModel):
    place: str
    days: int


def test_parse_reads_arguments(client: openai.OpenAI) -> None:
    parsed = client.responses.parse(
        model="sim-small",
        input="Weather in Bergen?",
        tools=[openai.pydantic_function_tool(Weather, name="get_weather")],  # type: ignore[list-item]
        tool_choice="required",
    )
    assert parsed.output[0].parsed_arguments == Weather(place="weather", days=1)  # type: ignore[union-attr]


async def test_the_async_client_streams_too(server: Running, app_key: str) -> None:
    async with (
        openai.AsyncOpenAI(base_url=server.url + "/v1", api_key=app_key, max_retries=0) as client,
        client.responses.stream(model="sim-small", input=ASKED) as stream,
    ):
        kinds = [event.type async for event in stream]
        final = await stream.get_final_response()
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert kinds[-1] == "response.completed"
    assert final.output_text


def test_what_is_too_long_is_incomplete(client: openai.OpenAI) -> None:
    answer = client.responses.create(model="sim-small", input=ASKED, max_output_tokens=5)
    assert answer.status == "incomplete"
    assert answer.incomplete_details is not None
    assert answer.incomplete_details.reason == "max_output_tokens"


def test_errors_of_responses_reach_the_sdk_as_its_own_classes(server: Running, client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        client.responses.create(model="sim-smal", input=ASKED)
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as wrong:
        client.responses.create(model="sim-small", input=5)  # type: ignore[arg-type]
    assert wrong.value.param == "input"
    with pytest.raises(openai.BadRequestError) as prompt:
        client.responses.create(model="sim-small", prompt={"id": "pmpt_1"})
    assert prompt.value.param == "prompt"
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="fg_live_nobody").responses.create(model="sim-small", input=ASKED)
    limited = client.with_options(default_headers={"x-sim-fault": "refuse-429"})
    with pytest.raises(openai.RateLimitError):
        limited.responses.create(model="sim-small", input=ASKED)
    poor = server.new_key("poor-responses", "--budget", "0.000001USD/month")
    with pytest.raises(openai.APIStatusError) as broke:
        client.with_options(api_key=poor).responses.create(model="sim-small", input=ASKED)
    assert broke.value.status_code == 402
    assert broke.value.code == "budget_exceeded"


@pytest.mark.parametrize("fault", ["disconnect-mid", "truncated"])
def test_a_stream_that_just_stops_ends_with_an_error_and_response_failed(
    server: Running, client: openai.OpenAI, app_key: str, fault: str
) -> None:
    broken = client.with_options(default_headers={"x-sim-fault": fault})
    with pytest.raises(openai.APIError):
        for _ in broken.responses.create(model="sim-small", input=ASKED, stream=True):
            pass
    reply = server.call(
        "POST",
        "/v1/responses",
        {"model": "sim-small", "input": ASKED, "stream": True},
        app_key,
        {"x-sim-fault": fault},
    )
    events = [json.loads(line[6:]) for line in reply.body.decode().splitlines() if line.startswith("data: ")]
    assert [event["type"] for event in events[-2:]] == ["error", "response.failed"]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert events[-1]["response"]["id"] == events[0]["response"]["id"]
    assert events[-1]["response"]["error"]["code"] == "upstream_disconnected"
    row = recorded(server, reply.headers["x-request-id"], app_key)
    assert (row["outcome"], row["cost"]["state"]) == ("truncated", "estimated")
    assert row["cost"]["nano_usd"] > 0


def test_a_providers_own_failure_inside_a_stream_is_passed_on(server: Running, app_key: str) -> None:
    body = {"model": "sim-small", "input": ASKED, "stream": True}
    reply = server.call("POST", "/v1/responses", body, app_key, {"x-sim-fault": "error-event"})
    events = [json.loads(line[6:]) for line in reply.body.decode().splitlines() if line.startswith("data: ")]
    assert [event["type"] for event in events[-2:]] == ["error", "response.failed"]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert "_fg1" in events[-1]["response"]["id"]
    row = recorded(server, reply.headers["x-request-id"], app_key)
    assert (row["outcome"], row["error_code"]) == ("truncated", "upstream_stream_error")


def test_an_id_is_its_own_orgs(server: Running, client: openai.OpenAI) -> None:
    first = client.responses.create(model="sim-small", input=ASKED)
    stranger = client.with_options(api_key=server.new_key("stranger-responses", "--org", "strangers"))
    raw_id = first.id.partition("_fg1")[0]
    for who, name in ((stranger, first.id), (client, raw_id), (client, first.id[:-1] + "!"), (client, "resp_none")):
        with pytest.raises(openai.NotFoundError) as missing:
            who.responses.create(model="sim-small", input="And then?", previous_response_id=name)
        assert missing.value.code == "previous_response_not_found"
        with pytest.raises(openai.NotFoundError):
            who.responses.retrieve(name)
    assert client.responses.create(model="sim-large", input="And then?", previous_response_id=first.id).output_text


def test_a_kept_response_is_read_again_and_deleted(server: Running, client: openai.OpenAI, app_key: str) -> None:
    made = client.responses.create(model="sim-small", input=ASKED)
    raw = client.responses.with_raw_response.retrieve(made.id)
    again = raw.parse()
    assert (again.id, again.output_text, again.status) == (made.id, made.output_text, "completed")
    row = recorded(server, raw.headers["x-request-id"], app_key)
    assert (row["outcome"], row["endpoint"], row["cost"]["nano_usd"]) == ("ok", "responses.kept", 0)
    items = client.responses.input_items.list(made.id, order="asc").data
    assert [item.content[0].text for item in items] == [ASKED]  # type: ignore[union-attr]
    events = list(client.responses.retrieve(made.id, stream=True))
    later = list(client.responses.retrieve(made.id, stream=True, starting_after=3))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [event.type for event in later] == [event.type for event in events[4:]]
    assert {event.response.id for event in events if hasattr(event, "response")} == {made.id}
    with pytest.raises(openai.BadRequestError, match="synchronous"):
        client.responses.cancel(made.id)
    client.responses.delete(made.id)
    with pytest.raises(openai.NotFoundError) as gone:
        client.responses.retrieve(made.id)
    assert made.id in gone.value.message


def test_an_sdk_reads_on_from_the_end_and_sees_only_its_own_ids(client: openai.OpenAI) -> None:
    made = client.responses.create(model="sim-small", input=ASKED)
    events = list(client.responses.retrieve(made.id, stream=True))
    assert list(client.responses.retrieve(made.id, stream=True, starting_after=events[-1].sequence_number)) == []
    with pytest.raises(openai.BadRequestError, match="whole number"):
        client.responses.input_items.list(made.id, extra_query={"limit": "few"})
    client.responses.delete(made.id)
    with pytest.raises(openai.BadRequestError) as gone:
        client.responses.create(model="sim-small", input="And then?", previous_response_id=made.id)
    assert f"'{made.id}'" in gone.value.message


def test_a_tool_without_a_price_makes_the_background_unpriced(
    server: Running, client: openai.OpenAI, app_key: str
) -> None:
    raw = client.responses.with_raw_response.create(
        model="sim-small", input=ASKED, background=True, tools=[{"type": "web_search"}], max_tool_calls=2
    )
    row = recorded(server, raw.headers["x-request-id"], app_key)
    assert (row["outcome"], row["cost"]["state"], row["cost"]["nano_usd"]) == ("ok", "unpriced", None)


def test_a_response_in_the_background_is_booked_at_its_bound(
    server: Running, client: openai.OpenAI, app_key: str
) -> None:
    slow = client.with_options(default_headers={"x-sim-latency-ms": "60000"})
    raw = slow.responses.with_raw_response.create(
        model="sim-small", input=ASKED, background=True, max_output_tokens=1000
    )
    made = raw.parse()
    assert (made.status, made.usage) == ("queued", None)
    row = recorded(server, raw.headers["x-request-id"], app_key)
    assert (row["outcome"], row["cost"]["state"]) == ("ok", "estimated")
    assert row["usage"]["output_tokens"] == 1000
    assert client.responses.cancel(made.id).status == "cancelled"
    quick = client.responses.create(model="sim-small", input=ASKED, background=True)
    assert client.responses.retrieve(quick.id).status == "completed"


def test_websockets_and_realtime_are_refused_clearly(server: Running, app_key: str) -> None:
    upgrade = {"upgrade": "websocket", "connection": "Upgrade", "sec-websocket-version": "13"}
    reply = server.call("GET", "/v1/responses", None, app_key, upgrade)
    assert (reply.status, reply.headers["upgrade"]) == (426, "HTTP/1.1")
    assert reply.json["error"]["code"] == "websocket_not_offered"
    assert server.call("GET", "/v1/responses", None, app_key).status == 405
    refused = server.call("GET", "/v1/realtime?model=sim-small", None, app_key, upgrade)
    assert (refused.status, refused.json["error"]["code"]) == (501, "not_offered")


def test_tokens_of_an_input_are_counted_for_nothing(server: Running, client: openai.OpenAI, app_key: str) -> None:
    raw = client.responses.input_tokens.with_raw_response.count(model="sim-small", input=ASKED)
    counted = raw.parse().input_tokens
    assert counted == client.responses.create(model="sim-small", input=ASKED).usage.input_tokens  # type: ignore[union-attr]
    row = recorded(server, raw.headers["x-request-id"], app_key)
    assert (row["outcome"], row["cost"]["nano_usd"], row["cost"]["state"]) == ("ok", 0, "priced")


def test_compacting_is_billed(server: Running, client: openai.OpenAI, app_key: str) -> None:
    raw = client.responses.with_raw_response.compact(model="sim-small", input=[{"role": "user", "content": ASKED}])
    compacted = raw.parse()
    assert compacted.output[-1].type == "compaction"
    row = recorded(server, raw.headers["x-request-id"], app_key)
    assert row["usage"]["output_tokens"] == compacted.usage.output_tokens
    assert row["cost"]["nano_usd"] > 0


def test_the_books_of_responses_agree_with_the_witness(server: Running) -> None:
    server.verified()
