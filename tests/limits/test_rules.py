"""Limits of their own: found for a key without looking at all of them, and what a call takes of each that matches."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.caller import Caller, KeyRecord
from gateway.core.config import Deployment, LimitChange, ModelRoute, Policy
from gateway.core.errors import RateLimited
from gateway.core.limits import EACH, HoldKind, Limit, Suspension, Unit, Want, Window, WindowKind
from gateway.limits.estimate import EXPECTED_OUTPUT_TOKENS, estimated_hold
from gateway.limits.rules import Rules, rules_of
from gateway.limits.scope import owns, whole_scope
from gateway.limits.values import PROOF_MS, RECOUNT_MS
from gateway.limits.wants import Wants
from tests.limits.examples import DAY, MINUTE, NOON_MS, TOTAL, key, limit

MONTH = Window(WindowKind.MONTH)
KEYS = [key(key_id=f"k{n}", team=team, org=org) for n, (team, org) in enumerate(
    [("growth", "acme"), ("growth", "acme"), ("sales", "acme"), ("growth", "other")]
)]  # fmt: skip
USERS = ("", "ann", "bob")


def scoped(
    id: str, window: Window = MONTH, unit: Unit = Unit.USD, amount: int = 100, max_values: int = 0, **scope: str
) -> Limit:
    """`user=EACH`, `tag_env="prod"`."""
    pairs = [(name.replace("tag_", "tag:"), value) for name, value in scope.items()]
    made = limit(unit, amount, window, id=id, scope=whole_scope(pairs))
    return msgspec.structs.replace(made, max_values=max_values)


def wants_of(*limits: Limit, suspensions: Sequence[Suspension] = (), aliases: dict[str, str] | None = None) -> Wants:
    made = Wants()
    made.use(Rules(limits, suspensions, aliases))
    return made


def taken(wants: Wants, holder: KeyRecord, user: str = "", now_ms: int = NOON_MS, **more: str) -> dict[str, Want]:
    """What a call with these facts reserves, by limit."""
    caller = Caller(holder, user, more.pop("session", ""), tuple(more.pop("tags", {}).items()))  # type: ignore[attr-defined]
    found = wants.reserve(holder, now_ms, 7, 3, caller, **more)  # type: ignore[arg-type]
    return {want.limit.id: want for want in found}


OWNER = st.sampled_from([None, EACH, "acme", "other", "growth", "sales", "k0", "k2"])


@given(st.lists(st.fixed_dictionaries({"org": OWNER, "team": OWNER, "key": OWNER}), max_size=12))
def test_the_limits_of_a_key_are_those_whose_owners_are_its(scopes: list[dict[str, str | None]]) -> None:
    limits = [
        limit(Unit.USD, 1, DAY, id=f"l{n:02}", scope=whole_scope((d, v) for d, v in scope.items() if v is not None))
        for n, scope in enumerate(scopes)
    ]
    rules = Rules(limits)
    for holder in KEYS:
        assert rules.of(holder) == [one for one in limits if owns(one.scope, holder)]


def test_a_keys_own_limits_and_those_of_its_team_are_taken_together() -> None:
    own = limit(Unit.USD, 5, DAY, id="own", scope=(("key", "k1"),))
    holder = key(own)
    wants = wants_of(scoped("team", team="growth"), scoped("others", team="sales"))
    assert list(taken(wants, holder)) == ["own", "team"]
    assert taken(wants, holder)["team"].take.counter == "team|acme,growth|2026-11"


def test_each_user_of_each_key_has_a_counter_of_its_own() -> None:
    wants = wants_of(scoped("users", user=EACH, max_values=10))
    first, second = KEYS[0], KEYS[1]
    assert taken(wants, first, "ann")["users"].take.counter == "users|k0,ann|2026-11"
    assert taken(wants, first, "bob")["users"].take.counter == "users|k0,bob|2026-11"
    assert taken(wants, second, "ann")["users"].take.counter == "users|k1,ann|2026-11", "nobody spends another's"
    assert taken(wants, first) == {}, "a call that names no user"


def test_a_user_of_a_team_is_one_over_all_its_keys() -> None:
    wants = wants_of(scoped("users", team="growth", user=EACH, max_values=10))
    names = {taken(wants, holder, "ann")["users"].take.counter for holder in KEYS[:2]}
    assert names == {"users|acme,growth,ann|2026-11"}
    assert taken(wants, KEYS[2], "ann") == {}
    assert taken(wants, KEYS[3], "ann") == {"users": taken(wants, KEYS[3], "ann")["users"]}
    assert "other,growth,ann" in taken(wants, KEYS[3], "ann")["users"].take.counter, "a team of the same name elsewhere"


def test_the_bodys_user_counts_where_no_header_names_one() -> None:
    wants = wants_of(scoped("users", user=EACH, max_values=10))
    holder = KEYS[0]
    (want,) = wants.reserve(holder, NOON_MS, 1, 1, Caller(holder), "ann")
    assert want.take.counter == "users|k0,ann|2026-11"
    (want,) = wants.reserve(holder, NOON_MS, 1, 1, Caller(holder, "bob"), "ann")
    assert want.take.counter == "users|k0,bob|2026-11"


def test_sessions_tags_models_and_deployments() -> None:
    wants = wants_of(
        scoped("session", session=EACH, max_values=9), scoped("env", tag_env="prod"), scoped("model", model="m"),
        scoped("there", provider="openai"), scoped("exactly", deployment="openai/m"),
    )  # fmt: skip
    holder = KEYS[0]
    assert set(taken(wants, holder, session="s")) == {"session"}
    assert set(taken(wants, holder, tags={"env": "prod"})) == {"env"}  # type: ignore[arg-type]
    assert set(taken(wants, holder, tags={"env": "test"})) == set()  # type: ignore[arg-type]
    assert set(taken(wants, holder, model="m", deployment="openai/m")) == {"model", "there", "exactly"}
    assert set(taken(wants, holder, model="n", deployment="openai/n")) == {"there"}
    assert set(taken(wants, holder, model="n", deployment="groq/n")) == set()


def test_requests_of_a_user_and_a_model_are_counted_when_the_call_is_admitted() -> None:
    wants = wants_of(scoped("rpm", MINUTE, Unit.REQUESTS, 60, 10, user=EACH, model="m"))
    holder = KEYS[0]
    (want,) = wants.admit(holder, "m", NOON_MS, Caller(holder, "ann"))
    assert (want.take.amount, want.take.counter.split("|")[1]) == (1, "k0,ann,m")
    assert wants.admit(holder, "other", NOON_MS, Caller(holder, "ann")) == ()
    assert wants.admit(holder, "m", NOON_MS) == (), "without a caller only what the key decides"


def test_a_limit_on_a_model_holds_for_all_of_its_names() -> None:
    holder = KEYS[0]
    for written in ("m", "fast"):
        wants = wants_of(scoped("model", model=written), aliases={"fast": "m"})
        assert taken(wants, holder, model="m")["model"].take.counter == "model|m|2026-11"
        assert taken(wants, holder, model="fast")["model"].take.counter == "model|m|2026-11"


def test_what_is_remembered_is_what_is_found_anew() -> None:
    limits = [
        scoped("a", MINUTE, user=EACH, max_values=99),
        scoped("b", DAY, team=EACH),
        scoped("c", model=EACH, max_values=9),
    ]
    wants = wants_of(*limits)
    for step in range(400):
        now_ms = NOON_MS + step * 977
        holder, user, model = KEYS[step % 4], USERS[step % 3], f"m{step % 2}"
        fresh = wants_of(*limits)
        assert taken(wants, holder, user, now_ms, model=model) == taken(fresh, holder, user, now_ms, model=model)


def test_a_full_memory_starts_again() -> None:
    small = Wants(capacity=2, kinds_max=3)
    small.use(Rules([scoped("users", user=EACH, max_values=100)]))
    for _ in range(2):
        for user in ("a", "b", "c", "d"):
            for holder in KEYS:
                assert f"{holder.key_id},{user}" in taken(small, holder, user)["users"].take.counter


def test_a_very_long_value_is_told_apart_by_its_beginning() -> None:
    wants = wants_of(scoped("users", user=EACH, max_values=2))
    names = {taken(wants, KEYS[0], "x" * length)["users"].take.counter for length in (255, 256, 257, 10**6)}
    assert len(names) == 2


# ---------------------------------------------------------------- changes in time


def test_other_rules_hold_at_once() -> None:
    wants = wants_of(scoped("team", team="growth"))
    assert "team" in taken(wants, KEYS[0])
    wants.use(Rules([scoped("team", team="growth", amount=5)]))
    assert taken(wants, KEYS[0])["team"].limit.amount == 5
    wants.use(Rules())
    assert taken(wants, KEYS[0]) == {}


def test_an_increase_lasts_as_long_as_it_says() -> None:
    until_ms = NOON_MS + 1000
    more = msgspec.structs.replace(scoped("team", team="growth"), increase=50, increase_until_ms=until_ms)
    wants = wants_of(more)
    assert taken(wants, KEYS[0])["team"].limit.amount == 150
    assert taken(wants, KEYS[0], now_ms=until_ms - 1)["team"].limit.amount == 150
    assert taken(wants, KEYS[0], now_ms=until_ms)["team"].limit.amount == 100
    assert taken(wants, KEYS[0])["team"].limit.amount == 150, "a clock set back"


def suspension(until_ms: int, limit_id: str = "", **scope: str) -> Suspension:
    return Suspension("s", whole_scope(scope.items()), until_ms, "why", "k9", NOON_MS, limit_id)


def test_a_suspension_lifts_every_limit_of_its_scope_for_its_time() -> None:
    own = limit(Unit.USD, 5, DAY, id="own", scope=(("key", "k1"),))
    holder = key(own)
    wants = wants_of(scoped("team", team="growth"), suspensions=[suspension(NOON_MS + 10, team="growth")])
    assert [want.enforced for want in taken(wants, holder).values()] == [False, False]
    assert [want.enforced for want in taken(wants, KEYS[2]).values()] == []
    assert [want.enforced for want in taken(wants, holder, now_ms=NOON_MS + 10).values()] == [True, True]


def test_a_suspension_of_one_user_lifts_nothing_of_others() -> None:
    own = limit(Unit.REQUESTS, 5, MINUTE, id="own", scope=(("key", "k1"),))
    holder = key(own)
    wants = wants_of(scoped("team", team="growth"), suspensions=[suspension(NOON_MS + 10, key="k1", user="ann")])
    for user, enforced in (("ann", False), ("bob", True), ("", True)):
        assert taken(wants, holder, user)["team"].enforced is enforced
        (admitted,) = wants.admit(holder, "m", NOON_MS, Caller(holder, user))
        assert admitted.enforced is enforced


def test_a_suspension_of_one_limit_leaves_the_others() -> None:
    wants = wants_of(
        scoped("a", team="growth"), scoped("b", team="growth"), suspensions=[suspension(NOON_MS + 10, "b", org="acme")]
    )
    assert {name: want.enforced for name, want in taken(wants, KEYS[0]).items()} == {"a": True, "b": False}


def test_an_estimate_is_held_where_the_limit_says_so_and_never_more_than_the_bound() -> None:
    guessed = msgspec.structs.replace(scoped("guessed", team="growth"), hold=HoldKind.ESTIMATE)
    tokens = msgspec.structs.replace(scoped("t", DAY, Unit.TOKENS, team="growth"), hold=HoldKind.ESTIMATE)
    wants = wants_of(guessed, scoped("proven", team="growth"), tokens)
    holder = KEYS[0]
    sizes = (3_000, 60_000, 1_000, 1)
    nusd, used = estimated_hold(90_000, *sizes)
    assert (nusd, used) == (30_000, 1_000 + EXPECTED_OUTPUT_TOKENS)
    found = wants.reserve(holder, NOON_MS, 90_000, 63_000, Caller(holder), sizes=sizes)
    assert {want.limit.id: want.take.amount for want in found} == {"guessed": nusd, "proven": 90_000, "t": used}
    assert [want.limit.unit for want in found] == [Unit.USD, Unit.USD, Unit.TOKENS], "those on tokens last"
    found = wants.reserve(holder, NOON_MS, 90_000, 5, Caller(holder), sizes=sizes)
    assert {want.limit.id: want.take.amount for want in found}["t"] == 5, "never more than the bound"
    found = wants.reserve(holder, NOON_MS, 900, 90, Caller(holder))
    assert {want.limit.id: want.take.amount for want in found} == {"guessed": 900, "proven": 900, "t": 90}


# ---------------------------------------------------------------- how many values


def test_past_max_values_a_new_one_is_refused_and_a_live_one_is_not() -> None:
    wants = wants_of(scoped("users", DAY, user=EACH, max_values=2))
    holder = KEYS[0]
    for user in ("ann", "bob", "ann"):
        assert taken(wants, holder, user)
    with pytest.raises(
        RateLimited, match=r"counts at most 2 different values of user for key:k0, .*user:cat"
    ) as refused:
        wants.admit(holder, "m", NOON_MS, Caller(holder, "cat"))
    assert refused.value.headers["x-should-retry"] == "false"
    assert refused.value.extra["limit_id"] == "users"
    assert refused.value.extra["resets_at_iso"] == "2026-11-26T00:00:00Z"
    assert taken(wants, KEYS[1], "cat"), "another key's values are its own"
    assert taken(wants, holder, "ann")
    tomorrow_ms = NOON_MS + 86_400_000
    assert taken(wants, holder, "cat", tomorrow_ms), "the window turned: yesterday's values count no more"
    assert taken(wants, holder, "ann", tomorrow_ms)
    with pytest.raises(RateLimited):
        taken(wants, holder, "bob", tomorrow_ms)


def test_a_rolling_windows_value_frees_its_place_when_its_last_part_is_out() -> None:
    counters: list[str] = []
    wants = Wants(live=lambda: counters)
    wants.use(Rules([scoped("users", MINUTE, user=EACH, max_values=1)]))
    holder = KEYS[0]
    counters.append(taken(wants, holder, "ann")["users"].take.counter)
    with pytest.raises(RateLimited):
        taken(wants, holder, "bob", NOON_MS + 60_000)
    assert taken(wants, holder, "bob", NOON_MS + 65_000)


def test_what_only_observes_lets_a_value_too_many_pass_uncounted() -> None:
    lifted = [suspension(NOON_MS + 10**6, org="acme")]
    wants = wants_of(scoped("users", DAY, user=EACH, max_values=1), suspensions=lifted)
    assert taken(wants, KEYS[0], "ann")
    assert taken(wants, KEYS[0], "bob") == {}


def test_after_a_restart_the_values_that_have_counters_count() -> None:
    one = scoped("users", DAY, user=EACH, max_values=2)
    names = [
        "users|k0,ann|2026-11-25",
        "users|k0,b%2Cob|2026-11-25",
        "users|k0,old|2026-11-24",
        "users|k1,cat|2026-11-25",
    ]
    wants = Wants(live=lambda: names)
    wants.use(Rules([one]))
    assert taken(wants, KEYS[0], "ann")
    assert taken(wants, KEYS[0], "b,ob")
    with pytest.raises(RateLimited):
        taken(wants, KEYS[0], "cat")
    assert taken(wants, KEYS[1], "dan")


def test_a_value_whose_call_came_to_nothing_gives_its_place_back() -> None:
    """A key without money of its own must not use up the places of its team's users."""
    counters: list[str] = []
    wants = Wants(live=lambda: counters)
    wants.use(Rules([scoped("users", TOTAL, team="growth", user=EACH, max_values=3)]))
    poor, rich = KEYS[0], KEYS[1]
    counters.append(taken(wants, rich, "kept")["users"].take.counter)
    for user in ("made", "up"):
        assert taken(wants, poor, user), "let in here, and then refused by a limit of the key"
    with pytest.raises(RateLimited, match=r"user:ann would be one more. An operator can"):
        taken(wants, rich, "ann", NOON_MS + PROOF_MS - 1)
    later_ms = NOON_MS + PROOF_MS + RECOUNT_MS
    assert taken(wants, rich, "ann", later_ms)
    assert taken(wants, poor, "made", later_ms), "its place was given back, and it takes one anew"
    with pytest.raises(RateLimited):
        taken(wants, poor, "up", later_ms)
    assert taken(wants, rich, "kept", later_ms)


def test_the_counters_are_not_looked_through_for_each_value_too_many() -> None:
    looks = 0

    def live() -> list[str]:
        nonlocal looks
        looks += 1
        return []

    wants = Wants(live=live)
    wants.use(Rules([scoped("users", DAY, user=EACH, max_values=1)]))
    assert taken(wants, KEYS[0], "ann")
    for n in range(500):
        with pytest.raises(RateLimited):
            taken(wants, KEYS[0], f"u{n}", NOON_MS + n)
    assert looks == 2, "for the first value, and once within a second"


def test_a_limit_that_comes_back_finds_the_values_that_count() -> None:
    counters: list[str] = []
    wants = Wants(live=lambda: counters)
    limits = [scoped("users", DAY, user=EACH, max_values=1)]
    wants.use(Rules(limits))
    counters.append(taken(wants, KEYS[0], "ann")["users"].take.counter)
    wants.use(Rules())
    wants.use(Rules(limits))
    with pytest.raises(RateLimited):
        taken(wants, KEYS[0], "bob")
    assert taken(wants, KEYS[0], "ann")


def test_a_files_limit_of_another_unit_scope_or_window_counts_anew() -> None:
    """The id is the file's to keep: nano-USD under it must not be counted as tokens later."""

    def names(written: Limit) -> set[str]:
        filed = msgspec.structs.replace(written, origin="limits.yaml:3")
        return {want.take.counter for want in taken(wants_of(filed), KEYS[0], "ann", session="ann").values()}

    money = scoped("a", team="growth", user=EACH, max_values=9)
    others = [
        scoped("a", unit=Unit.TOKENS, team="growth", user=EACH, max_values=9),
        scoped("a", team="growth", session=EACH, max_values=9),
        scoped("a", Window(WindowKind.MONTH, zone="Europe/Vienna"), team="growth", user=EACH, max_values=9),
    ]
    assert names(money)
    assert all(names(money).isdisjoint(names(other)) for other in others)
    assert names(money) == names(scoped("a", amount=7, team="growth", user=EACH, max_values=8)), "another amount"
    wants = wants_of(*(msgspec.structs.replace(one, origin="limits.yaml:3", max_values=1) for one in [money]))
    assert taken(wants, KEYS[0], "ann")
    wants.use(Rules([msgspec.structs.replace(others[1], origin="limits.yaml:3", max_values=1)]))
    assert taken(wants, KEYS[0], "bob", session="s"), "users take no places of sessions"


def test_a_suspension_on_an_alias_is_one_on_its_model() -> None:
    own = limit(Unit.USD, 5, DAY, id="own", scope=(("key", "k1"),))
    lifted = [suspension(NOON_MS + 10, org="acme", model="fast")]
    wants = wants_of(suspensions=lifted, aliases={"fast": "m"})
    for model, enforced in (("m", False), ("fast", False), ("other", True)):
        assert taken(wants, key(own), model=model)["own"].enforced is enforced


def test_the_rules_of_a_configuration() -> None:
    route = ModelRoute("fast", (Deployment("p/m", "p", "m"),), alias_of="m")
    policy = Policy(1, "h", {}, {"fast": route}, (), {}, limits=(scoped("file", team="growth"),))
    changes = [
        LimitChange("lim_1", scoped("lim_1", team="growth")),
        LimitChange("lim_2"),
        LimitChange("sus_1", suspension=suspension(NOON_MS, org="acme")),
    ]
    rules = rules_of(policy, changes)
    assert [one.id for one in rules.limits] == ["file", "lim_1"]
    assert len(rules.suspensions) == 1
    assert rules.aliases == {"fast": "m"}
    assert TOTAL.kind is WindowKind.TOTAL
