"""`limits.yaml` into the policy: its nodes are read here, with their lines; what they mean `limits.written` says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import yaml

from gateway.core.caller import TagPolicy
from gateway.core.config import Policy
from gateway.core.limits import EACH, Limit
from gateway.desk.limits.tags_file import SECTION as TAGS_SECTION
from gateway.desk.limits.tags_file import read_tags
from gateway.limits.scope import Scope
from gateway.limits.written import MEMBERS, Mistake, check_id, read_limit
from gateway.routing.policy_bytes import seal
from gateway.routing.problems import Problems, did_you_mean, invalid, show
from gateway.routing.yaml_nodes import Member, compose, is_null, members, read_text
from gateway.vault.policy_files import LIMITS_FILE, load_limits

SECTION = "limits"
MOST_LIMITS = 10_000
_MEMBERS = frozenset(member.name for member in MEMBERS)
_LISTS = ("alerts",)
_MAPPINGS = ("scope", "increase")
_NUMBERS = ("max_values", "min_output")


def with_limits(policy: Policy, config_dir: Path) -> Policy:
    """The compiled policy with limits and tags of the folder's `limits.yaml`, sealed anew; as it is when it has none.

    Raises ConfigInvalid that lists every problem as `file:line: message. suggestion`.
    """
    file = load_limits(config_dir)
    if file is None:
        return policy
    problems = Problems(str(file.path))
    limits, tags = read_limits(file.text, policy, problems)
    if problems:
        raise invalid(problems.sorted())
    if not limits and tags == policy.tags:
        return policy
    return seal(msgspec.structs.replace(policy, limits=limits, tags=tags))


def read_limits(text: str, policy: Policy, problems: Problems) -> tuple[tuple[Limit, ...], TagPolicy]:
    """The limits of a file's text by their ids, and what it says of tags; what has problems is left out."""
    root = compose(text, problems)
    if root is None:
        return (), policy.tags
    found: list[Limit] = []
    tags = policy.tags
    for section in members(root, "the file", problems):
        if section.name == TAGS_SECTION:
            tags = read_tags(section.value, problems)
            continue
        if section.name != SECTION:
            hint = did_you_mean(section.name, [SECTION, TAGS_SECTION])
            problems.add(section.line, f"unknown section {show(section.name)}", hint)
            continue
        entries = members(section.value, SECTION, problems)
        if len(entries) > MOST_LIMITS:
            problems.add(section.line, f"has over {MOST_LIMITS} limits", "Use each in scopes instead of listing values")
            continue
        found += [limit for entry in entries if (limit := _read(entry, policy, problems)) is not None]
    return tuple(sorted(found, key=lambda limit: limit.id)), tags


def _read(entry: Member, policy: Policy, problems: Problems) -> Limit | None:
    before = len(problems)
    lines: dict[str, int] = {}
    given: dict[str, object] = {}
    for member in members(entry.value, f"limit {entry.name}", problems):
        lines[member.name] = member.line
        known = member.name in _MEMBERS
        given[member.name] = _value(member, f"limit {entry.name}: {member.name}", problems) if known else None
    if len(problems) > before:
        return None
    try:
        limit = read_limit(check_id(entry.name), given, origin=f"{LIMITS_FILE}:{entry.line}")
    except Mistake as mistake:
        line = lines.get(mistake.member, entry.line)
        what = f"limit {entry.name}: {mistake.member}"
        problems.add(line, f"{what}: {mistake.message}", mistake.suggestion)
        return None
    _check_routed(entry.name, limit, policy, lines.get("scope", entry.line), problems)
    for message, suggestion in downgrade_faults(limit, policy):
        problems.add(lines["downgrade_to"], f"limit {entry.name}: downgrade_to: {message}", suggestion)
    return limit if len(problems) == before else None


def _value(member: Member, what: str, problems: Problems) -> object:
    node = member.value
    if member.name in _MAPPINGS:
        return {
            inner.name: _text(inner.value, f"{what}: {inner.name}", problems) for inner in members(node, what, problems)
        }
    if member.name in _LISTS and isinstance(node, yaml.SequenceNode):
        return [_number(item) for item in node.value]
    if member.name in _NUMBERS:
        return _number(node)
    return _text(node, what, problems)


def _text(node: yaml.Node, what: str, problems: Problems) -> str | None:
    """A text, or a date as it is written: `until: 2026-12-24` needs no quotes."""
    if isinstance(node, yaml.ScalarNode) and str(node.tag).endswith(":timestamp"):
        return str(node.value)
    return read_text(node, what, problems)


def _number(node: yaml.Node) -> object:
    """A whole number; anything else as text, which `read_limit` then refuses with what is right."""
    if isinstance(node, yaml.ScalarNode) and str(node.tag).endswith(":int") and node.value.isdecimal():
        return int(node.value)
    return "" if is_null(node) else str(node.value)


def _check_routed(name: str, limit: Limit, policy: Policy, line: int, problems: Problems) -> None:
    for message, suggestion in routed_faults(limit.scope, policy):
        problems.add(line, f"limit {name}: {message}", suggestion)


def routed_faults(scope: Scope, policy: Policy) -> Iterator[tuple[str, str]]:
    """What is wrong with a scope's models and providers, and what to do. A limit on a provider or model that is not
    there would never hold, and nobody would notice."""
    for dimension, value in scope:
        if value == EACH:
            continue
        if dimension == "provider" and value not in policy.providers:
            yield f"there is no provider {show(value)}", did_you_mean(value, policy.providers)
        elif dimension == "model" and not _is_model(value, policy):
            yield f"there is no model {show(value)}", did_you_mean(value, policy.models)
        elif dimension == "deployment" and value.partition("/")[0] not in policy.providers:
            yield f"the deployment {show(value)} has no provider that is there", "Write it like openai/gpt-4o-mini"


def downgrade_faults(limit: Limit, policy: Policy) -> Iterator[tuple[str, str]]:
    """What is wrong with the model that a limit goes on with, and what to do."""
    target = limit.downgrade_to
    if not target:
        return
    if not _is_model(target, policy):
        yield f"there is no model {show(target)}", did_you_mean(target, policy.models)
    elif _stands_for(dict(limit.scope).get("model", ""), policy) == _stands_for(target, policy):
        yield f"{show(target)} is the model that the limit is about", "Name another one"


def _stands_for(name: str, policy: Policy) -> str:
    route = policy.models.get(name)
    return route.alias_of or name if route is not None else name


def _is_model(name: str, policy: Policy) -> bool:
    return name in policy.models or any(name.startswith(route.name[:-1]) for route in policy.wildcards)
