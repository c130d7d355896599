"""What is wrong with a configuration file: collected, all at once, each with its line and what to do."""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches

import msgspec

from gateway.core.errors import ConfigInvalid

_SHOWN_CHARACTERS = 60


class Problem(msgspec.Struct, frozen=True, order=True):
    """`message` and `suggestion` are sentences without a full stop; `suggestion` may be empty. Lines count from 1."""

    file: str
    line: int
    message: str
    suggestion: str = ""

    def __str__(self) -> str:
        tail = f". {self.suggestion}" if self.suggestion else ""
        return f"{self.file}:{self.line}: {self.message}{tail}"


class Problems:
    """A growing list of problems of one file."""

    __slots__ = ("_found", "file")

    def __init__(self, file: str) -> None:
        self.file = file
        self._found: list[Problem] = []

    def add(self, line: int, message: str, suggestion: str = "") -> None:
        self._found.append(Problem(self.file, line, message, suggestion))

    def __len__(self) -> int:
        return len(self._found)

    def sorted(self) -> list[Problem]:
        """In the order of the file, each once."""
        return sorted(set(self._found))


def invalid(problems: list[Problem]) -> ConfigInvalid:
    """The error that carries all of them: one a line in the message, members in `extra`."""
    return ConfigInvalid(
        "\n".join(str(problem) for problem in problems),
        extra={"problems": [msgspec.to_builtins(problem) for problem in problems]},
    )


def did_you_mean(name: str, known: Collection[str], otherwise: str = "") -> str:
    """`Did you mean 'x'?` for a near miss, else what there is, else `otherwise`."""
    near = get_close_matches(name[:100], known, n=1, cutoff=0.6)
    if near:
        return f"Did you mean {near[0]!r}?"
    if otherwise:
        return otherwise
    return f"Known are: {', '.join(sorted(known)[:20])}" if known else ""


def show(text: str) -> str:
    """A name from a file or a caller, quoted, escaped and cut for a message."""
    return repr(text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…")
