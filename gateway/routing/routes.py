"""Reads the text of `routes.yaml` into a document: shapes, types and spelling. What it means is `compile`'s to say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import yaml

from gateway.routing.fields import (
    DEPLOYMENT_FIELDS,
    MAX_HEADERS,
    MAX_NETWORKS,
    MAX_OPTIONS,
    PROVIDER_FIELDS,
    SECTIONS,
    Field,
    Form,
    check_model,
    check_name,
    check_option,
    check_static_header,
    check_variable,
)
from gateway.routing.problems import Problems, did_you_mean, show
from gateway.routing.yaml_nodes import Member, compose, items, line_of, members, read_flag, read_number, read_text

MAX_TEXT_CHARACTERS = 4 * 1024 * 1024
_ONE_DEPLOYMENT = "a model goes to one deployment for now; fallbacks and weights are not there yet"

Value = str | float | tuple[tuple[str, str], ...] | tuple[str, ...]


class ProviderEntry(NamedTuple):
    """A provider as written: only the members the file gives, each with its line."""

    name: str
    line: int
    values: Mapping[str, Value]
    lines: Mapping[str, int]


class ModelEntry(NamedTuple):
    name: str
    line: int
    provider: str
    model: str
    priced_as: str
    provider_line: int
    translate_to: str = ""
    on_unsupported: str = "warn"
    max_tool_calls: int = 0


class AliasEntry(NamedTuple):
    name: str
    line: int
    target: str


class RoutesDocument(NamedTuple):
    """What a file says, in its order. Entries with problems are left out."""

    providers: tuple[ProviderEntry, ...] = ()
    models: tuple[ModelEntry, ...] = ()
    aliases: tuple[AliasEntry, ...] = ()
    faulty: frozenset[str] = frozenset()
    """Names of providers and models that are there but could not be read: nothing more need be said of them."""


def read_routes(text: str, problems: Problems) -> RoutesDocument:
    """The document of a text; every problem found is added to `problems`."""
    if len(text) > MAX_TEXT_CHARACTERS:
        problems.add(1, f"is over {MAX_TEXT_CHARACTERS} characters", "Use wildcards instead of listing models")
        return RoutesDocument()
    root = compose(text, problems)
    if root is None:
        if not problems:
            problems.add(1, "is empty", f"It needs {', '.join(SECTIONS)}")
        return RoutesDocument()
    sections: dict[str, Member] = {}
    for member in members(root, "the file", problems):
        if member.name in SECTIONS:
            sections[member.name] = member
        else:
            problems.add(member.line, f"unknown section {show(member.name)}", did_you_mean(member.name, SECTIONS))
    faulty: set[str] = set()
    providers = [_provider(member, faulty, problems) for member in _entries(sections, "providers", problems)]
    models = [_model(member, faulty, problems) for member in _entries(sections, "models", problems)]
    aliases = [_alias(member, faulty, problems) for member in _entries(sections, "aliases", problems)]
    return RoutesDocument(
        tuple(entry for entry in providers if entry is not None),
        tuple(entry for entry in models if entry is not None),
        tuple(entry for entry in aliases if entry is not None),
        frozenset(faulty),
    )


def _entries(sections: Mapping[str, Member], name: str, problems: Problems) -> list[Member]:
    section = sections.get(name)
    return [] if section is None else members(section.value, name, problems)


def _provider(entry: Member, faulty: set[str], problems: Problems) -> ProviderEntry | None:
    fault = check_name(entry.name)
    if fault is not None:
        problems.add(entry.line, *fault)
        faulty.add(entry.name)
        return None
    before = len(problems)
    values, lines = _read_fields(entry.value, f"provider {entry.name}", PROVIDER_FIELDS, problems)
    if len(problems) > before:
        faulty.add(entry.name)
        return None
    return ProviderEntry(entry.name, entry.line, values, lines)


def _model(entry: Member, faulty: set[str], problems: Problems) -> ModelEntry | None:
    found = _read_model(entry, problems)
    if found is None:
        faulty.add(entry.name)
    return found


def _read_model(entry: Member, problems: Problems) -> ModelEntry | None:
    what = f"model {entry.name}"
    fault = check_model(entry.name)
    if fault is not None:
        problems.add(entry.line, *fault)
        return None
    if "*" in entry.name[:-1]:
        problems.add(entry.line, f"{show(entry.name)} has a * that is not at its end", "A wildcard ends in its one *")
        return None
    node = entry.value
    if isinstance(node, yaml.SequenceNode):
        if len(node.value) != 1:
            amount = "no deployment" if not node.value else f"{len(node.value)} deployments"
            problems.add(line_of(node), f"{what} has {amount}, and {_ONE_DEPLOYMENT}", "Leave one")
            return None
        node = node.value[0]
    before = len(problems)
    if isinstance(node, yaml.MappingNode):
        values, lines = _read_fields(node, what, DEPLOYMENT_FIELDS, problems)
    else:
        values, lines = _read_short(node, what, problems)
    if len(problems) > before:
        return None
    found = ModelEntry(
        entry.name,
        entry.line,
        str(values["provider"]),
        str(values["model"]),
        str(values.get("priced_as", "")),
        lines["provider"],
        str(values.get("translate_to", "")),
        str(values.get("on_unsupported", "warn")),
        int(float(str(values.get("max_tool_calls", 0)))),
    )
    return found if _stars_fit(found, lines, problems) else None


def _read_short(node: yaml.Node, what: str, problems: Problems) -> tuple[dict[str, Value], dict[str, int]]:
    """`provider/model`: everything after the first slash is the model."""
    text = read_text(node, what, problems)
    if text is None:
        return {}, {}
    line = line_of(node)
    provider, slash, model = text.partition("/")
    if not slash or not provider or not model:
        example = f"openai/{text.strip('/') or 'gpt-4o-mini'}"
        message = f"{what} goes to {show(text)}, which is no provider and model"
        problems.add(line, message, f"Write it like {example}")
        return {}, {}
    for fault in (check_name(provider), check_model(model)):
        if fault is not None:
            problems.add(line, *fault)
    return {"provider": provider, "model": model}, {"provider": line, "model": line}


def _stars_fit(entry: ModelEntry, lines: Mapping[str, int], problems: Problems) -> bool:
    wildcard = entry.name.endswith("*")
    fits = True
    for member, text in (("model", entry.model), ("priced_as", entry.priced_as)):
        stars = text.count("*")
        if stars > 1 or (stars and not wildcard):
            line = lines.get(member, entry.line)
            why = "more than one *" if wildcard else f"a *, and {entry.name} is no wildcard"
            problems.add(line, f"{member} {show(text)} has {why}", "In a wildcard one * may stand for what it matched")
            fits = False
    return fits


def _alias(entry: Member, faulty: set[str], problems: Problems) -> AliasEntry | None:
    fault = check_model(entry.name)
    if fault is None and "*" in entry.name:
        fault = (f"alias {show(entry.name)} has a *", "An alias is one name; put wildcards under models")
    if fault is not None:
        problems.add(entry.line, *fault)
        faulty.add(entry.name)
        return None
    target = read_text(entry.value, f"alias {entry.name}", problems)
    if target is None:
        faulty.add(entry.name)
        return None
    return AliasEntry(entry.name, entry.line, target)


def _read_fields(
    node: yaml.Node, what: str, fields: tuple[Field, ...], problems: Problems
) -> tuple[dict[str, Value], dict[str, int]]:
    known = {field.name: field for field in fields}
    values: dict[str, Value] = {}
    lines: dict[str, int] = {}
    given = members(node, what, problems)
    for member in given:
        field = known.get(member.name)
        if field is None:
            hint = did_you_mean(member.name, known)
            problems.add(member.line, f"{what} has an unknown member {show(member.name)}", hint)
            continue
        value = _read_value(member, f"{what}: {field.name}", field, problems)
        if value is not None:
            values[field.name] = value
            lines[field.name] = member.line
    missing = [field.name for field in fields if field.required and field.name not in {item.name for item in given}]
    for name in missing:
        problems.add(line_of(node), f"{what} has no {name}", f"Add {name}: …")
    return values, lines


def _read_value(member: Member, what: str, field: Field, problems: Problems) -> Value | None:
    match field.form:
        case Form.SECONDS:
            return read_number(member.value, what, field.low, field.high, problems)
        case Form.COUNT:
            return _read_count(member.value, what, field, problems)
        case Form.FLAG:
            return read_flag(member.value, what, problems)
        case Form.HEADERS:
            return _read_headers(member.value, what, problems)
        case Form.NETWORKS:
            return _read_networks(member.value, what, field, problems)
        case Form.OPTIONS:
            return _read_options(member.value, what, problems)
        case Form.VARIABLES:
            return _read_variables(member.value, what, problems)
    text = read_text(member.value, what, problems)
    if text is None:
        return None
    if field.choices and text not in field.choices:
        hint = did_you_mean(text, field.choices, f"Write {' or '.join(field.choices)}")
        problems.add(member.line, f"{what} cannot be {show(text)}", hint)
        return None
    fault = field.check(text) if field.check is not None else None
    if fault is not None:
        message, suggestion = fault
        problems.add(member.line, f"{what}: {message}", suggestion)
        return None
    return text


def _read_count(node: yaml.Node, what: str, field: Field, problems: Problems) -> int | None:
    number = read_number(node, what, field.low, field.high, problems)
    if number is None or number.is_integer():
        return None if number is None else int(number)
    problems.add(line_of(node), f"{what} must be a whole number", "")
    return None


def _read_networks(node: yaml.Node, what: str, field: Field, problems: Problems) -> tuple[str, ...] | None:
    """A list of texts that the field's check accepts. An empty one means: public addresses only."""
    before = len(problems)
    found: list[str] = []
    for item in items(node, what, MAX_NETWORKS, "Write it like [loopback]", problems):
        text = read_text(item, what, problems)
        fault = field.check(text) if text is not None and field.check is not None else None
        if fault is not None:
            problems.add(line_of(item), f"{what}: {fault[0]}", fault[1])
        elif text is not None:
            found.append(text)
    return tuple(dict.fromkeys(found)) if len(problems) == before else None


def _read_options(node: yaml.Node, what: str, problems: Problems) -> tuple[tuple[str, str], ...] | None:
    before = len(problems)
    found: dict[str, str] = {}
    for member in members(node, what, problems):
        value = read_text(member.value, f"{what}: {member.name[:60]}", problems)
        fault = check_option(member.name, value) if value is not None else None
        if fault is not None:
            problems.add(member.line, f"{what}: {fault[0]}", fault[1])
        elif value is not None:
            found[member.name] = value
    if len(found) > MAX_OPTIONS:
        problems.add(line_of(node), f"{what}: over {MAX_OPTIONS} options", "Remove some")
    return tuple(sorted(found.items())) if len(problems) == before else None


def _read_variables(node: yaml.Node, what: str, problems: Problems) -> tuple[str, ...] | None:
    before = len(problems)
    found: set[str] = set()
    for item in items(node, what, MAX_OPTIONS, "Write it like [AWS_PROFILE]", problems):
        name = read_text(item, what, problems)
        fault = check_variable(name) if name is not None else None
        if fault is not None:
            problems.add(line_of(item), f"{what}: {fault[0]}", fault[1])
        elif name is not None:
            found.add(name)
    return tuple(sorted(found)) if len(problems) == before else None


def _read_headers(node: yaml.Node, what: str, problems: Problems) -> tuple[tuple[str, str], ...] | None:
    before = len(problems)
    found: dict[str, str] = {}
    for member in members(node, what, problems):
        value = read_text(member.value, f"{what}: {member.name[:60]}", problems)
        if value is None:
            continue
        fault = check_static_header(member.name, value)
        name = member.name.lower()
        if fault is not None:
            problems.add(member.line, f"{what}: {fault[0]}", fault[1])
        elif name in found:
            problems.add(member.line, f"{what}: {name} is there twice", "Remove one of them")
        else:
            found[name] = value
    if len(found) > MAX_HEADERS:
        problems.add(line_of(node), f"{what}: over {MAX_HEADERS} headers", "Remove some")
    return tuple(found.items()) if len(problems) == before else None
