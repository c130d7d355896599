"""Tags that a team's calls must carry, and those that only the key can say."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from flow.laws import lawful
from flow.scripts import requests_per_minute, whole
from flow.virtual_time import play
from flow.world import POLICY, World, chat
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.caller import OWNED_TAGS, Caller, KeyRecord, Permission, RequiredTags, TagPolicy, is_owned_tag
from gateway.core.records import Settle
from gateway.flow.identify import identify
from gateway.policies.required_tags import missing_tags, refusal_of

KEY = KeyRecord("k0k0k0k0k0k0", "app", "acme", "search", "data", ())
NAMES = st.sampled_from(["feature", "env", "customer"])
RULES = st.lists(
    st.builds(RequiredTags, st.sampled_from(["*", "search", "growth"]), st.lists(NAMES).map(tuple), st.booleans()),
    max_size=4,
)


class _Ring:
    """core.ports.KeyRing with one key, which any text is."""

    fresh_ms = 0

    def __init__(self, key: KeyRecord) -> None:
        self._key = key

    def find(self, presented: str, now_ms: int) -> KeyRecord | None:
        return self._key

    def apply(self, deltas: Any, fresh_ms: int) -> None:
        raise NotImplementedError


def caller(sent: str, **own: str) -> Caller:
    key = msgspec.structs.replace(KEY, tags=tuple(own.items()))
    headers = {"authorization": "Bearer fg_x", "x-faregate-tags": sent}
    return identify(headers, _Ring(key), Permission.CALL_MODELS, 0, 10_000)


# ---------------------------------------------------------------- whose money it is


@pytest.mark.parametrize("name", [*sorted(OWNED_TAGS), "Team", "COST_CENTRE", "cost-centre", "Cost-Center", " team "])
def test_a_callers_tag_is_never_team_or_cost_centre(name: str) -> None:
    assert caller(f"{name}=mine,env=prod").tags == (("env", "prod"),)
    assert dict(caller(f"{name}=mine", cost_centre="42").tags) == {"cost_centre": "42"}


@given(st.text(max_size=20), st.text(max_size=20))
def test_whatever_is_sent_what_the_key_says_stays(name: str, value: str) -> None:
    tags = dict(caller(f"{name}={value}", team="growth", cost_centre="42", env="prod").tags)
    assert (tags["team"], tags["cost_centre"], tags["env"]) == ("growth", "42", "prod")
    assert not [sent for sent in tags.keys() - {"team", "cost_centre", "env"} if is_owned_tag(sent)]


# ---------------------------------------------------------------- the rule


@given(RULES, st.dictionaries(NAMES, st.sampled_from(["", "x"])))
def test_what_is_missing_is_what_matching_rules_name_and_the_call_lacks(
    rules: list[RequiredTags], tags: dict[str, str]
) -> None:
    refused, asked = missing_tags(rules, Caller(KEY, tags=tuple(tags.items())))
    mine = [rule for rule in rules if rule.team in ("*", "search")]
    lacking = {name for rule in mine for name in rule.names if not tags.get(name)}
    assert set(refused) == {name for rule in mine if rule.refuses for name in rule.names} & lacking
    assert set(asked) == lacking - set(refused)
    assert len(refused) == len(set(refused))


def test_a_refusal_names_the_tags_and_how_to_send_them() -> None:
    error = refusal_of(("feature", "env"), Caller(KEY))
    assert (error.status, error.code, error.param) == (400, "tags_required", "x-faregate-tags")
    assert error.message == (
        "Calls of the team search must carry the tags feature and env. Send x-faregate-tags: feature=…,env=…. Or have "
        "them set on the key: `faregate keys update k0k0k0k0k0k0 --tag feature=… --tag env=…`."
    )
    assert error.extra == {"missing_tags": ["feature", "env"]}
    tagged = msgspec.structs.replace(KEY, tags=(("region", "eu"), ("owner", "Ann; rm -r x")))
    owned = refusal_of(("cost_centre",), Caller(tagged)).message
    assert "x-faregate-tags" not in owned, "a caller cannot send that one"
    assert "cost_centre is the key's to say" in owned
    command = "--tag region=eu --tag 'owner=Ann; rm -r x' --tag cost_centre=…"
    assert command in owned, "it takes all of a key's tags, and a shell takes it as it is meant"


# ---------------------------------------------------------------- on the path


def tagged(refuses: bool, **world: Any) -> World:
    made = World([whole()], **world)
    rules = (RequiredTags("search", ("feature",), refuses), RequiredTags("growth", ("nothing",), True))
    policy = msgspec.structs.replace(POLICY, tags=TagPolicy((), rules))
    made.services.configuration.policy = policy  # type: ignore[misc]
    return made


def test_a_call_without_its_tags_is_refused_before_it_is_counted() -> None:
    async def refused() -> None:
        limit = requests_per_minute(1)
        world = tagged(True, limits=(limit,))
        call = await world.call()
        assert (call.status, call.json["error"]["code"]) == (400, "tags_required")
        assert call.json["error"]["missing_tags"] == ["feature"]
        assert world.spent(limit) == (0, 0)
        assert world.metrics.told == [("tag_missing", "feature", True)]
        assert "required_tags:deny" in world.settle.verdicts
        assert (await world.call(headers={"x-faregate-tags": "feature=search"})).status == 200
        lawful(world)

    play(refused())


def test_a_dry_run_only_tells() -> None:
    async def told() -> None:
        world = tagged(False)
        call = await world.call(chat())
        assert call.status == 200
        assert call.exchange.header("x-faregate-missing-tags") == "feature"
        assert world.metrics.told == [("tag_missing", "feature", False)]
        assert "required_tags:dry_run feature" in world.settle.verdicts
        carried = await world.call(headers={"x-faregate-tags": "feature=search"})
        assert carried.exchange.header("x-faregate-missing-tags") is None
        assert len(world.metrics.told) == 1
        assert json.loads(json.dumps([list(one.verdicts) for one in world.records(Settle)]))[1] == [
            "allowed_models:allow"
        ]
        lawful(world)

    play(told())
