"""Which members of a request reach litellm, and what its exceptions mean for the one who pays."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.annex.failures import MESSAGE_CHARS_MAX, OutcomeUnknown, Progress, Redactor, Refusal, judged
from gateway.annex.fields import FIELDS, read_request

ORDERS = (
    "api_base", "base_url", "api_key", "api_version", "custom_llm_provider", "model_list", "mock_response", "fallbacks",
    "litellm_metadata", "extra_headers", "extra_body", "headers", "logger_fn", "callbacks", "cache", "num_retries",
    "max_retries", "timeout", "drop_params", "allowed_openai_params", "aws_bedrock_runtime_endpoint",
    "aws_access_key_id", "vertex_credentials", "vertex_project", "deployment_id", "input_cost_per_token", "prompt_id",
    "shared_session", "client", "_skip_mcp_handler", "azure_ad_token", "organization", "ssl_verify",
    "proxy_server_request",
)  # fmt: skip
"""Members that litellm takes as orders to itself."""


def body(**members: object) -> bytes:
    return json.dumps({"model": "v/m", **members}).encode()


@pytest.mark.parametrize("name", ORDERS)
@pytest.mark.parametrize("endpoint", FIELDS)
def test_a_caller_gives_litellm_no_orders(name: str, endpoint: str) -> None:
    with pytest.raises(Refusal) as refused:
        read_request(body(**{name: "x"}), endpoint)
    assert (refused.value.status, refused.value.param) == (400, name)
    assert name in refused.value.message


@given(st.dictionaries(st.text(max_size=12), st.none() | st.integers() | st.text(max_size=4), max_size=6))
def test_only_named_members_go_on(members: dict[str, object]) -> None:
    try:
        asked = read_request(body(**members), "chat")
    except Refusal:
        assert members.keys() - FIELDS["chat"] or not isinstance(members.get("model", ""), str)
        return
    assert asked.fields.keys() <= FIELDS["chat"]
    assert None not in asked.fields.values()


def test_what_changes_no_answer_is_left_out() -> None:
    asked = read_request(body(messages=[], store=True, metadata={"a": "b"}, temperature=None, top_p=0.5), "chat")
    assert asked.fields == {"messages": [], "top_p": 0.5}


def test_the_stream_and_its_usage_are_read() -> None:
    asked = read_request(body(stream=True, stream_options={"include_usage": True}), "chat")
    assert (asked.stream, asked.usage_asked, asked.fields) == (True, True, {})
    assert not read_request(body(stream=True), "chat").usage_asked
    assert read_request(body(input="x", encoding_format="base64"), "embeddings").base64


@pytest.mark.parametrize("text", [b"", b"[]", b"nonsense", b"[" * 100_000, b'{"messages": []}', b'{"model": 1}'])
def test_a_body_that_is_no_request_is_refused(text: bytes) -> None:
    with pytest.raises(Refusal) as refused:
        read_request(text, "chat")
    assert refused.value.status == 400


# ---------------------------------------------------------------- exceptions, by the names litellm's are judged by


class TransportError(Exception):
    """httpx's root of what happens to a connection."""


class ConnectError(TransportError):
    pass


class SSRFError(ValueError):
    pass


class ReadTimeout(TransportError):
    pass


class HTTPStatusError(Exception):
    def __init__(self, status: int, headers: dict[str, str] | None = None) -> None:
        super().__init__(f"status {status}")
        self.response = SimpleNamespace(status_code=status, headers=headers or {})


class LitellmError(Exception):
    """As litellm's are: a message, a status of their own, a reply that is made up."""

    def __init__(self, message: str, status_code: int) -> None:
        super().__init__(message)
        self.message = message
        self.status_code = status_code
        self.response = SimpleNamespace(status_code=status_code, headers={"x-made": "up"})


def wrapped(cause: Exception | None, status: int, message: str = "litellm.Error: it failed") -> Exception:
    try:
        try:
            if cause is not None:
                raise cause
        finally:
            raise LitellmError(message, status)
    except LitellmError as error:
        return error


PREPARING, SENT, ANSWERED = Progress.PREPARING, Progress.SENT, Progress.ANSWERED
CASES = [
    ("the vendor's status", wrapped(HTTPStatusError(429), 429), SENT, 429),
    ("the vendor's, not litellm's, status", wrapped(HTTPStatusError(529), 500), SENT, 529),
    ("a vendor's own time-out", wrapped(HTTPStatusError(408), 408), SENT, 504),
    ("refused by the vendor's host", wrapped(ConnectError(), 500), SENT, 502),
    ("litellm's check of the request", wrapped(None, 400), PREPARING, 400),
    ("litellm's check after it said it sends", wrapped(None, 400), SENT, 400),
    ("a URL that is not fetched", wrapped(SSRFError("blocked"), 500), PREPARING, 400),
    ("a bug before anything was sent", ValueError("x"), PREPARING, 502),
    ("a time-out", wrapped(ReadTimeout(), 408), SENT, None),
    ("a cut connection", wrapped(ConnectionResetError(), 500), SENT, None),
    ("a reply that could not be read", wrapped(ValueError("no JSON"), 422), ANSWERED, None),
    ("a bug after it was sent", ValueError("x"), SENT, None),
    ("asyncio's time-out", TimeoutError(), SENT, None),
]


@pytest.mark.parametrize(("what", "error", "progress", "status"), CASES, ids=[case[0] for case in CASES])
def test_what_an_exception_means(what: str, error: Exception, progress: Progress, status: int | None) -> None:
    """None: in doubt, the connection is cut and the call estimated."""
    verdict = judged(error, Redactor([]), progress)
    if status is None:
        assert isinstance(verdict, OutcomeUnknown), what
    else:
        assert isinstance(verdict, Refusal), what
        assert verdict.status == status, what
        assert json.loads(verdict.body)["error"].keys() == {"message", "type", "param", "code"}


def test_when_to_come_again_is_passed_on() -> None:
    error = wrapped(HTTPStatusError(429, {"Retry-After": "12", "set-cookie": "x", "x-should-retry": "tr\nue"}), 429)
    verdict = judged(error, Redactor([]), Progress.SENT)
    assert isinstance(verdict, Refusal)
    assert verdict.headers == {"retry-after": "12"}
    assert json.loads(verdict.body)["error"]["type"] == "rate_limit_error"


def test_no_message_holds_a_secret() -> None:
    secret = "AKIA-0123456789-secret"
    redactor = Redactor([secret, "eu-central-1"])
    verdict = judged(wrapped(None, 400, f"bad key {secret} in eu-central-1"), redactor, Progress.SENT)
    assert isinstance(verdict, Refusal)
    assert verdict.message == "bad key *** in eu-central-1", "a short value is a word, not a secret"


@given(st.lists(st.text("abc", min_size=16, max_size=20), max_size=4), st.text("abc ", max_size=80))
def test_no_secret_survives_within_another(secrets: list[str], text: str) -> None:
    cleaned = Redactor(secrets).clean(text)
    assert not any(secret in cleaned for secret in secrets)


def test_a_message_has_an_end() -> None:
    verdict = judged(wrapped(None, 400, "x" * 10**6), Redactor([]), Progress.SENT)
    assert isinstance(verdict, Refusal)
    assert len(verdict.message) == MESSAGE_CHARS_MAX


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ('it broke. Traceback (most recent call last):\n  File "/opt/x.py", line 1', "it broke."),
        ('it broke\n  File "/opt/x.py", line 1\n', "it broke"),
        ("Traceback (most recent call last): x", "LitellmError"),
        ("", "LitellmError"),
    ],
)
def test_no_message_holds_a_traceback(said: str, told: str) -> None:
    verdict = judged(wrapped(None, 400, said), Redactor([]), Progress.SENT)
    assert isinstance(verdict, Refusal)
    assert verdict.message == told
