"""The smaller OpenAI endpoints: what is read of them, and what of their replies is changed."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialects.examples import compact
from gateway.core.errors import BadRequest, UpstreamInvalidReply
from gateway.core.usage import Meter
from gateway.dialects.discover import discover
from gateway.dialects.openai_simple.moderations import DEFAULT_MODEL
from gateway.pricing.book import PriceBook
from gateway.pricing.bound import hold_bound

SURFACES = discover()
MODERATIONS, IMAGES, EMBEDDINGS, SPEECH = (
    SURFACES[name] for name in ("moderations", "images.generations", "embeddings", "audio.speech")
)


def test_a_moderation_has_a_model_of_its_own() -> None:
    body = compact({"input": "hi"})
    head = MODERATIONS.read_head(body)
    assert (head.model, head.output_expected) == (DEFAULT_MODEL, False)
    assert MODERATIONS.outgoing(body, head, DEFAULT_MODEL)[0] is body
    assert json.loads(MODERATIONS.outgoing(body, head, "other")[0]) == {"input": "hi", "model": "other"}
    assert not MODERATIONS.billed
    several = compact({"input": ["a", "b"], "model": None})
    assert (MODERATIONS.read_head(several).messages, MODERATIONS.read_head(several).model) == (2, DEFAULT_MODEL)
    picture = {"type": "image_url", "image_url": {"url": "https://a.example/x.png"}}
    assert MODERATIONS.read_head(compact({"input": [picture]})).messages == 1


@pytest.mark.parametrize("wrong", [{}, {"input": 5}, {"input": ""}, {"input": []}, {"input": "x", "model": 5}])
def test_a_wrong_moderation_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadRequest) as caught:
        MODERATIONS.read_head(compact(wrong))
    assert caught.value.param in ("input", "model")


def test_images_are_counted_by_tokens_or_by_the_picture() -> None:
    head = IMAGES.read_head(compact({"model": "m", "prompt": "a river", "n": 3, "user": "ann"}))
    assert (head.choices, head.user, head.output_expected) == (3, "ann", True)
    usage = {"input_tokens": 9, "output_tokens": 3, "total_tokens": 12, "input_tokens_details": {"text_tokens": 9}}
    counted = IMAGES.read_reply(compact({"data": [{"b64_json": "A"}], "usage": usage})).usage
    assert counted is not None
    assert counted.meters == {Meter.INPUT: 9, Meter.OUTPUT_IMAGE: 3}
    drawn = IMAGES.read_reply(compact({"data": [{"url": "x"}, {"url": "y"}]})).usage
    assert drawn is not None
    assert drawn.meters == {Meter.IMAGES: 2}


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"prompt": ""}, "prompt"),
        ({"n": 11}, "n"),
        ({"n": 0}, "n"),
        ({"stream": True}, "stream"),
        ({"model": 1}, "model"),
    ],
)
def test_a_wrong_request_for_images_is_refused(wrong: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        IMAGES.read_head(compact({"model": "m", "prompt": "a river"} | wrong))
    assert caught.value.param == param


def test_speech_counts_the_characters_of_its_request() -> None:
    head = SPEECH.read_head(compact({"model": "m", "input": "Grüße 🎵", "voice": "alloy"}))
    assert head.own_usage is not None
    assert (head.own_usage.meters, head.output_expected) == ({Meter.CHARACTERS: 7}, True)
    for sound in (b"ID3\x04\x00", b"\xff\xfb\x90", b"RIFF\x00", b"{\x00\x01 raw samples", b"[[[ samples"):
        assert SPEECH.read_reply(sound).usage is None


@pytest.mark.parametrize("body", [b"", b"<HTML>x", b"<!DOCTYPE html>", b'{"error":{"message":"no"}}', b"null", b"[1]"])
def test_what_is_surely_no_sound_is_told(body: bytes) -> None:
    with pytest.raises(UpstreamInvalidReply):
        SPEECH.read_reply(body)


@pytest.mark.parametrize(
    ("wrong", "param"), [({"input": ""}, "input"), ({"stream_format": "sse"}, "stream_format"), ({"model": 1}, "model")]
)
def test_a_wrong_request_for_speech_is_refused(wrong: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        SPEECH.read_head(compact({"model": "m", "input": "x", "voice": "alloy"} | wrong))
    assert caught.value.param == param


@pytest.mark.parametrize(("model", "is_bounded"), [("tts-1", True), ("gpt-4o-mini-tts", False)])
def test_speech_has_a_bound_where_characters_are_billed(model: str, is_bounded: bool) -> None:
    head = SPEECH.read_head(compact({"model": model, "input": "x" * 49, "voice": "alloy"}))
    bound = hold_bound(head, PriceBook().sheet("openai", model), 1_790_000_000_000)
    assert (bound.nusd is not None) == is_bounded
    if bound.nusd is not None:
        assert 49 * 15_000 <= bound.nusd <= head.text_bytes * 15_000 + 2, "a character is at least one byte of the body"


def embedded(body: Any, asked: str | None = "base64") -> bytes:
    head = EMBEDDINGS.read_head(compact({"model": "m", "input": "hi", "encoding_format": asked}))
    return EMBEDDINGS.caller_reply(body if isinstance(body, bytes) else compact(body), head)


@given(st.lists(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=5), max_size=3))
def test_numbers_become_base64_where_that_was_asked_for(vectors: list[list[float]]) -> None:
    rows = [{"object": "embedding", "index": at, "embedding": vector} for at, vector in enumerate(vectors)]
    reply = {"object": "list", "data": rows, "model": "m", "usage": {"prompt_tokens": 1, "total_tokens": 1}, "x": 1.0}
    made = json.loads(embedded(reply))
    assert made | {"data": 0} == reply | {"data": 0}
    for row, vector in zip(made["data"], vectors, strict=True):
        packed = base64.b64decode(row["embedding"])
        assert list(struct.unpack(f"<{len(vector)}f", packed)) == vector


def test_an_embedding_that_is_as_asked_is_the_same_object() -> None:
    numbers = compact({"data": [{"embedding": [0.5]}]})
    for asked in (None, "float"):
        assert embedded(numbers, asked) is numbers
    for body in (
        b'{"data":[{"embedding":"AAAA"}]}',
        b'{"data":[{"embedding":["x"]}]}',
        b'{"data":[{"embedding":[1e300]}]}',
    ):
        assert embedded(body) == body
    mixed = b'{"data":[{"embedding":[0.5]},{"embedding":"AAAA"}]}'
    assert embedded(mixed) == b'{"data":[{"embedding":"AAAAPw=="},{"embedding":"AAAA"}]}'
