"""Errors of the control plane in OpenAI's shape, whatever raised them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gateway.core.errors import (
    BadRequest,
    BodyTooLarge,
    Conflict,
    FaregateError,
    MethodNotAllowed,
    NotFound,
    StoreUnavailable,
    UnsupportedMediaType,
)

_LOG = logging.getLogger("faregate.desk.errors")
_SHOWN_PROBLEMS = 5


class NotRecordedYet(NotFound):
    """The call may exist: its record has not reached SQL."""

    code = "not_recorded_yet"


class ManagedByFile(Conflict):
    """A file owns it: only there can it be changed. `extra` holds file and line."""

    code = "managed_by_file"


def error_body(error: FaregateError) -> dict[str, object]:
    """`{"error": {message, type, param, code, …}}`; what is in `extra` stands beside the message."""
    members: dict[str, object] = {
        "message": error.message,
        "type": error.kind,
        "param": error.param,
        "code": error.code,
    }
    return {"error": {**error.extra, **members}}


def error_reply(error: FaregateError) -> JSONResponse:
    headers = dict(error.headers)
    if error.status == 401:
        headers.setdefault("www-authenticate", 'Bearer realm="faregate"')
    return JSONResponse(error_body(error), status_code=error.status, headers=headers)


def from_validation(problems: Sequence[Mapping[str, Any]]) -> FaregateError:
    """What pydantic found, as one BadRequest that names the first member at fault. Never echoes what was sent."""
    if not problems:
        return BadRequest("The request is not valid.")
    shown = [f"{_place(problem) or 'body'}: {_said(problem)}" for problem in problems[:_SHOWN_PROBLEMS]]
    more = len(problems) - len(shown)
    tail = f" (and {more} more)" if more > 0 else ""
    if str(problems[0].get("type")) == "json_invalid":
        return BadRequest("The body is not valid JSON.")
    return BadRequest("; ".join(shown) + tail, param=_place(problems[0]) or None)


def _place(problem: Mapping[str, Any]) -> str:
    """`limits.0.amount` from pydantic's location, without `body` or `query` in front."""
    return ".".join(str(part) for part in problem.get("loc", ())[1:])


def _said(problem: Mapping[str, Any]) -> str:
    kind = str(problem.get("type"))
    if kind == "extra_forbidden":
        return "this member is not known here; remove it"
    if kind == "missing":
        return "this member is required"
    return str(problem.get("msg", "not valid")).removeprefix("Value error, ")


def from_http(error: HTTPException) -> FaregateError:
    """Starlette's own refusals as ours."""
    headers = dict(error.headers or {})
    match error.status_code:
        case 404:
            return NotFound("There is nothing at this path. /docs lists what there is.")
        case 405:
            allowed = next((value for name, value in headers.items() if name.lower() == "allow"), "")
            hint = f" It allows {allowed}." if allowed else ""
            return MethodNotAllowed(f"This path does not take this method.{hint}", headers=headers)
        case 413:
            return BodyTooLarge("The body is larger than the control plane accepts.")
        case 415:
            return UnsupportedMediaType("Send the body as content-type: application/json.")
        case status if status < 500:
            return BadRequest(str(error.detail))
        case _:
            return FaregateError(str(error.detail))


Refuse = Callable[[Request, FaregateError], Response]


def handlers(refuse: Refuse) -> dict[type[Exception], Callable[[Request, Any], Any]]:
    """FastAPI's exception handlers; `refuse` renders for the kind of route that was matched."""

    async def ours(request: Request, error: FaregateError) -> Response:
        if error.status >= 500:
            _LOG.warning("%s on %s: %s", error.code, request.scope["path"], error.message)
        if isinstance(error, StoreUnavailable) and request.scope["path"].startswith("/v1/"):
            error = StoreUnavailable("The ledger cannot be read just now; model calls go on. Try again shortly.")
        return refuse(request, error)

    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return refuse(request, from_validation(error.errors()))

    async def http(request: Request, error: HTTPException) -> Response:
        return refuse(request, from_http(error))

    async def unexpected(request: Request, error: Exception) -> Response:
        # Starlette re-raises after this reply, so the server's log has the traceback.
        return refuse(request, FaregateError("The control plane failed on this request; its log says why."))

    return {
        FaregateError: ours,
        RequestValidationError: invalid,
        HTTPException: http,
        Exception: unexpected,
    }
