"""The exporters' seam: every module of the room with a MEMBER is a core.ports.Metrics."""

from __future__ import annotations

import pytest

import gateway.exporters
from gateway.core.members import discover_members
from gateway.core.ports import Metrics

MEMBERS: dict[str, type[Metrics]] = discover_members(
    "gateway.exporters", gateway.exporters.__path__, lambda member: member.name
)


def test_there_are_members() -> None:
    assert "prometheus" in MEMBERS


@pytest.mark.parametrize("make", MEMBERS.values(), ids=MEMBERS)
def test_a_member_takes_whatever_the_path_tells_it(make: type[Metrics]) -> None:
    metrics: Metrics = make()
    for outcome in ("ok", "refused", "error", "client_gone", "truncated"):
        for cost in (None, 0, 10**15):
            metrics.call_ended(
                endpoint="embeddings", model="\n\"'{}é", deployment="p/\n", outcome=outcome, status=499,
                effective_nusd=cost, input_tokens=0, output_tokens=10**9, duration_us=0, overhead_us=0, ttft_us=-1,
            )  # fmt: skip
    metrics.refused_before_identified("invalid_api_key")
    for bound, cost in ((0, 0), (1, 10**12), (10**12, 1)):
        metrics.hold_settled("p/m", bound, cost)
        metrics.hold_shrunk("p/m")
        metrics.overshot("limit", bound)
        metrics.call_changed("limit", "downgrade")
        metrics.usage_unknown("p/m", 2)
        metrics.cost_compared("p/m", gap=cost > bound)
        metrics.tag_missing("feature", refused=True)
