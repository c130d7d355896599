"""Laws of the Responses tap: chunking changes nothing, and a slow reader that decodes everything agrees with it."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dialects.examples_responses import USAGE, compact, created, delta, ended, event, numbered, response
from dialects.test_stream_laws import cut, payloads
from gateway.core.errors import UpstreamLost
from gateway.core.quirks import PLAIN, Quirks
from gateway.dialects.json_body import open_members
from gateway.dialects.openai_responses.sealed import Seal
from gateway.dialects.openai_responses.stream import ResponsesTap

TEXT = st.text(max_size=12) | st.sampled_from(
    ['"', "\\", '\\"', "[DONE]", "response", '"response":{', "error", "refusal", "\u2028", '"type":"error"', "\n\n"]
)
DELTA = st.builds(lambda text: delta(text, logprobs=[]), TEXT)
ARGUMENTS = st.builds(lambda text: delta(text, "response.function_call_arguments.delta"), TEXT)
OTHER = st.one_of(
    st.builds(lambda text: delta(text, "response.refusal.delta"), TEXT),
    st.builds(lambda text: {"type": "response.output_text.done", "text": text, "item_id": "msg_1"}, TEXT),
    st.builds(lambda text: {"type": "response.content_part.added", "part": {"type": "refusal", "refusal": text}}, TEXT),
    st.builds(lambda text: {"type": "error", "error": {"message": text, "type": "server_error"}}, TEXT),
    st.builds(lambda text: {"type": "error", "message": text, "code": None, "param": None}, TEXT),
    st.builds(lambda text: {"type": "response.web_search_call.searching", "item_id": text}, TEXT),
    st.just({"type": "response.in_progress", "response": response("in_progress", previous_response_id="resp_0")}),
    st.just({"type": "response.strange", "response": None}),
    st.just({"type": "response.strange", "response": 5}),
)
ENDS = st.sampled_from(
    [
        [],
        [ended()],
        [ended("incomplete", incomplete_details={"reason": "max_output_tokens"})],
        [ended("failed", error={"code": "server_error", "message": "no luck"}, usage=None)],
        [ended(), delta("after")],
    ]
)


@st.composite
def printed(draw: st.DrawFn) -> bytes:
    """A stream with one way of printing, most of it plain text, and rarely anything at all."""
    style = draw(st.sampled_from([{"separators": (",", ":")}, {}, {"separators": (",", ":"), "ensure_ascii": False}]))
    end = draw(st.sampled_from([b"\n", b"\n", b"\n", b"\r\n", b"\r"]))
    named = draw(st.booleans())
    events: list[dict[str, Any]] = [created()] if draw(st.integers(0, 4)) else []
    events += draw(st.lists(DELTA | DELTA | DELTA | ARGUMENTS | OTHER, max_size=10)) + draw(ENDS)
    parts: list[bytes] = []
    for value in numbered(events) if draw(st.booleans()) else events:
        text = json.dumps(value, **style)  # type: ignore[arg-type]
        name = b"event: " + value["type"].encode() + end if named else b""
        parts.append(name + b"data: " + text.encode("utf-8", "replace") + end + end)
    strange = [
        b": ping" + end + end,
        end,
        b"data: x" + end + b"data: y" + end + end,
        b"event: e" + end + end,
        b"data:" + end,
    ]
    strange += [b"event: error" + end + b"data: x" + end + end, b'error: {"message":"m"}' + end + end]
    for extra in draw(st.lists(st.sampled_from(strange) | st.binary(max_size=6), max_size=2)):
        parts.insert(draw(st.integers(0, len(parts))), extra)
    return b"".join(parts) + draw(st.sampled_from([b"", b"data: [DONE]" + end + end, b'data: {"type":"x"}' + end]))


def outcome(read: ResponsesTap, chunks: list[bytes]) -> tuple[object, ...]:
    relayed = b"".join([read.feed(piece) for piece in chunks]) + read.finish()
    facts = (read.usage, read.model_served, read.finish_reason, read.refusal, read.upstream_id, read.output_bytes)
    ending = read.ending(UpstreamLost("cut off"))
    return (relayed, *facts, read.events, read.terminal, read.error, read.complete, ending)


def taps() -> list[ResponsesTap]:
    seal = Seal(lambda own: own + "_ours")
    return [ResponsesTap(), ResponsesTap(Quirks(error_field=True)), ResponsesTap(PLAIN, seal)]


@given(printed(), st.lists(st.integers(0, 10_000), max_size=12))
@settings(max_examples=400)
def test_any_chunking_of_a_response_gives_the_same(data: bytes, places: list[int]) -> None:
    for whole, pieces, bytewise in zip(taps(), taps(), taps(), strict=True):
        expected = outcome(whole, [data])
        assert outcome(pieces, cut(data, places)) == expected
        assert outcome(bytewise, [data[at : at + 1] for at in range(len(data))]) == expected


@pytest.mark.parametrize("text", ["", "No.", "response", "error"])
def test_a_delta_of_a_refusal_is_one_whatever_it_says(text: str) -> None:
    refusing = delta("", "response.refusal.delta"), delta(text, "response.refusal.delta")
    data = b"".join(event(one) for one in (created(), *refusing))
    for read, step in ((ResponsesTap(), len(data)), (ResponsesTap(), 1)):
        relayed = [read.feed(data[at : at + step]) for at in range(0, len(data), step)]
        assert (b"".join(relayed), read.refusal) == (data, True)


@given(
    st.binary(max_size=60) | st.text('data: \r\n"[]{}:x,', max_size=60).map(str.encode), st.lists(st.integers(0, 60))
)
def test_any_bytes_in_any_chunking_of_a_response(data: bytes, places: list[int]) -> None:
    assert outcome(ResponsesTap(), cut(data, places)) == outcome(ResponsesTap(), [data])


@given(printed())
@settings(max_examples=400)
def test_a_reader_that_decodes_every_event_of_a_response_agrees(data: bytes) -> None:
    read = ResponsesTap()
    relayed = read.feed(data) + read.finish()
    expected = Slow(data)
    assert payloads(relayed) == expected.relayed
    assert read.events == expected.events
    assert read.output_bytes == expected.output_bytes or (expected.malformed and read.output_bytes > 0)
    assert (read.usage is not None) == expected.has_usage
    assert read.complete == expected.complete
    assert bool(read.error) == expected.has_error
    assert read.finish_reason == expected.finish_reason


@given(printed())
@settings(max_examples=200)
def test_an_ending_of_our_own_is_numbered_on_and_of_the_same_response(data: bytes) -> None:
    read = ResponsesTap()
    relayed = payloads(read.feed(data) + read.finish())
    ending = [json.loads(payload) for payload in payloads(read.ending(UpstreamLost("cut off")))]
    if read.complete:
        return
    assert ending[-1]["type"] == "response.failed"
    told = [one for payload in relayed if (one := decoded(payload)) is not None]
    responses = [one["response"] for one in told if isinstance(one.get("response"), dict)]
    if responses:
        assert ending[-1]["response"]["id"] == responses[0]["id"]
        assert ending[-1]["response"].keys() == responses[0].keys()
    numbers = [one["sequence_number"] for one in (*told[-1:], *ending) if "sequence_number" in one]
    if read.terminal:  # the provider's own: what stands before it may have been spoilt on its way
        assert numbers == sorted(set(numbers))
    else:
        assert not numbers or numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        assert len(ending) == (1 if read.error else 2)


@given(st.text(max_size=5), st.booleans(), st.booleans())
def test_ids_are_named_and_no_other_byte_changes(own: str, spaced: bool, is_stream: bool) -> None:
    told = response("completed", [{"id": "msg_1", "text": '"id":"resp_1"'}], previous_response_id="resp_0")
    told["metadata"] = {"note": own, "id": "x"}
    value = {"type": "response.in_progress", "response": told} if is_stream else told
    text = json.dumps(value, separators=(", ", ": ") if spaced else (",", ":")).encode()
    members = open_members(compact(told))
    assert members is not None
    named = Seal(lambda one: one + "_ours").sealed(text, members)
    expected = text.replace(b'"resp_1"', b'"resp_1_ours"').replace(b'"resp_0"', b'"resp_0_ours"')
    assert named == expected.replace(b'\\"resp_1_ours"', b'\\"resp_1"')


def decoded(payload: str) -> dict[str, Any] | None:
    try:
        value = json.loads(payload)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


class Slow:
    """The same facts by decoding every event."""

    ENDS = ("response.completed", "response.incomplete", "response.failed")

    def __init__(self, data: bytes) -> None:
        self.events = self.output_bytes = 0
        self.has_usage = self.has_error = self.malformed = self.complete = False
        self.finish_reason = ""
        self.relayed: list[str] = []
        self._begun = self._said_error = self._failed = False
        self._named = iter(names_of(data))
        for payload in payloads(data):
            name = next(self._named)
            if payload.lstrip().startswith("[DONE]"):
                break
            self.events += 1
            if self.read(payload, name):
                return
            self.relayed.append(payload)
            if self._failed:
                return
        self.has_error = self.has_error or self._said_error

    def read(self, payload: str, name: str) -> bool:
        """True when it is the last event, which is kept back."""
        value = decoded(payload)
        self.output_bytes += sum(len(text) for text in re.findall(r'"delta": ?"((?:[^"\\]|\\.)*)"', payload))
        if value is None:
            self.malformed = True
            self.note_error(name == "error")
            return False
        told = value.get("response")
        if not isinstance(told, dict):
            self.note_error(name == "error" or value.get("type") == "error")
            return False
        self._begun = True
        if value["type"] not in self.ENDS:
            return False
        self.has_usage = bool(told["usage"])
        self.complete = told["status"] != "failed"
        self.has_error = not self.complete
        self.finish_reason = (told["incomplete_details"] or {}).get("reason") or told["status"]
        return True

    def note_error(self, is_one: bool) -> None:
        self._said_error = self._said_error or (is_one and self._begun)
        self._failed = self._failed or (is_one and not self._begun)
        self.has_error = self.has_error or self._failed


def names_of(data: bytes) -> list[str]:
    """The `event` field of each event that has data."""
    found: list[str] = []
    name, has_data, fresh = "", False, True
    for line in [*re.split("\r\n|\n|\r", data.decode("latin-1")), ""]:
        field, _, value = (line.removeprefix("\xef\xbb\xbf") if fresh else line).partition(":")
        fresh = line == ""
        if line == "":
            if has_data:
                found.append(name)
            name, has_data = "", False
        elif field == "event" and not name:
            name = value.removeprefix(" ")
        elif field == "data":
            has_data = True
    return found


def test_usage_of_the_example_is_the_examples() -> None:
    read = ResponsesTap()
    read.feed(b"".join([b"data: " + compact(one) + b"\n\n" for one in numbered([created(), ended()])]))
    assert read.usage is not None
    assert (read.usage.input_tokens(), read.usage.output_tokens()) == (USAGE["input_tokens"], USAGE["output_tokens"])
