"""What of a Claude model decides how a request to it is written: only its generation, read from its name.

Sources: Anthropic's pages on adaptive thinking, effort, structured outputs and model migration, as of November 2026. A
name that is no Claude's (an Anthropic-shaped server of one's own) is taken for the newest generation.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_NEW = re.compile(r"claude-(?:[a-z]+)-(\d{1,2})(?:[-.](\d{1,2}))?(?!\d)")
_OLD = re.compile(r"claude-(\d{1,2})(?:[-.](\d{1,2}))?-[a-z]+")
NEWEST = (99, 0)


class Abilities(NamedTuple):
    """`thinks` in tokens or not at all, `adaptive`: it thinks as much as an effort says, `budgets`: as many tokens as
    it is told, `formats`: it takes a schema for its answer, `one_sampling`: temperature or top_p, not both."""

    adaptive: bool
    budgets: bool
    formats: bool
    one_sampling: bool
    samples: bool


def abilities_of(model: str) -> Abilities:
    """From `claude-opus-4-6`, `claude-3-7-sonnet-20250219`, also behind a prefix such as `anthropic/`."""
    version = _version(model)
    return Abilities(
        adaptive=version >= (4, 6),
        budgets=(3, 7) <= version <= (4, 6),
        formats=version >= (4, 5) or (version == (4, 1) and "opus" in model),
        one_sampling=version >= (4, 1),
        samples=version < (4, 7),
    )


def _version(model: str) -> tuple[int, int]:
    match = _NEW.search(model) or _OLD.search(model)
    if match is None:
        return NEWEST
    minor = int(match.group(2) or 0)
    return int(match.group(1)), minor
