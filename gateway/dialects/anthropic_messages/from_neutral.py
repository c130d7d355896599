"""A neutral request and reply in Messages form.

What the API refuses and is no instruction for the text is left out and named; what would change the answer is a refusal
(`translate/writing.py`). Sources of the rules: Anthropic's pages on Messages, extended and adaptive thinking,
structured outputs and vision, as of November 2026.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from gateway.core.neutral import (
    Ask,
    Finish,
    Format,
    Part,
    Refusal,
    Reply,
    Text,
    Thinking,
    Tool,
    ToolChoice,
    ToolUse,
    Turn,
)
from gateway.core.usage import Meter, Usage
from gateway.dialects.anthropic_messages.from_neutral_turns import DIALECT, marked, messages_of, text_block
from gateway.dialects.anthropic_messages.models import Abilities, abilities_of
from gateway.dialects.translate.schemas import EMPTY_OBJECT, arguments_schema, closed
from gateway.dialects.translate.seals import ANTHROPIC, block_of
from gateway.dialects.translate.writing import (
    Names,
    arguments_object,
    fitting_id,
    leading_system,
    opaque_user,
    refuse_choices,
    refuse_essential,
    refuse_silence,
)

JSON_TOOL = "answer_in_json"
"""A tool whose arguments are the answer, for models that take no schema for their text."""
TOOL_NAME_CHARS = 128
UNTOLD_MAX_TOKENS = 4096
"""Where neither the caller nor the price book says how much the model may write; every Claude can."""
THINKING_MIN = 1024
_BUDGETS = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 24_576, "xhigh": 32_000, "max": 32_000}
_EFFORTS = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "xhigh", "max": "max"}
_NO_EFFORT = frozenset({"", "none"})
_USUAL_TIERS = frozenset({"", "auto", "default"})
_ENCODER = msgspec.json.Encoder()

UNSAID = {
    "temperature": "with thinking, and by models since 4.7, which take none; above 1 it is sent as 1",
    "top_p": "as temperature; beside temperature by models since 4.1",
    "top_k": "as temperature",
    "effort": "where a tool is demanded, the last turn called tools without sealed thinking, the model cannot think, "
    "or the limit on the answer leaves no room to",
    "verbosity": "always",
    "cache_key": "always: prompt caches are asked for by markers",
    "service_tier": "always, unless it is auto or default",
}
"""Neutral members that are left out, and when."""

FINISHES = {
    Finish.STOP: "end_turn",
    Finish.STOP_SEQUENCE: "stop_sequence",
    Finish.LENGTH: "max_tokens",
    Finish.CONTEXT: "model_context_window_exceeded",
    Finish.TOOLS: "tool_use",
    Finish.PAUSED: "pause_turn",
    Finish.FILTERED: "refusal",
    Finish.REFUSED: "refusal",
}

Json = dict[str, object]


def write_ask(ask: Ask, model: str, max_output_tokens: int, names: Names) -> tuple[bytes, tuple[str, ...]]:
    """The body, and the neutral names of what was left out of it. Raises BadRequest."""
    refuse_essential(ask, DIALECT)
    refuse_choices(ask, DIALECT)
    abilities = abilities_of(model)
    dropped = list(ask.lost)
    leading = leading_system(ask.turns)
    body: Json = {
        "model": model,
        "max_tokens": ask.max_output_tokens or max_output_tokens or UNTOLD_MAX_TOKENS,
    }
    messages = messages_of(ask.turns[leading:], names)
    refuse_silence(messages, DIALECT)
    body["messages"] = messages
    texts = [part for turn in ask.turns[:leading] for part in turn.parts if isinstance(part, Text)]
    system = [text_block(part) for part in texts if part.text.strip()]
    tools = [_tool(tool, names) for tool in ask.tools]
    choice = ask.tool_choice
    if not tools:
        tools = _called(ask.turns, names)
        choice = ToolChoice("none") if tools else choice
    config: Json = {}
    if ask.format is not None:
        choice = _formatted(ask.format, abilities, config, system, tools, choice)
    thinks = _think(ask, abilities, body, config, choice, dropped)
    if system:
        body["system"] = system if any("cache_control" in part for part in system) else _joined(system)
    if tools:
        body["tools"] = tools
    _choose(body, choice, ask.parallel_tools, names)
    _sample(body, ask, abilities, thinks, dropped)
    stops = [stop for stop in ask.stop if stop.strip()]
    if stops:
        body["stop_sequences"] = stops
    if ask.stream:
        body["stream"] = True
    if config:
        body["output_config"] = config
    if ask.user:
        body["metadata"] = {"user_id": opaque_user(ask.user)}
    dropped += [name for name in ("verbosity", "cache_key") if getattr(ask, name)]
    if ask.service_tier not in _USUAL_TIERS:
        dropped.append("service_tier")
    return _ENCODER.encode(body), tuple(dict.fromkeys(dropped))


def _called(turns: Iterable[Turn], names: Names) -> list[Json]:
    """The tools that a conversation names and the call leaves out: calls and results without any tool are refused."""
    called = [names.sent(part.name) for turn in turns for part in turn.parts if isinstance(part, ToolUse)]
    return [{"name": name, "input_schema": EMPTY_OBJECT} for name in dict.fromkeys(called)]


def _joined(system: Iterable[Json]) -> str:
    return "\n\n".join([str(part["text"]) for part in system])


def _formatted(
    form: Format,
    abilities: Abilities,
    config: Json,
    system: list[Json],
    tools: list[Json],
    choice: ToolChoice | None,
) -> ToolChoice | None:
    """Asks for JSON as this model can be asked. Returns the choice of tool that goes with it."""
    if form.schema is None:
        system.append({"type": "text", "text": "Answer with one JSON object and nothing else."})
    elif abilities.formats:
        config["format"] = {"type": "json_schema", "schema": closed(form.schema)}
    elif not tools:
        tools.append(
            {"name": JSON_TOOL, "description": form.description or "Gives the answer.", "input_schema": form.schema}
        )
        return ToolChoice("named", JSON_TOOL)
    else:
        schema = bytes(form.schema).decode()
        system.append({"type": "text", "text": f"Answer only with JSON that is valid under this schema: {schema}"})
    return choice


def _think(
    ask: Ask, abilities: Abilities, body: Json, config: Json, choice: ToolChoice | None, dropped: list[str]
) -> bool:
    """Says how much to think, where the model can and this call may. True when it will."""
    if ask.effort in _NO_EFFORT and ask.thinking_tokens is None:
        return False
    forced = choice is not None and choice.mode in ("required", "named")
    limit = body["max_tokens"]
    assert isinstance(limit, int)
    budget = min(ask.thinking_tokens or _BUDGETS.get(ask.effort, _BUDGETS["medium"]), limit - 1)
    if forced or _unsealed(ask.turns):
        dropped.append("effort")
    elif abilities.adaptive:
        body["thinking"] = {"type": "adaptive"}
        config["effort"] = _effort(ask.effort, abilities)
        return True
    elif abilities.budgets and budget >= THINKING_MIN:
        body["thinking"] = {"type": "enabled", "budget_tokens": budget}
        return True
    else:
        dropped.append("effort")
    return False


def _effort(asked: str, abilities: Abilities) -> str:
    effort = _EFFORTS.get(asked, "medium")
    return "high" if abilities.budgets and effort in ("xhigh", "max") else effort


def _unsealed(turns: Sequence[Turn]) -> bool:
    """Whether the last answer called a tool without thinking that Anthropic can read: it would refuse to think on."""
    last = next((turn for turn in reversed(turns) if turn.role == "assistant"), None)
    if last is None or turns[-1] is last or not any(isinstance(part, ToolUse) for part in last.parts):
        return False
    return not any(isinstance(part, Thinking) and part.sealed_by == ANTHROPIC for part in last.parts)


def _choose(body: Json, choice: ToolChoice | None, parallel: bool | None, names: Names) -> None:
    if "tools" not in body:
        return
    said: Json = {}
    match choice:
        case ToolChoice(mode="required"):
            said["type"] = "any"
        case ToolChoice(mode="named", name=name):
            said |= {"type": "tool", "name": names.sent(name)}
        case ToolChoice(mode="none"):
            said["type"] = "none"
        case ToolChoice(mode="auto"):
            said["type"] = "auto"
    if parallel is False and said.get("type") != "none":
        said.setdefault("type", "auto")
        said["disable_parallel_tool_use"] = True
    if said:
        body["tool_choice"] = said


def _sample(body: Json, ask: Ask, abilities: Abilities, thinks: bool, dropped: list[str]) -> None:
    """Temperature and its like, where the model has them and does not think. OpenAI's run to 2, Anthropic's to 1."""
    given = [(name, text) for name in ("temperature", "top_p", "top_k") if (text := getattr(ask, name))]
    for name, text in given:
        if thinks or not abilities.samples or (name == "top_p" and ask.temperature and abilities.one_sampling):
            dropped.append(name)
        elif name == "temperature" and float(text) > 1:
            body[name] = 1
        else:
            body[name] = msgspec.Raw(text.encode())


def _tool(tool: Tool, names: Names) -> Json:
    made: Json = {"name": names.sent(tool.name)}
    if tool.description:
        made["description"] = tool.description
    made["input_schema"] = arguments_schema(tool)
    return marked(made, tool.marker)


# ---------------------------------------------------------------- the reply


def write_reply(reply: Reply) -> bytes:
    """A whole reply as a caller of Messages reads it."""
    content = [block for part in reply.parts for block in reply_blocks(part)]
    body = {
        "id": message_id(reply.id),
        "type": "message",
        "role": "assistant",
        "model": reply.model,
        "content": content,
        "stop_reason": FINISHES[reply.finish],
        "stop_sequence": reply.stop_sequence or None,
        "usage": usage_members(reply.usage),
    }
    return _ENCODER.encode(body)


def message_id(upstream_id: str) -> str:
    return upstream_id if upstream_id.startswith("msg_") else f"msg_{upstream_id}"


def reply_blocks(part: Part) -> Iterator[Json]:
    match part:
        case Text(text=text) | Refusal(text=text) if text:
            yield {"type": "text", "text": text}
        case Thinking() if part.text or part.seal:
            yield block_of(part)
        case ToolUse():
            yield {"type": "tool_use", "id": fitting_id(part.id), "name": part.name, "input": arguments_object(part)}


def usage_members(usage: Usage | None) -> dict[str, int]:
    """Anthropic's usage: what was cached stands beside `input_tokens`, not in it."""
    if usage is None:
        return {"input_tokens": 0, "output_tokens": 0}
    meters = usage.meters
    read = sum(meters.get(meter, 0) for meter in _READS)
    written = sum(meters.get(meter, 0) for meter in _WRITES)
    return {
        "input_tokens": max(0, usage.input_tokens() - read - written),
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": read,
        "output_tokens": usage.output_tokens(),
    }


_READS = (Meter.CACHE_READ, Meter.CACHE_READ_AUDIO, Meter.CACHE_READ_IMAGE, Meter.CACHE_READ_VIDEO)
_WRITES = (Meter.CACHE_WRITE, Meter.CACHE_WRITE_1H, Meter.CACHE_WRITE_12H)
