"""The API description of both planes, and a plain page that lists it. Neither loads anything from another host."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from typing import Any

from fastapi.openapi.utils import get_openapi
from starlette.routing import BaseRoute

from gateway import __version__
from gateway.core.caller import Permission
from gateway.desk.parts import DataRoute
from gateway.desk.shapes import ErrorReply

_METHODS = ("get", "post", "patch", "put", "delete", "head")
_TEMPLATE = re.compile(r"\{(\w+)(?:\.\.\.)?\}")
_ABOUT = "Calls to models, and their administration. Every error has OpenAI's shape; every answer an x-request-id."


def describe(routes: Sequence[BaseRoute], data_routes: Sequence[DataRoute]) -> dict[str, Any]:
    """The OpenAPI document: the desk's routes as FastAPI describes them and the data plane's from its own table."""
    document = get_openapi(title="Faregate", version=__version__, description=_ABOUT, routes=list(routes))
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    error_schema = ErrorReply.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(error_schema.pop("$defs", {}))
    schemas["ErrorReply"] = error_schema
    schemas.pop("HTTPValidationError", None)
    schemas.pop("ValidationError", None)
    components["securitySchemes"] = {
        "key": {"type": "http", "scheme": "bearer", "description": "A Faregate key: `fg_…`."},
        "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
    }
    paths = document.setdefault("paths", {})
    for route in data_routes:
        path = _TEMPLATE.sub(r"{\1}", route.path)
        paths.setdefault(path, {}).setdefault(route.method.lower(), _data_operation(route))
    for members in paths.values():
        for method in _METHODS:
            if method in members:
                _finish(members[method])
    document["paths"] = dict(sorted(paths.items()))
    return document


def _data_operation(route: DataRoute) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "tags": ["Models"],
        "summary": route.summary,
        "operationId": re.sub(r"\W+", "_", f"{route.method}_{route.path}").strip("_").lower(),
        "x-permission": route.permission.value,
        "responses": {"200": {"description": "The provider's reply, in the dialect of the endpoint."}},
    }
    names = _TEMPLATE.findall(route.path)
    if names:
        operation["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names
        ]
    if route.method == "POST":
        body = {"type": "object", "additionalProperties": True}
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    return operation


def _finish(operation: dict[str, Any]) -> None:
    """Adds what every route has: how to authenticate and how it refuses. FastAPI's own 422 never occurs here."""
    public = operation.get("x-permission") == Permission.PUBLIC.value
    operation["security"] = [] if public else [{"key": []}, {"x-api-key": []}]
    responses = operation["responses"]
    responses.pop("422", None)
    responses["default"] = {
        "description": "Refused or failed; the code says why.",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorReply"}}},
    }


def page(document: dict[str, Any], stylesheet: str, icon: str) -> str:
    """The same as a page for people, without a script. Paths of style sheet and icon may be empty."""
    rows = []
    for path, members in document["paths"].items():
        for method in _METHODS:
            if method in members:
                operation = members[method]
                cells = (method.upper(), path, operation.get("summary", ""), operation.get("x-permission", ""))
                classes = ("mono", "mono", "", "mono")
                tds = "".join(
                    f'<td class="{name}">{escape(str(cell))}</td>' for name, cell in zip(classes, cells, strict=True)
                )
                rows.append(f"<tr>{tds}</tr>")
    link = f'<link rel="stylesheet" href="{escape(stylesheet)}">' if stylesheet else ""
    link += f'<link rel="icon" href="{escape(icon)}">' if icon else ""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>API · Faregate</title>{link}</head>"
        '<body><main class="plain"><h1>Faregate API</h1>'
        "<p>Point an OpenAI SDK at <code>/v1</code> of this address with a Faregate key. "
        'The machine-readable description is <a href="/openapi.json">/openapi.json</a>.</p>'
        '<div class="scroll" role="region" aria-label="Routes" tabindex="0"><table class="routes"><thead><tr>'
        '<th scope="col">Method</th><th scope="col">Path</th><th scope="col">What it does</th>'
        f'<th scope="col">Permission</th></tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
        "</main></body></html>"
    )
