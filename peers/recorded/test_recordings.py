"""Every recording of others: through the surface of its own dialect as it came, and translated into the other two."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

import msgspec
import pytest
from conftest import TABLE
from recordings import CHAT, MESSAGES, RESPONSES, Recording, recordings
from saying import Saying, losses, say

from gateway.core.errors import BadRequest
from gateway.core.ports import Wire
from gateway.core.usage import Usage
from gateway.dialects.discover import discover, discover_translations
from gateway.dialects.sse import EventCutter

SURFACES = discover()
WIRES = {(own, wire.name): wire for own, wires in discover_translations(SURFACES).items() for wire in wires}
TURNS: list[Any] = [{"role": "user", "content": "hi"}]
ASKED: dict[str, dict[str, Any]] = {
    CHAT: {"model": "m", "messages": TURNS, "stream_options": {"include_usage": True}},
    MESSAGES: {"model": "m", "messages": TURNS, "max_tokens": 99},
    RESPONSES: {"model": "m", "input": "hi"},
}
MODEL = "a-model"
PIECES = (1, 2, 7, 60, 400, 3000)
RECORDINGS = recordings()
EXPLAINED = {
    "anthropic/tool_use_invalid_json_response": "the SDK itself refuses the arguments of its tool",
    "anthropic/refusal_response": "the last usage takes a token back that the first one told",
    "langchain-anthropic/test_compaction.1": "the tokens of a compaction stand beside the usage, and are billed",
    "langchain-anthropic/test_compaction_streaming.1": "the tokens of a compaction are billed besides",
}
"""Recordings whose usage is not told as the SDK tells it. Each has to be needed."""
each = pytest.mark.parametrize("recording", RECORDINGS, ids=lambda recording: recording.name)


def cut(body: bytes, chance: random.Random) -> Iterator[bytes]:
    at = 0
    while at < len(body):
        size = chance.choice(PIECES)
        yield body[at : at + size]
        at += size


def uncommented(stream: bytes) -> bytes:
    """The stream without comments, which a surface may keep to itself, and with the end of its last event."""
    lines = [line for line in stream.split(b"\n") if not line.startswith(b":")]
    return b"\n".join(lines).rstrip(b"\n") + b"\n\n"


def test_there_are_recordings_of_every_dialect_streamed_and_whole() -> None:
    """`make test-recorded` unpacks the packages that hold them."""
    kinds = {(recording.surface, recording.streamed) for recording in RECORDINGS}
    assert kinds == {(surface, streamed) for surface in (CHAT, MESSAGES, RESPONSES) for streamed in (True, False)}
    assert len(RECORDINGS) > 200


@each
def test_a_recording_passes_and_translates(recording: Recording, request: pytest.FixtureRequest) -> None:
    chance = random.Random(recording.name)
    faults = {"passes": [], "translates": []}  # type: dict[str, list[str]]
    try:
        said: Saying | None = say(recording.surface, recording.answered, recording.streamed)
    except (ValueError, RuntimeError) as error:
        said = None
        faults["translates"].append(f"the SDK does not take the recording: {error}")
    usage = passed(recording, chance, faults["passes"])
    if said is not None and usage != (said.usage[0], said.usage[2]):
        faults["passes"].append(f"usage {usage}, the SDK has {said.usage}")
    for own in (CHAT, MESSAGES, RESPONSES):
        if own != recording.surface and said is not None:
            lost = losses(
                said, say(own, translated(WIRES[own, recording.surface], own, recording, chance), recording.streamed)
            )
            if lost:
                faults["translates"].append(f"{own}: {lost}")
    refusals = request_refusals(recording)
    why = "; ".join([*faults["passes"], *faults["translates"]])
    words = ["no" if faults[kind] else "yes" for kind in ("passes", "translates")]
    events = len(EventCutter().split(recording.answered)) if recording.streamed else 1
    row = (recording.name, events, words[0], words[1], f"{'refused' if refusals else 'yes'}|{why or refusals}")
    request.config.stash[TABLE].append(row)
    explained = [pattern for pattern in EXPLAINED if fnmatchcase(recording.name, pattern)]
    if explained:
        assert why, f"{explained} explains nothing any more"
    else:
        assert not why


def passed(recording: Recording, chance: random.Random, faults: list[str]) -> tuple[int, int]:
    """Prompt and answer in tokens, as the surface reads them of a reply that has to pass as it came."""
    surface = SURFACES[recording.surface]
    if recording.streamed:
        head = surface.read_head(recording.asked)
        tap = surface.tap(msgspec.structs.replace(head, usage_asked=True))  # else an event of usage is kept back
        relayed = b"".join([tap.feed(piece) for piece in cut(recording.answered, chance)]) + tap.finish()
        went, came = uncommented(relayed + tap.terminal), uncommented(recording.answered)
        if went != came[: len(went)] or (came != went and not tap.terminal):  # nothing comes after the terminal event
            faults.append("other bytes than came")
        if tap.error or not tap.complete:
            faults.append(f"incomplete: {tap.error}")
        usage: Usage | None = tap.usage
    else:
        usage = surface.read_reply(recording.answered).usage
    return (usage.input_tokens(), usage.output_tokens()) if usage is not None else (0, 0)


def translated(wire: Wire, own: str, recording: Recording, chance: random.Random) -> bytes:
    """What a caller of `own` gets of the recording."""
    attempt = wire.for_attempt(8000, 1_790_000_000_000)
    asked = json.dumps(ASKED[own] | {"stream": recording.streamed}).encode()
    head = SURFACES[own].read_head(asked)
    attempt.outgoing(asked, head, MODEL)
    if not recording.streamed:
        attempt.read_reply(recording.answered)
        return attempt.caller_reply(recording.answered, head)
    tap = attempt.tap(head)
    relayed = b"".join([tap.feed(piece) for piece in cut(recording.answered, chance)]) + tap.finish()
    assert tap.complete, tap.error
    return relayed + tap.terminal


def request_refusals(recording: Recording) -> str:
    """Why the recorded request cannot be sent in another dialect; nothing else than a refusal may come of it."""
    reasons = []
    for theirs in (CHAT, MESSAGES, RESPONSES):
        if theirs != recording.surface:
            attempt = WIRES[recording.surface, theirs].for_attempt(8000, 1_790_000_000_000)
            try:
                sent, _ = attempt.outgoing(
                    recording.asked, SURFACES[recording.surface].read_head(recording.asked), MODEL
                )
            except BadRequest as refusal:
                reasons.append(str(refusal))
            else:
                SURFACES[theirs].read_head(sent)
    return reasons[0] if reasons else ""
