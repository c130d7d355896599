"""What a limit is about: implied owners, matching, and values that never share a counter by accident."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.limits import EACH
from gateway.limits.scope import (
    counted_value,
    is_dimension,
    is_owned,
    scope_words,
    shown_values,
    values_of,
    whole_scope,
)
from tests.limits.examples import key

TEXT = st.text(st.sampled_from("ab,|%~2C é"), min_size=1, max_size=90)


@pytest.mark.parametrize(
    ("written", "whole"),
    [
        ({}, ()),
        ({"user": EACH}, (("key", EACH), ("user", EACH))),
        ({"session": "s1"}, (("key", EACH), ("session", "s1"))),
        ({"tag:env": "prod"}, (("key", EACH), ("tag:env", "prod"))),
        ({"user": EACH, "team": "growth"}, (("org", EACH), ("team", "growth"), ("user", EACH))),
        ({"user": EACH, "org": "acme"}, (("org", "acme"), ("user", EACH))),
        ({"model": "m", "key": "k1"}, (("key", "k1"), ("model", "m"))),
        ({"provider": "openai"}, (("provider", "openai"),)),
    ],
)
def test_what_a_scope_implies(written: dict[str, str], whole: tuple[tuple[str, str], ...]) -> None:
    """What callers send is counted within keys, teams or orgs; a team is some org's."""
    assert whole_scope(written.items()) == whole
    assert whole_scope(reversed(whole)) == whole, "whole already, in whatever order"


def test_dimensions() -> None:
    assert all(is_dimension(name) for name in ("org", "team", "key", "user", "session", "tag:x", "model", "provider"))
    assert not any(is_dimension(name) for name in ("", "tag:", "tags", "users", "tag:" + "x" * 65))
    assert is_owned((("org", EACH), ("key", "k1")))
    assert not is_owned((("org", EACH), ("user", EACH)))


def test_a_scope_matches_when_all_of_it_does() -> None:
    holder = key()
    scope = (("team", "growth"), ("user", EACH), ("tag:env", "prod"))
    assert values_of(scope, holder, {"user": "ann", "tag:env": "prod"}) == ("growth", "ann", "prod")
    assert values_of(scope, holder, {"user": "ann", "tag:env": "test"}) is None
    assert values_of(scope, holder, {"tag:env": "prod"}) is None, "a call that tells no user is in no user's limit"
    assert values_of((("team", "sales"),), holder, {}) is None


@given(st.lists(TEXT, min_size=1, max_size=3), st.lists(TEXT, min_size=1, max_size=3))
def test_two_sets_of_values_have_two_texts(one: list[str], other: list[str]) -> None:
    assert (counted_value(one) == counted_value(other)) == (one == other)


@given(st.lists(TEXT, min_size=1, max_size=3))
def test_a_counters_text_can_be_read(values: list[str]) -> None:
    text = counted_value(values)
    assert "|" not in text
    shown = shown_values(text)
    assert len(shown) == len(values)
    assert [value for value in values if len(value) <= 64] == [
        back for value, back in zip(values, shown, strict=True) if len(value) <= 64
    ]


@given(st.text(min_size=65, max_size=300))
def test_nobody_can_name_the_short_text_of_a_long_value(long: str) -> None:
    """Whoever knows how names are cut could call itself so, and share the long one's counter."""
    text = counted_value([long])
    for named in (text, *shown_values(text), text.replace("%~", "~")):
        assert counted_value([named]) != text


def test_long_values_are_cut_and_stay_apart() -> None:
    first, second = counted_value(["x" * 4000 + "1"]), counted_value(["x" * 4000 + "2"])
    assert first != second
    assert len(first) <= 64


def test_words() -> None:
    assert scope_words((("team", "growth"), ("user", EACH))) == "team:growth each user"
    assert scope_words(()) == "all"
