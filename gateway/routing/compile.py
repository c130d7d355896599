"""Compiles a routes document to a Policy: defaults of vendor rows, deployments, aliases, wildcards and prices."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

import msgspec

from gateway.core.charge import PriceSheet
from gateway.core.config import Deployment, ModelRoute, OnDisconnect, OnUnsupported, Policy, ProviderSettings
from gateway.routing.fields import Fault, check_address
from gateway.routing.policy_bytes import seal
from gateway.routing.problems import Problem, Problems, did_you_mean, invalid, show
from gateway.routing.resolve import substitute
from gateway.routing.routes import AliasEntry, ModelEntry, ProviderEntry, RoutesDocument, Value, read_routes

_ON_UNSUPPORTED: dict[str, OnUnsupported] = {"warn": "warn", "drop": "drop", "reject": "reject"}


class VendorRow(Protocol):
    """A row of `providers/`: what is known of a kind of provider. Empty texts mean: the file must say, or none."""

    @property
    def kind(self) -> str: ...
    @property
    def dialect(self) -> str: ...
    @property
    def base_url(self) -> str: ...
    @property
    def credential(self) -> str: ...
    @property
    def auth_header(self) -> str: ...
    @property
    def auth_scheme(self) -> str: ...
    @property
    def on_disconnect(self) -> OnDisconnect: ...
    @property
    def keepalive_s(self) -> float: ...
    @property
    def credential_required(self) -> bool: ...
    @property
    def networks(self) -> tuple[str, ...]: ...
    @property
    def unix_socket(self) -> str: ...

    def settings_fault(self, base_url: str, api_version: str) -> Fault | None:
        """What is wrong with an address and API version for this kind, and what to do."""
        ...


Rows = Mapping[str, VendorRow]
Sheets = Callable[[str, Iterable[str] | None], Mapping[str, PriceSheet]]
"""`sheets(kind, models)`: price sheets by model name, for the models named or (None) for all of the kind."""


def compile_policy(text: str, file: str, rows: Rows, sheets: Sheets) -> Policy:
    """The Policy of a `routes.yaml`, revision 0 and sealed by its hash.

    Raises ConfigInvalid that lists every problem as `file:line: message. suggestion`, one a line.
    """
    policy, problems = check_policy(text, file, rows, sheets)
    if policy is None:
        raise invalid(problems)
    return policy


def check_policy(text: str, file: str, rows: Rows, sheets: Sheets) -> tuple[Policy | None, list[Problem]]:
    """The same without raising: the policy, or None and every problem in the order of the file."""
    problems = Problems(file)
    document = read_routes(text, problems)
    providers = _providers(document, rows, problems)
    routes = _routes(document, providers, problems)
    exact = {name: route for name, route in routes.items() if not name.endswith("*")}
    wildcards = tuple(sorted((routes[name] for name in routes.keys() - exact.keys()), key=_longest_first))
    _add_aliases(document, exact, wildcards, problems)
    if problems:
        return None, problems.sorted()
    used = _sheets(providers, (*exact.values(), *wildcards), sheets)
    return seal(Policy(0, "", providers, exact, wildcards, used)), []


def _longest_first(route: ModelRoute) -> tuple[int, str]:
    return -len(route.name), route.name


# ---------------------------------------------------------------- providers


def _providers(document: RoutesDocument, rows: Rows, problems: Problems) -> dict[str, ProviderSettings]:
    found = {}
    for entry in document.providers:
        settings = _settings(entry, rows, problems)
        if settings is not None:
            found[entry.name] = settings
    return found


def _settings(entry: ProviderEntry, rows: Rows, problems: Problems) -> ProviderSettings | None:
    values = dict(entry.values)
    kind = str(values.pop("kind", entry.name))
    row = rows.get(kind)
    if row is None:
        line = entry.lines.get("kind", entry.line)
        if "kind" in entry.values:
            problems.add(line, f"provider {entry.name}: unknown kind {show(kind)}", did_you_mean(kind, rows))
        else:
            hint = did_you_mean(kind, rows)
            problems.add(
                line, f"provider {entry.name} has no kind, and no kind is named like it", f"Add kind: …. {hint}"
            )
        return None
    defaults: dict[str, Value] = {
        "dialect": row.dialect,
        "base_url": row.base_url or (f"http://annex/{entry.name}/v1" if row.unix_socket else ""),
        "credential": row.credential,
        "auth_header": row.auth_header,
        "auth_scheme": row.auth_scheme,
        "on_disconnect": row.on_disconnect,
        "keepalive_s": row.keepalive_s,
        "networks": row.networks,
        "unix_socket": "" if "base_url" in values else row.unix_socket,  # an address: an annex that runs elsewhere
    }
    for name in () if row.unix_socket else ("options", "environment"):
        if name in values:
            message = f"provider {entry.name}: {name} are for providers of kind annex, and {kind} is none"
            problems.add(entry.lines[name], message, "Remove them")
            return None
    merged = {**defaults, **values}
    merged["base_url"] = str(merged["base_url"]).rstrip("/")
    merged["auth_header"] = str(merged["auth_header"]).lower()
    if not merged["base_url"]:
        problems.add(
            entry.line, f"provider {entry.name} has no base_url", f"The kind {kind} has none of its own: add it"
        )
        return None
    dialects = {other.dialect for other in rows.values()}
    if merged["dialect"] not in dialects:
        dialect = str(merged["dialect"])
        message = f"provider {entry.name}: unknown dialect {show(dialect)}"
        problems.add(entry.lines.get("dialect", entry.line), message, did_you_mean(dialect, dialects))
        return None
    if "credential" not in values and not _credential_fits(entry, row, str(merged["base_url"]), problems):
        return None
    settings = msgspec.convert({"name": entry.name, "kind": kind, **merged}, ProviderSettings)
    return settings if _address_fits(entry, row, settings, problems) else None


def _address_fits(entry: ProviderEntry, row: VendorRow, settings: ProviderSettings, problems: Problems) -> bool:
    """Whether the address can be connected to, and is one that this kind of provider understands."""
    line = entry.lines.get("base_url", entry.line)
    fault = check_address(settings.base_url, settings.networks)
    if fault is None:
        line = entry.lines.get("api_version", line)
        fault = row.settings_fault(settings.base_url, settings.api_version)
    if fault is not None:
        problems.add(line, f"provider {entry.name}: {fault[0]}", fault[1])
    return fault is None


def _credential_fits(entry: ProviderEntry, row: VendorRow, base_url: str, problems: Problems) -> bool:
    """A file that names no credential gets the row's, which is only ever sent to the row's own address."""
    choice = "Add credential: env:NAME or file:/path, or credential: '' to send none"
    if row.credential and base_url != row.base_url.rstrip("/"):
        line = entry.lines.get("base_url", entry.line)
        message = (
            f"provider {entry.name} has an address of its own and no credential; {row.credential} is not sent there"
        )
        problems.add(line, message, choice)
        return False
    if row.credential_required and not row.credential:
        problems.add(entry.line, f"provider {entry.name} has no credential", choice)
        return False
    return True


# ---------------------------------------------------------------- models


def _routes(
    document: RoutesDocument, providers: Mapping[str, ProviderSettings], problems: Problems
) -> dict[str, ModelRoute]:
    found: dict[str, ModelRoute] = {}
    for entry in document.models:
        if entry.provider in providers:
            found[entry.name] = ModelRoute(entry.name, (_deployment(entry),), line=entry.line)
            continue
        written = {provider.name for provider in document.providers} | document.faulty
        if entry.provider not in written:
            hint = did_you_mean(entry.provider, sorted(providers), f"Add {entry.provider} under providers")
            problems.add(entry.provider_line, f"model {entry.name}: unknown provider {show(entry.provider)}", hint)
    return found


def _deployment(entry: ModelEntry) -> Deployment:
    return Deployment(
        f"{entry.provider}/{entry.model}",
        entry.provider,
        entry.model,
        entry.priced_as,
        entry.translate_to,
        _ON_UNSUPPORTED[entry.on_unsupported],
        entry.max_tool_calls,
    )


# ---------------------------------------------------------------- aliases


def _add_aliases(
    document: RoutesDocument,
    exact: dict[str, ModelRoute],
    wildcards: tuple[ModelRoute, ...],
    problems: Problems,
) -> None:
    """Adds a route per alias to `exact`. An alias of an alias stands for the model at the end."""
    written = {entry.name for entry in document.models} | document.faulty
    aliases = {entry.name: entry for entry in document.aliases}
    for entry in document.aliases:
        if entry.name in written:
            problems.add(entry.line, f"alias {show(entry.name)} has the name of a model", "Rename one of them")
            del aliases[entry.name]
    broken = written - exact.keys() - {wildcard.name for wildcard in wildcards}
    resolved: dict[str, ModelRoute] = {}
    for entry in aliases.values():
        target = _end_of(entry, aliases, problems)
        if target is None:
            continue
        route = exact.get(target) or _wild(target, wildcards)
        if route is not None:
            resolved[entry.name] = ModelRoute(entry.name, route.deployments, target, entry.line)
        elif target not in broken and not any(_reaches(name, target) for name in broken):
            known = [*exact, *aliases.keys() - {entry.name}]
            hint = did_you_mean(
                target, known, "An alias stands for a name under models, or one that a wildcard reaches"
            )
            problems.add(entry.line, f"alias {show(entry.name)} stands for the unknown model {show(target)}", hint)
    exact.update(resolved)


def _end_of(entry: AliasEntry, aliases: Mapping[str, AliasEntry], problems: Problems) -> str | None:
    """The first name on the way that is no alias; None in a circle, which is said once, at its first alias."""
    way = [entry.name]
    while (following := aliases.get(aliases[way[-1]].target)) is not None:
        if following.name in way:
            circle = way[way.index(following.name) :]
            if entry.name == min(circle, key=lambda name: aliases[name].line):
                path = " → ".join([*circle, circle[0]])
                problems.add(entry.line, f"aliases go round in a circle: {path}", "Let one of them stand for a model")
            return None
        way.append(following.name)
    return aliases[way[-1]].target


def _wild(name: str, wildcards: tuple[ModelRoute, ...]) -> ModelRoute | None:
    for wildcard in wildcards:
        if _reaches(wildcard.name, name):
            return substitute(wildcard, name[len(wildcard.name) - 1 :])
    return None


def _reaches(pattern: str, name: str) -> bool:
    return pattern.endswith("*") and "*" not in name and len(name) >= len(pattern) and name.startswith(pattern[:-1])


# ---------------------------------------------------------------- prices


def _sheets(
    providers: Mapping[str, ProviderSettings], routes: Iterable[ModelRoute], sheets: Sheets
) -> dict[str, PriceSheet]:
    """The price sheets that the routes can reach, by `kind/model`."""
    named: dict[str, set[str]] = {}
    whole: set[str] = set()
    for route in routes:
        for deployment in route.deployments:
            kind = providers[deployment.provider].kind
            model = deployment.priced_as or deployment.model
            if "*" in model:
                whole.add(kind)
            else:
                named.setdefault(kind, set()).add(model)
    found: dict[str, PriceSheet] = {}
    for kind in sorted(whole):
        found.update({f"{kind}/{model}": sheet for model, sheet in sheets(kind, None).items()})
    for kind in sorted(named):
        found.update({f"{kind}/{model}": sheet for model, sheet in sheets(kind, sorted(named[kind])).items()})
    return found
