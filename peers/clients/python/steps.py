"""What a client program tells its judge: one JSON line per step, on standard output.

Programs run in environments of their own, with the clients' packages and nothing of Faregate. They are told where the
gateway is and which keys they have by the environment.
"""

import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version

URL = os.environ["CLIENT_GATEWAY_URL"]
KEY = os.environ["CLIENT_KEY"]
POOR_KEY = os.environ["CLIENT_POOR_KEY"]
"""A key whose budget is too small for any call."""
CHAT_MODEL = "gpt-4o-mini"
EMBED_MODEL = "text-embedding-3-small"
CLAUDE_MODEL = "claude-sonnet-5"

RIVERS = "Name three rivers."
RIVERS_ANSWER = "The Rhine, the Elbe and the Oder."
WEATHER = "What is the weather in Paris?"
WEATHER_ANSWER = "It is 21 degrees in Paris."
CITY = "Describe Paris."
REFUSED = "Refuse this."
HICCUP = "Hiccup"
HICCUP_ANSWER = "Better now."


def tell(**members: object) -> None:
    print(json.dumps(members), flush=True)


def introduce(*packages: str) -> None:
    """The versions under test."""
    tell(versions={name: version(name) for name in packages}, runtime="Python " + sys.version.split()[0])


@contextmanager
def step(name: str) -> Iterator[None]:
    """A failure ends the step, not the program: the judge shall see all of them."""
    try:
        yield
    except BaseException as error:
        tell(step=name, ok=False, said="".join(traceback.format_exception(error))[-3000:])
        if not isinstance(error, Exception):
            raise
    else:
        tell(step=name, ok=True)


@contextmanager
def refused(kind: type[BaseException], **members: object) -> Iterator[None]:
    """The body must end with this very class and these members on it."""
    caught: BaseException | None = None
    try:
        yield
    except kind as error:
        caught = error
    assert type(caught) is kind, caught
    found = {name: getattr(caught, name, None) for name in members}
    assert found == members, found


def raised(body: Callable[[], object]) -> Exception:
    """What the body ends with."""
    try:
        body()
    except Exception as error:
        return error
    raise AssertionError("no error")
