"""Laws of translation: what a codec writes it reads back, and a stream says the same however its bytes are cut."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialects.neutral_forms import MODEL, asks, heard, replies, told
from gateway.core.errors import UpstreamLost
from gateway.core.neutral import Ask, Event, Reply, Text, Turn
from gateway.core.ports import Surface, Wire
from gateway.core.usage import Usage
from gateway.dialects.anthropic_messages.codec import CODEC as MESSAGES
from gateway.dialects.discover import discover, discover_translations
from gateway.dialects.openai_chat.codec import CODEC as CHAT
from gateway.dialects.openai_responses.codec import CODEC as RESPONSES
from gateway.dialects.sse import EventCutter
from gateway.dialects.translate.ports import Codec
from gateway.dialects.translate.writing import Names

SURFACES = discover()
CODECS: tuple[Codec, ...] = (CHAT, MESSAGES, RESPONSES)
BY_SURFACE = {codec.surface: codec for codec in CODECS}
PAIRS = [(own, wire) for own, wires in discover_translations(SURFACES).items() for wire in wires]
each_codec = pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.surface)
each_pair = pytest.mark.parametrize(("own", "wire"), PAIRS, ids=[f"{own}-into-{wire.name}" for own, wire in PAIRS])
ASK = Ask(MODEL, ())
ASKED = Ask(MODEL, (Turn("user", (Text("Say something."),)),), stream=True, max_output_tokens=100)


def streamed(codec: Codec, reply: Reply, cut: int) -> bytes:
    """The reply as the stream of a provider that speaks the codec's dialect, its terminal event included."""
    writer = codec.writer(ASK, True, 1_790_000_000)
    said = b"".join([writer.write(event) for event in told(reply, cut)])
    before, terminal = writer.end(reply.usage)
    return said + before + terminal


def read_events(codec: Codec, stream: bytes) -> list[Event]:
    reader = codec.reader()
    events = [event for one in EventCutter().split(stream) for event in reader.read(one)]
    return [*events, *reader.end()]


def as_said(reply: Reply) -> tuple[object, ...]:
    """A reply without what only its usage's own reader would know."""
    return reply.parts, reply.finish, reply.model


@each_codec
@given(reply=replies())
def test_a_whole_reply_is_read_as_it_was_written(codec: Codec, reply: Reply) -> None:
    body = codec.write_reply(reply, ASK, 1_790_000_000)
    assert as_said(codec.read_reply(body, reply.usage)) == as_said(reply)


@each_codec
@given(reply=replies(), cut=st.integers(1, 30))
def test_a_stream_is_read_as_it_was_written(codec: Codec, reply: Reply, cut: int) -> None:
    parts, finish, fault = heard(read_events(codec, streamed(codec, reply, cut)))
    assert not fault
    assert (parts, finish) == as_said(reply)[:2]


@each_codec
@given(reply=replies())
def test_usage_is_told_as_it_was(codec: Codec, reply: Reply) -> None:
    """By the surface's own reader, whole and streamed: prompt, cache and answer are the same tokens again."""
    surface = SURFACES[codec.surface]
    facts = surface.read_reply(codec.write_reply(reply, ASK, 0))
    tap = surface.tap(surface.read_head(codec.write_ask(ASKED, MODEL, 100, Names(64))[0]))
    tap.feed(streamed(codec, reply, 7))
    for usage in (facts.usage, tap.usage):
        assert usage is not None
        assert not usage.fault
        assert reply.usage is not None
        assert counted(usage) == counted(reply.usage)
    assert tap.complete


def counted(usage: Usage) -> dict[str, int]:
    return {str(meter): count for meter, count in usage.meters.items() if count}


@each_codec
@given(ask=asks())
def test_a_request_is_read_as_it_was_written(codec: Codec, ask: Ask) -> None:
    body, dropped = codec.write_ask(ask, MODEL, 0, Names(64))
    assert dropped == ()
    read = codec.read_ask(body)
    assert read.lost == ()
    tools = tuple([msgspec.structs.replace(tool, strict=tool.strict or None) for tool in read.tools])
    assert msgspec.structs.replace(read, tools=tools) == ask, "Responses says of each tool whether it is strict"


@each_pair
@given(ask=asks(), reply=replies(), cut=st.integers(1, 30), chunk=st.integers(1, 200))
def test_a_translated_stream_says_the_same_however_it_is_cut(
    own: str, wire: Wire, ask: Ask, reply: Reply, cut: int, chunk: int
) -> None:
    caller, theirs = BY_SURFACE[own], BY_SURFACE[wire.name]
    asked = caller.write_ask(msgspec.structs.replace(ask, stream=True), MODEL, 0, Names(64))[0]
    stream = streamed(theirs, reply, cut)
    outcomes = []
    for size in (len(stream), chunk):
        attempt = wire.for_attempt(8000, 1_790_000_000_000)
        head = SURFACES[own].read_head(asked)
        attempt.outgoing(asked, head, MODEL)
        tap = attempt.tap(head)
        relayed = b"".join([tap.feed(stream[at : at + size]) for at in range(0, len(stream), size)]) + tap.finish()
        assert tap.complete
        assert not tap.error
        outcomes.append(relayed + tap.terminal)
        assert tap.usage is not None
        assert reply.usage is not None
        assert counted(tap.usage) == counted(reply.usage)
    assert outcomes[0] == outcomes[1]
    parts, finish, fault = heard(read_events(caller, outcomes[0]))
    assert not fault
    assert (parts, finish) == as_said(reply)[:2], "thinking keeps its seal through a dialect that cannot read it"


@each_pair
@given(reply=replies(), at=st.integers(0, 10_000))
def test_a_translated_stream_that_is_cut_never_looks_complete(own: str, wire: Wire, reply: Reply, at: int) -> None:
    caller, theirs = BY_SURFACE[own], BY_SURFACE[wire.name]
    stream = streamed(theirs, reply, 5)
    part = stream[: at % len(stream)]
    attempt = wire.for_attempt(0, 1_790_000_000_000)
    asked = caller.write_ask(ASKED, MODEL, 0, Names(64))[0]
    head = SURFACES[own].read_head(asked)
    attempt.outgoing(asked, head, MODEL)
    tap = attempt.tap(head)
    relayed = tap.feed(part) + tap.finish()
    if tap.complete:
        assert tap.terminal, "all but the blank line had come"
        return
    assert not tap.terminal
    ended = relayed + tap.ending(UpstreamLost("It ended."))
    assert b"It ended." in ended
    assert_unfinished(SURFACES[own], asked, ended)


def assert_unfinished(surface: Surface, asked: bytes, stream: bytes) -> None:
    tap = surface.tap(surface.read_head(asked))
    tap.feed(stream)
    tap.finish()
    assert tap.error
    assert not tap.complete
