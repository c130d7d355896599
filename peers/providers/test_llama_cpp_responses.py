"""The Responses API of a real llama.cpp behind the gateway: real tokens, a real prompt cache, and its own refusals."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager

import openai
import pytest
from books import balanced, recorded
from live.running import Running, running
from proofs import by_name
from stand_ins import Peer, llama

PROOF = by_name("llama_cpp")
ASKED = "Tell me about the rivers of the north, and about their bridges and ferries."


@pytest.fixture(scope="module")
def responder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with llama(tmp_path_factory.mktemp("llama-responses")) as peer, gateway(peer, tmp_path_factory) as server:
        yield server


def gateway(peer: Peer, folders: pytest.TempPathFactory) -> AbstractContextManager[Running]:
    lines = ["providers:", "  here:", "    kind: llama_cpp", f"    base_url: {peer.url}/v1", "    networks: [loopback]"]
    lines += ["models:", f"  gemma: here/{PROOF.model}", ""]
    return running(folders.mktemp("responses"), "\n".join(lines))


@pytest.fixture(scope="module")
def sdk(responder: Running) -> Iterator[openai.OpenAI]:
    key = responder.new_key("app", "--budget", "1USD/day")  # a local model is free, so a hard budget does not refuse it
    with openai.OpenAI(base_url=responder.url + "/v1", api_key=key, max_retries=0) as made:
        yield made


def test_the_second_identical_response_is_cached_and_costs_nothing(responder: Running, sdk: openai.OpenAI) -> None:
    cached = []
    for _ in range(2):
        raw = sdk.responses.with_raw_response.create(model="gemma", input=ASKED, max_output_tokens=4)
        answer = raw.parse()
        assert answer.usage is not None
        booked = recorded(responder, raw.headers["x-request-id"])
        lines = {line["meter"]: line["quantity"] for line in booked["attempts"][0]["lines"]}
        assert booked["cost"] == booked["cost"] | {"state": "priced", "nano_usd": 0}
        assert lines.get("cache_read", 0) == answer.usage.input_tokens_details.cached_tokens
        assert sum(lines.values()) == answer.usage.total_tokens
        cached.append(answer.usage.input_tokens_details.cached_tokens)
    assert cached[0] == 0 < cached[1]


def test_a_stream_is_passed_on_as_it_comes_and_booked(responder: Running, sdk: openai.OpenAI) -> None:
    with sdk.responses.with_streaming_response.create(
        model="gemma", input=ASKED, max_output_tokens=12, stream=True
    ) as raw:
        events = list(raw.parse())
        request_id = raw.headers["x-request-id"]
    assert events[0].type == "response.created"
    assert events[-1].type == "response.completed"
    assert events[0].response.id == events[-1].response.id
    usage = events[-1].response.usage
    booked = recorded(responder, request_id)
    assert booked["usage"]["input_tokens"] == usage.input_tokens
    assert booked["usage"]["output_tokens"] == usage.output_tokens == 12


def test_its_input_is_counted(sdk: openai.OpenAI) -> None:
    counted = sdk.responses.input_tokens.count(model="gemma", input=ASKED).input_tokens
    answer = sdk.responses.create(model="gemma", input=ASKED, max_output_tokens=1)
    assert answer.usage is not None
    assert counted == answer.usage.input_tokens


def test_it_keeps_nothing_and_says_so(sdk: openai.OpenAI) -> None:
    first = sdk.responses.create(model="gemma", input=ASKED, max_output_tokens=1)
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.responses.create(model="gemma", input="And?", previous_response_id=first.id)
    assert refused.value.param == "previous_response_id"


def test_the_books_of_its_responses_balance(responder: Running) -> None:
    balanced(responder)
