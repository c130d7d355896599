"""Every reader of usage over golden bodies: whole replies, streams and headers, into disjoint meters.

`tests/golden/usage/` has a file for each reader. And what all of them promise: whatever a provider sends is a usage, a
fault or nothing, never an exception; what a reader does not know is named; what was said is kept.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.usage import Usage, UsageSource
from gateway.dialects.anthropic_messages import usage as anthropic
from gateway.dialects.bedrock.usage import converse_usage, invoke_usage
from gateway.dialects.cohere import usage as cohere
from gateway.dialects.counts import summed
from gateway.dialects.gemini import usage as gemini
from gateway.dialects.ollama import usage as ollama
from gateway.dialects.openai_chat.reply import read_chat_reply
from gateway.dialects.openai_chat.stream import CHAT_SPELLINGS, OpenAITap
from gateway.dialects.openai_responses import usage as responses
from gateway.dialects.openai_simple.batch_usage import batch_usage, line_usage
from gateway.dialects.openai_simple.media_usage import (
    image_usage,
    ocr_usage,
    speech_usage,
    spoken_characters,
    transcription_usage,
)
from gateway.dialects.openai_simple.realtime_usage import SessionUsage

GOLDEN = Path(__file__).parent.parent / "golden" / "usage"
Case = dict[str, Any]
Reader = Callable[[bytes], Usage | None]


class Stream(Protocol):
    @property
    def usage(self) -> Usage | None: ...

    def feed(self, data: bytes) -> None: ...


READERS: dict[str, Reader] = {
    "anthropic_messages": anthropic.reply_usage,
    "openai_responses": responses.reply_usage,
    "gemini": gemini.reply_usage,
    "bedrock": converse_usage,
    "cohere": cohere.reply_usage,
    "ollama": ollama.reply_usage,
    "images": image_usage,
    "transcriptions": transcription_usage,
    "ocr": ocr_usage,
    "speech": speech_usage,
    "batch_lines": line_usage,
    "openai_chat": lambda body: read_chat_reply(body).usage,
}
STREAMS: dict[str, Callable[[], Stream]] = {
    "anthropic_messages": anthropic.StreamUsage,
    "openai_responses": responses.StreamUsage,
    "gemini": gemini.StreamUsage,
    "realtime": SessionUsage,
}
CASES = [(path.stem, case) for path in sorted(GOLDEN.glob("*.json")) for case in json.loads(path.read_text())]


def encoded(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def read(name: str, case: Case) -> Usage | None:
    if "headers" in case:
        return invoke_usage(case["headers"])
    if "reply" in case:
        return READERS[name](encoded(case["reply"]))
    stream = STREAMS[name]()
    for event in case["events"]:
        stream.feed(encoded(event))
    return stream.usage


def test_every_reader_has_golden_bodies() -> None:
    assert {name for name, _ in CASES} == READERS.keys() | STREAMS.keys()
    assert len(CASES) > 90


@pytest.mark.parametrize(("name", "case"), CASES, ids=[f"{name}: {case['name']}" for name, case in CASES])
def test_golden_usage(name: str, case: Case) -> None:
    usage = read(name, case)
    if case.get("absent"):
        assert usage is None
        return
    assert usage is not None
    assert usage.source is UsageSource.PROVIDER
    assert usage.raw
    if "fault" in case:
        assert case["fault"] in usage.fault
        assert (usage.meters, usage.parts) == ({}, ())
        return
    assert usage.fault == ""
    assert usage.meters == case["meters"]
    assert usage.served_tier == case.get("tier", "")
    assert usage.region == case.get("region", "")
    assert usage.reasoning_tokens == case.get("reasoning", 0)
    assert list(usage.unknown_fields) == case.get("unknown", [])
    assert [[part.label, part.model, part.meters] for part in usage.parts] == case.get("parts", [])


def test_parts_sum_to_the_whole() -> None:
    told = [usage for name, case in CASES if (usage := read(name, case)) is not None and usage.parts]
    assert len(told) == 8
    for usage in told:
        assert summed([part.meters for part in usage.parts]) == usage.meters


# ---------------------------------------------------------------- what is not in a body


def test_a_stream_of_several_models_has_their_runs() -> None:
    whole = next(case["reply"] for name, case in CASES if name == "openai_chat" and "compound" in case["name"])
    tap = OpenAITap(CHAT_SPELLINGS, choices=1, relay_usage=True)
    tap.feed(b"data: " + encoded({"id": "a", "model": "groq/compound", **whole}) + b"\n\ndata: [DONE]\n\n")
    assert tap.usage is not None
    assert tap.usage == read_chat_reply(encoded(whole)).usage
    assert len(tap.usage.parts) == 2


def test_a_whole_batch_has_the_words_of_responses() -> None:
    usage = batch_usage(encoded({"object": "batch", "usage": {"input_tokens": 5, "output_tokens": 2}}))
    assert usage is not None
    assert (usage.meters, usage.served_tier) == ({"input": 5, "output": 2}, "batch")
    assert batch_usage(encoded({"object": "batch", "usage": None})) is None


def test_characters_are_counted_here_and_say_so() -> None:
    usage = spoken_characters("Grüß Gott 👋")
    assert (usage.meters, usage.source) == ({"characters": 11}, UsageSource.ESTIMATED)
    assert spoken_characters("").meters == {}


@pytest.mark.parametrize(
    ("stream", "event", "meters"),
    [
        (
            anthropic.StreamUsage(),
            {"type": "message_start", "message": {"usage": {"input_tokens": 1200, "output_tokens": 1}}},
            {"input": 1200, "output": 85},
        ),
        (
            gemini.StreamUsage(),
            {"usageMetadata": {"promptTokenCount": 10, "candidatesTokenCount": 200}},
            {"input": 10, "output": 200},
        ),
    ],
)
def test_a_stream_that_died_has_exact_input_and_the_output_counted(
    stream: anthropic.StreamUsage | gemini.StreamUsage, event: Any, meters: dict[str, int]
) -> None:
    assert stream.cut_short(5) is None
    stream.feed(encoded(event))
    cut = stream.cut_short(85)
    assert cut is not None
    assert (cut.meters, cut.source) == (meters, UsageSource.ESTIMATED)


def test_a_message_is_final_only_when_the_provider_says_so() -> None:
    stream = anthropic.StreamUsage()
    stream.feed(b'{"type":"message_start","message":{"usage":{"input_tokens":1,"output_tokens":1}}}')
    assert not stream.final
    stream.feed(b'{"type":"message_delta","usage":{"output_tokens":9}}')
    assert stream.final


# ---------------------------------------------------------------- what all of them promise

WORDS = sorted(
    {
        "usage", "usageMetadata", "meta", "metadata", "billed_units", "usage_info", "tool_usage", "web_search",
        "image_gen", "num_requests", "output", "type", "tokens", "duration", "seconds", "iterations", "message",
        "compaction",
        "input_tokens", "output_tokens", "total_tokens", "input_tokens_details", "cached_tokens", "image_tokens",
        "cache_creation", "cache_creation_input_tokens", "ephemeral_1h_input_tokens", "server_tool_use",
        "speed", "fast",
        "promptTokenCount", "cachedContentTokenCount", "promptTokensDetails", "modality", "tokenCount", "AUDIO",
        "candidates", "groundingMetadata", "webSearchQueries", "inputTokens", "outputTokens", "cacheDetails", "ttl",
        "response", "body", "object", "prompt_tokens", "completion_tokens", "usage_breakdown", "models", "done",
        "eval_count", "prompt_eval_count", "message_start", "message_delta", "response.completed", "response.done",
    }
)  # fmt: skip
LEAVES = st.none() | st.booleans() | st.integers(-5, 2**70) | st.floats() | st.sampled_from(WORDS) | st.text(max_size=5)
ANYTHING = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=5),
    max_leaves=25,
)
TOPS = st.dictionaries(st.sampled_from(WORDS), ANYTHING, min_size=1, max_size=6)


def sound(usage: Usage | None) -> None:
    if usage is None:
        return
    assert usage.fault == "" or usage.meters == {}
    assert all(type(quantity) is int and quantity > 0 for quantity in usage.meters.values())
    assert summed([part.meters for part in usage.parts]) in ({}, usage.meters)
    assert len(usage.raw) <= 8192
    assert len(usage.unknown_fields) <= 16
    assert usage.reasoning_tokens >= 0


@settings(deadline=None, max_examples=200)
@given(TOPS)
def test_anything_at_all_is_usage_a_fault_or_nothing(value: Any) -> None:
    body = encoded(value)
    for name, reader in READERS.items():
        if name != "openai_chat":
            sound(reader(body))
    for make in STREAMS.values():
        stream = make()
        for event in (value, {"type": "message_start", "message": value}, {"type": "response.done", "response": value}):
            stream.feed(encoded(event))
            sound(stream.usage)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"5", b'"x"', b"\xff", b"[" * 100_000, b'{"usage":5}'])
def test_what_is_no_reply_is_nothing(body: bytes) -> None:
    for name, reader in READERS.items():
        if name != "openai_chat":
            assert reader(body) is None, name
    for make in STREAMS.values():
        stream = make()
        stream.feed(body)
        assert stream.usage is None


def objects(value: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The ways to every object within a value."""
    found = [way] if isinstance(value, dict) else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found += objects(inner, (*way, key))
    return found


USAGE_PLACES = {"usage", "usageMetadata", "usage_info", "billed_units", "tool_usage"}
NOT_READ = {"tokens", "moon", "prompt_audio_seconds"}
"""What a reader leaves alone: Cohere's unbilled tokens, a member that is unknown itself, and no object at all."""
SOUND = [
    (name, case)
    for name, case in CASES
    if name in READERS and "reply" in case and "meters" in case and case["name"] != "no usage: by the picture"
]


@pytest.mark.parametrize(("name", "case"), SOUND, ids=[f"{name}: {case['name']}" for name, case in SOUND])
def test_a_new_member_anywhere_in_a_usage_is_named_and_changes_nothing_else(name: str, case: Case) -> None:
    before = READERS[name](encoded(case["reply"]))
    assert before is not None
    for way in objects(case["reply"]):
        if not USAGE_PLACES & set(way) or NOT_READ & set(way):
            continue
        reply = json.loads(json.dumps(case["reply"]))
        place = reply
        for step in way:
            place = place[step]
        place["biscuit_tokens"] = 7
        after = READERS[name](encoded(reply))
        assert after is not None
        assert any("biscuit_tokens" in unknown for unknown in after.unknown_fields), way
        assert after.meters == before.meters
        assert b"biscuit_tokens" in after.raw
