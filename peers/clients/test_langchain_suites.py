"""LangChain's standard integration tests through the gateway, beside the same tests without it.

LLMock answers both: it calls tools, keeps to schemas and counts tokens. A test that fails at the mock itself proves
nothing of the gateway, so the two lists of outcomes must be equal; what fails in both is named in `explained/`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from rig import HERE, World, gateway, versions_of
from stand_ins import llmock
from suites import counted, explain, run_suite
from test_clients import ROWS, unpaid

ROUTES = """\
providers:
  openai:
    base_url: {vendor}/v1
    credential: env:VENDOR_CREDENTIAL
    networks: [loopback]
    keepalive_s: 2
  anthropic:
    base_url: {vendor}/anthropic/v1
    credential: env:VENDOR_CREDENTIAL
    networks: [loopback]
    keepalive_s: 2
models:
  gpt-4o-mini: openai/gpt-4o-mini
  claude-sonnet-5: anthropic/claude-sonnet-5
"""

SESSION_LOOP = tuple(
    part for what in ("fixture", "test") for part in ("-o", f"asyncio_default_{what}_loop_scope=session")
)
"""LangChain keeps one HTTP client for all models, so all tests need the one event loop."""


@dataclass(frozen=True, slots=True)
class Suite:
    """`vendor_path` is where LLMock has this vendor's surface."""

    name: str
    program: str
    package: str
    vendor_path: str = ""
    responses: bool = False


SUITES = (
    Suite("langchain_openai", "langchain_openai_suite.py", "langchain-openai"),
    Suite(
        "langchain_openai_responses",
        "langchain_openai_suite.py",
        "langchain-openai",
        responses=True,
    ),
    Suite("langchain_anthropic", "langchain_anthropic_suite.py", "langchain-anthropic", "/anthropic"),
)


@pytest.mark.group("modern")
@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
def test_standard_suite(suite: Suite, tmp_path: Path, table: ROWS) -> None:
    with llmock(tmp_path) as vendor, gateway(tmp_path, ROUTES.replace("{vendor}", vendor.url)) as server:
        runs = {}
        for name, url, key in (
            ("direct", vendor.url + suite.vendor_path, "any"),
            ("through", server.url, server.keys["app"]),
        ):
            vendor.post("/_llmock/reset")
            (tmp_path / name).mkdir()
            arguments = [
                "-c",
                "/dev/null",
                "-o",
                "asyncio_mode=auto",
                *SESSION_LOOP,
                str(HERE / "python" / suite.program),
            ]
            environment = {"SUITE_URL": url, "SUITE_KEY": key, "SUITE_RESPONSES": "1" if suite.responses else ""}
            runs[name] = run_suite("modern", arguments, environment, tmp_path / name, tmp_path)
        answered = sum(1 for one in vendor.get("/_llmock/requests")["requests"] if one["method"] == "POST")
        stage = World(server, vendor)
        booked, dispatched = stage.booked(), stage.dispatched()
    direct, through = runs["direct"], runs["through"]
    differ = {
        name: (direct[name].outcome, result.outcome, result.why)
        for name, result in through.items()
        if direct[name].outcome != result.outcome
    }
    explained = explain(through, HERE / "explained" / f"{suite.name}.json")
    count = counted(through)
    told = f"{count['passed']} passed, {count['failed']} failed as without a gateway, {count['skipped']} skipped"
    result = "as expected" if not (differ or explained.unexplained or explained.stale) else "FAILED"
    table.append((suite.name, versions_of("modern", suite.package, "langchain-tests"), told, result))
    for (why, reason), number in explained.by_reason.items():
        table.append(("", why, f"{number} failed: {reason}", "expected"))
    assert not differ, json.dumps(differ, indent=1)
    assert not explained.unexplained, "\n".join(f"{name}: {why[-300:]}" for name, why in explained.unexplained.items())
    assert not explained.stale, explained.stale
    assert dispatched == answered
    assert not unpaid(booked)
