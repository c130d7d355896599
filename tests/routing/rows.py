"""Vendor rows and prices for routing tests, independent of the real ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gateway.core.caller import KeyRecord
from gateway.core.charge import PriceRow, PriceSheet
from gateway.core.config import OnDisconnect, Policy
from gateway.routing.compile import check_policy, compile_policy
from gateway.routing.problems import Problem


@dataclass(frozen=True)
class Row:
    kind: str
    dialect: str = "openai_chat"
    base_url: str = ""
    credential: str = ""
    auth_header: str = "authorization"
    auth_scheme: str = "Bearer"
    on_disconnect: OnDisconnect = "cancel"
    keepalive_s: float = 15.0
    credential_required: bool = True
    networks: tuple[str, ...] = ()
    unix_socket: str = ""

    def settings_fault(self, base_url: str, api_version: str) -> tuple[str, str] | None:
        """As a kind that needs a version, where its address does not say so already."""
        if self.kind == "versioned" and not api_version and not base_url.endswith("/v1"):
            return "versioned needs an api_version", "Add one"
        return ("takes no api_version", "Remove it") if api_version and self.kind != "versioned" else None


ROWS = {
    "openai": Row("openai", base_url="https://api.openai.com/v1", credential="env:OPENAI_API_KEY"),
    "simulated": Row(
        "simulated",
        base_url="http://127.0.0.1:4010/v1",
        on_disconnect="drain",
        credential_required=False,
        networks=("loopback",),
    ),
    "openai_compatible": Row("openai_compatible", credential_required=False),
    "keyed": Row("keyed", base_url="https://keyed.example/v1"),
    "versioned": Row("versioned", credential_required=False),
}
PRICED = {
    "openai": ("gpt-4o", "gpt-4o-mini", "o3"),
    "simulated": ("sim-small", "sim-large"),
    "openai_compatible": (),
    "keyed": (),
    "versioned": (),
}


def sheet(kind: str, model: str) -> PriceSheet:
    return PriceSheet(model, (PriceRow(f"{kind}/{model}/input", "input", 150_000),))


def sheets(kind: str, models: Iterable[str] | None) -> Mapping[str, PriceSheet]:
    """Every priced model of a kind, or those of the models that have a price."""
    known = PRICED[kind]
    return {model: sheet(kind, model) for model in (known if models is None else models) if model in known}


def compiled(text: str) -> Policy:
    return compile_policy(text, "routes.yaml", ROWS, sheets)


def problems_of(text: str) -> list[Problem]:
    policy, problems = check_policy(text, "routes.yaml", ROWS, sheets)
    assert policy is None
    assert problems
    return problems


def key(*models: str) -> KeyRecord:
    return KeyRecord("k" * 12, "test", "default", "default", "data", (), models)
