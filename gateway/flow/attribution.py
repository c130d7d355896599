"""Whose call it is besides its key: end user, session and tags, from headers and members that clients send anyway.

One row for each header, here and in `docs/attribution.md`. The first row that a request fills counts, so what the
caller says on purpose (`x-faregate-…`) comes before what its client says by itself, and headers before the body. What
the key fixes, its tags and whose money it is, nobody overrides. All of it is the caller's word: it is written down and
may narrow a limit, it opens nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec

from gateway.core.call import Head
from gateway.core.caller import Caller, KeyRecord, is_owned_tag

DIMENSION_CHARS_MAX = 256
TAGS_MAX = 16
_TAGS_HEADER = "x-faregate-tags"
_USER, _SESSION = "user", "session"


@dataclass(frozen=True, slots=True)
class HeaderRow:
    """A request header, what it becomes (`user`, `session`, or the name of a tag), and who sends it."""

    header: str
    becomes: str
    sent_by: str


HEADERS: tuple[HeaderRow, ...] = (
    HeaderRow("x-faregate-user", _USER, "any client"),
    HeaderRow("x-faregate-session", _SESSION, "any client"),
    HeaderRow("x-claude-code-session-id", _SESSION, "Claude Code"),
    HeaderRow("x-claude-code-agent-id", "agent", "Claude Code"),
    HeaderRow("x-claude-code-parent-agent-id", "parent_agent", "Claude Code"),
    HeaderRow("session_id", _SESSION, "Codex"),
    HeaderRow("originator", "originator", "Codex, and editors that run it"),
    HeaderRow("x-openai-subagent", "agent", "Codex"),
    HeaderRow("x-openwebui-user-id", _USER, "Open WebUI"),
    HeaderRow("x-openwebui-chat-id", _SESSION, "Open WebUI"),
)
_NAMES = frozenset({row.header for row in HEADERS} | {_TAGS_HEADER})


def attributed(key: KeyRecord, headers: Mapping[str, str]) -> Caller:
    """The caller of a request, as its headers tell it; names are lower-case."""
    if headers.keys().isdisjoint(_NAMES):
        return Caller(key=key, tags=key.tags)
    said: dict[str, str] = {}
    for row in HEADERS:
        if row.header in headers and not said.get(row.becomes):
            said[row.becomes] = _text_of(headers[row.header])
    user, session = said.pop(_USER, ""), said.pop(_SESSION, "")
    pairs = [pair.partition("=")[::2] for pair in headers.get(_TAGS_HEADER, "").split(",")[:TAGS_MAX]]
    return Caller(key=key, user=user, session=session, tags=_joined(key.tags, [*pairs, *said.items()]))


def completed(caller: Caller, head: Head) -> Caller:
    """The caller with what its body says, where its headers said nothing. The user of the body stays with the head."""
    if not head.session and not head.tags:
        return caller
    session = caller.session or head.session[:DIMENSION_CHARS_MAX]
    return msgspec.structs.replace(caller, session=session, tags=_joined(caller.tags, head.tags[:TAGS_MAX]))


def _joined(known: tuple[tuple[str, str], ...], sent: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Tags with those that were sent and are neither known yet nor the key's to say."""
    tags = dict(known)
    for name, value in sent:
        name = name.strip()[:DIMENSION_CHARS_MAX]
        if name and not is_owned_tag(name):
            tags.setdefault(name, value.strip()[:DIMENSION_CHARS_MAX])
    return tuple(tags.items())


def _text_of(value: str) -> str:
    if not value.isascii():
        with contextlib.suppress(UnicodeError):  # a body says `é` in UTF-8: the same name in a header is the same user
            value = value.encode("latin-1").decode()
    return value[:DIMENSION_CHARS_MAX]
