"""What bad input gets: a clear error in OpenAI's shape, no cost, and no traceback."""

from __future__ import annotations

import json

import pytest
from live.running import Running, wait_for

pytestmark = pytest.mark.xdist_group("live")
CHAT = "/v1/chat/completions"
GOOD = {"model": "sim-small", "messages": [{"role": "user", "content": "x"}]}
DEEP = b'{"model":"sim-small","messages":' + b"[" * 2000 + b"]" * 2000 + b"}"

BODIES = [
    pytest.param(b"{", 400, "invalid_request", id="not JSON"),
    pytest.param(b"[]", 400, "invalid_request", id="not an object"),
    pytest.param(b"\xff\xfe{}", 400, "invalid_request", id="not UTF-8"),
    pytest.param({"messages": []}, 400, "invalid_request", id="no model"),
    pytest.param({**GOOD, "model": 7}, 400, "invalid_request", id="model of the wrong type"),
    pytest.param({**GOOD, "messages": "x"}, 400, "invalid_request", id="messages of the wrong type"),
    pytest.param({**GOOD, "stream": "yes"}, 400, "invalid_request", id="stream of the wrong type"),
    pytest.param({**GOOD, "max_tokens": -1}, 400, "invalid_request", id="negative max_tokens"),
    pytest.param({**GOOD, "n": 10**6}, 400, "invalid_request", id="a million choices"),
    pytest.param(DEEP, 400, "invalid_request", id="too deep"),
    pytest.param({**GOOD, "model": "nothing-like-it"}, 404, "model_not_found", id="unknown model"),
]


@pytest.mark.parametrize(("body", "status", "code"), BODIES)
def test_bad_bodies(server: Running, app_key: str, body: object, status: int, code: str) -> None:
    reply = server.call("POST", CHAT, body, app_key)
    error = reply.json["error"]
    assert (reply.status, error["code"]) == (status, code)
    assert set(error) >= {"message", "type", "param", "code"}
    assert reply.headers["x-request-id"].startswith("req_")
    assert "Traceback" not in error["message"]


def test_wrong_content_type_compressed_and_too_large(server: Running, app_key: str) -> None:
    assert server.call("POST", CHAT, GOOD, app_key, {"content-type": "text/plain"}).status == 415
    assert server.call("POST", CHAT, GOOD, app_key, {"content-encoding": "gzip"}).status == 415
    large = server.call("POST", CHAT, b'{"x":"' + b"y" * (21 * 1024 * 1024) + b'"}', app_key)
    assert large.status == 413
    assert large.json["error"]["code"] == "request_too_large"


KEYS = [
    pytest.param({}, 401, id="no key"),
    pytest.param({"authorization": "Bearer ' OR 1=1--"}, 401, id="injection"),
    pytest.param({"authorization": "Basic eDp5"}, 401, id="wrong scheme"),
    pytest.param({"authorization": "Bearer " + "k" * 8000}, 401, id="long"),
    pytest.param({"x-api-key": "fg_live_aaaaaaaaaaaa_" + "b" * 32 + "_000000"}, 401, id="bad checksum"),
]


@pytest.mark.parametrize(("headers", "status"), KEYS)
def test_bad_keys(server: Running, headers: dict[str, str], status: int) -> None:
    reply = server.call("POST", CHAT, GOOD, headers=headers)
    assert reply.status == status
    assert reply.json["error"]["code"] == "invalid_api_key"


def test_two_keys_that_disagree(server: Running, app_key: str) -> None:
    assert server.call("POST", CHAT, GOOD, app_key, {"x-api-key": "another"}).status == 400


def test_a_role_key_cannot_call_models_and_an_application_key_cannot_administer(server: Running, app_key: str) -> None:
    assert server.chat(server.keys["boss"]).status == 403
    assert server.call("GET", "/admin/v1/keys", key=app_key).status == 403
    assert server.call("GET", "/admin/v1/keys").status == 401
    assert server.call("GET", "/metrics").status == 401
    assert server.call("GET", "/metrics", key=app_key).status == 403


def test_paths_and_methods(server: Running, app_key: str) -> None:
    assert server.call("GET", CHAT, key=app_key).status == 405
    assert server.call("POST", "/v1/nothing", GOOD, app_key).status == 404
    assert server.call("HEAD", "/").status == 200
    assert server.call("GET", "/livez").status == 200
    assert server.call("GET", "/readyz").status == 200
    for trick in ("//v1/chat/completions", "/v1/chat/completions/", "/V1/chat/completions", "/v1/chat/completions;x"):
        assert server.call("POST", trick, GOOD, app_key).status in (404, 405), trick


def test_an_unpriced_model_is_null_and_refused_under_a_hard_budget(server: Running, app_key: str) -> None:
    reply = server.chat(app_key, "sim-free-of-price")
    assert reply.status in (200, 404)
    if reply.status == 200:
        assert "x-faregate-cost-usd" not in reply.headers
    held = server.new_key("held", "--budget", "1USD/day")
    refused = server.chat(held, "sim-free-of-price")
    assert (refused.status, refused.json["error"]["code"]) == (403, "model_unpriced")


def test_refusals_before_identification_are_counted_and_not_recorded(server: Running) -> None:
    text = server.call("GET", "/metrics", key=server.keys["scrape"]).body.decode()
    assert 'faregate_refused_before_identified_total{code="invalid_api_key"}' in text


def test_nothing_was_charged_for_a_refusal(server: Running) -> None:
    secret = server.new_key("refused")
    for body in (b"{", {**GOOD, "model": "nothing-like-it"}):
        assert server.call("POST", CHAT, body, secret).status >= 400

    def usage() -> object:
        return server.call("GET", "/v1/usage", key=secret).json

    seen = wait_for("the refusals in the ledger", lambda: json.dumps(usage()))
    assert '"nano_usd": 0' in seen or '"nano_usd":0' in seen
