"""The row `anthropic` against two mocks that others wrote: aimock, which checks the key and thinking's signatures, and
LLMock, which answers in the vendor's shapes. The same call goes there directly, and through the gateway by the SDK.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest
from books import recorded
from live.running import Running, running
from stand_ins import ANSWER, QUESTION, RETRY_AFTER_S, SLOW_DOWN, TOO_OFTEN, Peer, aimock, http, llmock

MODEL = "claude-haiku-4-5"
ASKED: dict[str, Any] = {"model": MODEL, "max_tokens": 64, "messages": [{"role": "user", "content": QUESTION}]}
PATHS = {"aimock": "/v1", "llmock": "/anthropic/v1"}
BOTH = pytest.mark.parametrize("name", PATHS)
OF_THE_MOMENT = ("id", "created_at")


@pytest.fixture(scope="module")
def mocks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Peer]]:
    folder = tmp_path_factory.mktemp("mocks")
    with aimock(folder) as first, llmock(folder) as second:
        yield {"aimock": first, "llmock": second}


@pytest.fixture(scope="module")
def claudes(mocks: dict[str, Peer], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    lines = ["providers:"]
    with pytest.MonkeyPatch.context() as environment:
        for name, peer in mocks.items():
            environment.setenv(f"PEER_{name.upper()}", peer.secret or "none-is-checked-here")
            lines += [f"  {name}:", "    kind: anthropic", f"    base_url: {peer.url}{PATHS[name]}"]
            lines += [f"    credential: env:PEER_{name.upper()}", "    networks: [loopback]", "    keepalive_s: 2"]
        lines.append("models:")
        lines += [f"  {name}/claude: {name}/{MODEL}" for name in mocks]
        with running(tmp_path_factory.mktemp("claudes"), "\n".join(lines) + "\n") as server:
            server.new_key("app")
            yield server


@pytest.fixture
def sdk(claudes: Running) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=claudes.url, api_key=claudes.keys["app"], max_retries=0) as made:
        yield made


def directly(peer: Peer, name: str, **more: Any) -> Any:
    headers = {"x-api-key": peer.secret or "x", "anthropic-version": "2023-06-01"}
    return http(f"{peer.url}{PATHS[name]}/messages", ASKED | more, headers)


def timeless_message(body: bytes) -> dict[str, Any]:
    return {name: value for name, value in json.loads(body).items() if name not in OF_THE_MOMENT}


def kinds_and_texts(body: bytes) -> list[tuple[str, str]]:
    """The type of each event, and what of a text it holds."""
    lines = [line.removeprefix(b"data: ") for line in body.split(b"\n") if line.startswith(b"data: ")]
    found = [json.loads(line) for line in lines]
    return [(one["type"], one.get("delta", {}).get("text", "")) for one in found]


@BOTH
def test_a_message_is_the_mocks_own_and_is_booked(
    name: str, claudes: Running, sdk: anthropic.Anthropic, mocks: dict[str, Peer]
) -> None:
    raw = sdk.messages.with_raw_response.create(**ASKED | {"model": f"{name}/claude"})
    message = raw.parse()
    assert timeless_message(raw.read()) == timeless_message(directly(mocks[name], name).body)
    booked = recorded(claudes, message._request_id or "")
    assert booked["usage"]["input_tokens"] == message.usage.input_tokens
    assert booked["usage"]["output_tokens"] == message.usage.output_tokens > 0
    assert booked["cost"]["nano_usd"] == message.usage.input_tokens * 1000 + message.usage.output_tokens * 5000
    if name == "aimock":
        assert message.content[0].text == ANSWER


@BOTH
def test_a_stream_has_the_mocks_events_in_their_order(
    name: str, claudes: Running, sdk: anthropic.Anthropic, mocks: dict[str, Peer]
) -> None:
    plain = directly(mocks[name], name, stream=True)
    through = claudes.call(
        "POST", "/v1/messages", ASKED | {"model": f"{name}/claude", "stream": True}, claudes.keys["app"]
    )
    assert kinds_and_texts(through.body) == kinds_and_texts(plain.body)
    with sdk.messages.stream(**ASKED | {"model": f"{name}/claude"}) as stream:
        message = stream.get_final_message()
        booked = recorded(claudes, stream.response.headers["request-id"])
    assert (booked["outcome"], booked["attempts"][0]["source"]) == ("ok", "provider")
    assert booked["usage"]["output_tokens"] == message.usage.output_tokens


def test_a_refusal_passes_with_its_words_and_advice(sdk: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.RateLimitError, match=SLOW_DOWN) as refused:
        sdk.messages.create(model="aimock/claude", max_tokens=9, messages=[{"role": "user", "content": TOO_OFTEN}])
    assert refused.value.response.headers["retry-after"] == str(RETRY_AFTER_S)


def test_what_the_mock_finds_wrong_in_a_thinking_turn_is_its_to_say(
    sdk: anthropic.Anthropic, mocks: dict[str, Peer]
) -> None:
    """aimock refuses a tool's turn whose thinking has lost its signature, word for word, and takes one that has it."""
    used = {"type": "tool_use", "id": "toolu_1", "name": "rivers", "input": {}}
    answered = [
        {"type": "tool_result", "tool_use_id": "toolu_1", "content": "three"},
        {"type": "text", "text": QUESTION},
    ]

    def turn(**thought: str) -> dict[str, Any]:
        turns = [
            {"role": "user", "content": QUESTION},
            {"role": "assistant", "content": [{"type": "thinking", "thinking": "Rivers.", **thought}, used]},
            {"role": "user", "content": answered},
        ]
        return {"messages": turns, "max_tokens": 4000, "thinking": {"type": "enabled", "budget_tokens": 2000}}

    plain = directly(mocks["aimock"], "aimock", **turn())
    assert plain.status == 400
    with pytest.raises(anthropic.BadRequestError, match="missing a non-empty `signature`") as refused:
        sdk.messages.create(model="aimock/claude", **turn())
    assert refused.value.body == plain.json
    assert sdk.messages.create(model="aimock/claude", **turn(signature="EqQB/+sig==")).content


def test_the_books_of_the_claudes_are_green(claudes: Running) -> None:
    assert claudes.faregate("ledger", "verify").returncode == 0
