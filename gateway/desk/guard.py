"""Who may do what: the one place where the control plane authenticates, on the route that was really matched.

A route is a `Row` with exactly one permission. `GuardedRoute` asks the guard before it reads a body, so nobody
without the right makes the desk parse anything.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import Depends
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from gateway.core.caller import KeyRecord, Permission, Role, permits
from gateway.core.errors import BadRequest, NotAuthenticated, NotPermitted, UnsupportedMediaType
from gateway.desk.parts import DEFAULT_ORG, LOCAL_HEADER, LOCAL_KEY_ID, ORG_HEADER, Console, DeskParts
from gateway.flow.identify import identify

_KEY_HEADERS = frozenset({
    "authorization", "x-faregate-api-key", "x-api-key", "api-key", "x-goog-api-key", LOCAL_HEADER, ORG_HEADER,
})  # fmt: skip
_MAX_CREDENTIAL = 1024
Replies = dict[int | str, dict[str, Any]]
"""FastAPI's `responses`: what a route may answer besides its usual reply."""


@dataclass(frozen=True, slots=True)
class Row:
    """One route: where it is, what it needs, what it answers."""

    method: str
    path: str
    permission: Permission
    endpoint: Callable[..., Awaitable[Any]]
    summary: str
    tag: str = "Administration"
    status: int = 200
    reply: Any = None
    also: Replies = field(default_factory=dict)
    shown: bool = True
    page: bool = False


class Guard:
    """Authenticates a request for a row and decides with `core.caller.permits`."""

    __slots__ = ("_console", "_parts")

    def __init__(self, parts: DeskParts) -> None:
        self._parts = parts
        self._console: Console | None = parts.console

    async def admit(self, request: Request, row: Row) -> KeyRecord | None:
        """The key that asks (None on a public route). Raises NotAuthenticated, NotPermitted, BadRequest, and
        UnsupportedMediaType for a body that is not JSON on an API route."""
        if row.page:
            return await self._admit_person(request, row)
        asker = None if row.permission is Permission.PUBLIC else self._admit_key(request, row.permission)
        _check_content_type(request)
        return asker

    async def _admit_person(self, request: Request, row: Row) -> KeyRecord | None:
        """Pages know session cookies only, and the API knows none: a stolen click reaches no API route."""
        if self._console is None:
            raise NotPermitted("The console is not part of this server.")
        asker = await self._console.asker(request)
        if row.permission is Permission.PUBLIC:
            return asker
        if asker is None:
            raise NotAuthenticated("Sign in first.")
        if not permits(asker, row.permission):
            raise NotPermitted(f"Your role, {asker.role}, does not include {row.permission.value}.")
        return asker

    def _admit_key(self, request: Request, permission: Permission) -> KeyRecord:
        headers = _first_values(request)
        if LOCAL_HEADER in headers:
            operator = self._operator(headers)
            if not permits(operator, permission):
                raise NotPermitted(f"The local command line may not use {permission.value}; use a key that may.")
            return operator
        now_ms = self._parts.clock.now_ms()
        return identify(headers, self._parts.keys, permission, now_ms, self._parts.keys_stale_after_ms).key

    def _operator(self, headers: dict[str, str]) -> KeyRecord:
        expected = self._parts.local_token.encode()
        presented = headers[LOCAL_HEADER].encode("utf-8", "surrogateescape")
        if not expected or not hmac.compare_digest(presented, expected):
            raise NotAuthenticated(
                "The local token is not this server's; it is in secrets/local.token of its data folder."
            )
        org = headers.get(ORG_HEADER, "") or DEFAULT_ORG
        return KeyRecord(
            key_id=LOCAL_KEY_ID, name="local command line", org=org, team="", role=Role.ADMIN.value, hashes=()
        )


class GuardedRoute(APIRoute):
    """A FastAPI route that asks the guard first. There is no other way into the desk."""

    def __init__(self, row: Row, guard: Guard) -> None:
        self.row = row
        self._guard = guard
        super().__init__(
            row.path,
            row.endpoint,
            methods=[row.method],
            summary=row.summary,
            tags=[row.tag],
            status_code=row.status,
            response_model=row.reply,
            responses=row.also,
            include_in_schema=row.shown and not row.page,
            openapi_extra={"x-permission": row.permission.value},
        )

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        answer = super().get_route_handler()

        async def guarded(request: Request) -> Response:
            request.state.row = self.row
            request.state.asker = await self._guard.admit(request, self.row)
            return await answer(request)

        return guarded


async def _present_asker(request: Request) -> KeyRecord:
    asker: KeyRecord | None = request.state.asker
    if asker is None:
        raise NotAuthenticated("This needs a key.")
    return asker


Asker = Annotated[KeyRecord, Depends(_present_asker)]
"""Parameter type of an endpoint that wants to know who asks."""


def _first_values(request: Request) -> dict[str, str]:
    """Headers as `identify` wants them. A repeated or over-long credential is refused: which one counts is a guess."""
    found: dict[str, str] = {}
    for raw_name, raw_value in request.scope["headers"]:
        name = raw_name.decode("latin-1").lower()
        value = raw_value.decode("latin-1")
        if name in _KEY_HEADERS:
            if name in found:
                raise BadRequest(f"The header {name} was sent twice. Send one.")
            if len(value) > _MAX_CREDENTIAL:
                raise BadRequest(f"The header {name} is longer than {_MAX_CREDENTIAL} characters.")
        found.setdefault(name, value)
    return found


def _check_content_type(request: Request) -> None:
    if request.method not in ("POST", "PATCH", "PUT"):
        return
    headers = request.headers
    has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if has_body and kind != "application/json":
        raise UnsupportedMediaType("Send the body as content-type: application/json.")
