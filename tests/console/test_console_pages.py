"""What the pages say: the right sums of the right rows, exact where it matters, inert whatever is in them."""

from __future__ import annotations

import re

import msgspec
import pytest
from desk.asking import Asking
from desk.calls import make_call
from desk.fakes import NOW_MS
from desk.world import World
from fastapi import FastAPI

from console.conftest import signed_in
from gateway.core.admin import KeyChange
from gateway.core.ids import CALL, make_id, print_id
from gateway.core.money import print_cents, print_usd
from gateway.core.queries import Freshness, QueryScope


def flat(html: str) -> str:
    return re.sub(r"\s+", " ", html)


async def test_the_overview_shows_the_sums_of_the_ledger(month: World, person: Asking) -> None:
    page = flat((await person.get("/ui")).text)
    scope = QueryScope("default")
    (whole,) = await month.ledger.spend(scope, ("org",), NOW_MS - 23 * 86_400_000 - NOW_MS % 86_400_000, NOW_MS)
    exact, cents = print_usd(whole.effective_nusd), print_cents(whole.effective_nusd)
    assert (
        '<p class="k">Spend this month</p><p class="v"><data class="num" '
        f'value="{exact} USD" title="{exact} USD">{cents}' in page
    )
    (today,) = await month.ledger.spend(scope, ("org",), NOW_MS - NOW_MS % 86_400_000, NOW_MS)
    assert f'{print_cents(today.effective_nusd)}</data></p><p class="d num">{today.calls} calls since 00:00 UTC' in page
    for row in (await month.ledger.spend(scope, ("model",), 0, NOW_MS))[:5]:
        assert f'title="{print_usd(row.effective_nusd)} USD"' in page, row
    assert "Effective cost in USD" in page
    assert "Days and months are UTC" in page
    assert f"{whole.unpriced_calls} calls have no price" in page
    assert "Up to date" in page
    assert "search-bot" in page


async def test_the_bars_and_the_table_behind_them_hold_the_same_sums(month: World, person: Asking) -> None:
    page = (await person.get("/ui")).text
    assert 'role="img" aria-label="Spend per day by model in November 2026' in page
    table = page[page.index("Show as a table") : page.index("By model")]
    days = re.findall(r'<time datetime="(2026-11-\d\d)"', table)
    assert days == [f"2026-11-{day:02d}" for day in range(1, 25)]
    rows = re.findall(r"<tr><th scope=\"row\"><time.*?</tr>", table)
    sums = 0
    for row in rows:
        cells = [round(float(value) * 1e9) for value in re.findall(r'value="([\d.]+) USD"', row)]
        assert sum(cells[:-1]) == cells[-1]
        sums += cells[-1]
    (whole,) = await month.ledger.spend(QueryScope("default"), ("org",), NOW_MS - 30 * 86_400_000, NOW_MS)
    assert sums == whole.effective_nusd
    assert page.count("<rect class=") > 24


async def test_a_team_sees_its_own(month: World, app: FastAPI) -> None:
    team = await signed_in(month, app, "team")
    page = (await team.get("/ui")).text
    assert "search-bot" in page
    assert "support" not in page
    calls = (await team.get("/ui/requests")).text
    assert "support" not in calls
    foreign = next(row for row, _ in month.ledger.found if row.team == "support")
    hidden = await team.get(f"/ui/requests/{foreign.call_id}")
    missing = await team.get(f"/ui/requests/{print_id(CALL, make_id(NOW_MS - 3_600_000, b'x' * 10))}")
    assert (hidden.status, missing.status) == (404, 404)
    assert re.sub('req_\\w+|value="[^"]+"', "", hidden.text) == re.sub('req_\\w+|value="[^"]+"', "", missing.text)


async def test_keys_of_another_org_have_no_name_here(world: World, person: Asking) -> None:
    world.ledger.found.append(make_call(key_id=world.ids["foreign"]))
    page = (await person.get("/ui")).text
    assert world.ids["foreign"] in page
    assert "foreign" not in page


async def test_a_revoked_key_keeps_its_name(world: World, person: Asking) -> None:
    world.ledger.found.append(make_call(key_id=world.ids["support-bot"]))
    await world.config.revoke_key(world.ids["support-bot"], actor="test")
    world.ring.apply(world.config.deltas, world.clock.ms)
    assert "support-bot" in (await person.get("/ui")).text


async def test_one_call_in_full(world: World, person: Asking) -> None:
    world.ledger.found.append(make_call(model="gpt-5", tokens=(12_345, 678), key_id=world.ids["search-bot"]))
    row, _ = world.ledger.found[0]
    page = flat((await person.get(f"/ui/requests/{row.call_id}")).text)
    # 12 345 × 1.25 USD/M = 0.01543125; 678 × 10 USD/M = 0.00678
    for said in ("$0.02221125", "$0.01543125", "$0.00678", "$1.25 / M", "$10.00 / M", "gpt-5:input:2026-08-01"):
        assert said in page, said
    for word in ("Reserved", "Spent", "Released", "openai/gpt-5", "search-bot", "12,345", "prompt_tokens"):
        assert word in page, word


@pytest.mark.parametrize(
    ("outcome", "state", "said"),
    [
        ("running", "priced", "still running"),
        ("ok", "unpriced", "No price is known"),
        ("client_gone", "estimated", "The cost is estimated"),
        ("error", "priced", "error"),
    ],
)
async def test_what_is_not_certain_is_said(world: World, person: Asking, outcome: str, state: str, said: str) -> None:
    world.ledger.found.append(make_call(outcome=outcome, cost_state=state))
    page = (await person.get(f"/ui/requests/{world.ledger.found[0][0].call_id}")).text
    assert said in page
    if state == "unpriced":
        assert "$0" not in page
    assert (await person.get("/ui")).status == 200


async def test_a_sum_of_nothing_beside_unpriced_calls_is_not_zero(world: World, person: Asking) -> None:
    """A refused call costs 0; that must not turn what is unknown into a $0.00."""
    refused, _ = make_call(outcome="refused", model="house-llama")
    refused = msgspec.structs.replace(refused, deployment="", attempts=0, effective_nusd=0, list_nusd=0)
    world.ledger.found += [make_call(cost_state="unpriced", model="house-llama"), (refused, ())]
    page = (await person.get("/ui")).text
    table = page[page.index("By model") : page.index("Last calls")]
    assert "unpriced" in table
    assert "$0.00" not in table
    assert re.search(r"Spend this month</p><p class=.v.>.*?unpriced", page)


async def test_a_call_without_attempts_cost_nothing(world: World, person: Asking) -> None:
    row, _ = make_call(outcome="refused")
    row = msgspec.structs.replace(row, deployment="", attempts=0, ttft_us=-1, overhead_us=-1, effective_nusd=0)
    world.ledger.found.append((row, ()))
    page = (await person.get(f"/ui/requests/{row.call_id}")).text
    assert "Nothing was sent to a provider" in page


async def test_a_call_of_a_moment_ago(person: Asking) -> None:
    answer = await person.get(f"/ui/requests/{print_id(CALL, make_id(NOW_MS - 500, b'y' * 10))}")
    assert answer.status == 404
    assert "not recorded yet" in answer.text


async def test_the_empty_state_says_how_to_make_the_first_call(world: World, person: Asking) -> None:
    person.headers["host"] = "gateway.example:8443"
    for path in ("/ui", "/ui/requests"):
        page = (await person.get(path)).text
        assert "No call has been made yet" in page
        assert "curl http://gateway.example:8443/v1/chat/completions" in page
        assert "faregate keys create" in page
    person.headers["host"] = "evil/`rm`"
    assert "rm" not in re.findall(r"curl \S+", (await person.get("/ui")).text)[0]


async def test_freshness_and_lost_records_are_told(month: World, person: Asking) -> None:
    month.ledger.fresh = Freshness(NOW_MS - 90_000, 3_400_000, 2)
    page = (await person.get("/ui")).text
    assert "3.2 MiB of calls not counted yet" in page
    assert "2 records could not be stored" in page
    assert "Up to date" not in page


async def test_other_months(month: World, person: Asking) -> None:
    page = (await person.get("/ui")).text
    assert 'href="/ui?month=2026-10" aria-label="October 2026"' in page
    assert "2026-12" not in page
    october = (await person.get("/ui", month="2026-10")).text
    assert "Spend in October 2026" in october
    assert 'href="/ui?month=2026-11"' not in october, "the present month has an address of its own"
    assert 'href="/ui"' in october
    for wrong in ("2026-12", "2026-13", "2026", "x", "1999-01", "2026-1", "20261-01"):
        assert (await person.get("/ui", month=wrong)).status == 400, wrong


async def test_requests_come_in_pages_that_miss_none(month: World, person: Asking) -> None:
    seen: list[str] = []
    path, pages = "/ui/requests", 0
    while path:
        page = (await person.send("GET", *path.partition("?")[::2])).text
        seen += re.findall(r'href="/ui/requests/(req_\w+)"', page)
        found = re.search(r'href="(/ui/requests\?before=[^"]+)"', page)
        path = found.group(1) if found else ""
        pages += 1
    assert len(seen) == len(set(seen)) == len(month.ledger.found)
    assert pages > 20
    for wrong in ("x", "1.x", "-1.req_0", "9" * 40 + "." + seen[0], ""):
        assert (await person.get("/ui/requests", before=wrong)).status == 400, wrong


async def test_without_sql_the_page_says_so(world: World, person: Asking) -> None:
    world.ledger.down = True
    answer = await person.get("/ui")
    assert answer.status == 503
    assert "The ledger does not answer" in answer.text
    assert answer.header("content-type").startswith("text/html")


HOSTILE = (
    "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>{{7*7}}\u202egnp.exe\x1b[31m[a](javascript:alert(1))"
)


async def test_whatever_stands_in_a_record_is_inert(world: World, person: Asking) -> None:
    await world.config.update_key(world.ids["search-bot"], KeyChange(name=HOSTILE), actor="x")
    world.ring.apply(world.config.deltas, world.clock.ms)
    row, (attempt,) = make_call(key_id=world.ids["search-bot"])
    names = (
        "team",
        "user",
        "session",
        "model_served",
        "deployment",
        "provider",
        "error_code",
        "finish_reason",
        "trace_id",
    )
    row = msgspec.structs.replace(row, tags={HOSTILE: HOSTILE}, model_asked=HOSTILE, **dict.fromkeys(names, HOSTILE))
    line = msgspec.structs.replace(attempt.lines[0], meter=HOSTILE, row_id=HOSTILE)
    attempt = msgspec.structs.replace(
        attempt, deployment=HOSTILE, cause=HOSTILE, source=HOSTILE, raw_usage=HOSTILE, lines=(line,)
    )
    world.ledger.found.append((row, (attempt,)))
    for path in ("/ui", "/ui/requests", f"/ui/requests/{row.call_id}"):
        page = (await person.get(path)).text
        assert "<script" not in page
        assert "<img" not in page
        assert "{{7*7}}" in page
        assert not re.search(r'href="javascript', page)
