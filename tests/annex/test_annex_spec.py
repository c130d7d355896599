"""What an annex serves, out of a compiled policy; and that nobody can ask for another vendor."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.annex.environment import NOWHERE, PLAIN, QUIET, environment_for, wanted_names
from gateway.annex.spec import AnnexSpec, ServedProvider, deployments_of, read_spec, spec_of, write_spec
from gateway.core.config import Deployment, ModelRoute, Policy

NAMES = st.text("abcxyz/*-.:_", min_size=1, max_size=12)


@dataclass(frozen=True)
class Configured:
    """As a compiled provider is, once it has options."""

    name: str
    kind: str = "annex"
    credential: str = ""
    timeout_s: float = 600.0
    options: tuple[tuple[str, str], ...] = ()
    environment: tuple[str, ...] = ()


def deployment(provider: str, model: str) -> Deployment:
    return Deployment(f"{provider}/{model}", provider, model)


def test_only_annex_providers_with_a_route_are_served() -> None:
    providers = [
        Configured("vertex", options=(("vertex_project", "p1"),), environment=("B", "A"), timeout_s=30),
        Configured("aws", credential="env:AWS_BEARER_TOKEN_BEDROCK"),
        Configured("unused"),
        Configured("openai", kind="openai"),
    ]
    deployments = [
        deployment("aws", "bedrock/b"),
        deployment("vertex", "vertex_ai/gemini-*"),
        deployment("aws", "bedrock/a"),
        deployment("openai", "gpt"),
    ]
    assert spec_of(providers, deployments) == AnnexSpec(
        (
            ServedProvider("aws", ("bedrock/a", "bedrock/b"), (("api_key", "env:AWS_BEARER_TOKEN_BEDROCK"),)),
            ServedProvider("vertex", ("vertex_ai/gemini-*",), (("vertex_project", "p1"),), ("A", "B"), 30),
        )
    )


def test_the_order_of_a_file_changes_no_spec() -> None:
    """A new spec is a new process: it must not come from an edit that changes nothing."""
    one = Configured("a", options=(("x", "1"), ("y", "2")), environment=("M", "N"))
    two = Configured("a", options=(("y", "2"), ("x", "1")), environment=("N", "M"))
    deployments = [deployment("a", "v/1"), deployment("a", "v/2")]
    assert spec_of([one], deployments) == spec_of([two], deployments[::-1])


def test_an_option_wins_over_the_credential() -> None:
    provider = Configured("a", credential="env:ONE", options=(("api_key", "env:TWO"),))
    assert spec_of([provider], [deployment("a", "v/1")]).providers[0].options == (("api_key", "env:TWO"),)


def test_wildcards_and_aliases_of_a_policy_count() -> None:
    exact = ModelRoute("m", (deployment("a", "v/1"),))
    alias = ModelRoute("n", (deployment("a", "v/1"),), alias_of="m")
    wild = ModelRoute("w-*", (deployment("a", "v/x-*"),))
    policy = Policy(1, "", {}, {"m": exact, "n": alias}, (wild,), {})
    assert {one.model for one in deployments_of(policy)} == {"v/1", "v/x-*"}


@pytest.mark.parametrize(
    ("pattern", "model", "served"),
    [
        ("bedrock/a", "bedrock/a", True),
        ("bedrock/a", "bedrock/ab", False),
        ("bedrock/*", "bedrock/invoke/a:0", True),
        ("bedrock/*", "bedrock/", False),
        ("bedrock/*", "bedrock", False),
        ("bedrock/*", "bedrock2/a", False),
        ("bedrock/claude-*-v1", "bedrock/claude-3-v1", True),
        ("bedrock/claude-*-v1", "bedrock/claude--v1", False),
        ("*", "ollama/x", False),
        ("*/x", "ollama/x", False),
        ("bed*/x", "bedrock/x", False),
    ],
)
def test_what_a_pattern_serves(pattern: str, model: str, served: bool) -> None:
    assert ServedProvider("p", (pattern,)).serves(model) is served


@given(patterns=st.lists(NAMES, max_size=4), model=NAMES)
def test_no_pattern_lets_a_caller_choose_the_vendor(patterns: list[str], model: str) -> None:
    if ServedProvider("p", tuple(patterns)).serves(model):
        assert model.partition("/")[0] in {pattern.partition("/")[0] for pattern in patterns}


@given(
    st.builds(
        ServedProvider,
        NAMES,
        st.lists(NAMES, max_size=3).map(tuple),
        st.dictionaries(NAMES, st.text(max_size=8), max_size=3).map(lambda found: tuple(found.items())),
        st.lists(NAMES, max_size=3).map(tuple),
        st.floats(0.1, 1e5),
    )
)
def test_a_spec_crosses_a_pipe_as_it_is(provider: ServedProvider) -> None:
    spec = AnnexSpec((provider,))
    assert read_spec(write_spec(spec)) == spec


def test_no_spec_is_read_from_anything_else() -> None:
    for text in (b"", b"[]", b'{"providers": [{"name": 1}]}'):
        with pytest.raises(msgspec.DecodeError):
            read_spec(text)


@given(
    st.dictionaries(st.sampled_from([*PLAIN, "HOME", "KEY", "AWS_PROFILE", "OTHER_SECRET", "https_proxy"]), st.text())
)
def test_the_environment_is_what_the_spec_asks_for(ours: dict[str, str]) -> None:
    served = ServedProvider("p", ("v/m",), (("api_key", "env:KEY"), ("region", "env-like")), ("AWS_PROFILE",))
    spec = AnnexSpec((served,))
    assert wanted_names(spec) == ["AWS_PROFILE", "KEY"]
    given_on = environment_for(spec, ours)
    assert given_on.keys() <= {*PLAIN, *QUIET, "HOME", "KEY", "AWS_PROFILE"}
    assert given_on["HOME"] == NOWHERE
    assert all(given_on[name] == ours[name] for name in ours if name in (*PLAIN, "KEY", "AWS_PROFILE"))


def test_a_provider_may_ask_for_the_home_folder() -> None:
    spec = AnnexSpec((ServedProvider("p", ("v/m",), (), ("HOME",)),))
    assert environment_for(spec, {"HOME": "/home/fare"})["HOME"] == "/home/fare"
