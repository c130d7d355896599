"""What is read of a Messages request, what is refused, and that what goes up is what came."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.call import Head
from gateway.core.errors import (
    BadRequest,
    BudgetExceeded,
    Overloaded,
    RateLimited,
    UpstreamServerError,
    UpstreamTimeout,
)
from gateway.dialects.anthropic_messages.betas import KNOWN_BETAS
from gateway.dialects.anthropic_messages.client_ids import read_user_id
from gateway.dialects.discover import discover

MESSAGES = discover()["messages"]
COUNT = discover()["messages.count_tokens"]
USER = {"role": "user", "content": "hi"}


def body(**more: Any) -> bytes:
    return json.dumps({"model": "m", "max_tokens": 50, "messages": [USER], **more}).encode()


def head(**more: Any) -> Head:
    return MESSAGES.read_head(body(**more))


def test_a_plain_request() -> None:
    assert head() == Head(
        model="m", usage_asked=True, max_output_tokens=50, messages=1, text_bytes=len(body()), cache_hours=False
    )


def test_an_output_limit_of_nothing_fills_a_cache() -> None:
    assert head(max_tokens=0).max_output_tokens == 0
    assert head(max_tokens=None).max_output_tokens is None


@pytest.mark.parametrize(
    ("member", "value", "said"),
    [
        ("model", "", "model must be a non-empty string"),
        ("messages", [], "messages must be a non-empty array of objects"),
        ("messages", "hi", "messages must be a non-empty array of objects, not a string"),
        ("messages", ["hi"], "messages must be a non-empty array of objects"),
        ("max_tokens", -1, "max_tokens must be a whole number from 0"),
        ("max_tokens", 1.5, "max_tokens must be a whole number from 0"),
        ("stream", "yes", "stream must be true, false or null, not a string"),
        ("tools", [3], "tools must be an array of objects"),
        ("metadata", {"user_id": 3}, "metadata must be an object with user_id a string or null"),
        ("speed", 2, "speed must be a string or null"),
    ],
)
def test_a_wrong_member_is_named_with_what_it_must_be(member: str, value: Any, said: str) -> None:
    with pytest.raises(BadRequest) as refused:
        head(**{member: value})
    assert said in refused.value.message
    assert refused.value.param is not None
    assert refused.value.param.split(".")[0].split("[")[0] == member


def test_missing_members_are_named() -> None:
    with pytest.raises(BadRequest, match="messages is missing"):
        MESSAGES.read_head(b'{"model":"m"}')
    with pytest.raises(BadRequest, match="model is missing"):
        MESSAGES.read_head(b'{"messages":[{}]}')


MARKED = {"type": "ephemeral"}


@pytest.mark.parametrize(
    ("more", "marked", "long"),
    [
        ({}, False, False),
        ({"cache_control": MARKED}, True, False),
        ({"system": [{"type": "text", "text": "x", "cache_control": {**MARKED, "ttl": "5m"}}]}, True, False),
        ({"system": [{"type": "text", "text": "x", "cache_control": {**MARKED, "ttl": "1h"}}]}, True, True),
        ({"tools": [{"name": "t", "input_schema": {}, "cache_control": {**MARKED, "ttl": "1d"}}]}, True, True),
        ({"messages": [{"role": "user", "content": 'say "cache_control"'}]}, False, False),
    ],
)
def test_cache_markers_and_how_long_they_last(more: Any, marked: bool, long: bool) -> None:
    found = head(**more)
    assert (found.cache_markers, found.cache_hours) == (marked, long)


def test_no_escape_hides_a_marker_or_its_life() -> None:
    hidden = body(cache_control={**MARKED, "ttl": "1h"}).replace(b'"cache_control"', b'"c\\u0061che_control"')
    found = MESSAGES.read_head(hidden.replace(b'"ttl"', b'"\\u0074tl"'))
    assert (found.cache_markers, found.cache_hours) == (True, True)


def test_media_is_found_wherever_it_stands() -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBO"}}
    document = {"type": "document", "source": {"type": "url", "url": "https://a.example/x.pdf"}}
    result = {"type": "tool_result", "tool_use_id": "t", "content": [image]}
    assert head(messages=[{"role": "user", "content": [image, document, result]}]).media == 3
    assert head().media == 0


def test_tools_of_the_caller_are_told_from_the_providers() -> None:
    own = [
        {"name": "a", "input_schema": {}},
        {"type": "custom", "name": "b"},
        {"type": "bash_20250124", "name": "bash"},
    ]
    assert head(tools=own).hosted_tools == ()
    assert head(tools=own).tools == 3
    hosted = [{"type": "web_search_20250305", "name": "web_search"}, {"type": "mcp_toolset", "mcp_server_name": "x"}]
    assert head(tools=hosted).hosted_tools == ("web_search_20250305", "mcp_toolset")
    assert head(mcp_servers=[{"url": "https://a.example"}]).hosted_tools == ("mcp",)
    assert head(fallbacks=[{"model": "x"}]).hosted_tools == ("fallback",)
    assert head(context_management={"edits": [{"type": "compact_20260112"}]}).hosted_tools == ("compaction",)
    assert head(context_management={"edits": [{"type": "clear_thinking_20251015"}]}).hosted_tools == ()


@pytest.mark.parametrize(
    ("more", "prompts"),
    [
        ({}, 0),
        ({"tools": []}, 0),
        ({"tools": [{"name": "a", "input_schema": {}}, {"type": "custom", "name": "b"}]}, 1),
        ({"tools": [{"name": "a"}, {"type": "bash_20250124", "name": "bash"}]}, 2),
        ({"output_config": {"format": {"type": "json_schema", "schema": {}}}}, 1),
        ({"output_config": None}, 0),
    ],
)
def test_what_the_provider_adds_to_a_prompt_is_held_for(more: Any, prompts: int) -> None:
    """A small request with a tool has fewer bytes than the prompt about tools has tokens."""
    assert head(**more).hidden_tokens == 1024 * prompts


@pytest.mark.parametrize(
    ("more", "tier"),
    [
        ({}, ""),
        ({"service_tier": "auto"}, ""),
        ({"service_tier": "standard_only"}, ""),
        ({"service_tier": "flex"}, "flex"),
        ({"speed": "standard"}, ""),
        ({"speed": "fast"}, "fast"),
        ({"speed": "fast", "service_tier": "standard_only"}, "fast"),
    ],
)
def test_tiers_and_speed(more: Any, tier: str) -> None:
    assert head(**more).service_tier == tier


def test_unknown_members_and_betas_are_noted_and_known_ones_are_not() -> None:
    assert head(something_new=1).unknown_fields == ("something_new",)
    known = ",".join(sorted(KNOWN_BETAS))
    assert MESSAGES.joined(head(), {"anthropic-beta": known}).unknown_fields == ()
    plain = head(top_k=3, thinking={"type": "adaptive"}, inference_geo="us", output_config={"effort": "low"})
    assert plain.unknown_fields == ()
    said = {"anthropic-beta": "interleaved-thinking-2025-05-14, context-1m-2025-08-07"}
    assert MESSAGES.joined(plain, said).unknown_fields == ("anthropic-beta:context-1m-2025-08-07",)
    assert MESSAGES.joined(plain, {"x": "y"}) is plain


@pytest.mark.parametrize(
    ("said", "user", "session"),
    [
        ("u-17", "u-17", ""),
        ("user_ab12_account_0f-1e_session_11112222-3333", "0f-1e", "11112222-3333"),
        ("user_ab12_account__session_11112222-3333", "user_ab12", "11112222-3333"),
        ("user_ab12_session_11112222-3333", "user_ab12", "11112222-3333"),
        ("user_7", "user_7", ""),
        ('{"device_id":"d","account_uuid":"a","session_id":"s"}', "a", "s"),
        ('{"device_id":"d","account_uuid":"","session_id":"s"}', "d", "s"),
        ("{curly", "{curly", ""),
    ],
)
def test_user_and_session_of_a_user_id(said: str, user: str, session: str) -> None:
    assert read_user_id(said) == (user, session)
    found = head(metadata={"user_id": said})
    assert (found.user, found.session) == (user, session)


SACRED = [
    {"type": "thinking", "thinking": "…", "signature": "EqQB/+=="},
    {"type": "redacted_thinking", "data": "Emw\\u002fK=="},
    {"type": "text", "text": "x", "cache_control": MARKED},
]


def test_only_the_model_is_written_anew() -> None:
    written = json.dumps({"messages": [{"role": "assistant", "content": SACRED}]}, indent=3).encode()
    raw = b'{ "model" : "m",\n "x": 1.0e2,' + written.lstrip(b"{\n ").rstrip(b"}") + b', "max_tokens": 5 }'
    given = MESSAGES.read_head(raw)
    assert MESSAGES.outgoing(raw, given, "m")[0] is raw
    sent = MESSAGES.outgoing(raw, given, "claude-x")[0]
    start, end = raw.index(b"["), raw.rindex(b"]") + 1
    assert raw[start:end] in sent
    assert json.loads(sent) == json.loads(raw) | {"model": "claude-x"}
    assert b'"x":1.0e2' in sent


def test_an_output_limit_below_the_thinking_budget_is_not_written() -> None:
    thinks = body(max_tokens=5000, thinking={"type": "enabled", "budget_tokens": 2000})
    assert MESSAGES.with_output_limit(thinks, 2000) is None
    limited = MESSAGES.with_output_limit(thinks, 2001)
    assert limited is not None
    assert MESSAGES.read_head(limited).max_output_tokens == 2001


def test_a_count_is_estimated_from_the_text_and_costs_nothing() -> None:
    asked = json.dumps({"model": "m", "messages": [USER]}).encode()
    counted = COUNT.read_head(asked)
    assert not counted.output_expected
    assert not COUNT.billed
    assert COUNT.own_reply(counted) == b'{"input_tokens":%d}' % -(-len(asked) // 3)
    assert MESSAGES.own_reply(counted) is None


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (BadRequest("m"), "invalid_request_error"),
        (RateLimited("m"), "rate_limit_error"),
        (BudgetExceeded("m"), "budget_exceeded"),
        (Overloaded("m"), "overloaded_error"),
        (UpstreamTimeout("m"), "timeout_error"),
        (UpstreamServerError("m", 529), "overloaded_error"),
        (UpstreamServerError("m", 500), "api_error"),
    ],
)
def test_errors_have_anthropics_types_and_our_codes(error: Any, kind: str) -> None:
    error.request_id = "req_1"
    said = json.loads(MESSAGES.error_body(error))
    assert said == {
        "type": "error",
        "error": {"type": kind, "message": "m", "details": {"error_code": error.code}},
        "request_id": "req_1",
    }


@pytest.mark.parametrize(
    ("status", "kind", "message", "code"),
    [
        (400, "invalid_request_error", "prompt is too long: 9 tokens > 8 maximum", "context_length_exceeded"),
        (400, "invalid_request_error", "Your credit balance is too low to use it.", "insufficient_quota"),
        (400, "invalid_request_error", "messages: at least one is required", "invalid_request"),
        (404, "not_found_error", "model: claude-9", "not_found"),
        (429, "rate_limit_error", "Number of requests exceeded", "rate_limit_exceeded"),
        (529, "overloaded_error", "Overloaded", "overloaded"),
        (500, "overloaded_error", "Overloaded", "overloaded"),
        (500, "api_error", "Internal server error", "server_error"),
    ],
)
def test_errors_of_the_provider_are_understood(status: int, kind: str, message: str, code: str) -> None:
    said = json.dumps({"type": "error", "error": {"type": kind, "message": message}}).encode()
    facts = MESSAGES.read_error(status, said)
    assert (facts.code, facts.message) == (code, message)
    assert MESSAGES.caller_error(status, said) is said


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(["messages", "tools", "metadata", "system", "thinking", "speed"]), JSON))
def test_any_json_gives_a_head_or_a_refusal_that_names_a_member(more: Any) -> None:
    found = head_or_refusal(more)
    assert found.model == "m" if isinstance(found, Head) else found.param


def head_or_refusal(more: Any) -> Head | BadRequest:
    try:
        return head(**more)
    except BadRequest as refused:
        return refused
