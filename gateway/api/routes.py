"""The data plane's route table: every row names its permission, and this is the only place that matches a path.

Literal paths are found in a dictionary; the few templates by a walk over their segments, where `{id...}` takes the rest
of the path, slashes included. Paths are matched exactly as sent (no decoding beyond ASGI's, no slash folding), so a
trick spelling is simply not found; the two that a base URL of the other SDK makes stand in the table (`spellings`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gateway.core.caller import Permission

Handler = Literal["call", "models", "model", "alive", "ready", "metrics", "hello", "desk", "kept", "not_offered"]


@dataclass(frozen=True, slots=True)
class Route:
    """One row. `surface` is the endpoint's surface for `call`; `desk` rows are answered by the control plane."""

    method: str
    path: str
    handler: Handler
    permission: Permission
    summary: str
    surface: str = ""


ROUTES: tuple[Route, ...] = (
    Route("POST", "/v1/chat/completions", "call", Permission.CALL_MODELS, "Chat completion", "chat.completions"),
    Route("POST", "/v1/completions", "call", Permission.CALL_MODELS, "Text completion", "completions"),
    Route("POST", "/v1/embeddings", "call", Permission.CALL_MODELS, "Embeddings", "embeddings"),
    Route("POST", "/v1/moderations", "call", Permission.CALL_MODELS, "Moderation; free", "moderations"),
    Route("POST", "/v1/images/generations", "call", Permission.CALL_MODELS, "Images", "images.generations"),
    Route("POST", "/v1/audio/speech", "call", Permission.CALL_MODELS, "Speech", "audio.speech"),
    Route("POST", "/v1/responses", "call", Permission.CALL_MODELS, "Response", "responses"),
    Route(
        "POST",
        "/v1/responses/input_tokens",
        "call",
        Permission.CALL_MODELS,
        "Tokens of a response's input; free",
        "responses.input_tokens",
    ),
    Route("POST", "/v1/responses/compact", "call", Permission.CALL_MODELS, "Shorter input", "responses.compact"),
    Route("GET", "/v1/responses/{id}", "kept", Permission.CALL_MODELS, "A response again, whole or as a stream"),
    Route("DELETE", "/v1/responses/{id}", "kept", Permission.CALL_MODELS, "Forget a response"),
    Route("POST", "/v1/responses/{id}/cancel", "kept", Permission.CALL_MODELS, "Stop one in the background"),
    Route("GET", "/v1/responses/{id}/input_items", "kept", Permission.CALL_MODELS, "What went into a response"),
    Route("GET", "/v1/realtime", "not_offered", Permission.CALL_MODELS, "Realtime is not served"),
    Route("POST", "/v1/realtime/{id...}", "not_offered", Permission.CALL_MODELS, "Realtime is not served"),
    Route("POST", "/v1/messages", "call", Permission.CALL_MODELS, "Message", "messages"),
    Route(
        "POST",
        "/v1/messages/count_tokens",
        "call",
        Permission.CALL_MODELS,
        "Tokens a message would have; costs nothing",
        "messages.count_tokens",
    ),
    Route("GET", "/v1/models", "models", Permission.CALL_MODELS, "Models this key may use"),
    Route("GET", "/v1/models/{id...}", "model", Permission.CALL_MODELS, "One model"),
    Route("GET", "/v1/requests/{id}", "desk", Permission.READ_OWN, "Cost, usage and attempts of one call"),
    Route("GET", "/v1/usage", "desk", Permission.READ_OWN, "What this key has spent"),
    Route("GET", "/", "desk", Permission.PUBLIC, "Leads to the console"),
    Route("HEAD", "/", "hello", Permission.PUBLIC, "Probe used by SDKs"),
    Route("GET", "/livez", "alive", Permission.PUBLIC, "The process answers"),
    Route("GET", "/readyz", "ready", Permission.PUBLIC, "The worker takes calls"),
    Route("GET", "/metrics", "metrics", Permission.READ_METRICS, "Prometheus metrics"),
)


_V1 = "/v1"
_SDK_HANDLERS = frozenset({"call", "models", "model", "kept"})


def spellings(route: Route) -> tuple[str, ...]:
    """The row's path, and for what SDKs call the same with `/v1` twice and without it: of the two SDKs' base URLs one
    ends in `/v1` and the other must not, and people give either to both."""
    if route.handler not in _SDK_HANDLERS or not route.path.startswith(_V1):
        return (route.path,)
    return (route.path, _V1 + route.path, route.path.removeprefix(_V1))


@dataclass(frozen=True, slots=True)
class Match:
    """A matched row and what its template took; `methods` lists what the path allows when the method does not fit."""

    route: Route | None
    rest: str = ""
    methods: tuple[str, ...] = ()


class RouteTable:
    """Finds the row of a method and path."""

    __slots__ = ("_literal", "_templates")

    def __init__(self, routes: tuple[Route, ...] = ROUTES) -> None:
        self._literal: dict[str, dict[str, Route]] = {}
        self._templates: list[tuple[str, str, bool, dict[str, Route]]] = []
        templates: dict[str, dict[str, Route]] = {}
        for route in routes:
            known = self._literal if "{" not in route.path else templates
            for path in spellings(route):
                rows = known.setdefault(path, {})
                if route.method in rows:
                    raise ValueError(f"{route.method} {path} is in the route table twice")
                rows[route.method] = route
        for path, rows in templates.items():
            prefix, _, name = path.partition("{")
            name, _, after = name.partition("}")
            self._templates.append((prefix, after, name.endswith("..."), rows))

    def find(self, method: str, path: str) -> Match | None:
        """None: no row has this path. A Match without a route: the path exists, the method does not fit."""
        rows = self._literal.get(path)
        rest = ""
        if rows is None:
            found = self._find_template(path)
            if found is None:
                return None
            rows, rest = found
        route = rows.get(method)
        return Match(route, rest, () if route else tuple(sorted(rows)))

    def _find_template(self, path: str) -> tuple[dict[str, Route], str] | None:
        for prefix, after, takes_slashes, rows in self._templates:
            if path.startswith(prefix) and path.endswith(after):
                rest = path[len(prefix) : len(path) - len(after)]
                if rest and (takes_slashes or "/" not in rest):
                    return rows, rest
        return None
