"""Names of ids: only who got one can use it, where it was issued, and they need no memory."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.issued import MARK, IssuedIds

SECRETS = (b"n" * 32, b"o" * 32)
IDS = IssuedIds(SECRETS)
PROVIDERS = ("openai", "azure", "openai-eu")
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@given(TEXT, TEXT, st.sampled_from(PROVIDERS))
def test_a_name_leads_back_to_its_id_and_provider(own: str, org: str, provider: str) -> None:
    name = IDS.name(own, org, provider)
    assert IssuedIds(SECRETS).find(name, org, PROVIDERS) == (own, provider)
    assert name.startswith(own)
    assert re.fullmatch(r"_fg1[0-9a-f]{20}", name.removeprefix(own))


@given(TEXT, TEXT, TEXT, st.sampled_from(PROVIDERS))
def test_no_other_org_can_use_it(own: str, org: str, other: str, provider: str) -> None:
    name = IDS.name(own, org, provider)
    assert (IDS.find(name, other, PROVIDERS) is None) == (other != org)


@given(st.text("abc_", min_size=1, max_size=20), st.data())
def test_a_tampered_name_is_none(own: str, data: st.DataObject) -> None:
    name = IDS.name(own, "acme", "openai")
    at = data.draw(st.integers(0, len(name) - 1))
    put = data.draw(st.sampled_from("abcz27_é\nF"))
    tampered = name[:at] + put + name[at + 1 :]
    assert tampered == name or IDS.find(tampered, "acme", PROVIDERS) is None


@given(TEXT)
def test_what_was_never_named_is_none(text: str) -> None:
    assert IDS.find(text, "acme", PROVIDERS) is None
    assert IDS.find(text + MARK + "a" * 20, "acme", PROVIDERS) is None


def test_a_provider_that_is_gone_keeps_nothing() -> None:
    assert IDS.find(IDS.name("resp_1", "acme", "openai"), "acme", ("azure",)) is None


def test_names_outlive_the_secret_they_were_made_with_as_long_as_it_is_known() -> None:
    old = IssuedIds(SECRETS[1:]).name("resp_1", "acme", "openai")
    assert IDS.find(old, "acme", PROVIDERS) == ("resp_1", "openai")
    assert IssuedIds(SECRETS[:1]).find(old, "acme", PROVIDERS) is None


def test_parts_cannot_be_moved_between_each_other() -> None:
    assert IDS.name("ab", "c", "d")[-20:] != IDS.name("a", "bc", "d")[-20:]
    assert IDS.find(IDS.name("x", "acme", "openai"), "acmeopenai", ("",)) is None


def test_without_secrets_nothing_is_named_or_found() -> None:
    assert IssuedIds(()).name("resp_1", "acme", "openai") == "resp_1"
    assert IssuedIds(()).find(IDS.name("resp_1", "acme", "openai"), "acme", PROVIDERS) is None
