"""What is true of every exchange of the desk: a bounded body, an x-request-id, headers that keep browsers careful."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.core.ids import CALL, make_id, print_id
from gateway.core.ports import Clock, Entropy
from gateway.desk.parts import IMPORT_PATH, MAX_BODY_BYTES, MAX_IMPORT_BYTES

CONTENT_POLICY = (
    "default-src 'self'; script-src 'none'; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": CONTENT_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class Edge:
    """An ASGI wrapper; it decides nothing."""

    __slots__ = ("_app", "_clock", "_entropy")

    def __init__(self, app: ASGIApp, clock: Clock, entropy: Entropy) -> None:
        self._app = app
        self._clock = clock
        self._entropy = entropy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = print_id(CALL, make_id(self._clock.now_ms(), self._entropy.bytes(10)))

        size = 0
        most = MAX_IMPORT_BYTES if scope["path"] == IMPORT_PATH else MAX_BODY_BYTES

        async def bounded() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > most:
                raise HTTPException(413)
            return message

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                headers["x-request-id"] = request_id
            await send(message)

        await self._app(scope, bounded, with_headers)
