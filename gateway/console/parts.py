"""What the console is made of, and what one of its pages is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from starlette.requests import Request
from starlette.responses import Response

from gateway.core.admin import ConfigStore
from gateway.core.caller import KeyRecord, Permission
from gateway.core.ports import Clock, Entropy
from gateway.core.queries import LedgerQueries
from gateway.settings import Settings


class OpenSession(Protocol):
    """A checked session: its key as of now, and the id that its forms' tokens are bound to."""

    @property
    def session_id(self) -> str: ...

    @property
    def key(self) -> KeyRecord: ...


class SessionBook(Protocol):
    """Signed session tokens and form tokens (`vault.sessions.Sessions`)."""

    def open(self, key: KeyRecord, digest: bytes) -> str: ...

    def check(self, token: str) -> OpenSession:
        """Raises NotAuthenticated."""
        ...

    def close(self, token: str) -> None: ...

    def csrf_token(self, binding: str) -> str: ...

    def csrf_valid(self, token: str, binding: str) -> bool: ...


class SignInRing(Protocol):
    """The key ring as sign-in needs it (`vault.keyring.MemoryKeyRing`)."""

    def match(self, presented: str, now_ms: int) -> tuple[KeyRecord, bytes] | None: ...

    def by_id(self, key_id: str) -> KeyRecord | None: ...


class Throttle(Protocol):
    """Slows guessing (`vault.throttle.SignInThrottle`)."""

    def wait_s(self, address: str) -> int: ...

    def failed(self, address: str) -> None: ...

    def succeeded(self, address: str) -> None: ...


@dataclass(frozen=True, slots=True)
class ConsoleParts:
    """The console's ports, filled in by `gateway.app`."""

    config: ConfigStore
    ledger: LedgerQueries
    ring: SignInRing
    sessions: SessionBook
    throttle: Throttle
    clock: Clock
    entropy: Entropy
    settings: Settings


@dataclass(frozen=True, slots=True)
class Page:
    """One page or form. The desk's guard has decided on `permission` before `handler` runs; who asks is in
    `request.state.asker`."""

    method: str
    path: str
    permission: Permission
    handler: Callable[[Request], Awaitable[Response]]
