"""The page of what translations cannot say is made of the code, and says what the code does."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from gateway.core.neutral import Ask, Text, Tool, ToolChoice, Turn
from gateway.dialects.anthropic_messages import from_neutral as to_messages
from gateway.dialects.openai_chat import from_neutral as to_chat
from gateway.dialects.openai_responses import from_neutral as to_responses
from gateway.dialects.translate.page import DIALECTS, page
from gateway.dialects.translate.writing import Names

PAGE = Path(__file__).resolve().parents[2] / "docs" / "translation.md"
ASK = Ask("m", (Turn("user", (Text("hi"),)),))
SAMPLES = {
    "temperature": {"temperature": "0.5"},
    "top_p": {"top_p": "0.5"},
    "top_k": {"top_k": "5"},
    "stop": {"stop": ("x",)},
    "verbosity": {"verbosity": "low"},
    "cache_key": {"cache_key": "k"},
    "service_tier": {"service_tier": "flex"},
    "effort": {"effort": "high", "tools": (Tool("a"),), "tool_choice": ToolChoice("required")},
}


def picky(name: str) -> str:
    """A model of OpenAI's that does not take the member."""
    return "gpt-4o" if name == "effort" else "gpt-6"


def test_the_page_is_current() -> None:
    """`python -m gateway.dialects.translate.page > docs/translation.md` writes it."""
    assert PAGE.read_text() == page()


@pytest.mark.parametrize("name", to_messages.UNSAID)
def test_what_messages_cannot_say(name: str) -> None:
    ask = msgspec.structs.replace(ASK, **SAMPLES[name])
    assert name in to_messages.write_ask(ask, "claude-opus-4-8", 100, Names(64))[1]


@pytest.mark.parametrize("name", to_chat.UNSAID)
def test_what_chat_cannot_say(name: str) -> None:
    assert name in to_chat.write_ask(msgspec.structs.replace(ASK, **SAMPLES[name]), picky(name), Names(64))[1]


@pytest.mark.parametrize("name", to_responses.UNSAID)
def test_what_responses_cannot_say(name: str) -> None:
    assert name in to_responses.write_ask(msgspec.structs.replace(ASK, **SAMPLES[name]), picky(name), Names(64))[1]


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.title)
def test_every_known_member_is_said_left_out_or_refused(dialect: object) -> None:
    assert dialect.said <= dialect.known | {"functions", "function_call", "cache_control"}  # type: ignore[attr-defined]
    assert not dialect.essential & dialect.said  # type: ignore[attr-defined]
