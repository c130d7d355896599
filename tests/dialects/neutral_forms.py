"""Neutral requests and replies that every dialect can say, for the laws of translation."""

from __future__ import annotations

import msgspec
from hypothesis import strategies as st

from gateway.core.neutral import (
    Ask,
    Began,
    Event,
    Finish,
    Finished,
    Part,
    PartBegan,
    PartEnded,
    PartGrew,
    PartSealed,
    Reply,
    Text,
    Thinking,
    Tool,
    ToolChoice,
    ToolResult,
    ToolUse,
    Turn,
)
from gateway.core.usage import Meter, Usage, UsageSource

MODEL = "gpt-5-test"
"""It reasons in every dialect's eyes; no Claude either, so the newest of those."""

WORDS = st.text(alphabet=st.characters(exclude_categories=("Cs",)), min_size=1, max_size=20)
SAID = WORDS.filter(str.strip)
NAMES = st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_-]{0,30}", fullmatch=True)
IDS = st.from_regex(r"call_[a-z0-9]{1,20}", fullmatch=True)
ARGUMENTS = st.dictionaries(NAMES, st.one_of(st.integers(-1000, 1000), WORDS), max_size=3)
SCHEMA = b'{"type":"object","properties":{"a":{"type":"integer"}},"additionalProperties":false}'


def json_text(value: object) -> str:
    return msgspec.json.encode(value).decode() if value else ""


TOOL_USES = st.builds(lambda id, name, given: ToolUse(id, name, json_text(given)), IDS, NAMES, ARGUMENTS)
FINISHES = st.sampled_from([Finish.STOP, Finish.LENGTH])


@st.composite
def replies(draw: st.DrawFn) -> Reply:
    """Thinking, text and tool calls in the order in which every dialect has them."""
    parts: list[Part] = []
    if draw(st.booleans()):
        sealed_by = draw(st.sampled_from(["anthropic_messages", "openai_responses"]))
        seal = draw(st.from_regex(r"(rs_[a-z]{3}:)[A-Za-z0-9+/=]{4,30}", fullmatch=True))
        parts.append(Thinking(draw(WORDS), seal, sealed_by))
    if draw(st.booleans()):
        parts.append(Text(draw(WORDS)))
    parts.extend(draw(st.lists(TOOL_USES, max_size=3, unique_by=lambda use: use.id)))
    if not parts:
        parts.append(Text("."))
    finish = Finish.TOOLS if isinstance(parts[-1], ToolUse) else draw(FINISHES)
    read, fresh, output = draw(st.tuples(*[st.integers(0, 10_000)] * 3))
    meters = {Meter.INPUT: fresh, Meter.CACHE_READ: read, Meter.OUTPUT: output}
    usage = Usage({meter: count for meter, count in meters.items() if count}, UsageSource.PROVIDER)
    return Reply("up1", "m-1", tuple(parts), finish, usage)


def told(reply: Reply, cut: int) -> list[Event]:
    """A reply as the events of a stream; texts come in pieces of `cut` characters."""
    events: list[Event] = [Began(reply.id, reply.model)]
    for index, part in enumerate(reply.parts):
        match part:
            case Text(text=text):
                events.append(PartBegan(index, "text"))
            case Thinking(text=text):
                events.append(PartBegan(index, "thinking"))
            case ToolUse(arguments=text):
                events.append(PartBegan(index, "tool", part.id, part.name))
            case _:
                raise AssertionError(part)
        events.extend(PartGrew(index, text[at : at + cut]) for at in range(0, len(text), cut))
        if isinstance(part, Thinking) and part.seal:
            events.append(PartSealed(index, part.seal, part.sealed_by))
        events.append(PartEnded(index))
    return [*events, Finished(reply.finish)]


def heard(events: list[Event]) -> tuple[tuple[Part, ...], Finish, str]:
    """What a stream's events said: its parts, why it ended, and what is wrong with their order (empty: nothing)."""
    parts: list[Part] = []
    opened: PartBegan | None = None
    text, seal, fault = "", None, ""
    finish: Finish | None = None
    for event in events:
        match event:
            case Began():
                fault = fault or ("began twice" if parts or opened else "")
            case PartBegan():
                fault = fault or ("parts overlap" if opened else "")
                fault = fault or ("" if event.index == len(parts) else f"part {event.index} at {len(parts)}")
                opened, text, seal = event, "", None
            case PartGrew():
                fault = fault or ("" if opened and opened.index == event.index else "grew while closed")
                text += event.text
            case PartSealed():
                seal = event
            case PartEnded():
                if opened is None:
                    fault = fault or "ended while closed"
                else:
                    parts.append(_part(opened, text, seal))
                opened = None
            case Finished():
                fault = fault or ("finished twice" if finish else "still open" if opened else "")
                finish = event.finish
    return tuple(parts), finish or Finish.STOP, fault if finish else fault or "never finished"


def _part(opened: PartBegan, text: str, seal: PartSealed | None) -> Part:
    match opened.kind:
        case "thinking":
            return Thinking(text) if seal is None else Thinking(text, seal.seal, seal.sealed_by, seal.whole)
        case "tool":
            return ToolUse(opened.tool_id, opened.name, "" if text == "{}" else text)
    return Text(text)


@st.composite
def asks(draw: st.DrawFn) -> Ask:
    """A conversation with tools, as an agent has it: every text says something, every tool that was called is there."""
    turns: list[Turn] = []
    if draw(st.booleans()):
        turns.append(Turn("system", (Text(draw(SAID)),)))
    turns.append(Turn("user", (Text(draw(SAID)),)))
    for _ in range(draw(st.integers(0, 2))):
        uses = draw(st.lists(TOOL_USES, max_size=2, unique_by=lambda use: use.id))
        turns.append(Turn("assistant", (Text(draw(SAID)), *uses)))
        results = tuple([ToolResult(use.id, (Text(draw(SAID)),)) for use in uses])
        turns.append(Turn("user", (*results, Text(draw(SAID)))))
    called = [part.name for turn in turns for part in turn.parts if isinstance(part, ToolUse)]
    named = dict.fromkeys([*called, *draw(st.lists(NAMES, max_size=2))])
    tools = tuple([Tool(name, "does", msgspec.Raw(SCHEMA)) for name in named])
    modes = st.sampled_from([None, ToolChoice("auto"), ToolChoice("required"), ToolChoice("none")])
    return Ask(
        model=MODEL,
        turns=tuple(turns),
        stream=draw(st.booleans()),
        max_output_tokens=draw(st.integers(100, 10_000)),
        tools=tools,
        tool_choice=draw(modes) if tools else None,
        user=draw(st.from_regex(r"[a-z]{0,10}", fullmatch=True)),
    )
