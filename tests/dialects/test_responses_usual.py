"""The short way through a response gives what the long way gives, or nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialects.examples_responses import USAGE, message, response
from gateway.core.errors import UpstreamInvalidReply
from gateway.dialects.openai_responses.reply import read_any_response
from gateway.dialects.openai_responses.usual import usual_response

COUNTS = st.integers(-1, 50) | st.sampled_from([10**12, 10**12 + 1, 1.5, None, "3"])


@st.composite
def usages(draw: st.DrawFn) -> Any:
    """Usage that adds up, mostly, and rarely anything else."""
    taken, given_, cached, written, thought = (draw(st.integers(0, 40)) for _ in range(5))
    usage: dict[str, Any] = {
        "input_tokens": taken + cached + written,
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": written},
        "output_tokens": given_ + thought,
        "output_tokens_details": {"reasoning_tokens": thought},
        "total_tokens": taken + cached + written + given_ + thought,
    }
    for name in draw(st.lists(st.sampled_from([*usage, "cost", "new"]), max_size=1)):
        usage[name] = draw(COUNTS)
    return draw(st.sampled_from([usage, usage, usage, usage, None, {}, 5]))


ITEMS = st.one_of(
    st.builds(message, st.text(max_size=8)),
    st.builds(message, st.text(max_size=8)),
    st.just({"type": "reasoning", "summary": [{"type": "summary_text", "text": "so"}]}),
    st.just({"type": "function_call", "name": "f", "arguments": "{}"}),
    st.just({"type": "web_search_call", "action": {"type": "search"}}),
    st.just({"type": "message", "content": [{"type": "refusal", "refusal": "no"}]}),
    st.just({"type": "message", "content": None}),
    st.just({"content": []}),
)
MORE = st.sampled_from(
    [
        {},
        {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}},
        {"error": {"code": "x", "message": "m"}, "status": "failed"},
        {"tool_usage": {"web_search": {"num_requests": 2}}},
        {"object": "response.compaction"},
        {"service_tier": None, "id": 5},
        {"model": None},
    ]
)


@given(usages(), st.lists(ITEMS, max_size=3), MORE, st.booleans())
def test_the_short_way_through_a_response_says_what_the_long_one_says(
    usage: Any, output: list[Any], more: dict[str, Any], ascii_only: bool
) -> None:
    value = response("completed", output, usage=usage) | more
    body = json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "replace")
    found = usual_response(body)
    if found is not None:
        assert found == read_any_response(body)


def test_the_usual_response_goes_the_short_way() -> None:
    body = json.dumps(response("completed", [message()], usage=USAGE)).encode()
    assert usual_response(body) is not None
    assert usual_response(body) == read_any_response(body)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b"[" * 100_000])
def test_what_is_no_response_is_left_to_the_long_way(body: bytes) -> None:
    assert usual_response(body) is None
    with pytest.raises(UpstreamInvalidReply):
        read_any_response(body)
