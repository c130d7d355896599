"""Limits that change a call instead of refusing it, holds that shrink, tags asked for: with the official SDK."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from live.running import Running, running, wait_for

pytestmark = pytest.mark.xdist_group("limits")
MESSAGES: Any = [{"role": "user", "content": "x"}]
LONG: Any = [{"role": "user", "content": "Say something about budgets. " * 400}]
EARLY = {"stream_options": {"include_usage": True, "continuous_usage_stats": True}}


@pytest.fixture(scope="module")
def acting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("actions")) as live:
        yield live


def usd(nusd: int) -> str:
    return f"{nusd // 10**9}.{nusd % 10**9:09d}USD/month"


def sdk(server: Running, key: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=server.url + "/v1", api_key=key, max_retries=0)


def recorded(server: Running, key: str, request_id: str) -> Any:
    def look() -> object:
        reply = server.call("GET", f"/v1/requests/{request_id}", key=key)
        return reply.json if reply.status == 200 else None

    return wait_for("the call in the ledger", look)


def required_nusd(server: Running, key: str, **asked: Any) -> int:
    """What such a call holds, by a refusal under a budget of next to nothing."""
    name = server.keys and next(name for name, secret in server.keys.items() if secret == key)
    server.faregate("limits", "add", f"probe-{name}", "0.000000001USD/total", "--scope", f"key={name}")
    refused = server.chat(key, **asked)
    assert refused.status == 402
    server.faregate("limits", "remove", f"probe-{name}")
    return int(refused.json["error"]["required_nusd"])


def budget_of(server: Running, key: str, name: str) -> tuple[int, int]:
    """(spent, reserved) nano-USD of a limit, as its owner sees it."""
    found = server.call("GET", "/v1/usage", key=key).json["budgets"]
    (budget,) = [one for one in found if one["name"] == name]
    return budget["spent"]["amount"], budget["reserved"]["amount"]


def scraped(server: Running, sample: str) -> float:
    if "scrape" not in server.keys:
        server.new_key("scrape", "--role", "metrics")
    text = server.call("GET", "/metrics", key=server.keys["scrape"]).body.decode()
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.split("\n") if line.startswith(sample))


# ---------------------------------------------------------------- downgrade


def test_a_spent_budget_goes_on_with_the_cheaper_model(acting: Running) -> None:
    secret = acting.new_key("large")
    options = ("--on-exceed", "downgrade", "--downgrade-to", "sim-small")
    scope = ("--scope", "key=large", "--scope", "model=sim-large")
    acting.faregate("limits", "add", "large", "0.000000001USD/month", *scope, *options)
    with sdk(acting, secret) as client:
        raw = client.chat.completions.with_raw_response.create(model="sim-large", messages=MESSAGES, max_tokens=20)
        assert raw.headers["x-faregate-downgraded"] == "sim-large -> sim-small"
        assert raw.parse().model == "sim-small"
        asked = {"model": "sim-large", "messages": MESSAGES, "max_tokens": 20}
        with client.chat.completions.with_streaming_response.create(**asked, stream=True) as reply:
            assert reply.headers["x-faregate-downgraded"] == "sim-large -> sim-small"
            assert b"sim-small" in reply.read()
    call = recorded(acting, secret, raw.headers["x-request-id"])
    assert (call["model_asked"], call["deployment"]) == ("sim-large", "simulated/sim-small")
    assert "downgrade to sim-small" in acting.faregate("limits", "explain", "large", "--model", "sim-large").stdout
    assert (
        acting.faregate("limits", "add", "to-nowhere", "1USD/month", *options[:3], "gtp", check=False).returncode == 1
    )
    assert scraped(acting, "faregate_calls_changed_total{") >= 2


def test_where_the_cheaper_model_does_not_fit_either_the_first_refusal_is_told(acting: Running) -> None:
    secret = acting.new_key("empty")
    acting.faregate(
        "limits", "add", "empty", "0.000000001USD/month", "--scope", "key=empty", "--on-exceed", "downgrade",
        "--downgrade-to", "sim-small",
    )  # fmt: skip
    with sdk(acting, secret) as client, pytest.raises(openai.APIStatusError) as found:
        client.chat.completions.create(model="sim-large", messages=MESSAGES, max_tokens=20)
    assert (found.value.status_code, found.value.code) == (402, "budget_exceeded")
    assert "x-faregate-downgraded" not in found.value.response.headers


# ---------------------------------------------------------------- cap_output


def test_at_the_end_of_a_budget_answers_get_shorter_and_never_overrun_it(acting: Running) -> None:
    secret = acting.new_key("short")
    hold = required_nusd(acting, secret, max_tokens=400)
    limit = hold + hold // 2
    acting.faregate(
        "limits", "add", "short", usd(limit), "--scope", "key=short", "--on-exceed", "cap_output", "--min-output", "16"
    )
    capped, refusal = 0, None
    with sdk(acting, secret) as client:
        for number in range(60):
            asked: dict[str, Any] = {"model": "sim-small", "messages": MESSAGES, "max_tokens": 400}
            try:
                raw = client.chat.completions.with_raw_response.create(**asked, extra_headers={"x-sim-tokens": "400"})
            except openai.APIStatusError as error:
                refusal = error
                break
            answer = raw.parse()
            assert answer.usage is not None
            clamped = raw.headers.get("x-faregate-budget-clamped")
            if clamped is None:
                assert answer.usage.completion_tokens == 400, number
            else:
                capped += 1
                assert 16 <= answer.usage.completion_tokens == int(clamped) < 400
                assert answer.choices[0].finish_reason == "length"
    assert refusal is not None, "the budget never ended"
    assert (refusal.status_code, refusal.code) == (402, "budget_exceeded")
    assert capped >= 1
    spent, reserved = budget_of(acting, secret, "short")
    assert limit // 2 < spent <= limit
    assert reserved == 0


# ---------------------------------------------------------------- shrink


def streams(server: Running, key: str, began: threading.Event, ended: list[object]) -> None:
    """One slow stream of a long prompt whose provider tells the prompt's size at once."""
    with sdk(server, key) as client:
        try:
            for _ in client.chat.completions.create(
                model="sim-small", messages=LONG, max_tokens=60, stream=True, extra_body=EARLY,
                extra_headers={"x-sim-tokens": "60", "x-sim-token-interval-ms": "100"},
            ):  # fmt: skip
                began.set()
            ended.append("ok")
        except openai.APIError as error:
            ended.append(error)


def test_what_a_known_prompt_frees_is_lent_to_the_next_call_while_the_first_runs(acting: Running) -> None:
    secret = acting.new_key("early")
    hold = required_nusd(acting, secret, messages=LONG, max_tokens=60)
    acting.faregate("limits", "add", "early", usd(hold + hold // 2), "--scope", "key=early")
    began, ended = threading.Event(), list[object]()
    first = threading.Thread(target=streams, args=(acting, secret, began, ended))
    first.start()
    assert began.wait(60)
    held = wait_for("a smaller hold", lambda: (one := budget_of(acting, secret, "early"))[1] < hold and one)
    assert 0 < held[1] <= hold // 2
    second = acting.chat(secret, messages=LONG, max_tokens=60, model="sim-small")
    assert second.status == 200, "two whole holds would not fit"
    assert not ended, "and the first one still runs"
    first.join()
    assert ended == ["ok"]
    assert budget_of(acting, secret, "early")[1] == 0
    assert scraped(acting, "faregate_holds_shrunk_total{") >= 1
    assert scraped(acting, "faregate_bound_violations_total") == 0


def test_a_worker_that_dies_after_it_posts_no_more_than_was_left(acting: Running) -> None:
    secret = acting.new_key("dying")
    hold = required_nusd(acting, secret, messages=LONG, max_tokens=60)
    acting.faregate("limits", "add", "dying", usd(4 * hold), "--scope", "key=dying")
    began, ended = threading.Event(), list[object]()
    stream = threading.Thread(target=streams, args=(acting, secret, began, ended))
    stream.start()
    assert began.wait(60)
    _, held = wait_for("a smaller hold", lambda: (one := budget_of(acting, secret, "dying"))[1] < hold and one)
    acting.kill("worker")
    stream.join()
    assert isinstance(ended[0], openai.APIError)
    wait_for("readiness", acting.ready)

    def posted() -> int:
        spent, reserved = budget_of(acting, secret, "dying")
        return spent if not reserved else 0

    assert 0 < wait_for("the estimate of the dead worker's call", posted) <= held


# ---------------------------------------------------------------- tags


def test_tags_are_asked_for_first_and_then_required(acting: Running) -> None:
    path = Path(acting.environment["FAREGATE_CONFIG_DIR"]) / "limits.yaml"
    secret = acting.new_key("untagged", "--team", "tagged")
    rule = "tags:\n  rollups: [feature]\n  required:\n    tagged: {{tags: [feature], mode: {mode}}}\n"
    path.write_text(rule.format(mode="dry_run"))
    wait_for("a dry run", lambda: acting.chat(secret).headers.get("x-faregate-missing-tags") == "feature")
    request_id = acting.chat(secret).headers["x-request-id"]
    assert recorded(acting, secret, request_id)["tags"] == {}
    path.write_text(rule.format(mode="block"))
    wait_for("a refusal", lambda: acting.chat(secret).status == 400)
    with sdk(acting, secret) as client:
        with pytest.raises(openai.BadRequestError) as found:
            client.chat.completions.create(model="sim-small", messages=MESSAGES)
        assert (found.value.code, found.value.param) == ("tags_required", "x-faregate-tags")
        assert "feature=…" in found.value.message
        tagged = {"x-faregate-tags": "feature=search"}
        assert client.chat.completions.create(model="sim-small", messages=MESSAGES, extra_headers=tagged).choices
    assert scraped(acting, 'faregate_tags_missing_total{outcome="dry_run",tag="feature"}') >= 1
    path.unlink()
    wait_for("no rule", lambda: acting.chat(secret).status == 200)


def test_what_limits_did_can_be_read_and_the_books_are_whole(acting: Running) -> None:
    secret = acting.new_key("watched")
    acting.faregate("limits", "add", "watched", "1/h", "--scope", "key=watched", "--on-exceed", "dry_run")
    acting.faregate("limits", "add", "few", "9tokens/total", "--scope", "key=watched", "--on-exceed", "alert")
    limit_id = acting.call("GET", "/v1/usage", key=secret).json["budgets"][0]["id"]
    assert limit_id.startswith("lim_")
    for _ in range(3):
        assert acting.chat(secret).status == 200
    assert scraped(acting, "faregate_would_refuse_total{") >= 2 + 3
    assert (
        scraped(acting, 'faregate_hold_overestimate_ratio_quantile{deployment="simulated/sim-small",quantile="0.5"}')
        >= 1
    )
    acting.verified()
