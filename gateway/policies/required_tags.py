"""Which tags a call lacks that its team must send. No Guard: the path asks only where a policy requires any."""

from __future__ import annotations

from collections.abc import Sequence
from shlex import quote

from gateway.core.caller import Caller, RequiredTags, is_owned_tag
from gateway.core.errors import TagsRequired
from gateway.core.limits import EACH

NAME = "required_tags"
HEADER = "x-faregate-tags"


def missing_tags(required: Sequence[RequiredTags], caller: Caller) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(tags without which the call is refused, tags that are only asked for) of those the call does not carry.

    An empty value is none. What refuses is not told a second time as asked for.
    """
    carried = {name for name, value in caller.tags if value}
    refused: dict[str, None] = {}
    asked: dict[str, None] = {}
    for rule in required:
        if rule.team in (EACH, caller.key.team):
            found = refused if rule.refuses else asked
            found.update(dict.fromkeys(name for name in rule.names if name not in carried))
    return tuple(refused), tuple(name for name in asked if name not in refused)


def refusal_of(missing: Sequence[str], caller: Caller) -> TagsRequired:
    """What a caller is told that left out tags: which, and how to send them."""
    sendable = [name for name in missing if not is_owned_tag(name)]
    text = f"Calls of the team {caller.key.team} must carry the tag{'s' if len(missing) > 1 else ''} {_words(missing)}."
    if sendable:
        text += f" Send {HEADER}: {','.join(f'{name}=…' for name in sendable)}."
    if sendable == list(missing):
        text += f" Or have them set on the key: {_setting(missing, caller)}."
    else:
        text += f" {_words([name for name in missing if is_owned_tag(name)])} is the key's to say: "
        text += f"{_setting(missing, caller)}."
    return TagsRequired(text, param=HEADER, extra={"missing_tags": list(missing)})


def _setting(missing: Sequence[str], caller: Caller) -> str:
    """The command that adds them to the tags the key has: it takes all of them."""
    tags = [*(quote(f"{name}={value}") for name, value in caller.key.tags), *(f"{name}=…" for name in missing)]
    return f"`faregate keys update {caller.key.key_id} {' '.join(f'--tag {tag}' for tag in tags)}`"


def _words(names: Sequence[str]) -> str:
    return " and ".join((", ".join(names[:-1]), names[-1])) if len(names) > 1 else names[0]
