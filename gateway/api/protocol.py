"""The HTTP protocol of the public port: uvicorn's, with the bounds on a request's head that uvicorn does not have.

A head may have 64 KiB and 10 s from its first byte; what is no HTTP is refused in the same shape as everything else.
All this is before authentication, so a stranger must not be able to hold memory or the event loop by it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.core.errors import BadRequest, FaregateError, HeadTooLarge, RequestTimeout

HEAD_BYTES = 64 * 1024
HEAD_S = 10.0

Refuse = Callable[[FaregateError], bytes]
"""The whole reply, status line included, to a request that never became one."""


def protocol_class(refuse: Refuse) -> type[HttpToolsProtocol]:
    """uvicorn's protocol with our bounds; `refuse` counts a refusal and writes its reply."""

    class BoundedHead(HttpToolsProtocol):
        """One connection. `_head_bytes` counts what has arrived of a head that is not complete yet."""

        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            self._head_bytes = 0
            self._in_head = True
            self._head_timer: asyncio.TimerHandle | None = None

        def data_received(self, data: bytes) -> None:
            if self.transport.is_closing():
                return
            if self._in_head:
                self._head_bytes += len(data)
                if self._head_timer is None:
                    self._head_timer = self.loop.call_later(HEAD_S, self._too_slow)
            super().data_received(data)
            if self._in_head and self._head_bytes > HEAD_BYTES:
                self._end(HeadTooLarge(f"The request's head is larger than {HEAD_BYTES} bytes."))

        def on_headers_complete(self) -> None:
            self._in_head = False
            self._head_bytes = 0
            self._stop_timer()
            super().on_headers_complete()

        def on_message_complete(self) -> None:
            self._in_head = True
            super().on_message_complete()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_timer()
            super().connection_lost(exc)

        def send_400_response(self, msg: str) -> None:
            self._end(BadRequest("This is not a valid HTTP/1.1 request."))

        def _too_slow(self) -> None:
            self._head_timer = None
            self._end(RequestTimeout(f"The request's head did not arrive within {HEAD_S:.0f} s."))

        def _end(self, error: FaregateError) -> None:
            self._stop_timer()
            if not self.transport.is_closing():
                self.transport.write(refuse(error))
                self.transport.close()

        def _stop_timer(self) -> None:
            if self._head_timer is not None:
                self._head_timer.cancel()
                self._head_timer = None

    return BoundedHead
