"""`alerts.yaml` into the policy: its nodes are read here, with their lines; what they mean `alerts.written` says."""

from __future__ import annotations

from pathlib import Path

import msgspec
import yaml

from gateway.alerts.written import Place, read_alerts
from gateway.core.alerts import AlertPolicy
from gateway.core.config import Policy
from gateway.routing.policy_bytes import seal
from gateway.routing.problems import Problems, invalid
from gateway.routing.yaml_nodes import compose, is_null, line_of, members
from gateway.vault.policy_files import load_alerts

Lines = dict[Place, int]
_INT = "tag:yaml.org,2002:int"


def with_alerts(policy: Policy, config_dir: Path) -> Policy:
    """The compiled policy with the folder's `alerts.yaml`, sealed anew; as it is when there is none.

    Raises ConfigInvalid that lists every problem as `file:line: message. suggestion`.
    """
    file = load_alerts(config_dir)
    if file is None:
        return policy
    problems = Problems(str(file.path))
    alerts = read_text(file.text, problems)
    if problems:
        raise invalid(problems.sorted())
    return seal(msgspec.structs.replace(policy, alerts=alerts)) if alerts != AlertPolicy() else policy


def read_text(text: str, problems: Problems) -> AlertPolicy:
    """The alert policy of a file's text; not to be used if there are problems."""
    root = compose(text, problems)
    if root is None:
        return AlertPolicy()
    lines: Lines = {}
    given = _value(root, (), lines, problems)
    if problems:
        return AlertPolicy()
    policy, faults = read_alerts(given)
    for fault in faults:
        problems.add(_line(fault.place, lines), _where(fault.place) + fault.message, fault.suggestion)
    return policy


def _value(node: yaml.Node, place: Place, lines: Lines, problems: Problems) -> object:
    """Mappings, lists, whole numbers and texts; nothing else is made of a node."""
    lines.setdefault(place, line_of(node))
    if is_null(node):
        return None
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, (*place, number), lines, problems) for number, item in enumerate(node.value)]
    if isinstance(node, yaml.ScalarNode):
        return int(node.value) if str(node.tag) == _INT and node.value.isdecimal() else str(node.value)
    found = {}
    for member in members(node, _where(place).rstrip(": ") or "the file", problems):
        inner = (*place, member.name)
        lines[inner] = member.line
        found[member.name] = _value(member.value, inner, lines, problems)
    return found


def _line(place: Place, lines: Lines) -> int:
    while place and place not in lines:
        place = place[:-1]
    return lines.get(place, 1)


def _where(place: Place) -> str:
    """`channels: ops: ` before a message; numbers of list items are told by their lines."""
    names = [str(step) for step in place[:2] if isinstance(step, str)]
    return "".join(f"{name}: " for name in names)
