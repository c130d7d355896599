"""What a provider's error says, in every shape met in the field; the words are ours, the set of codes is closed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialects.examples import compact
from gateway.core.errors import UpstreamInvalidReply
from gateway.dialects.openai_chat.provider_errors import CODES, MESSAGE_CHARS_MAX, read_error
from gateway.dialects.openai_chat.surface import MEMBER as CHAT

SHAPES: list[tuple[int, Any, str, str]] = [
    (400, {"error": {"message": "no", "type": "invalid_request_error", "code": None}}, "no", "invalid_request"),
    (400, {"error": "just text"}, "just text", "invalid_request"),
    (400, {"error": ["one", "two"]}, "one; two", "invalid_request"),
    (404, {"detail": "Not Found"}, "Not Found", "not_found"),
    (422, {"detail": [{"loc": ["body", "n"], "msg": "bad"}, {"msg": "ill"}]}, "body.n: bad; ill", "invalid_request"),
    (401, {"status": 401, "title": "Unauthorized", "detail": "Bad key"}, "Bad key", "invalid_api_key"),
    (403, {"title": "Forbidden"}, "Forbidden", "permission_denied"),
    (404, {"statusCode": 404, "message": "Resource not found"}, "Resource not found", "not_found"),
    (404, {"error": {"code": "DeploymentNotFound", "message": "No."}}, "No.", "model_not_found"),
    (429, {"object": "error", "message": "Slow", "code": "1300"}, "Slow", "rate_limit_exceeded"),
    (429, {"error": {"message": "Pay", "code": "insufficient_quota"}}, "Pay", "insufficient_quota"),
    (402, {"error": {"message": "x"}}, "x", "insufficient_quota"),
    (400, {"error": {"message": "m", "innererror": {"code": "ResponsibleAIPolicyViolation"}}}, "m", "content_filter"),
    (400, {"code": "c", "error": "maximum prompt length: 9"}, "maximum prompt length: 9", "context_length_exceeded"),
    (413, {"message": ""}, "", "request_too_large"),
    (503, {"error": {"message": "rate limit of a context length"}}, "rate limit of a context length", "overloaded"),
    (500, {"error": {"message": "maximum context length"}}, "maximum context length", "server_error"),
    (529, {}, "", "overloaded"),
    (504, None, "", "timeout"),
    (400, {"error": {"code": 400}}, "", "invalid_request"),
    (400, {"error": {"message": {"detail": [{"msg": "deep"}]}}}, "deep", "invalid_request"),
]  # fmt: skip


@pytest.mark.parametrize(("status", "body", "message", "code"), SHAPES)
def test_an_error_body_of_any_shape(status: int, body: Any, message: str, code: str) -> None:
    facts = read_error(status, compact(body))
    assert (facts.message, facts.code) == (message, code)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"upstream connect error\n  or disconnect", "upstream connect error or disconnect"),
        (b"<html><h1>502</h1></html>", ""),
        (b'{"error": {"message": "cut of', ""),
        (b"", ""),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"[" * 5000, ""),
    ],
)
def test_what_is_no_json_is_read_as_far_as_it_goes(body: bytes, message: str) -> None:
    assert read_error(502, body).message == message


NAMES = ["error", "message", "detail", "msg", "loc", "code", "type", "metadata", "raw"]
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=600),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["error", "message", "detail", "msg", "loc", "code", "type", "metadata", "raw"]), inner
        )
    ),
    max_leaves=12,
)


@given(st.integers(300, 599), ANY.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=60))
def test_any_body_gives_one_short_line_and_a_known_code(status: int, body: bytes) -> None:
    facts = read_error(status, body)
    assert facts.code in CODES
    assert len(facts.message) <= MESSAGE_CHARS_MAX
    assert "\n" not in facts.message
    assert "\r" not in facts.message


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"object": "error", "message": "Service tier capacity exceeded", "code": "3505"}, "capacity exceeded"),
        ({"error": "No vision adapter"}, "No vision adapter"),
        ({"error": {"code": 502, "message": "Provider returned error"}, "user_id": "u"}, "Provider returned error"),
    ],
)
def test_a_200_that_is_an_error_is_told_as_one(body: Any, says: str) -> None:
    with pytest.raises(UpstreamInvalidReply, match=says):
        CHAT.read_reply(compact(body))
