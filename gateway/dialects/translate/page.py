"""`docs/translation.md`, made from the codecs: `python -m gateway.dialects.translate.page > docs/translation.md`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from gateway.dialects.anthropic_messages import from_neutral as to_messages
from gateway.dialects.anthropic_messages import into_neutral as of_messages
from gateway.dialects.anthropic_messages import request as messages_request
from gateway.dialects.anthropic_messages.codec import CODEC as MESSAGES
from gateway.dialects.openai_chat import from_neutral as to_chat
from gateway.dialects.openai_chat import into_neutral as of_chat
from gateway.dialects.openai_chat import request as chat_request
from gateway.dialects.openai_chat.codec import CODEC as CHAT
from gateway.dialects.openai_responses import from_neutral as to_responses
from gateway.dialects.openai_responses import into_neutral as of_responses
from gateway.dialects.openai_responses import request as responses_request
from gateway.dialects.openai_responses.codec import CODEC as RESPONSES

HEAD = """\
# Translation between dialects

Made by `python -m gateway.dialects.translate.page` from the codecs in `gateway/dialects/`; do not edit.

A call in one dialect reaches a provider that speaks another: chat completions, Anthropic's Messages and OpenAI's
Responses are translated into each other, requests, replies, streams, errors and usage. Where the provider serves the
caller's own dialect nothing is translated: bytes pass as they come. Money never depends on a translation: usage is read
from the provider's own bytes.

| in `routes.yaml`, per model | does |
|---|---|
| `translate_to: responses` | speaks to the provider in that dialect even where it serves the caller's |
| `on_unsupported: warn` | (usual) leaves out what cannot be said, named in `x-faregate-dropped-params`; see *refused* |
| `on_unsupported: drop` | leaves out all of it, also named |
| `on_unsupported: reject` | refuses the call for any of it |

A chat completion with tools and a reasoning effort goes to OpenAI's models that refuse the two together (gpt-5.4 and
later) as a response by itself, and so does every call of models that serve nothing but responses (`*-codex`, `*-pro`,
deep research).

What a model thought goes back to it: its signature or encrypted content travels in the caller's own place for such
things (`thinking_blocks`, `signature`, `encrypted_content`), packed where the dialects differ. Nothing is remembered
here between two calls, so `previous_response_id`, `conversation` and `background` need a provider that serves responses
itself.

What the provider's API would answer with an error, and means the same said otherwise, is said otherwise: schemas get
what the other vendor demands, results of tools come first, texts of blanks are left out, long ids of users are hashed
for OpenAI, a limit below 16 tokens is 16 for Responses, and cache markers stay away from sellers that do not know them.
A conversation that the assistant begins gets a turn of the user before it for Anthropic. What the model was to see
(images, files, kinds of content nobody knows here) is never left out: such a call is refused.

`make test-recorded` translates recordings of real providers that other people's packages hold, with the official SDKs
as judges; `make bench-translation` prints what an event costs.

Codex names tools that run at OpenAI (`web_search`) in every turn: give a model of another vendor `on_unsupported: drop`
for it.
"""


class Dialect(NamedTuple):
    title: str
    known: frozenset[str]
    said: frozenset[str]
    essential: frozenset[str]
    unsaid: Mapping[str, str]
    names: Mapping[str, str]


DIALECTS = (
    Dialect(
        "Chat completions",
        chat_request.KNOWN,
        of_chat.SAID_ELSEWHERE,
        of_chat.ESSENTIAL,
        to_chat.UNSAID,
        CHAT.names,
    ),
    Dialect(
        "Messages",
        messages_request.KNOWN,
        of_messages.SAID_ELSEWHERE,
        of_messages.ESSENTIAL,
        to_messages.UNSAID,
        MESSAGES.names,
    ),
    Dialect(
        "Responses",
        responses_request.KNOWN,
        of_responses.SAID_ELSEWHERE,
        of_responses.ESSENTIAL,
        to_responses.UNSAID,
        RESPONSES.names,
    ),
)


def page() -> str:
    parts = [HEAD]
    for own in DIALECTS:
        parts.append(f"## {own.title} to another dialect\n")
        parts.append(
            f"Refused, as the answer would be another one: {_names(own.essential & own.known)}; tools that run"
        )
        parts.append("at the provider; more than one choice.\n")
        parts.append(f"Left out and named: {_names(own.known - own.said - own.essential)}, and members nobody knows.\n")
        parts.append("| into | also left out | when |\n|---|---|---|")
        for theirs in DIALECTS:
            if theirs is not own:
                parts.extend(_rows(own, theirs))
        parts.append("")
    return "\n".join(parts)


def _rows(own: Dialect, theirs: Dialect) -> Iterable[str]:
    for name, when in theirs.unsaid.items():
        said = own.names.get(name, name)
        if said.partition(".")[0] in own.known:
            yield f"| {theirs.title} | `{said}` | {when} |"


def _names(names: Iterable[str]) -> str:
    return ", ".join([f"`{name}`" for name in sorted(names)]) or "nothing"


if __name__ == "__main__":
    sys.stdout.write(page())
