"""Bodies meant to hurt (S26): refused with 400, and quickly. Times are hang guards, far above what is measured."""

from __future__ import annotations

import contextlib
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import BadRequest
from gateway.dialects.discover import discover
from gateway.dialects.json_body import MAX_DEPTH, open_object

CHAT = discover()["chat.completions"]
CPU_S_MAX = 2.0

GOOD = b'{"model":"m","messages":[{"role":"user","content":"hi"}]%b}'


def with_member(text: bytes) -> bytes:
    return GOOD % (b',"x":' + text)


def refusal_of(body: bytes) -> BadRequest:
    began = time.process_time()
    with pytest.raises(BadRequest) as caught:
        CHAT.read_head(body)
    assert time.process_time() - began < CPU_S_MAX
    return caught.value


MALFORMED = {
    "empty": b"",
    "blank": b"  ",
    "array": b"[]",
    "number": b"5",
    "cut": b'{"model":"m","messages":[{',
    "surplus": GOOD % b"" + b"{}",
    "not utf-8": with_member(b'"\xff"'),
    "not utf-8 in a message": b'{"model":"m","messages":[{"role":"user","content":"\xc3\x28"}]}',
    "overlong": with_member(b'"\xc0\xaf"'),
    "encoded surrogate": with_member(b'"\xed\xa0\x80"'),
    "byte order mark": b"\xef\xbb\xbf" + GOOD % b"",
    "utf-16": (GOOD % b"").decode().encode("utf-16"),
    "NaN": with_member(b"NaN"),
    "Infinity": with_member(b"-Infinity"),
    "half a pair": with_member(rb'"\ud800"'),
    "half a pair in a message": rb'{"model":"m","messages":[{"role":"user","content":"\udc00 x"}]}',
    "control character": with_member(b'"\x01"'),
    "comment": GOOD % b" /* x */",
    "single quotes": b"{'model':'m'}",
    "trailing comma": b'{"model":"m","messages":[{}],}',
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed(body: bytes) -> None:
    assert refusal_of(body).message.startswith("The request body")


def nested(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


@pytest.mark.parametrize("levels", [64, 900, 100_000, 5_000_000])
def test_too_deep(levels: int) -> None:
    assert "64 levels" in refusal_of(with_member(nested(levels))).message


def test_the_deepest_that_passes() -> None:
    CHAT.read_head(with_member(nested(MAX_DEPTH - 1)))
    CHAT.read_head(with_member(b'{"a":' * 31 + b"[" * 32 + b"]" * 32 + b"}" * 31))


def test_depth_inside_messages_counts_the_levels_around_it() -> None:
    for levels, passes in ((MAX_DEPTH - 3, True), (MAX_DEPTH - 2, False)):
        body = b'{"model":"m","messages":[{"role":"user","content":%b}]}' % nested(levels)
        if passes:
            CHAT.read_head(body)
        else:
            refusal_of(body)


def test_brackets_in_text_are_no_depth() -> None:
    CHAT.read_head(with_member(json.dumps("[{" * 500 + '\\"[' * 100).encode()))


def test_too_many_members() -> None:
    many = b"{" + b",".join(b'"k%d":1' % number for number in range(100_000)) + b"}"
    assert "10000 object members" in refusal_of(with_member(many)).message


def test_many_colons_in_text_are_no_members() -> None:
    CHAT.read_head(with_member(json.dumps(": " * 50_000).encode()))


@pytest.mark.parametrize(
    "text",
    [
        b"[" + b",".join([b"{}"] * 6_000_000) + b"]",
        b"[" + b",".join([b'"a"'] * 4_000_000) + b"]",
        b"[" + b",".join([b'{"a":[]}'] * 2_000_000) + b"]",
    ],
    ids=["objects", "strings", "members"],
)
def test_millions_of_values(text: bytes) -> None:
    """Strings of one array pass: nothing here decodes them."""
    began = time.process_time()
    with contextlib.suppress(BadRequest):
        CHAT.read_head(with_member(text))
    assert time.process_time() - began < CPU_S_MAX


def test_large_but_harmless() -> None:
    image = b'{"type":"image_url","image_url":{"url":"data:image/png;base64,%b"}}' % (b"A" * 20_000_000)
    began = time.process_time()
    head = CHAT.read_head(b'{"model":"m","messages":[{"role":"user","content":[%b]}]}' % image)
    assert time.process_time() - began < CPU_S_MAX
    assert head.media == 1


def test_a_number_of_a_megabyte() -> None:
    digits = b"9" * 1_000_000
    CHAT.read_head(with_member(digits))
    assert refusal_of(GOOD % (b',"max_tokens":' + digits)).param == "max_tokens"


REPEATED = [
    b'{"model":"m","model":"m","messages":[{}]}',
    b'{"model":"m","messages":[{}],"model":"other"}',
    b'{"model": "m", "messages": [{}], "model": "other"}',
    b'{"model":"m","messages":[{}],"n":1,"n":12}',
    b'{"model":"m","messages":[{}],"n":12,"n":1}',
    b'{"model":"m","messages":[{}],"m\\u006fdel":"m"}',
    b'{"m\\u006fdel":"other","model":"m","messages":[{}]}',
    b'{ "model" : "m" ,\n "messages" : [ { } ] ,\t"model" : "m" }',
    b'{"model":"m","messages":[{}],"":1,"":1}',
]


@pytest.mark.parametrize("body", REPEATED, ids=lambda body: body.decode())
def test_a_name_given_twice_is_refused(body: bytes) -> None:
    assert "more than once" in refusal_of(body).message


def test_names_repeated_deeper_are_the_providers_business() -> None:
    CHAT.read_head(b'{"model":"m","messages":[{"role":"user","role":"user"}]}')


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
STYLES = st.sampled_from([{"separators": (",", ":")}, {}, {"indent": 1}, {"indent": "\t", "ensure_ascii": False}])


@given(st.dictionaries(st.text(max_size=5), JSON, max_size=6), STYLES)
def test_however_it_is_printed_an_honest_object_opens(value: dict[str, object], style: dict[str, object]) -> None:
    body = json.dumps(value, **style).encode("utf-8", "surrogatepass")  # type: ignore[arg-type]
    members = open_object(body)
    assert {name: json.loads(bytes(raw)) for name, raw in members.items()} == value
    assert list(members) == list(value)


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "é", '"']), JSON), max_size=4), STYLES)
def test_repeated_names_are_found_in_any_style(pairs: list[tuple[str, object]], style: dict[str, object]) -> None:
    colon = ": " if style.get("separators") is None else ":"
    comma = ",\n" if "indent" in style else ", " if colon == ": " else ","
    body = "{" + comma.join(json.dumps(name) + colon + json.dumps(value, **style) for name, value in pairs) + "}"  # type: ignore[arg-type]
    if len({name for name, _ in pairs}) == len(pairs):
        open_object(body.encode())
    else:
        with pytest.raises(BadRequest, match="more than once"):
            open_object(body.encode())
