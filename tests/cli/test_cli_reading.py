"""`faregate spend` and `config`: tables for people, JSON and CSV for machines."""

from __future__ import annotations

import csv
import io
import json

import msgspec
import pytest
from desk.calls import make_call, make_month
from desk.fakes import NOW_MS
from desk.world import World

from cli.conftest import Command
from gateway.cli.output import plain, print_table


@pytest.fixture
def month(world: World) -> World:
    world.ledger.found += make_month([(world.ids["search-bot"], "search"), (world.ids["support-bot"], "support")])
    return world


def test_spend_for_people_adds_up_and_lines_up(month: World, remote: Command) -> None:
    done = remote("spend", "--by", "team,model", "--since", "month")
    assert done.code == 0
    table = done.out.split("\n\n")[0].split("\n")
    assert table[0].split() == ["TEAM", "MODEL", "CALLS", "ERRORS", "TOKENS", "IN", "TOKENS", "OUT", "USD", "UNPRICED"]
    points = {line.index(".") for line in table[1:] if "unpriced" not in line and "." in line.split()[-2]}
    reply = json.loads(remote("spend", "--by", "team,model", "--since", "month", "--json").out)
    assert reply["total"]["cost"]["usd"] in table[-1]
    assert table[-1].startswith("total")
    assert len(points) <= 2
    assert "unpriced" in done.out, "a group without prices shows no $0"
    assert "have no price" in done.err
    assert "is estimated" in done.err
    assert "Recorded up to 2026-11-24T22:14:02Z." in done.out


def test_spend_as_csv_is_for_machines_and_safe_in_a_spreadsheet(world: World, remote: Command) -> None:
    row, attempts = make_call(key_id="k")
    for team in ("=cmd()", "+1", "-1", "@x", 'quote",'):
        world.ledger.found.append((msgspec.structs.replace(row, team=team), attempts))
    done = remote("spend", "--by", "team,key", "--csv")
    rows = list(csv.DictReader(io.StringIO(done.out)))
    assert sorted(row["team"] for row in rows) == ["'+1", "'-1", "'=cmd()", "'@x", 'quote",']
    assert {row["effective_usd"] for row in rows} == {"0.00065"}
    assert list(rows[0]) == [
        "team", "key", "calls", "errors", "input_tokens", "output_tokens", "effective_usd", "list_usd",
        "estimated_usd", "unpriced_calls", "contracted_usd", "billed_usd", "prior_period_usd",
    ]  # fmt: skip


def test_spend_of_nothing(remote: Command) -> None:
    done = remote("spend")
    assert done.code == 0
    assert "Nothing was spent in this time." in done.out


def test_spend_tells_what_is_cut_behind_and_lost(world: World, remote: Command) -> None:
    world.ledger.fresh = msgspec.structs.replace(world.ledger.fresh, behind_bytes=4096, dead_letters=2)
    done = remote("spend")
    assert "4,096 bytes of calls are not counted yet" in done.out
    assert "2 records could not be stored" in done.out


@pytest.mark.parametrize("arguments", [["--by", "password"], ["--since", "soon"], ["--since", "2016-01-01"]])
def test_spend_refuses(remote: Command, arguments: list[str]) -> None:
    done = remote("spend", *arguments)
    assert (done.code, done.out) == (1, "")


def test_config_over_the_network(world: World, remote: Command) -> None:
    assert "no configuration yet" in remote("config", "show").out
    assert remote("config", "validate").out.startswith("Valid: 0 models, 0 providers")
    assert remote("config", "reload").out.startswith("In use: revision ")
    assert remote("config", "reload").out.startswith("Already in use: revision ")
    assert "aaaaaaaa" in remote("config", "show").out
    world.files.problem = "policies/routes.yaml:3: there is no provider 'opnai'\npolicies/routes.yaml:9: also wrong"
    done = remote("config", "validate")
    assert done.code == 1
    assert (
        done.err
        == "faregate: policies/routes.yaml:3: there is no provider 'opnai'\n  policies/routes.yaml:9: also wrong\n"
    )
    assert remote("config", "reload").code == 1
    shown = remote("config", "show")
    assert shown.code == 1
    assert "opnai" in shown.err
    assert json.loads(remote("config", "show", "--json").out)["problem"].startswith("policies/routes.yaml:3")


def test_the_schema_is_printed(faregate: Command) -> None:
    assert json.loads(faregate("config", "schema").out)["title"] == "Faregate routes"


def test_tables_line_up(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"A": "名前", "N": "1", "USD": "12.5"},
        {"A": "x", "N": "1,000", "USD": "0.00001"},
        {"A": "y", "N": "5", "USD": "3"},
    ]
    print_table({"A": "l", "N": "r", "USD": "."}, rows, "none")
    lines = capsys.readouterr().out.split("\n")
    assert lines == [
        "A         N       USD",
        "名前      1  12.5",
        "x     1,000   0.00001",
        "y         5   3",
        "",
    ]


def test_plain_text_is_left_alone() -> None:
    assert plain("Zoë – 名前") == "Zoë – 名前"
    assert plain("a\x00b\u2066c\n") == "a\ufffdb\ufffdc\ufffd"


def test_a_month_is_in_the_ledger(month: World) -> None:
    assert min(row.started_ms for row, _ in month.ledger.found) > NOW_MS - 31 * 86_400_000
