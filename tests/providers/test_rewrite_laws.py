"""Laws of what is sent: for every row and any body, whatever is not named in the row's quirks leaves as it came."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec
import pytest
from dialects.examples import compact
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.quirks import Quirks
from gateway.dialects.openai_chat.rewrite import tool_id
from gateway.dialects.openai_chat.surface import MEMBER as CHAT
from gateway.providers.row import BOOKKEEPING
from providers.golden import ROWS

KINDS: dict[Quirks, list[str]] = {}
for row in ROWS.values():
    KINDS.setdefault(row.quirks, []).append(row.kind)
parametrised = pytest.mark.parametrize("quirks", KINDS, ids=["+".join(kinds) for kinds in KINDS.values()])
"""Each row's quirks; rows that have the same share a test."""
few = settings(max_examples=40, deadline=None)
RAW = msgspec.json.Decoder(dict[str, msgspec.Raw])
ITEMS = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
LIMIT = st.none() | st.integers(1, 4096)
IDS = st.text(min_size=1, max_size=12) | st.from_regex(r"[0-9A-Za-z]{9}", fullmatch=True) | st.just("call_1")
MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "tool"]), "content": VALUES},
    optional={
        "reasoning_content": VALUES,
        "reasoning": VALUES,
        "name": st.text(max_size=5),
        "tool_call_id": IDS,
        "tool_calls": st.lists(st.fixed_dictionaries({"id": IDS, "function": VALUES}), max_size=3) | st.none(),
    },
)
BODY = st.fixed_dictionaries(
    {"model": st.just("m"), "messages": st.lists(MESSAGE, min_size=1, max_size=4)},
    optional={
        "stream": st.booleans(),
        "stream_options": st.none() | st.fixed_dictionaries({}, optional={"include_usage": st.booleans(), "x": VALUES}),
        "max_tokens": LIMIT,
        "max_completion_tokens": LIMIT,
        "seed": st.integers(),
        "random_seed": st.integers(),
        "temperature": st.floats(0, 2),
        "response_format": VALUES,
        **{name: st.text(max_size=5) for name in BOOKKEEPING if name != "metadata"},
        "metadata": VALUES,
        "x_unknown": VALUES,
    },
)


def renamed_names(quirks: Quirks) -> set[str]:
    return {name for pair in quirks.renamed for name in pair}


@parametrised
@few
@given(body=BODY, style=st.sampled_from([{"separators": (",", ":")}, {"indent": 1}, {"ensure_ascii": False}]))
def test_what_no_quirk_names_keeps_its_bytes_and_its_place(quirks: Quirks, body: Any, style: Any) -> None:
    text = json.dumps(body, **style).encode("utf-8", "replace")
    head = CHAT.read_head(text)
    sent = CHAT.outgoing(text, head, "vendor/other", quirks)[0]
    before, after = RAW.decode(text), RAW.decode(sent)
    touched = {"model", "stream_options", "messages", *quirks.refused, *renamed_names(quirks)}
    assert {name: bytes(raw) for name, raw in after.items() if name not in touched} == {
        name: bytes(raw) for name, raw in before.items() if name not in touched
    }
    assert list(after) == places(quirks, head.stream, before)
    assert bytes(after["model"]) == b'"vendor/other"'
    check_messages(quirks, before["messages"], after["messages"])
    check_usage_is_asked_for(quirks, head.stream, before, after)
    assert sent == CHAT.outgoing(text, head, "vendor/other", quirks)[0], "the same each time"


def places(quirks: Quirks, stream: bool, before: dict[str, msgspec.Raw]) -> list[str]:
    """The names in the order they must leave in."""
    own_name = dict(quirks.renamed)
    said = {name for name, raw in before.items() if bytes(raw) != b"null"}
    found: list[str] = []
    for name in before:
        own = own_name.get(name, name)
        stands_in = any(theirs in before for theirs, ours in quirks.renamed if ours == name)
        gone = name in quirks.refused or (name == "stream_options" and not quirks.stream_usage)
        if gone or (own != name and own in said) or (own == name and stands_in and name not in said):
            continue
        found.append(own)
    if stream and quirks.stream_usage and "stream_options" not in before:
        found.append("stream_options")
    return found


def check_messages(quirks: Quirks, before: msgspec.Raw, after: msgspec.Raw) -> None:
    if not quirks.refused_in_messages and not quirks.tool_id_chars:
        assert bytes(before) == bytes(after)
        return
    ids = {"tool_call_id", "tool_calls"} if quirks.tool_id_chars else set()
    for old, new in zip(ITEMS.decode(before), ITEMS.decode(after), strict=True):
        assert list(new) == [name for name in old if name not in quirks.refused_in_messages]
        assert all(bytes(new[name]) == bytes(old[name]) for name in new if name not in ids)
        for name in ids & new.keys():
            check_ids(quirks.tool_id_chars, json.loads(bytes(old[name])), json.loads(bytes(new[name])))


def check_ids(chars: int, old: Any, new: Any) -> None:
    if isinstance(old, list):
        assert [call["function"] for call in old] == [call["function"] for call in new]
        for one, other in zip(old, new, strict=True):
            check_ids(chars, one["id"], other["id"])
    elif isinstance(old, str) and old:
        fits = re.fullmatch(r"[0-9A-Za-z]+", old) is not None and len(old) == chars
        assert re.fullmatch(rf"[0-9A-Za-z]{{{chars}}}", new)
        assert new == (old if fits else tool_id(old, chars))
    else:
        assert new == old


def check_usage_is_asked_for(quirks: Quirks, stream: bool, before: Any, after: Any) -> None:
    if not quirks.stream_usage:
        assert "stream_options" not in after
    elif stream:
        old = json.loads(bytes(before.get("stream_options", b"null"))) or {}
        assert json.loads(bytes(after["stream_options"])) == {**old, "include_usage": True}
    else:
        assert bytes(after.get("stream_options", b"")) == bytes(before.get("stream_options", b""))


@parametrised
@few
@given(body=BODY)
def test_what_is_left_out_is_told_and_nothing_else(quirks: Quirks, body: Any) -> None:
    text = compact(body)
    head = CHAT.read_head(text)
    told = set(CHAT.outgoing(text, head, "m", quirks)[1])
    after = json.loads(CHAT.outgoing(text, head, "m", quirks)[0])
    gone = {
        name for name in body if name not in after and name != "stream_options" and name not in dict(quirks.renamed)
    }
    both = {theirs for theirs, own in quirks.renamed if body.get(theirs) is not None and body.get(own) is not None}
    inner = {
        f"messages.{name}" for message in body["messages"] for name in message if name in quirks.refused_in_messages
    }
    assert told == gone | both | inner


@parametrised
@few
@given(body=BODY)
def test_an_output_limit_never_gets_lost(quirks: Quirks, body: Any) -> None:
    """The hold was made with the caller's limit: a provider that got none would write past it."""
    text = compact(body)
    head = CHAT.read_head(text)
    after = json.loads(CHAT.outgoing(text, head, "m", quirks)[0])
    sent = [after[name] for name in ("max_tokens", "max_completion_tokens") if after.get(name) is not None]
    assert bool(sent) == (head.max_output_tokens is not None)
    assert max(sent, default=0) <= (head.max_output_tokens or 0)


@parametrised
@few
@given(body=BODY)
def test_a_body_that_fits_is_the_same_object(quirks: Quirks, body: Any) -> None:
    once = CHAT.outgoing(compact(body), CHAT.read_head(compact(body)), "m", quirks)[0]
    head = CHAT.read_head(once)
    if quirks.stream_usage or not head.stream:
        assert CHAT.outgoing(once, head, "m", quirks)[0] is once
    assert CHAT.outgoing(once, head, "m", quirks)[1] == ()


@pytest.mark.parametrize(
    ("given", "sent", "told"),
    [
        ({"max_completion_tokens": 5}, {"max_tokens": 5}, ()),
        ({"max_completion_tokens": None}, {"max_tokens": None}, ()),
        ({"max_tokens": 5}, {"max_tokens": 5}, ()),
        ({"max_tokens": None, "max_completion_tokens": 5}, {"max_tokens": 5}, ()),
        ({"max_completion_tokens": 5, "max_tokens": None}, {"max_tokens": 5}, ()),
        ({"max_completion_tokens": None, "max_tokens": 5}, {"max_tokens": 5}, ()),
        ({"max_completion_tokens": 5, "max_tokens": 9}, {"max_tokens": 9}, ("max_completion_tokens",)),
    ],
)
def test_two_names_of_one_limit(given: dict[str, Any], sent: dict[str, Any], told: tuple[str, ...]) -> None:
    """The provider's own name counts where both are given; a null is as good as nothing."""
    quirks = ROWS["ollama"].quirks
    text = compact({"model": "m", "messages": [{"role": "user"}], **given})
    head = CHAT.read_head(text)
    after = json.loads(CHAT.outgoing(text, head, "m", quirks)[0])
    assert {name: value for name, value in after.items() if name.startswith("max_")} == sent
    assert CHAT.outgoing(text, head, "m", quirks)[1] == told


def test_a_name_inside_a_text_changes_nothing() -> None:
    said = {"role": "user", "content": 'what is "store", "user" and {"tool_call_id": "x"}?'}
    text = compact({"model": "m", "messages": [said]})
    assert CHAT.outgoing(text, CHAT.read_head(text), "m", ROWS["mistral"].quirks)[0] is text
