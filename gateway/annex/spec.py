"""What an annex serves: of each provider the models, litellm's options for them, and what may hold its credentials.

A spec is a value that crosses a pipe as JSON. It holds references (`env:NAME`, `file:/path`), never a secret.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

import msgspec

from gateway.core.config import Deployment, Policy

KIND = "annex"
"""The kind of the providers that an annex serves (`providers/litellm_sdk.py`)."""

REFERENCES = ("env:", "file:")
"""How an option's value begins when it only says where the value is."""

Pairs = tuple[tuple[str, str], ...]


class ServedProvider(msgspec.Struct, frozen=True):
    """One provider of `routes.yaml` as the annex sees it.

    `models` are litellm's names, `vendor/model`, in which one `*` may stand for anything after the vendor. `options`
    go into each of its calls (`aws_region_name`, `vertex_project`, `api_base`, …); a value that is a reference is
    resolved in the annex. `environment` names the variables that the vendor's own SDK reads. `timeout_s` is the
    longest a call may take.
    """

    name: str
    models: tuple[str, ...]
    options: Pairs = ()
    environment: tuple[str, ...] = ()
    timeout_s: float = 600.0

    def serves(self, model: str) -> bool:
        """Whether a name is one of `models`. The vendor before the first slash is never matched by a `*`: that would
        let a caller choose where a call goes."""
        vendor, slash, rest = model.partition("/")
        if not slash or not rest:
            return False
        return any(_matches(pattern, vendor, rest) for pattern in self.models)


def _matches(pattern: str, vendor: str, rest: str) -> bool:
    of_vendor, _, of_rest = pattern.partition("/")
    before, star, after = of_rest.partition("*")
    if of_vendor != vendor:
        return False
    if not star:
        return rest == of_rest
    return len(rest) > len(before) + len(after) and rest.startswith(before) and rest.endswith(after)


class AnnexSpec(msgspec.Struct, frozen=True):
    """All that one annex process serves. Equal specs need no restart."""

    providers: tuple[ServedProvider, ...] = ()

    def provider(self, name: str) -> ServedProvider | None:
        return next((provider for provider in self.providers if provider.name == name), None)


class ConfiguredProvider(Protocol):
    """What is read of a compiled provider (`core.config.ProviderSettings`)."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def credential(self) -> str: ...
    @property
    def timeout_s(self) -> float: ...
    @property
    def options(self) -> Pairs: ...
    @property
    def environment(self) -> tuple[str, ...]: ...


def spec_of(providers: Iterable[ConfiguredProvider], deployments: Iterable[Deployment]) -> AnnexSpec:
    """The spec for the providers of kind `annex` to which a deployment goes, in the order of their names.

    A provider's `credential` is litellm's `api_key`, unless its options name one.
    """
    models: dict[str, set[str]] = {}
    for deployment in deployments:
        models.setdefault(deployment.provider, set()).add(deployment.model)
    served = [
        ServedProvider(
            provider.name,
            tuple(sorted(models[provider.name])),
            _options(provider),
            tuple(sorted(provider.environment)),
            provider.timeout_s,
        )
        for provider in providers
        if provider.kind == KIND and provider.name in models
    ]
    return AnnexSpec(tuple(sorted(served, key=lambda provider: provider.name)))


def _options(provider: ConfiguredProvider) -> Pairs:
    options = dict(provider.options)
    if provider.credential:
        options.setdefault("api_key", provider.credential)
    return tuple(sorted(options.items()))


def deployments_of(policy: Policy) -> Iterator[Deployment]:
    """Every deployment that the routes of a policy can reach, wildcards with their `*`."""
    for route in (*policy.models.values(), *policy.wildcards):
        yield from route.deployments


def write_spec(spec: AnnexSpec) -> bytes:
    return msgspec.json.encode(spec)


def read_spec(text: bytes) -> AnnexSpec:
    """Raises msgspec.DecodeError for anything but what `write_spec` writes."""
    return msgspec.json.decode(text, type=AnnexSpec)
