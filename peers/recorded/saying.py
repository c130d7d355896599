"""What a reply says, as the official SDK of its dialect puts it together: the judge of what a translation may lose."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import anthropic
import httpx2
import openai
from recordings import CHAT, MESSAGES

from gateway.dialects.translate.writing import fitting_id

_ASKED: list[Any] = [{"role": "user", "content": "hi"}]
_ENDS = {
    "end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length", "model_context_window_exceeded": "length",
    "tool_use": "tools", "pause_turn": "stop", "refusal": "refused", "compaction": "stop",
    "stop": "stop", "length": "length", "tool_calls": "tools", "content_filter": "refused",
}  # fmt: skip


_TERMINAL = ("response.completed", "response.incomplete")


@dataclass(frozen=True, slots=True)
class Saying:
    """`text` has refusals in it, as not every dialect tells them apart; usage is (prompt, of that cached, answer)."""

    text: str
    thought: str
    tools: tuple[tuple[str, str, str], ...]
    end: str
    usage: tuple[int, int, int]


def say(surface: str, body: bytes, streamed: bool) -> Saying:
    """Raises whatever the SDK raises on what it does not take."""
    kind = "text/event-stream" if streamed else "application/json"

    def answer(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": kind}, content=body)

    with httpx2.Client(transport=httpx2.MockTransport(answer)) as http:
        if surface == MESSAGES:
            claude = anthropic.Anthropic(api_key="k", base_url="http://x.test", http_client=http, max_retries=0)
            return _messages(claude, streamed)
        gpt = openai.OpenAI(api_key="k", base_url="http://x.test/v1", http_client=http, max_retries=0)
        return _chat(gpt, streamed) if surface == CHAT else _responses(gpt, streamed)


def _messages(claude: anthropic.Anthropic, streamed: bool) -> Saying:
    asked: dict[str, Any] = {"model": "m", "max_tokens": 9, "messages": _ASKED}
    if streamed:
        with claude.messages.stream(**asked) as stream:
            message: Any = stream.get_final_message()
    else:
        message = claude.messages.create(**asked)
    blocks = message.content
    usage = message.usage
    read, written = usage.cache_read_input_tokens or 0, usage.cache_creation_input_tokens or 0
    return Saying(
        text="".join([block.text for block in blocks if block.type == "text"]),
        thought="".join([block.thinking for block in blocks if block.type == "thinking"]),
        tools=tuple([(block.id, block.name, _canonical(block.input)) for block in blocks if block.type == "tool_use"]),
        end=_ENDS[message.stop_reason],
        usage=(usage.input_tokens + read + written, read, usage.output_tokens),
    )


def _chat(gpt: openai.OpenAI, streamed: bool) -> Saying:
    if streamed:
        with gpt.chat.completions.stream(model="m", messages=_ASKED, stream_options={"include_usage": True}) as stream:
            for _ in stream:
                pass
            completion: Any = stream.current_completion_snapshot  # the final one raises for answers that were cut
    else:
        completion = gpt.chat.completions.create(model="m", messages=_ASKED)
    choice, usage = completion.choices[0], completion.usage
    message = choice.message
    details = usage.prompt_tokens_details if usage else None
    return Saying(
        text=(message.content or "") + (message.refusal or ""),
        thought=getattr(message, "reasoning_content", None) or "",
        tools=tuple([_call(call) for call in message.tool_calls or ()]),
        end="tools" if message.tool_calls and choice.finish_reason == "stop" else _ENDS[choice.finish_reason],
        usage=(usage.prompt_tokens, (details.cached_tokens if details else 0) or 0, usage.completion_tokens)
        if usage
        else (0, 0, 0),
    )


def _call(call: Any) -> tuple[str, str, str]:
    if call.type == "custom":
        custom = call.custom
        return (
            (call.id, custom["name"], custom["input"])
            if isinstance(custom, dict)
            else (call.id, custom.name, custom.input)
        )
    return call.id, call.function.name, _canonical(call.function.arguments)


def _responses(gpt: openai.OpenAI, streamed: bool) -> Saying:
    if streamed:
        with gpt.responses.stream(model="m", input="hi") as stream:
            ends = [event.response for event in stream if event.type in _TERMINAL]
        (response,) = ends  # the SDK's own final one is only there for a completed response
    else:
        response = gpt.responses.create(model="m", input="hi")
    contents = [part for item in response.output if item.type == "message" for part in item.content]
    thoughts = [
        "\n\n".join([part.text for part in (item.summary or item.content or ())])
        for item in response.output
        if item.type == "reasoning"
    ]
    tools = [_item(item) for item in response.output if item.type in ("function_call", "custom_tool_call")]
    usage = response.usage
    if response.status == "incomplete":
        end = "refused" if response.incomplete_details.reason == "content_filter" else "length"
    else:
        end = "tools" if tools else "refused" if any(part.type == "refusal" for part in contents) else "stop"
    return Saying(
        text="".join([part.refusal if part.type == "refusal" else part.text for part in contents]),
        thought="".join(thoughts),
        tools=tuple(tools),
        end=end,
        usage=(usage.input_tokens, usage.input_tokens_details.cached_tokens, usage.output_tokens),
    )


def _item(item: Any) -> tuple[str, str, str]:
    text = _canonical(item.arguments) if item.type == "function_call" else item.input
    return item.call_id, item.name, text


def _canonical(arguments: object) -> str:
    """A tool's arguments in one form, however a dialect writes them: none at all are an empty object."""
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except ValueError:
            return str(arguments)
    return json.dumps(arguments, sort_keys=True)


def losses(said: Saying, translated: Saying) -> str:
    """What a translation does not say as the original did, empty for nothing."""
    wanted = tuple([(fitting_id(ident), name, _boxed(text)) for ident, name, text in said.tools])
    told = tuple([(ident, name, _boxed(text)) for ident, name, text in translated.tools])
    if said.end == "length":  # the arguments may be cut, and each SDK mends that in its own way
        wanted, told = tuple([(*call[:2], "") for call in wanted]), tuple([(*call[:2], "") for call in told])
    pairs: list[tuple[str, object, object]] = [
        ("text", said.text, translated.text),
        ("thinking", said.thought, translated.thought),
        ("tools", wanted, told),
        ("usage", said.usage, translated.usage),
        ("end", said.end, translated.end),
    ]
    return "; ".join([f"{name}: {str(was)[:80]!r} → {str(now)[:80]!r}" for name, was, now in pairs if was != now])


def _boxed(text: str) -> str:
    """The text of a custom tool stands in an object where a dialect has none such."""
    try:
        members = json.loads(text)
    except ValueError:
        return text
    return str(members["input"]) if isinstance(members, dict) and list(members) == ["input"] else text
