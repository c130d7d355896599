"""The desk as a FastAPI application, made of parts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp

from gateway import __version__
from gateway.core.caller import Permission
from gateway.core.errors import FaregateError
from gateway.desk.alerts.endpoints import AlertDesk
from gateway.desk.configuration import ConfigDesk
from gateway.desk.corrections.periods import PeriodDesk
from gateway.desk.corrections.rerate import RerateDesk
from gateway.desk.edge import Edge
from gateway.desk.errors import error_reply, handlers
from gateway.desk.guard import Guard, GuardedRoute, Row
from gateway.desk.keys import KeyDesk
from gateway.desk.limits.endpoints import LimitDesk
from gateway.desk.openapi import describe, page
from gateway.desk.parts import DeskParts, Page
from gateway.desk.policy_files import PolicyFiles
from gateway.desk.prices.endpoints import PriceDesk
from gateway.desk.spend.endpoints import SpendDesk


def create_desk_app(parts: DeskParts) -> FastAPI:
    """The control plane: admin API, own calls, API description, and the console when there is one.

    Its lifespan watches the policy files (`parts.watch_files`). Paths match exactly: no slash is added or folded.
    """
    files = PolicyFiles(parts)
    app = _Desk(
        parts,
        title="Faregate",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        lifespan=_lifespan(files, parts.watch_files),
        exception_handlers=handlers(_refuse(parts)),
    )
    app.state.policy_files = files
    guard = Guard(parts)
    for row in (*_desk_rows(parts, files), *_page_rows(parts), *_description_rows(app, parts)):
        app.router.routes.append(GuardedRoute(row, guard))
    return app


class _Desk(FastAPI):
    """FastAPI within the edge, which must be outside of all its middleware: that is where a 500 is made."""

    def __init__(self, parts: DeskParts, **settings: Any) -> None:
        super().__init__(**settings)
        self._parts = parts

    def build_middleware_stack(self) -> ASGIApp:
        return Edge(super().build_middleware_stack(), self._parts.clock, self._parts.entropy)


def _desk_rows(parts: DeskParts, files: PolicyFiles) -> list[Row]:
    desks = (KeyDesk(parts), LimitDesk(parts), ConfigDesk(parts, files), SpendDesk(parts))
    rows = [row for desk in desks for row in desk.rows()]
    if parts.prices is not None and files.prices is not None:
        rows += PriceDesk(parts, parts.prices, files.prices, files).rows()
    if parts.corrections is not None:
        rows += RerateDesk(parts, parts.corrections).rows() + PeriodDesk(parts, parts.corrections).rows()
    if parts.alerts is not None:
        rows += AlertDesk(parts, parts.alerts).rows()
    return rows


def _page_rows(parts: DeskParts) -> list[Row]:
    if parts.console is None:
        return []
    return [
        Row(page.method, page.path, page.permission, _as_endpoint(page), page.path, "Console", page=True)
        for page in parts.console.pages
    ]


def _as_endpoint(page: Page) -> Callable[..., Awaitable[Any]]:
    handler = page.handler

    async def endpoint(request: Request) -> Response:
        return await handler(request)

    return endpoint


def _description_rows(app: FastAPI, parts: DeskParts) -> list[Row]:
    console = parts.console
    looks = ("", "") if console is None else (console.stylesheet, console.icon)
    described: dict[str, Any] = {}

    def description() -> dict[str, Any]:
        if not described:
            described.update(describe(app.routes, parts.data_plane_routes))
        return described

    app.openapi = description  # type: ignore[method-assign]

    async def openapi_json() -> Response:
        return JSONResponse(description())

    async def docs() -> Response:
        return HTMLResponse(page(description(), *looks))

    async def home() -> Response:
        return RedirectResponse("/docs" if console is None else "/ui", status_code=303)

    public = Permission.PUBLIC
    return [
        Row("GET", "/openapi.json", public, openapi_json, "This API's description", "Description"),
        Row("GET", "/docs", public, docs, "This API's routes as a page", "Description"),
        Row("GET", "/", public, home, "Leads to the console", shown=False),
    ]


def _refuse(parts: DeskParts) -> Callable[[Request, FaregateError], Response]:
    def refuse(request: Request, error: FaregateError) -> Response:
        row: Row | None = getattr(request.state, "row", None)
        person = row.page if row is not None else request.scope["path"].startswith("/ui")
        if person and parts.console is not None:
            return parts.console.refuse(request, error)
        return error_reply(error)

    return refuse


def _lifespan(files: PolicyFiles, watch: bool) -> Callable[[FastAPI], Any]:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        if not watch:
            yield
            return
        stop = asyncio.Event()
        task = asyncio.create_task(files.watch(stop))
        try:
            yield
        finally:
            stop.set()
            with suppress(asyncio.CancelledError):
                await task

    return lifespan
