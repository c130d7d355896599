"""What a desk is made of: ports and values that `gateway.app` fills in. Nothing here knows SQL, files or sockets."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from starlette.requests import Request
from starlette.responses import Response

from gateway.core.admin import ConfigStore, Publisher
from gateway.core.alerts import AlertStore, Notifier
from gateway.core.caller import KeyRecord, Permission
from gateway.core.config import Policy
from gateway.core.corrections import Correcting, Periods, RerateQueries
from gateway.core.errors import FaregateError
from gateway.core.limit_admin import LimitStore
from gateway.core.ports import Clock, Entropy, KeyRing
from gateway.core.price_admin import PriceQueries, PriceStore
from gateway.core.queries import LedgerQueries
from gateway.routing.compile import Sheets
from gateway.settings import Settings

LOCAL_HEADER = "x-faregate-local"
"""Carries the data folder's token: whoever can read `secrets/local.token` is the operator."""
ORG_HEADER = "x-faregate-org"
"""Which org the operator acts in; read only beside a valid local token."""
DEFAULT_ORG = "default"
LOCAL_KEY_ID = "local"
MAX_BODY_BYTES = 256 * 1024
IMPORT_PATH = "/admin/v1/prices/import"
MAX_IMPORT_BYTES = 12 * 1024 * 1024
"""The body of an import of prices: 8 MiB of a compressed file, in base64."""


class Config(ConfigStore, LimitStore, Protocol):
    """Keys, policies and limits: one store, one order of changes."""


class Standings(Protocol):
    """What counters hold at this moment, from whoever folds the journals."""

    async def of(self, counters: Sequence[str]) -> list[tuple[int, int]] | None:
        """(spent, reserved) of each counter, at most a moment old; (0, 0) of one that is not there. None when nobody
        who knows answers."""
        ...


CompilePolicy = Callable[[], Policy]
"""Reads and compiles the policy files. Raises ConfigInvalid whose message holds file and line."""


@dataclass(frozen=True, slots=True)
class PriceParts:
    """What the price book is made of. `compile_with` compiles the policy files with the price sheets it is given
    (routing.compile.Sheets); `kinds` are the kinds of providers there are."""

    store: PriceStore
    queries: PriceQueries
    compile_with: Callable[[Sheets], Policy]
    kinds: Collection[str]


@dataclass(frozen=True, slots=True)
class AlertParts:
    """What alerts are read from and tried with. `secret` is what pause links are signed with."""

    store: AlertStore
    notifier: Notifier
    secret: bytes


@dataclass(frozen=True, slots=True)
class CorrectionParts:
    """What corrects the ledger and closes months: SQL's part, and the bookkeeper's."""

    queries: RerateQueries
    periods: Periods
    bookkeeper: Correcting


class DataRoute(Protocol):
    """A row of `gateway.api.routes.ROUTES`, as the API description needs it."""

    @property
    def method(self) -> str: ...

    @property
    def path(self) -> str: ...

    @property
    def permission(self) -> Permission: ...

    @property
    def summary(self) -> str: ...


class Page(Protocol):
    """A page of the console. The handler finds who asks, or None, in `request.state.asker`."""

    @property
    def method(self) -> str: ...

    @property
    def path(self) -> str: ...

    @property
    def permission(self) -> Permission: ...

    @property
    def handler(self) -> Callable[[Request], Awaitable[Response]]: ...


class Console(Protocol):
    """The web console: pages that the desk mounts behind its own guard."""

    @property
    def pages(self) -> Sequence[Page]: ...

    @property
    def stylesheet(self) -> str:
        """The path of the console's style sheet, for the list of routes."""
        ...

    @property
    def icon(self) -> str:
        """The path of its icon."""
        ...

    async def asker(self, request: Request) -> KeyRecord | None:
        """The key behind the session cookie with its rights of this moment, or None. Raises NotPermitted for a POST
        without the session's CSRF token, StoreUnavailable."""
        ...

    def refuse(self, request: Request, error: FaregateError) -> Response:
        """The page that tells a person of an error; NotAuthenticated leads to the sign-in page."""
        ...


@dataclass(frozen=True, slots=True)
class DeskParts:
    """The desk's ports.

    `keys` is kept current by whoever made it; the desk applies its own changes at once. `local_token` empty switches
    the local header off. `watch_files` False leaves the policy files to explicit reloads (one-shot local commands).
    `standings` None: nobody here knows the counters, and budgets are shown without what is spent of them. `prices`
    None: the policy is compiled with what `compile_policy` finds, and there are no versions of the price book.
    """

    config: Config
    ledger: LedgerQueries
    publisher: Publisher
    keys: KeyRing
    compile_policy: CompilePolicy
    clock: Clock
    entropy: Entropy
    settings: Settings
    local_token: str = ""
    console: Console | None = None
    data_plane_routes: Sequence[DataRoute] = ()
    watch_files: bool = True
    keys_stale_after_ms: int = 10_000
    standings: Standings | None = None
    alerts: AlertParts | None = None
    prices: PriceParts | None = None
    corrections: CorrectionParts | None = None
