"""The Responses API's golden cases end to end: a caller, the gateway, a provider that says this usage, the ledger."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dialects.examples_responses import ended, message, numbered, response, stream_of, text_events
from live.pretend_anthropic import PretendAnthropic, pretending
from live.running import Running, running, wait_for

pytestmark = pytest.mark.xdist_group("pretend-openai")
GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "golden_costs.json").read_text())
CASES = {case["id"]: case for case in GOLDEN["cases"] if case["kind"] == "price" and case.get("api") == "responses"}
OWN_KEY = "sk-the-gateways-own-credential"
ROUTES = """\
providers:
  openai: &here
    kind: openai
    base_url: http://127.0.0.1:{port}/v1
    credential: env:PRETEND_OPENAI_KEY
    networks: [loopback]
  openai-eu:
    kind: openai
    base_url: http://127.0.0.1:{port}/v1
    credential: env:PRETEND_OPENAI_KEY
    networks: [loopback]
    region: eu
models:
  gpt-6.1-sol: openai/gpt-6.1-sol
  gpt-5: openai/gpt-5
  in-europe: openai-eu/gpt-6.1-sol
  gpt-image-1: openai/gpt-image-1
  text-embedding-3-small: openai/text-embedding-3-small
  omni-moderation-latest: openai/omni-moderation-latest
  tts-1: openai/tts-1
  gpt-4o-mini-tts: openai/gpt-4o-mini-tts
"""


@pytest.fixture(scope="module")
def pretend_openai() -> Iterator[PretendAnthropic]:
    with pretending() as one:
        yield one


@pytest.fixture(scope="module")
def responses_server(pretend_openai: PretendAnthropic, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    os.environ["PRETEND_OPENAI_KEY"] = OWN_KEY
    routes = ROUTES.replace("{port}", str(pretend_openai.port)).replace(" &here", "")
    try:
        with running(tmp_path_factory.mktemp("responses"), routes) as live:
            live.new_key("app")
            yield live
    finally:
        del os.environ["PRETEND_OPENAI_KEY"]


def could_cost(case: dict[str, Any]) -> dict[str, Any]:
    """What a request must ask for to use what the case says: `ledger verify` compares each cost with its bound."""
    image = {"type": "input_image", "image_url": "https://a.example/x.png"}
    asking: dict[str, Any] = {"max_output_tokens": 4000, "prompt_cache_retention": "12h"}
    asking["input"] = [{"role": "user", "content": [image]}]
    tier = case.get("context", {}).get("service_tier_requested")
    if tier:
        asking["service_tier"] = tier
    if "tool_usage" in case["raw_usage"]:
        asking |= {"tools": [{"type": "web_search"}], "max_tool_calls": 4}
    return asking


def told(case: dict[str, Any]) -> dict[str, Any]:
    """The members of the response that the case is about."""
    raw = case["raw_usage"]
    items = [item.rstrip(")").partition("(") for item in raw.get("output_items", [])]
    output = [{"type": kind, "action": {"type": action}} for kind, _, action in items if kind != "message"]
    tier = case.get("context", {}).get("service_tier_served", "default")
    more = {"tool_usage": raw["tool_usage"]} if "tool_usage" in raw else {}
    return {"output": [*output, message()], "usage": raw.get("usage", raw), "service_tier": tier, **more}


def asked_for(server: Running, case: dict[str, Any], **more: Any) -> Any:
    """The ledger's row of a response as the case has it."""
    model = "in-europe" if case.get("context", {}).get("data_residency") else case["model"]
    return booked(server, "/v1/responses", {"model": model, **could_cost(case), **more})


def booked(server: Running, path: str, body: dict[str, Any]) -> Any:
    """The ledger's row of a call."""
    reply = server.call("POST", path, body, server.keys["app"])
    assert reply.status == 200, reply.body

    def look() -> Any:
        row = server.call("GET", f"/v1/requests/{reply.headers['x-request-id']}", key=server.keys["app"])
        return row.json if row.status == 200 and row.json["outcome"] != "running" else None

    return wait_for("the call in the ledger", look)


def check(row: Any, case: dict[str, Any]) -> None:
    assert row["cost"]["nano_usd"] == case["expected_nano_usd"]
    assert (row["outcome"], row["cost"]["state"], row["attempts"][0]["source"]) == ("ok", "priced", "provider")


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_whole_response_costs_what_the_golden_case_says(
    responses_server: Running, pretend_openai: PretendAnthropic, case: dict[str, Any]
) -> None:
    pretend_openai.answer(json.dumps(response(model=case["model"], **told(case))).encode())
    check(asked_for(responses_server, case), case)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_streamed_response_costs_what_the_golden_case_says(
    responses_server: Running, pretend_openai: PretendAnthropic, case: dict[str, Any]
) -> None:
    last = ended() | {"response": response(model=case["model"], **told(case))}
    pretend_openai.answer(stream_of(numbered([*text_events(), last])))
    check(asked_for(responses_server, case, stream=True), case)


def test_every_golden_case_of_responses_is_here() -> None:
    assert CASES.keys() == {"G05", "G06", "G07", "G08", "G09", "G10", "G12"}


def test_only_ids_change_of_what_passes(responses_server: Running, pretend_openai: PretendAnthropic) -> None:
    reply = b'{ "id": "resp_abc","object":"response","output":[],\n"x":1.0, "previous_response_id":null }'
    pretend_openai.answer(reply, request_id="x")
    body = b'{ "model":"gpt-5",\n"input":"\\u00e9 resp_abc", "some_new_option":1.0 }'
    answered = responses_server.call("POST", "/v1/responses", body, responses_server.keys["app"])
    name = answered.json["id"]
    assert answered.body == reply.replace(b"resp_abc", name.encode())
    assert pretend_openai.received[-1].body == body
    assert pretend_openai.received[-1].headers["authorization"] == f"Bearer {OWN_KEY}"
    onwards = b'{"model":"gpt-5","input":"on","previous_response_id":"%b"}' % name.encode()
    responses_server.call("POST", "/v1/responses", onwards, responses_server.keys["app"])
    assert pretend_openai.received[-1].body == onwards.replace(name.encode(), b"resp_abc")
    wrong = onwards.replace(b"gpt-5", b"in-europe")
    refused = responses_server.call("POST", "/v1/responses", wrong, responses_server.keys["app"])
    assert (refused.status, refused.json["error"]["param"]) == (400, "previous_response_id")


def test_images_embeddings_and_moderations_cost_what_they_cost(
    responses_server: Running, pretend_openai: PretendAnthropic
) -> None:
    image, vector = (next(case for case in GOLDEN["cases"] if case["id"] == name) for name in ("G16", "G18"))
    pretend_openai.answer(json.dumps({"created": 1, "data": [{"b64_json": "A"}], "usage": image["raw_usage"]}).encode())
    row = booked(responses_server, "/v1/images/generations", {"model": image["model"], "prompt": "a river"})
    check(row, image)
    rows = [{"object": "embedding", "index": 0, "embedding": [0.5]}]
    pretend_openai.answer(json.dumps({"data": rows, "model": "x", "usage": vector["raw_usage"]}).encode())
    check(booked(responses_server, "/v1/embeddings", {"model": vector["model"], "input": "a " * 8000}), vector)
    pretend_openai.answer(b'{"id":"modr-1","model":"omni-moderation-latest","results":[{"flagged":false}]}')
    row = booked(responses_server, "/v1/moderations", {"input": "a river"})
    assert (row["outcome"], row["cost"]["nano_usd"], row["cost"]["state"]) == ("ok", 0, "priced")


def test_speech_is_billed_by_the_character_or_not_priced(
    responses_server: Running, pretend_openai: PretendAnthropic
) -> None:
    pretend_openai.answer(b"ID3\x04 sound", content_type="audio/mpeg")
    asking = {"input": "x" * 1000, "voice": "alloy"}
    reply = responses_server.call("POST", "/v1/audio/speech", asking | {"model": "tts-1"}, responses_server.keys["app"])
    assert (reply.body, reply.headers["content-type"]) == (b"ID3\x04 sound", "audio/mpeg")
    assert reply.headers["x-faregate-cost-usd"] == "0.015"
    row = booked(responses_server, "/v1/audio/speech", asking | {"model": "gpt-4o-mini-tts"})
    assert (row["outcome"], row["cost"]["state"], row["cost"]["nano_usd"]) == ("ok", "unpriced", None)


def test_the_ledger_of_golden_responses_adds_up(responses_server: Running, pretend_openai: PretendAnthropic) -> None:
    pretend_openai.answer(json.dumps(response(model="gpt-5", **told(CASES["G12"]))).encode())
    check(asked_for(responses_server, CASES["G12"]), CASES["G12"])
    last = []

    def green() -> bool:
        last[:] = [responses_server.faregate("ledger", "verify", check=False)]
        return last[0].returncode == 0

    try:
        wait_for("a green `ledger verify`", green, 30.0)
    except AssertionError:
        raise AssertionError(last[0].stdout + last[0].stderr) from None
