"""Giving up when the caller goes away, without a task per call: the disconnect cancels the path at its present await.

It works as `asyncio.timeout` does: the cancellation is ours only if we asked for it, and then it is taken back and
becomes ClientGone. A cancellation from outside (shutdown) passes through untouched.
"""

from __future__ import annotations

import asyncio
from types import TracebackType

from gateway.core.ports import Disconnect


class ClientGone(Exception):
    """The caller has closed its connection; the attempt is to be closed and settled with what was observed."""


class Abandonable:
    """`with Abandonable(disconnect, True):` raises ClientGone inside the block's await as soon as the caller goes.

    With `enabled` False (a provider that bills a cancelled call anyway) the block runs on to its end.
    """

    __slots__ = ("_asked", "_disconnect", "_enabled", "_task")

    def __init__(self, disconnect: Disconnect, enabled: bool) -> None:
        self._disconnect = disconnect
        self._enabled = enabled
        self._asked = False
        self._task: asyncio.Task[object] | None = None

    def __enter__(self) -> None:
        if not self._enabled:
            return
        if self._disconnect.gone:
            raise ClientGone
        self._task = asyncio.current_task()
        self._disconnect.on_gone(self._cancel)

    def _cancel(self) -> None:
        if self._task is not None:
            self._asked = True
            self._task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        task, self._task = self._task, None
        if task is None:
            return
        self._disconnect.forget()
        if self._asked and task.uncancel() <= 0 and (kind is None or kind is asyncio.CancelledError):
            raise ClientGone from error
