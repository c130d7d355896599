"""OpenAI's usage → disjoint meters, as a table; contradictions are faults, never prices."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.usage import Meter, UsageSource
from gateway.dialects.discover import discover
from gateway.dialects.openai_chat.usage import COUNT_MAX, merge_usage, open_usage, read_usage

M = Meter


def usage(prompt: Any, completion: Any, *, details: Any = None, output: Any = None, **more: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {"prompt_tokens": prompt, "completion_tokens": completion, **more}
    if details is not None:
        fields["prompt_tokens_details"] = details
    if output is not None:
        fields["completion_tokens_details"] = output
    return fields


SPOKEN = {"cached_tokens": 800, "audio_tokens": 1000, "cached_tokens_details": {"audio_tokens": 600}}
TABLE = [
    ("plain", usage(1200, 300, total_tokens=1500), {M.INPUT: 1200, M.OUTPUT: 300}),
    ("no total", usage(5, 6), {M.INPUT: 5, M.OUTPUT: 6}),
    ("cached", usage(100, 5, details={"cached_tokens": 64}), {M.INPUT: 36, M.CACHE_READ: 64, M.OUTPUT: 5}),
    ("all cached", usage(64, 5, details={"cached_tokens": 64}), {M.CACHE_READ: 64, M.OUTPUT: 5}),
    (
        "cached and written are disjoint",
        usage(2600, 500, details={"cached_tokens": 2000, "cache_write_tokens": 400}),
        {M.INPUT: 200, M.CACHE_READ: 2000, M.CACHE_WRITE: 400, M.OUTPUT: 500},
    ),
    (
        "audio both ways",
        usage(100, 50, details={"audio_tokens": 30}, output={"audio_tokens": 40}),
        {M.INPUT: 70, M.INPUT_AUDIO: 30, M.OUTPUT: 10, M.OUTPUT_AUDIO: 40},
    ),
    (
        "cached audio",
        usage(1400, 0, details=SPOKEN),
        {M.INPUT: 200, M.CACHE_READ: 200, M.INPUT_AUDIO: 400, M.CACHE_READ_AUDIO: 600},
    ),
    ("images are prompt text", usage(90, 1, details={"image_tokens": 85}), {M.INPUT: 90, M.OUTPUT: 1}),
    (
        "rejected predictions are in completion",
        usage(10, 20, output={"rejected_prediction_tokens": 15}),
        {M.INPUT: 10, M.OUTPUT: 20},
    ),
    ("zero", usage(0, 0, total_tokens=0), {}),
    ("null details", usage(7, 8, details=None, prompt_tokens_details=None), {M.INPUT: 7, M.OUTPUT: 8}),
    ("null cached", usage(7, 8, details={"cached_tokens": None}), {M.INPUT: 7, M.OUTPUT: 8}),
    (
        "DeepSeek's names",
        usage(100, 5, prompt_cache_hit_tokens=60, prompt_cache_miss_tokens=40),
        {M.INPUT: 40, M.CACHE_READ: 60, M.OUTPUT: 5},
    ),
    (
        "xAI: reasoning beside completion, told by the total",
        usage(100, 20, total_tokens=170, output={"reasoning_tokens": 50}),
        {M.INPUT: 100, M.OUTPUT: 70},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "meters"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_meters(fields: dict[str, Any], meters: dict[Meter, int]) -> None:
    raw = json.dumps(fields).encode()
    read = read_usage(raw, "flex")
    assert read.fault == ""
    assert read.meters == meters
    assert read.source is UsageSource.PROVIDER
    assert (read.raw, read.served_tier, read.unknown_fields) == (raw, "flex", ())
    assert read_usage(fields).meters == meters


def test_reasoning_is_shown_not_added() -> None:
    read = read_usage(usage(10, 100, total_tokens=110, output={"reasoning_tokens": 64}))
    assert (read.meters[M.OUTPUT], read.reasoning_tokens) == (100, 64)


FAULTS = [
    (usage(10, 5, details={"cached_tokens": 11}), "less than its cached"),
    (usage(10, 5, details={"cached_tokens": 6, "cache_write_tokens": 5}), "less than its cached"),
    (usage(10, 5, details={"cached_tokens": 6, "audio_tokens": 5}), "less than its cached"),
    (usage(10, 5, output={"reasoning_tokens": 6}), "less than its reasoning"),
    (usage(10, 5, output={"audio_tokens": 6}), "less than its reasoning"),
    (usage(10, 5, total_tokens=16), "total_tokens 16"),
    (usage(10, 5, total_tokens=3), "total_tokens 3"),
    (usage("10", 5), "prompt_tokens is not a whole number"),
    (usage(10, 5.0), "completion_tokens is not a whole number"),
    (usage(10, True), "completion_tokens is not a whole number"),
    (usage(-1, 5), "prompt_tokens is not a whole number"),
    (usage(10, COUNT_MAX + 1), "completion_tokens is not a whole number"),
    (usage(10, 10**400), "completion_tokens is not a whole number"),
    (usage(10, 5, details=[1]), "prompt_tokens_details is not an object"),
    (usage(10, None), "completion_tokens is missing"),
    ({"completion_tokens": 5}, "prompt_tokens is missing"),
    ({"total_tokens": 5}, "completion_tokens is missing"),
]


@pytest.mark.parametrize(("fields", "fault"), FAULTS, ids=lambda value: str(value)[:60])
def test_contradictions(fields: dict[str, Any], fault: str) -> None:
    read = read_usage(json.dumps(fields).encode())
    assert fault in read.fault or "prompt_tokens is missing" in read.fault
    assert read.meters == {}
    assert read.source is UsageSource.PROVIDER
    assert read.raw, "what was said is kept"


@pytest.mark.parametrize("raw", [b"null", b"{}"])
def test_absent_usage_is_not_zero(raw: bytes) -> None:
    assert open_usage(raw) is None


@pytest.mark.parametrize("raw", [b"5", b'"x"', b"[1]", b"{", b"[" * 5000])
def test_usage_that_is_no_object_is_a_fault(raw: bytes) -> None:
    assert open_usage(raw) is not None
    assert read_usage(raw).fault


def test_unknown_members_are_named() -> None:
    fields = usage(10, 5, biscuit_tokens=1, details={"tea_tokens": 1}, output={"cake": 2})
    assert read_usage(fields).unknown_fields == (
        "biscuit_tokens",
        "prompt_tokens_details.tea_tokens",
        "completion_tokens_details.cake",
    )
    many = usage(1, 1) | {f"x{number}" * 40: 1 for number in range(100)}
    names = read_usage(many).unknown_fields
    assert len(names) == 16
    assert max(map(len, names)) == 64


def test_raw_usage_is_kept_up_to_8_kib() -> None:
    fields = usage(10, 5)
    spare = 8192 - len(json.dumps(fields | {"x": ""}))
    assert read_usage(json.dumps(fields | {"x": "a" * spare}).encode()).raw
    over = read_usage(json.dumps(fields | {"x": "a" * (spare + 1)}).encode())
    assert over.raw == b""
    assert over.meters == {M.INPUT: 10, M.OUTPUT: 5}


def test_embeddings_have_no_output() -> None:
    surface = discover()["embeddings"]

    def read(fields: dict[str, Any]) -> Any:
        return surface.read_reply(json.dumps({"data": [], "usage": fields}).encode()).usage

    assert read({"prompt_tokens": 8000, "total_tokens": 8000}).meters == {M.INPUT: 8000}
    assert read({"prompt_tokens": 8, "completion_tokens": 0, "total_tokens": 8}).meters == {M.INPUT: 8}
    assert "no output" in read({"prompt_tokens": 8, "completion_tokens": 1, "total_tokens": 9}).fault
    assert "total_tokens" in read({"prompt_tokens": 8, "total_tokens": 9}).fault


def test_later_fields_replace_earlier_ones() -> None:
    early = usage(10, 1, total_tokens=11, details={"cached_tokens": 4})
    late = usage(10, 7, total_tokens=17, details={"audio_tokens": 2, "cached_tokens": None})
    assert merge_usage(early, late) == usage(10, 7, total_tokens=17, details={"cached_tokens": 4, "audio_tokens": 2})


def test_a_running_total_does_not_fall() -> None:
    """Some servers end a stream with a usage of zeros: that does not make it free."""
    whole = usage(10, 7, total_tokens=17, details={"cached_tokens": 4})
    assert merge_usage(whole, usage(0, 0, total_tokens=0, details={"cached_tokens": 0})) == whole
    assert merge_usage(whole, usage(10, 8, total_tokens=18)) == {**whole, "completion_tokens": 8, "total_tokens": 18}


counts = st.integers(0, 10**6)


@given(counts, counts, counts, counts, counts, counts)
def test_meters_are_disjoint_and_add_up(
    rest: int, cached: int, written: int, audio: int, out: int, spoken: int
) -> None:
    prompt, completion = rest + cached + written + audio, out + spoken
    details = {"cached_tokens": cached, "cache_write_tokens": written, "audio_tokens": audio}
    fields = usage(
        prompt, completion, total_tokens=prompt + completion, details=details, output={"audio_tokens": spoken}
    )
    read = read_usage(fields)
    assert (read.input_tokens(), read.output_tokens()) == (prompt, completion)
    assert all(quantity > 0 for quantity in read.meters.values())
    assert read.meters.get(M.INPUT, 0) == rest


FIELD_NAMES = ["prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens", "audio_tokens", "x"]
FIELD_NAMES += ["prompt_tokens_details", "completion_tokens_details"]
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.dictionaries(st.sampled_from(FIELD_NAMES), inner),
)


@given(ANYTHING)
def test_anything_is_a_usage_or_a_fault(value: Any) -> None:
    read = read_usage(json.dumps(value).encode())
    assert read.fault == "" or read.meters == {}
    assert all(quantity > 0 for quantity in read.meters.values())
