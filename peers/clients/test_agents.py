"""Claude Code and Codex, the binaries that people run, do a small task through the gateway: write a file, and stop.

What the model says is scripted in `agents.json`; the tools are the agents' own, and the file is really written.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rig import ENVIRONMENTS, HERE, PACKAGES, PROGRAM_S, World, bare_environment, versions_of, world
from test_clients import ROWS, unpaid

pytestmark = pytest.mark.group("agents")
CLAUDE = ENVIRONMENTS / "agents" / PACKAGES / "claude_agent_sdk/_bundled/claude"
CODEX = ENVIRONMENTS / "agents" / PACKAGES / "codex_cli_bin/bin/codex"
TASK = "Create the file greeting.txt that says Good morning."
DELEGATED = "Have it done by an agent."
SAID = "The file is written."
NO_SEARCH = 'web_search = "disabled"'
"""Codex offers the vendor's own web search with every turn, without a bound; no other vendor has it."""
PROVIDER = """\
model = "{model}"
model_provider = "faregate"
{more}
[model_providers.faregate]
name = "Faregate"
base_url = "{url}/v1"
env_key = "FAREGATE_API_KEY"
wire_api = "responses"
"""


@dataclass(frozen=True, slots=True)
class Desk:
    """A world and a folder that an agent may write to."""

    world: World
    project: Path

    def run(self, command: list[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=self.project,
            env=bare_environment(self.project.parent) | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PROGRAM_S,
            check=False,
        )

    def claude(self, task: str, model: str = "claude-sonnet-5", key: str = "app") -> subprocess.CompletedProcess[str]:
        command = [str(CLAUDE), "-p", task, "--output-format", "json", "--permission-mode", "acceptEdits"]
        environment = {
            "ANTHROPIC_BASE_URL": self.world.gateway.url,
            "ANTHROPIC_AUTH_TOKEN": self.world.gateway.keys[key],
            "ANTHROPIC_MODEL": model,
            "ANTHROPIC_SMALL_FAST_MODEL": model,
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        }
        return self.run([*command, "--allowedTools", "Write,Agent"], environment)

    def codex(
        self, task: str, model: str = "gpt-4o-mini", key: str = "app", more: str = "", provider: str = ""
    ) -> subprocess.CompletedProcess[str]:
        home = self.project.parent / "codex"
        home.mkdir(exist_ok=True)
        config = PROVIDER.format(model=model, url=self.world.gateway.url, more=more)
        (home / "config.toml").write_text(config + provider)
        environment = {"CODEX_HOME": str(home), "FAREGATE_API_KEY": self.world.gateway.keys[key]}
        command = [str(CODEX), "exec", "--json", "--skip-git-repo-check", "--sandbox", "danger-full-access", task]
        return self.run(command, environment)

    def written(self) -> str:
        path = self.project / "greeting.txt"
        return path.read_text() if path.exists() else ""


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    project = tmp_path / "project"
    project.mkdir()
    scenario = tmp_path / "agents.json"
    scenario.write_text((HERE / "agents.json").read_text().replace("PROJECT", str(project)))
    with world(tmp_path, scenario) as stage:
        yield Desk(stage, project)


def events(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.split("\n") if line.startswith("{")]


def row(table: ROWS, name: str, package: str, did: str) -> None:
    table.append((name, versions_of("agents", package), did, "all passed"))


def test_claude_code_writes_a_file(desk: Desk, table: ROWS) -> None:
    done = desk.claude(TASK)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert (desk.written(), told["result"]) == ("Good morning.\n", SAID)
    booked = desk.world.booked()
    assert desk.world.dispatched() == desk.world.answered() == len(booked) == 2
    assert {call.session for call in booked} == {told["session_id"]}
    assert all(call.end_user for call in booked)
    # its own sum, by the list price, and ours
    assert sum(call.effective_nusd or 0 for call in booked) == round(told["total_cost_usd"] * 1e9)
    row(table, "claude-code", "claude-agent-sdk", "a file, its session and its own cost in the ledger")


def test_claude_code_on_a_model_of_openai(desk: Desk, table: ROWS) -> None:
    done = desk.claude(TASK, "gpt-4o-mini")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (desk.written(), json.loads(done.stdout)["result"]) == ("Good morning.\n", SAID)
    booked = desk.world.booked()
    assert desk.world.dispatched() == desk.world.answered() == len(booked) == 2
    assert not unpaid(booked)
    row(table, "claude-code on gpt-4o-mini", "claude-agent-sdk", "a file, by translation")


def test_an_agent_of_claude_code_is_told_apart(desk: Desk, table: ROWS) -> None:
    done = desk.claude(DELEGATED)
    assert done.returncode == 0, done.stdout + done.stderr
    assert desk.written() == "Good morning.\n"
    booked = desk.world.booked()
    assert desk.world.dispatched() == desk.world.answered() == len(booked)
    agents = [json.loads(call.tags).get("agent", "") for call in booked]
    assert len({agent for agent in agents if agent}) == 1, agents
    assert "" in agents
    assert {call.session for call in booked} == {json.loads(done.stdout)["session_id"]}
    row(table, "claude-code with an agent", "claude-agent-sdk", "the agent's calls are told apart by a tag")


def test_codex_writes_a_file(desk: Desk, table: ROWS) -> None:
    done = desk.codex(TASK)
    assert done.returncode == 0, done.stdout + done.stderr
    told = events(done)
    assert desk.written() == "Good morning.\n"
    assert [one["item"]["text"] for one in told if one.get("item", {}).get("type") == "agent_message"] == [SAID]
    booked = desk.world.booked()
    assert desk.world.dispatched() == desk.world.answered() == len(booked) == 2
    thread = next(one["thread_id"] for one in told if one["type"] == "thread.started")
    assert {call.session for call in booked} == {thread}
    assert {json.loads(call.tags)["originator"] for call in booked} == {"codex_exec"}
    assert not unpaid(booked)
    used = next(one["usage"] for one in told if one["type"] == "turn.completed")
    assert used["input_tokens"] == sum(call.input_tokens for call in booked)
    row(table, "codex", "openai-codex-cli-bin", "a file, its thread and tokens in the ledger")


def test_codex_keeps_its_search_under_a_hard_budget_where_the_model_bounds_it(desk: Desk, table: ROWS) -> None:
    desk.world.gateway.new_key("rich", "--budget", "5USD/month")
    done = desk.codex(TASK, "few-searches", key="rich")
    assert done.returncode == 0, done.stdout + done.stderr
    assert desk.written() == "Good morning.\n"
    booked = desk.world.booked()
    assert [call.key for call in booked] == ["rich", "rich"]
    assert not unpaid(booked)
    row(table, "codex, hard budget, web search", "openai-codex-cli-bin", "a file, with max_tool_calls for the model")


def test_codex_on_a_model_of_anthropic(desk: Desk, table: ROWS) -> None:
    done = desk.codex(TASK, "claude-sonnet-5", more=NO_SEARCH)
    assert done.returncode == 0, done.stdout + done.stderr
    assert desk.written() == "Good morning.\n"
    booked = desk.world.booked()
    assert desk.world.dispatched() == desk.world.answered() == len(booked) == 2
    assert not unpaid(booked)
    row(table, "codex on claude-sonnet-5", "openai-codex-cli-bin", "a file, by translation")


def test_claude_code_takes_a_used_up_budget_for_final(desk: Desk, table: ROWS) -> None:
    done = desk.claude(TASK, key="poor")
    refused_at_once(desk, done, 1)
    row(table, "claude-code, used-up budget", "claude-agent-sdk", "one request, and the budget's own words")


@pytest.mark.parametrize(("more", "requests"), [("", 6), ("stream_max_retries = 0", 1)], ids=["usual", "no retries"])
def test_codex_takes_a_refusal_for_a_broken_stream(more: str, requests: int, desk: Desk, table: ROWS) -> None:
    """It retries every status it does not know, as often as its configuration says."""
    done = desk.codex(TASK, key="poor", more=NO_SEARCH, provider=more)
    refused_at_once(desk, done, requests)
    row(table, f"codex, used-up budget, {more or 'usual'}", "openai-codex-cli-bin", f"{requests} requests")


def refused_at_once(desk: Desk, done: subprocess.CompletedProcess[str], requests: int) -> None:
    assert done.returncode == 1
    assert "budget" in done.stdout
    assert desk.written() == ""
    booked = desk.world.booked()
    assert [(call.status, call.error_code) for call in booked] == [(402, "budget_exceeded")] * requests
    assert desk.world.dispatched() == desk.world.answered() == 0
