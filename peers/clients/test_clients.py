"""Each client in its own environment, unchanged, through one gateway of its own; then the books."""

from __future__ import annotations

from pathlib import Path

import pytest
from rig import Booked, Report, World, world
from roster import CLIENTS, Client

ROWS = list[tuple[str, str, str, str]]


def judged(client: Client, report: Report) -> list[str]:
    """What went wrong by the program's own account."""
    missing = [f"{name}: not reached" for name in client.steps if name not in {step.name for step in report.steps}]
    unknown = [f"{step.name}: not in the roster" for step in report.steps if step.name not in client.steps]
    return missing + unknown + [f"{step.name}: {step.said}" for step in report.steps if not step.ok]


def audited(client: Client, stage: World) -> list[str]:
    """What is wrong with the books."""
    booked, dispatched, answered = stage.booked(), stage.dispatched(), stage.answered()
    wrong = unpaid(booked)
    if dispatched != answered:
        wrong.append(f"the vendor answered {answered} requests, the ledger has {dispatched} attempts")
    retries = {call.client_retry for call in booked}
    if retries != client.retries:
        wrong.append(f"retry counters {sorted(retries)}, expected {sorted(client.retries)}")
    poor = [call for call in booked if call.key == "poor"]
    if [(call.status, call.attempts) for call in poor] != [(402, 0)] * client.refused_calls:
        wrong.append(f"a used-up budget: expected {client.refused_calls} calls refused with 402, got {poor}")
    return wrong


def unpaid(booked: list[Booked]) -> list[str]:
    """Calls that cost nothing and do not say why."""
    return [f"silently free: {call}" for call in booked if call.outcome == "ok" and not paid(call)]


def paid(call: Booked) -> bool:
    """A call with tokens costs something or says that its price is unknown. aimock counts none for embeddings."""
    if call.effective_nusd is None:
        return call.cost_state == "unpriced"
    return call.effective_nusd > 0 or (call.endpoint == "embeddings" and call.input_tokens == 0)


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
def test_client(client: Client, request: pytest.FixtureRequest, tmp_path: Path, table: ROWS) -> None:
    with world(tmp_path) as stage:
        report = stage.run(client)
        wrong = judged(client, report) + audited(client, stage)
    passed = sum(step.ok for step in report.steps)
    versions = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    result = "all passed" if not wrong else f"FAILED: {len(wrong)}"
    table.append((client.name, f"{versions}; {report.runtime}", f"{passed} of {len(client.steps)} steps", result))
    reached = {step.name for step in report.steps} >= set(client.steps)
    assert not wrong, "\n".join(wrong if reached else [*wrong, report.log])
