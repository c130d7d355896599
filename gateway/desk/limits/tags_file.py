"""The `tags` of `limits.yaml`: which of them have sums in the ledger, and which a team's calls must carry."""

from __future__ import annotations

import yaml

from gateway.core.caller import RequiredTags, TagPolicy
from gateway.core.limits import EACH
from gateway.limits.scope import MAX_TAG_NAME
from gateway.limits.written import EACH_WORD, LONGEST_VALUE
from gateway.routing.problems import Problems, did_you_mean, show
from gateway.routing.yaml_nodes import Member, items, line_of, members, read_text

SECTION = "tags"
MOST_ROLLUPS = 16
"""The ledger keeps sums for each value of each of these."""
MOST_TAGS = 16
"""As many as a call may carry."""
MOST_TEAMS = 1000
_MEMBERS = ("rollups", "required")
_RULE = ("tags", "mode")
_MODES = {"block": True, "dry_run": False}


def read_tags(node: yaml.Node, problems: Problems) -> TagPolicy:
    """What the section says; what has problems is left out."""
    rollups: tuple[str, ...] = ()
    required: list[RequiredTags] = []
    for member in members(node, SECTION, problems):
        if member.name == "rollups":
            rollups = _names(member.value, f"{SECTION}: rollups", MOST_ROLLUPS, problems)
        elif member.name == "required":
            teams = members(member.value, f"{SECTION}: required", problems)
            if len(teams) > MOST_TEAMS:
                problems.add(member.line, f"{SECTION}: required has over {MOST_TEAMS} teams", f"Use {EACH_WORD}")
                continue
            required += [rule for team in teams if (rule := _rule(team, problems)) is not None]
        else:
            problems.add(member.line, f"{SECTION} has no {show(member.name)}", did_you_mean(member.name, _MEMBERS))
    return TagPolicy(rollups, tuple(sorted(required, key=lambda rule: rule.team)))


def _rule(team: Member, problems: Problems) -> RequiredTags | None:
    what = f"{SECTION}: required: {show(team.name)}"
    before = len(problems)
    names: tuple[str, ...] = ()
    mode = "dry_run"
    if not team.name.strip() or not team.name.isprintable() or len(team.name) > LONGEST_VALUE or team.name == EACH:
        problems.add(team.line, f"{what} is no team", f"Name one, or {EACH_WORD} for every team")
    for member in members(team.value, what, problems):
        if member.name == "tags":
            names = _names(member.value, f"{what}: tags", MOST_TAGS, problems)
        elif member.name == "mode":
            mode = read_text(member.value, f"{what}: mode", problems) or mode
            if mode not in _MODES:
                problems.add(member.line, f"{what}: mode cannot be {show(mode)}", f"Use {' or '.join(_MODES)}")
        else:
            problems.add(member.line, f"{what} has no {show(member.name)}", did_you_mean(member.name, _RULE))
    if len(problems) == before and not names:
        problems.add(team.line, f"{what} names no tags", "Write it like {tags: [feature], mode: dry_run}")
    if len(problems) > before:
        return None
    return RequiredTags(EACH if team.name == EACH_WORD else team.name, names, _MODES[mode])


def _names(node: yaml.Node, what: str, most: int, problems: Problems) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for item in items(node, what, most, "Write it like [feature, env]", problems):
        name = read_text(item, what, problems)
        if name is None:
            continue
        if not is_tag_name(name):
            problems.add(line_of(item), f"{what}: {show(name)} cannot be a tag's name", _NAME)
        found[name] = None
    return tuple(found)


def is_tag_name(name: str) -> bool:
    """Whether a header can carry it: `x-faregate-tags: name=value,name=value`."""
    fits = 0 < len(name) <= MAX_TAG_NAME and name.isascii() and name.isprintable()
    return fits and name == name.strip() and not set(name) & {",", "="}


_NAME = f"Use up to {MAX_TAG_NAME} printable characters of ASCII, without `,` and `=`"
