"""YAML as nodes that know their line. Nothing is constructed, so no tag can name a type and no value loses its line.

`yes`, `1.0` and `2024-01-01` are told apart from text by the resolver's tag: where text is wanted they are an error
with "put it in quotes", never silently something else. Anchors work; merge keys (`<<`) and unknown tags do not.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import yaml

from gateway.routing.problems import Problems, show

_TAG = "tag:yaml.org,2002:"
_QUOTE = "Put it in quotes"


class Member(NamedTuple):
    """One `key: value` of a mapping."""

    name: str
    line: int
    value: yaml.Node


def compose(text: str, problems: Problems) -> yaml.Node | None:
    """The root node; None when the file is empty or is no YAML, which is then a problem."""
    try:
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        _explain(text, error, problems)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        problems.add(line, f"holds the character U+{error.character:04X}, which YAML does not allow", "Remove it")
    except RecursionError:
        problems.add(1, "is nested too deep", "Three levels are all there are")
    return None


def _explain(text: str, error: yaml.MarkedYAMLError, problems: Problems) -> None:
    mark = error.problem_mark or error.context_mark
    line = mark.line + 1 if mark is not None else 1
    lines = text.split("\n")
    tabbed = [number for number, content in enumerate(lines, 1) if "\t" in content[: _indent(content)]]
    for number in tabbed:
        problems.add(number, "is indented with a tab", "YAML indents with spaces only; replace each tab by two spaces")
    if line not in tabbed:
        detail = (error.problem or "cannot be read").replace("\t", "\\t").replace("\n", " ")
        problems.add(line, f"is not YAML: {detail}", "Check indentation, colons and quotes here and on the line above")


def _indent(content: str) -> int:
    return len(content) - len(content.lstrip(" \t"))


def line_of(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def is_null(node: yaml.Node) -> bool:
    return bool(node.tag == _TAG + "null")


def members(node: yaml.Node, what: str, problems: Problems) -> list[Member]:
    """The members of a mapping in file order, each name once; nothing (`models:` alone) is an empty mapping."""
    if is_null(node):
        return []
    if not isinstance(node, yaml.MappingNode) or node.tag != _TAG + "map":
        problems.add(line_of(node), f"{what} must be a mapping, one `name: value` a line", "")
        return []
    found: dict[str, Member] = {}
    for key, value in node.value:
        line = line_of(key)
        if not isinstance(key, yaml.ScalarNode):
            problems.add(line, f"{what} has a name that is no plain text", _QUOTE)
        elif key.tag == _TAG + "merge":
            problems.add(line, f"{what} uses a merge key, which is not read", "Write the members out")
        elif key.value in found:
            first = found[key.value].line
            problems.add(line, f"{show(key.value)} is there twice, first on line {first}", "Remove one of them")
        else:
            found[key.value] = Member(key.value, line, value)
    return list(found.values())


def items(node: yaml.Node, what: str, most: int, example: str, problems: Problems) -> list[yaml.Node]:
    """The items of a list, at most `most`; none after adding a problem."""
    if not isinstance(node, yaml.SequenceNode):
        problems.add(line_of(node), f"{what} must be a list", example)
        return []
    if len(node.value) > most:
        problems.add(line_of(node), f"{what} has over {most} entries", "Remove some")
        return []
    return list(node.value)


def read_text(node: yaml.Node, what: str, problems: Problems) -> str | None:
    """The text of a scalar that is text to YAML too; None after adding a problem."""
    if isinstance(node, yaml.ScalarNode) and node.tag == _TAG + "str":
        return str(node.value)
    if is_null(node):
        problems.add(line_of(node), f"{what} has no value", "Give it one, or remove the line")
    elif isinstance(node, yaml.ScalarNode):
        problems.add(line_of(node), f"{what} must be text, and YAML reads {show(node.value)} as something else", _QUOTE)
    else:
        problems.add(line_of(node), f"{what} must be text", "")
    return None


def read_flag(node: yaml.Node, what: str, problems: Problems) -> bool | None:
    """True or false; None after adding a problem."""
    if isinstance(node, yaml.ScalarNode) and node.tag == _TAG + "bool":
        return str(node.value).lower() in ("true", "yes", "on")
    problems.add(line_of(node), f"{what} must be true or false", "")
    return None


def read_number(node: yaml.Node, what: str, low: float, high: float, problems: Problems) -> float | None:
    """A finite number within [low, high]; None after adding a problem."""
    number = math.nan
    if isinstance(node, yaml.ScalarNode) and node.tag in (_TAG + "int", _TAG + "float"):
        try:
            number = float(node.value)
        except ValueError:
            number = math.nan
    if math.isnan(number):
        problems.add(line_of(node), f"{what} must be a number", f"Write it like {what.split()[-1]}: {_example(high)}")
    elif not low <= number <= high:
        problems.add(line_of(node), f"{what} must be between {low:g} and {high:g}", "")
    else:
        return number
    return None


def _example(high: float) -> str:
    return f"{min(30.0, high):g}"
