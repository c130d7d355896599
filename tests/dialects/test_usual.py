"""The short way through a reply gives the facts the long way gives, or none at all."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.upstream import REPLY
from gateway.core.errors import UpstreamInvalidReply
from gateway.dialects.openai_chat.reply import read_any_chat_reply
from gateway.dialects.openai_chat.usual import usual_reply

COUNTS = st.one_of(st.integers(0, 50), st.sampled_from([None, -1, 1.5, "3", 10**13, True]))
PROMPT_DETAILS = st.dictionaries(
    st.sampled_from(["cached_tokens", "cache_write_tokens", "audio_tokens", "image_tokens", "new"]), COUNTS, max_size=3
)
COMPLETION_DETAILS = st.dictionaries(
    st.sampled_from(["reasoning_tokens", "audio_tokens", "accepted_prediction_tokens", "new"]), COUNTS, max_size=3
)


@st.composite
def usages(draw: st.DrawFn) -> Any:
    prompt, completion = draw(st.integers(0, 100)), draw(st.integers(0, 100))
    usage: dict[str, Any] = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion + draw(st.sampled_from([0, 0, 0, 1])),
    }
    if draw(st.booleans()):
        usage["prompt_tokens_details"] = draw(st.one_of(st.none(), PROMPT_DETAILS))
    if draw(st.booleans()):
        usage["completion_tokens_details"] = draw(st.one_of(st.none(), COMPLETION_DETAILS))
    if draw(st.booleans()):
        usage.update(
            draw(st.dictionaries(st.sampled_from(["queue_time", "prompt_tokens", "other"]), COUNTS, max_size=2))
        )
    return draw(st.sampled_from([usage, usage, usage, None, {}, "none"]))


MESSAGES = st.fixed_dictionaries(
    {"role": st.just("assistant"), "content": st.one_of(st.none(), st.text(max_size=20), st.just([{"type": "text"}]))},
    optional={
        "refusal": st.one_of(st.none(), st.just("no")),
        "tool_calls": st.one_of(st.none(), st.just([]), st.just([{"function": {"arguments": "{}"}}])),
        "reasoning": st.just("because"),
    },
)
CHOICES = st.lists(
    st.fixed_dictionaries(
        {"index": st.just(0), "message": MESSAGES},
        optional={"finish_reason": st.sampled_from([None, "stop", "length"]), "logprobs": st.none()},
    ),
    max_size=2,
)
REPLIES = st.fixed_dictionaries(
    {"choices": st.one_of(CHOICES, st.none()), "usage": usages()},
    optional={
        "id": st.one_of(st.just("chatcmpl-1"), st.integers()),
        "model": st.sampled_from(["m", None]),
        "object": st.sampled_from(["chat.completion", "error"]),
        "service_tier": st.sampled_from([None, "flex", 3]),
        "error": st.sampled_from([None, None, {"message": "out of luck"}]),
        "extra": st.just({"a": [1, 2]}),
        "usage_breakdown": st.sampled_from([None, {}, {"models": [{"model": "m", "usage": {"prompt_tokens": 1}}]}]),
    },
)


@settings(deadline=None, max_examples=300)
@given(REPLIES, st.booleans())
def test_the_short_way_gives_what_the_long_way_gives(reply: dict[str, Any], spaced: bool) -> None:
    body = json.dumps(reply, separators=None if spaced else (",", ":"), ensure_ascii=False).encode()
    short = usual_reply(body)
    if short is None:
        return
    try:
        assert short == read_any_chat_reply(body)
    except UpstreamInvalidReply as refused:
        raise AssertionError(f"the short way took {body!r}") from refused


def test_what_is_usual_goes_the_short_way() -> None:
    facts = usual_reply(REPLY)
    assert facts is not None
    assert facts == read_any_chat_reply(REPLY)
    assert facts.usage is not None
    assert facts.usage.meters == {"input": 24, "output": 96}
