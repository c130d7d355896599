"""Limits of their own against a running server: per end user, from a file, over restarts, seen by whoever pays."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from live.raw_client import post_chat
from live.running import Running, running, wait_for

pytestmark = pytest.mark.xdist_group("limits")
MESSAGES = [{"role": "user", "content": "x"}]
BODY = {"model": "sim-small", "messages": MESSAGES, "max_tokens": 100}


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("scoped")) as live:
        yield live


def asked(server: Running, key: str, user: str) -> str | openai.APIStatusError:
    """One call of an end user with the official SDK: the text, or the refusal."""
    with openai.OpenAI(base_url=server.url + "/v1", api_key=key) as client:
        try:
            answer = client.chat.completions.create(model="sim-small", messages=MESSAGES, max_tokens=100, user=user)
        except openai.APIStatusError as error:
            return error
    return answer.choices[0].message.content or ""


def use_up(server: Running, key: str, user: str) -> openai.APIStatusError:
    for _ in range(200):
        answer = asked(server, key, user)
        if not isinstance(answer, str):
            return answer
    raise AssertionError("the budget never ended")


def test_a_monthly_budget_per_end_user_as_the_readme_shows_it(limited: Running) -> None:
    secret = limited.new_key("search", "--team", "search")
    limited.faregate("limits", "add", "user-month", "0.001USD/month", "--scope", "key=search", "--scope", "user=each")
    refusal = use_up(limited, secret, "ann")
    assert (refusal.status_code, refusal.code) == (402, "budget_exceeded")
    assert isinstance(refusal.body, dict)
    assert refusal.body["limit_name"] == "user-month"
    assert refusal.body["scope"].endswith("user:ann")
    assert (refusal.body["limit"], refusal.response.headers["x-should-retry"]) == ("0.001", "false")
    assert refusal.body["resets_at_iso"].endswith("-01T00:00:00Z")
    assert isinstance(asked(limited, secret, "bob"), str), "another user's month is not spent"
    answer = limited.chat(secret, headers={"x-faregate-user": "ann"}, max_tokens=100)
    assert answer.status == 402, "the header names the same user"
    shown = limited.faregate("limits", "explain", "search", "--user", "ann").stdout
    assert "enforced, binds" in shown
    mine = limited.call("GET", "/v1/usage?user=ann", key=secret).json["budgets"]
    (budget,) = [one for one in mine if one["name"] == "user-month"]
    assert budget["spent"]["usd"] == refusal.body["spent"]
    assert budget["reserved"]["amount"] == 0
    limited.faregate("limits", "increase", "user-month", "0.01USD", "--for", "1h")
    assert isinstance(asked(limited, secret, "ann"), str)
    limited.faregate("limits", "increase", "user-month", "none")
    assert not isinstance(asked(limited, secret, "ann"), str)


async def test_calls_of_one_user_at_once_never_overrun_it(limited: Running) -> None:
    secret = await asyncio.to_thread(limited.new_key, "storm")
    await asyncio.to_thread(
        limited.faregate, "limits", "add", "storm", "0.0005USD/month", "--scope", "key=storm", "--scope", "user=each"
    )
    for _ in range(3):
        replies = await asyncio.gather(
            *(post_chat(limited.port, secret, {**BODY, "user": f"u{n % 2}"}) for n in range(80))
        )
        assert {status for status, _, _ in replies} <= {200, 402, 429}
        refused = [json.loads(body)["error"] for status, _, body in replies if status != 200]
        assert all(int(error["spent_nusd"]) + int(error["reserved_nusd"]) <= 500_000 for error in refused)
    for user in ("u0", "u1"):
        reply = await asyncio.to_thread(limited.call, "GET", f"/v1/usage?user={user}", None, secret)
        (budget,) = [one for one in reply.json["budgets"] if one["name"] == "storm"]
        assert 0 < budget["spent"]["amount"] <= 500_000
        assert budget["reserved"]["amount"] == 0


async def test_an_estimate_lets_calls_run_side_by_side_that_a_bound_does_not(limited: Running) -> None:
    body = {"model": "sim-small", "messages": MESSAGES}  # no max_tokens: the model's own is in the bound
    refused = {}
    for kind in ("bound", "estimate"):
        secret = await asyncio.to_thread(limited.new_key, kind)
        scope = f"key={kind}"
        await asyncio.to_thread(
            limited.faregate, "limits", "add", kind, "0.012USD/month", "--scope", scope, "--hold", kind
        )
        limited.control(gate="closed")
        calls = [asyncio.ensure_future(post_chat(limited.port, secret, body)) for _ in range(4)]
        await asyncio.sleep(3.0)  # longer than a call waits for what others hold
        limited.control(gate="open")
        refused[kind] = sorted(status for status, _, _ in await asyncio.gather(*calls) if status != 200)
    assert refused == {"bound": [429, 429, 429], "estimate": []}


def test_limits_of_sql_and_what_is_spent_survive_restarts(limited: Running) -> None:
    secret = limited.new_key("again")
    limited.faregate(
        "limits", "add", "again", "0.0005USD/month", "--scope", "key=again", "--scope", "user=each", "--max-values", "2"
    )
    use_up(limited, secret, "ann")
    assert isinstance(asked(limited, secret, "bob"), str)
    for restart in (lambda: limited.kill("worker"), lambda: (limited.stop(), limited.start())):
        restart()
        wait_for("readiness", limited.ready)
        refusal = asked(limited, secret, "ann")
        assert not isinstance(refusal, str)
        assert refusal.code == "budget_exceeded"
        assert isinstance(asked(limited, secret, "bob"), str)
        third = asked(limited, secret, "cat")
        assert not isinstance(third, str)
        assert "counts at most 2 different values of user" in third.message


def test_names_that_a_caller_makes_up_take_no_places_of_others(limited: Running) -> None:
    first, second = (limited.new_key(name, "--team", "inventors") for name in ("inventor", "colleague"))
    scope = ("--scope", "team=inventors", "--scope", "model=each")
    limited.faregate("limits", "add", "inventors", "9USD/month", *scope, "--max-values", "2")
    for number in range(4):
        assert limited.chat(first, model=f"made-up-{number}").status == 404
    assert limited.chat(second).status == 200
    shown = limited.call("GET", "/v1/usage?model=sim-small", key=second).json["budgets"]
    assert [one["name"] for one in shown if one["spent"]["amount"]] == ["inventors"]


def test_one_user_is_one_budget_in_header_and_body(limited: Running) -> None:
    secret = limited.new_key("names")
    limited.faregate("limits", "add", "names", "9USD/month", "--scope", "key=names", "--scope", "user=each")

    def spent() -> int:
        budget = limited.call("GET", "/v1/usage?user=Zo%C3%AB", key=secret).json["budgets"][0]
        return int(budget["spent"]["amount"])

    assert limited.chat(secret, user="Zoë").status == 200
    once = wait_for("the first call", spent)
    assert limited.chat(secret, headers={"x-faregate-user": "Zoë".encode().decode("latin-1")}).status == 200
    wait_for("the second one", lambda: spent() > once)


def test_a_files_limits_hold_while_they_stand_there(limited: Running) -> None:
    secret = limited.new_key("filed", "--team", "filed")
    path = Path(limited.environment["FAREGATE_CONFIG_DIR"]) / "limits.yaml"
    path.write_text("limits:\n  few:\n    limit: 2/h\n    scope: {team: filed, model: sim-small}\n")
    wait_for("the file's limit", lambda: "limits.yaml:2" in limited.faregate("limits", "list").stdout)
    wait_for("a refusal", lambda: limited.chat(secret).status == 429)
    refusal = limited.chat(secret).json["error"]
    assert (refusal["limit_id"], refusal["code"]) == ("few", "rate_limit_exceeded")
    assert limited.chat(secret, model="sim-large").status == 200, "another model"
    path.write_text("limits:\n  few:\n    limit: many\n")
    wait_for("the mistake", lambda: limited.faregate("config", "show", check=False).returncode == 1)
    assert limited.chat(secret).status == 429, "a mistake never replaces what is in use"
    limited.faregate("limits", "suspend", "--scope", "team=filed", "--for", "1h", "--reason", "a test")
    assert limited.chat(secret).status == 200
    path.unlink()
    wait_for("no limit", lambda: "few" not in limited.faregate("limits", "list").stdout)
    assert limited.chat(secret).status == 200


def test_a_callers_tag_never_says_whose_money_it_is(limited: Running) -> None:
    secret = limited.new_key("tagged", "--tag", "cost_centre=42")
    headers = {"x-faregate-tags": "cost_centre=1,team=other,env=prod"}
    request_id = limited.chat(secret, headers=headers).headers["x-request-id"]

    def look() -> object:
        reply = limited.call("GET", f"/v1/requests/{request_id}", key=secret)
        return reply.json if reply.status == 200 else None

    assert wait_for("the call", look)["tags"] == {"cost_centre": "42", "env": "prod"}


def test_the_books_are_whole(limited: Running) -> None:
    limited.verified()
