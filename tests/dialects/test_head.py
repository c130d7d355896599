"""What is read of a chat request, and how a wrong one is refused: by member, with what it must be."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dialects.examples import compact
from gateway.core.errors import BadRequest
from gateway.dialects.discover import discover

SURFACES = discover()
CHAT = SURFACES["chat.completions"]
MESSAGES = [{"role": "user", "content": "hi"}]


def chat(**more: Any) -> bytes:
    return compact({"model": "m", "messages": MESSAGES, **more})


def test_every_fact() -> None:
    body = chat(
        stream=True,
        stream_options={"include_usage": True, "include_obfuscation": False},
        max_completion_tokens=50,
        n=3,
        user="u-7",
        service_tier="flex",
        tools=[{"type": "function"}, {"type": "function"}],
        functions=[{"name": "f"}],
        modalities=["text", "audio"],
        top_k=5,
        reasoning={"effort": "low"},
    )
    head = CHAT.read_head(body)
    assert (head.stream, head.usage_asked, head.max_output_tokens, head.choices) == (True, True, 50, 3)
    assert (head.user, head.service_tier, head.messages, head.tools, head.audio) == ("u-7", "flex", 1, 3, True)
    assert head.unknown_fields == ("top_k", "reasoning")
    assert head.text_bytes == len(body)
    assert head.output_expected


def test_null_is_as_good_as_absent() -> None:
    absent = ["stream", "stream_options", "max_tokens", "max_completion_tokens", "n", "user", "service_tier"]
    absent += ["tools", "functions", "modalities", "audio", "temperature", "stop"]
    head = CHAT.read_head(chat(**dict.fromkeys(absent)))
    assert (head.stream, head.max_output_tokens, head.choices, head.user, head.audio) == (False, None, 1, "", False)


def test_of_two_limits_the_larger_bounds() -> None:
    assert CHAT.read_head(chat(max_tokens=10, max_completion_tokens=20)).max_output_tokens == 20
    assert CHAT.read_head(chat(max_tokens=0)).max_output_tokens is None, "the provider's to judge, and no bound"
    limited = CHAT.with_output_limit(chat(max_tokens=0), 5)
    assert limited is not None
    assert json.loads(limited)["max_tokens"] == 5


WRONG = [
    ({"model": 5}, "model", "non-empty string"),
    ({"model": ""}, "model", "non-empty string"),
    ({"model": "m" * 513}, "model", "512"),
    ({"model": None}, "model", "not null"),
    ({"messages": []}, "messages", "non-empty array"),
    ({"messages": "hi"}, "messages", "not a string"),
    ({"messages": ["hi"]}, "messages[0]", "array of objects"),
    ({"messages": [{}, 5]}, "messages[1]", "not a whole number"),
    ({"stream": "yes"}, "stream", "true, false or null"),
    ({"stream": 1}, "stream", "true, false or null"),
    ({"max_tokens": -1}, "max_tokens", "from 0 to 2147483647"),
    ({"max_tokens": 2**31}, "max_tokens", "from 0 to 2147483647"),
    ({"max_tokens": 10.5}, "max_tokens", "number with a fraction"),
    ({"max_tokens": "10"}, "max_tokens", "not a string"),
    ({"max_tokens": True}, "max_tokens", "not true or false"),
    ({"max_completion_tokens": -1}, "max_completion_tokens", "from 0 to 2147483647"),
    ({"n": 0}, "n", "from 1 to 128"),
    ({"n": 129}, "n", "from 1 to 128"),
    ({"stream_options": []}, "stream_options", "an object"),
    ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage", "true or false"),
    ({"user": 5}, "user", "a string"),
    ({"service_tier": {}}, "service_tier", "a string"),
    ({"tools": {}}, "tools", "array of objects"),
    ({"tools": [1]}, "tools[0]", "array of objects"),
    ({"modalities": "audio"}, "modalities", "array of strings"),
]


@pytest.mark.parametrize(("change", "param", "says"), WRONG, ids=lambda value: str(value)[:40])
def test_a_wrong_member_is_named(change: dict[str, Any], param: str, says: str) -> None:
    with pytest.raises(BadRequest) as caught:
        CHAT.read_head(compact({"model": "m", "messages": MESSAGES} | change))
    assert caught.value.param == param
    assert says in caught.value.message


@pytest.mark.parametrize("missing", ["model", "messages"])
def test_a_missing_member_is_named(missing: str) -> None:
    body = {"model": "m", "messages": MESSAGES}
    del body[missing]
    with pytest.raises(BadRequest, match=f"{missing} is missing") as caught:
        CHAT.read_head(compact(body))
    assert caught.value.param == missing


def part(kind: str, **more: Any) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": kind, **more}]}


def test_media_are_counted_once_each() -> None:
    image = part("image_url", image_url={"url": "https://x/y.png"})
    audio = part("input_audio", input_audio={"data": "AAAA", "format": "wav"})
    file = part("file", file={"file_id": "file-1"})
    head = CHAT.read_head(compact({"model": "m", "messages": [image, image, audio, file]}))
    assert (head.media, head.audio) == (4, True)
    pretty = json.dumps({"model": "m", "messages": [image, audio]}, indent=2).encode()
    assert CHAT.read_head(pretty).media == 2


def test_text_about_media_is_no_medium() -> None:
    said = 'use {"type": "image_url", "image_url": {"url": 1}} and "cache_control"'
    head = CHAT.read_head(chat(messages=[{"role": "user", "content": said}]))
    assert (head.media, head.audio, head.cache_markers) == (0, False, False)
    tool = {"type": "function", "function": {"parameters": {"properties": {"file": {"type": "string"}}}}}
    assert CHAT.read_head(chat(tools=[tool])).media == 0


def test_an_image_without_its_type_counts_too() -> None:
    loose = {"role": "user", "content": [{"image_url": {"url": "https://x/y.png"}}]}
    assert CHAT.read_head(chat(messages=[loose])).media == 1


@pytest.mark.parametrize(
    "escaped", [rb'"type":"image\u005furl"', rb'"\u0074ype":"image_url"', rb'"type":"\u0069mage_\u0075rl"']
)
def test_escapes_hide_no_medium(escaped: bytes) -> None:
    body = b'{"model":"m","messages":[{"role":"user","content":[{%b}]}]}' % escaped
    assert json.loads(body)["messages"][0]["content"][0]["type"] == "image_url"
    assert CHAT.read_head(body).media == 1


@pytest.mark.parametrize("name", ["cache_control", "prompt_cache_breakpoint"])
def test_cache_markers(name: str) -> None:
    marked = {"role": "user", "content": [{"type": "text", "text": "x", name: {"type": "ephemeral"}}]}
    assert CHAT.read_head(chat(messages=[marked])).cache_markers
    hidden = compact(marked).replace(b"cache", b"\\u0063ache")
    assert CHAT.read_head(b'{"model":"m","messages":[%b]}' % hidden).cache_markers
    assert not CHAT.read_head(chat(prompt_cache_key="k")).cache_markers


def test_completions() -> None:
    surface = SURFACES["completions"]
    head = surface.read_head(compact({"model": "m", "prompt": ["a", "b"], "n": 2, "best_of": 3, "max_tokens": 9}))
    assert (head.choices, head.messages, head.inputs, head.max_output_tokens) == (6, 2, 2, 9)
    assert surface.read_head(compact({"model": "m"})).choices == 1
    with pytest.raises(BadRequest) as caught:
        surface.read_head(compact({"model": "m", "prompt": {"a": 1}}))
    assert caught.value.param == "prompt"


@pytest.mark.parametrize(
    ("value", "texts"),
    [("hi", 1), (["a", "b"], 2), ([1, 2, 3], 1), ([[1, 2], [3]], 2), ([[1], [2], [3]], 3), (["x"] * 2048, 2048)],
    ids=str,
)
def test_embedding_inputs(value: Any, texts: int) -> None:
    for body in (compact({"model": "m", "input": value}), json.dumps({"model": "m", "input": value}).encode()):
        head = SURFACES["embeddings"].read_head(body)
        assert (head.messages, head.inputs, head.output_expected, head.stream) == (texts, texts, False, False)


@pytest.mark.parametrize(
    "value", [None, 5, True, "", [], [[]] * 2049, [1, "a"], ["a", 1], [[1], 2], [1, [2]], [[["a"]]], [1.5], {}], ids=str
)
def test_other_embedding_inputs_are_refused(value: Any) -> None:
    with pytest.raises(BadRequest) as caught:
        SURFACES["embeddings"].read_head(compact({"model": "m", "input": value}))
    assert caught.value.param == "input"
