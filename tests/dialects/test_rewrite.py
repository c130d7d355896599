"""What is sent upstream: every byte of it the caller's, but for the model's name and the request for usage."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialects.examples import compact
from gateway.core.quirks import Quirks
from gateway.dialects.discover import discover

CHAT = discover()["chat.completions"]
MESSAGES = [{"role": "user", "content": "hi"}]
RAW = msgspec.json.Decoder(dict[str, msgspec.Raw])


def sent(body: bytes, model: str = "m") -> bytes:
    return CHAT.outgoing(body, CHAT.read_head(body), model)[0]


def test_strange_spellings_survive() -> None:
    body = (
        b'{"model":"m","messages":[{"role" : "user","content":"\\u0068i \\/ \xc3\xa9"}],"temperature":1.0e0,"x":[ 1 ]}'
    )
    assert sent(body, "n") == body.replace(b'"model":"m"', b'"model":"n"')


def test_a_model_name_is_escaped() -> None:
    assert json.loads(sent(compact({"model": "m", "messages": MESSAGES}), 'a"b\\c'))["model"] == 'a"b\\c'


def test_usage_is_asked_for_in_a_stream() -> None:
    body = compact({"model": "m", "messages": MESSAGES, "stream": True})
    assert json.loads(sent(body))["stream_options"] == {"include_usage": True}
    assert list(json.loads(sent(body))) == ["model", "messages", "stream", "stream_options"]


def test_other_stream_options_stay() -> None:
    for said in (None, False):
        options = {"include_obfuscation": False, "include_usage": said, "later": [1]}
        body = compact({"model": "m", "stream_options": options, "messages": MESSAGES, "stream": True})
        rewritten = json.loads(sent(body))
        assert rewritten["stream_options"] == options | {"include_usage": True}
        assert list(rewritten) == ["model", "stream_options", "messages", "stream"]
    body = compact({"model": "m", "messages": MESSAGES, "stream": True, "stream_options": None})
    assert json.loads(sent(body))["stream_options"] == {"include_usage": True}


def test_nothing_is_asked_without_need() -> None:
    asked = compact({"model": "m", "messages": MESSAGES, "stream": True, "stream_options": {"include_usage": True}})
    assert sent(asked) is asked
    whole = compact({"model": "m", "messages": MESSAGES, "stream_options": None})
    assert sent(whole) is whole


VALUES = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.text(max_size=8).filter(lambda name: name not in {"model", "messages", "stream", "stream_options"})


@given(st.dictionaries(st.from_regex(r"[a-z]{9,12}", fullmatch=True) | NAMES, VALUES, max_size=5), st.booleans())
def test_all_other_members_keep_bytes_and_order(more: dict[str, Any], stream: bool) -> None:
    known = {"user", "n", "tools", "functions", "modalities", "service_tier", "max_tokens", "max_completion_tokens"}
    body = {**{k: v for k, v in more.items() if k not in known}, "model": "m", "messages": MESSAGES, "stream": stream}
    for style in ({"separators": (",", ":")}, {"indent": 2}):
        text = json.dumps(body, **style).encode("utf-8", "surrogatepass")  # type: ignore[arg-type]
        before, after = RAW.decode(text), RAW.decode(sent(text, "other"))
        assert [name for name in after if name != "stream_options"] == list(before)
        for name, raw in before.items():
            if name != "model":
                assert bytes(after[name]) == bytes(raw)


@pytest.mark.parametrize(
    ("surface", "given", "limited"),
    [
        ("chat.completions", {}, {"max_completion_tokens": 7}),
        ("chat.completions", {"max_tokens": 9}, {"max_tokens": 7}),
        ("chat.completions", {"max_tokens": None}, {"max_tokens": None, "max_completion_tokens": 7}),
        (
            "chat.completions",
            {"max_completion_tokens": 9, "max_tokens": 8},
            {"max_completion_tokens": 7, "max_tokens": 7},
        ),
        (
            "chat.completions",
            {"max_completion_tokens": 9, "max_tokens": 5},
            {"max_completion_tokens": 7, "max_tokens": 5},
        ),
        ("completions", {}, {"max_tokens": 7}),
        ("completions", {"max_tokens": 9}, {"max_tokens": 7}),
    ],
)
def test_an_output_limit_is_written_where_the_caller_wrote_one_and_nothing_else_changes(
    surface: str, given: dict[str, object], limited: dict[str, object]
) -> None:
    whole = {"model": "m", "holo": [1.50, {"b": 1, "a": 2}], **given, "stop": "\u00e9"}
    body = msgspec.json.encode(whole)
    made = discover()[surface].with_output_limit(body, 7)
    assert made is not None
    assert msgspec.json.decode(made) == whole | limited
    assert b"1.5" in made
    refuses = Quirks(refused=tuple(limited))
    assert discover()[surface].with_output_limit(body, 7, refuses) is None, "it would not be told"
    assert discover()[surface].with_output_limit(body, 7, Quirks(renamed=(("max_tokens", "longest"),))) == made
