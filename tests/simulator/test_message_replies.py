"""The simulator's Messages as Anthropic's own client and our dialect read them, and its faults in them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anthropic
import pytest

from gateway.dialects.discover import discover
from gateway.simulator.text import tokenize
from simulator.live import Live
from simulator.test_faults import TABLE, TOKENS

MESSAGES = discover()["messages"]
ASKED: dict[str, Any] = {
    "model": "sim-small",
    "max_tokens": 400,
    "messages": [{"role": "user", "content": "Explain budgets please"}],
}


@pytest.fixture
async def claude(live: Live) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(base_url=f"http://127.0.0.1:{live.port}", api_key="k", max_retries=0) as made:
        yield made


async def test_a_whole_message_counts_what_it_says(live: Live, claude: anthropic.AsyncAnthropic) -> None:
    message = await claude.messages.create(**ASKED)
    (block,) = message.content
    assert block.type == "text"
    assert message.usage.output_tokens == len(tokenize(block.text))
    again = await claude.messages.create(**ASKED)
    assert again.content == message.content
    counted = await claude.messages.count_tokens(model="sim-small", messages=ASKED["messages"])
    assert counted.input_tokens == message.usage.input_tokens > 0


async def test_thinking_is_part_of_the_output_and_told(claude: anthropic.AsyncAnthropic) -> None:
    message = await claude.messages.create(**ASKED, thinking={"type": "adaptive"})
    thought, said = message.content
    assert (thought.type, said.type) == ("thinking", "text")
    assert message.usage.output_tokens_details is not None
    assert message.usage.output_tokens_details.thinking_tokens == len(tokenize(thought.thinking))
    assert message.usage.output_tokens == len(tokenize(thought.thinking)) + len(tokenize(said.text))


async def test_an_output_limit_cuts_and_nothing_is_possible(claude: anthropic.AsyncAnthropic) -> None:
    cut = await claude.messages.create(**ASKED | {"max_tokens": 3})
    assert (cut.stop_reason, cut.usage.output_tokens) == ("max_tokens", 3)
    nothing = await claude.messages.create(**ASKED | {"max_tokens": 0})
    assert (nothing.content, nothing.usage.output_tokens) == ([], 0)


async def test_a_refusal_is_in_anthropics_shape(claude: anthropic.AsyncAnthropic) -> None:
    with pytest.raises(anthropic.NotFoundError) as missing:
        await claude.messages.create(**ASKED | {"model": "nobody"})
    assert missing.value.type == "not_found_error"
    with pytest.raises(anthropic.BadRequestError) as wrong:
        await claude.messages.create(**ASKED | {"max_tokens": -1})
    assert wrong.value.type == "invalid_request_error"


@pytest.mark.parametrize(
    ("fault", "stream", "status", "cut", "completed", "tokens"), TABLE, ids=lambda value: str(value) or "none"
)
async def test_a_fault_of_messages(
    live: Live, fault: str, stream: bool, status: int, cut: str, completed: bool, tokens: int
) -> None:
    attempt_id = f"att_messages_{fault}_{stream}"
    headers = {"x-sim-fault": fault, "x-sim-tokens": str(TOKENS), "x-request-id": attempt_id}
    answer = await live.ask("POST", "/v1/messages", ASKED | {"stream": stream}, headers)
    told = live.witnessed()[attempt_id]
    assert (answer.status, answer.cut) == (status, bool(cut))
    assert (told.ended, told.completed, told.cancelled_ms) == (True, completed, None)
    assert told.usage["completion_tokens"] == tokens
    if not stream or status != 200 or fault == "html":
        return
    tap = MESSAGES.tap(MESSAGES.read_head(b'{"model":"m","messages":[{}],"stream":true}'))
    tap.feed(answer.body)
    tap.finish()
    assert tap.complete == completed
    assert bool(tap.error) == fault.startswith("error")
    if completed and fault == "":
        assert tap.usage is not None
        assert (tap.usage.output_tokens(), tap.usage.fault) == (TOKENS, "")
    elif fault == "bad-usage":
        assert tap.usage is not None
        assert tap.usage.fault
    elif fault == "no-usage":
        assert tap.usage is None
