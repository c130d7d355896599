"""A desk on fakes with the real vault, a key of every role, and clients for them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from fastapi import FastAPI

from desk.alert_fakes import MemoryAlerts, Remembering
from desk.asking import Asking
from desk.fakes import Clock, Entropy, MemoryConfig, MemoryLedger, Publisher, make_ring
from desk.limit_fakes import Standings
from gateway.api.routes import ROUTES
from gateway.console.parts import ConsoleParts
from gateway.console.web import WebConsole
from gateway.core.admin import KeyChange, KeyView
from gateway.core.caller import Role
from gateway.core.config import Deployment, ModelRoute, Policy, ProviderSettings
from gateway.core.errors import ConfigInvalid
from gateway.desk.app import create_desk_app
from gateway.desk.parts import AlertParts, DeskParts
from gateway.settings import Settings
from gateway.vault.keyring import MemoryKeyRing
from gateway.vault.sessions import Sessions
from gateway.vault.throttle import SignInThrottle

LOCAL_TOKEN = "t" * 43
EMPTY = Policy(revision=0, hash="a" * 64, providers={}, models={}, wildcards=(), sheets={})
ROUTED = msgspec.structs.replace(
    EMPTY,
    providers={"openai": ProviderSettings("openai", "openai", "openai_chat", "https://a")},
    models={"gpt": ModelRoute("gpt", (Deployment("openai/gpt", "openai", "gpt"),))},
    wildcards=(ModelRoute("openai/*", (Deployment("openai/*", "openai", "*"),)),),
)


@dataclass
class Files:
    """What the policy files would compile to: a Policy, or what is wrong."""

    policy: Policy = EMPTY
    problem: str = ""

    def compile(self) -> Policy:
        if self.problem:
            raise ConfigInvalid(self.problem)
        return self.policy


@dataclass
class World:
    """A desk, all that it is made of, and a key per role."""

    clock: Clock = field(default_factory=Clock)
    entropy: Entropy = field(default_factory=Entropy)
    publisher: Publisher = field(default_factory=Publisher)
    ledger: MemoryLedger = field(default_factory=MemoryLedger)
    ring: MemoryKeyRing = field(default_factory=make_ring)
    files: Files = field(default_factory=Files)
    standings: Standings = field(default_factory=Standings)
    settings: Settings = field(default_factory=Settings)
    watch_files: bool = False
    secrets: dict[str, str] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.config = MemoryConfig(self.clock, self.entropy)
        self.ring.load((), 0, self.clock.now_ms())
        lasts_ms = self.settings.session_hours * 3_600_000
        self.sessions = Sessions(b"s" * 32, self.ring.by_id, self.clock, self.entropy, lasts_ms)
        self.console = WebConsole(
            ConsoleParts(
                config=self.config,
                ledger=self.ledger,
                ring=self.ring,
                sessions=self.sessions,
                throttle=SignInThrottle(self.clock),
                clock=self.clock,
                entropy=self.entropy,
                settings=self.settings,
            )
        )

    def parts(self) -> DeskParts:
        return DeskParts(
            config=self.config,
            ledger=self.ledger,
            publisher=self.publisher,
            keys=self.ring,
            compile_policy=self.files.compile,
            clock=self.clock,
            entropy=self.entropy,
            settings=self.settings,
            local_token=LOCAL_TOKEN,
            data_plane_routes=ROUTES,
            console=self.console,
            watch_files=self.watch_files,
            standings=self.standings,
            alerts=AlertParts(MemoryAlerts(), Remembering(), b"p" * 32),
        )

    async def add_key(self, name: str, role: Role = Role.DATA, team: str = "", org: str = "default") -> KeyView:
        created = await self.config.create_key(KeyChange(name=name, role=role.value, team=team, org=org), actor="test")
        self.ring.apply(self.config.deltas, self.clock.now_ms())
        self.secrets[name] = created.secret
        self.ids[name] = created.view.key_id
        return created.view

    def app(self) -> FastAPI:
        return create_desk_app(self.parts())

    def asking(self, app: FastAPI, name: str | None = None, **headers: str) -> Asking:
        if name is not None:
            headers["authorization"] = f"Bearer {self.secrets[name]}"
        return Asking(app, **headers)


async def until(condition: object, seconds: float = 5.0) -> None:
    """Waits for a condition of the running loop, for as long as it may take."""
    assert callable(condition)
    deadline = asyncio.get_running_loop().time() + seconds
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "it never came true"
        await asyncio.sleep(0.01)


def folder_of(path: Path) -> Settings:
    return Settings(config_dir=path, data_dir=path / "data")


async def make_world() -> World:
    """A key for every role (named like it), and some of other teams and another org."""
    made = World()
    for role in Role:
        await made.add_key(role.value, role, "search" if role in (Role.TEAM, Role.DATA) else "")
    await made.add_key("search-bot", team="search")
    await made.add_key("support-bot", team="support")
    await made.add_key("foreign", org="elsewhere", team="search")
    return made
