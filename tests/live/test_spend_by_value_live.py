"""Spend by what callers choose, as finance asks for it: whole processes, the official SDK, the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from live.running import Running, running, wait_for

pytestmark = pytest.mark.xdist_group("limits")
MESSAGES: Any = [{"role": "user", "content": "x"}]


@pytest.fixture(scope="module")
def summing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("summing")) as live:
        yield live


def spent(server: Running, by: str) -> dict[str, tuple[str, int, int]]:
    """(bucket, calls, nano-USD) by the value of the first dimension."""
    reply = json.loads(server.faregate("spend", "--by", by, "--since", "today", "--json").stdout)
    found = {}
    for one in reply["data"]:
        value = one["group"][by.partition(",")[0]]
        found[value] = (one["bucket"], one["calls"], one["cost"]["nano_usd"])
    assert sum(calls for _, calls, _ in found.values()) == reply["total"]["calls"], "groups make the whole"
    assert sum(nusd for *_, nusd in found.values()) == reply["total"]["cost"]["nano_usd"]
    return found


def test_spend_by_a_tag_from_its_declaration_to_a_correction(summing: Running) -> None:
    policies = Path(summing.environment["FAREGATE_CONFIG_DIR"])
    secret = summing.new_key("tagging")
    refused = summing.call("GET", "/admin/v1/spend?by=tag:feature", key=summing.new_key("money", "--role", "finance"))
    assert (refused.status, refused.json["error"]["param"]) == (400, "by")
    assert "tags: rollups" in refused.json["error"]["message"]
    (policies / "limits.yaml").write_text("tags:\n  rollups: [feature]\n")
    asked = ("spend", "--by", "tag:feature")
    wait_for("the tag to have sums", lambda: summing.faregate(*asked, check=False).returncode == 0)
    with openai.OpenAI(base_url=summing.url + "/v1", api_key=secret, max_retries=0) as client:
        for number in range(6):
            own = {"x-faregate-tags": f"feature=f{number % 2},other=x", "x-faregate-session": f"s{number}"}
            client.chat.completions.create(
                model="sim-small", messages=MESSAGES, max_tokens=20, user="ann", extra_headers=own
            )
        client.chat.completions.create(model="sim-small", messages=MESSAGES, max_tokens=20)
    wait_for("all calls in the sums", lambda: sum(calls for _, calls, _ in spent(summing, "user").values()) == 7)
    by_tag, by_user = spent(summing, "tag:feature"), spent(summing, "user")
    assert {value: (bucket, calls) for value, (bucket, calls, _) in by_tag.items()} == {
        "f0": ("value", 3), "f1": ("value", 3), "": ("none", 1),
    }  # fmt: skip
    assert by_user["ann"][1] == 6
    assert by_user["ann"][2] == by_tag["f0"][2] + by_tag["f1"][2] > 0
    assert len(spent(summing, "session")) == 7
    (policies / "prices.yaml").write_text(
        "prices:\n  simulated/sim-small:\n    rates: {input: 0.18 USD / 1M tokens, output: 0.72 USD / 1M tokens}\n"
    )
    wait_for("the new prices", lambda: "simulated/sim-small" in summing.faregate("prices", "list").stdout)
    summing.faregate("prices", "rerate", "--from", "today", "--reason", "the vendor's invoice says so")
    wait_for("the corrections in the sums", lambda: spent(summing, "tag:feature")["f0"][2] > by_tag["f0"][2])
    again = spent(summing, "tag:feature")
    assert again["f0"][2] * 5 == by_tag["f0"][2] * 6, "a fifth more"
    assert spent(summing, "user")["ann"][2] == again["f0"][2] + again["f1"][2]
    summing.verified()
