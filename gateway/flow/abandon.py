"""Giving up when the caller goes away, without a task per call: the disconnect cancels the path at its present await.

It works as `asyncio.timeout` does: the cancellation is ours only if we asked for it, and then it is taken back and
becomes ClientGone. A cancellation from outside (shutdown) passes through untouched.
"""

from __future__ import annotations

import asyncio
from types import TracebackType

from gateway.core.errors import CallRefused
from gateway.core.ports import Disconnect


class ClientGone(Exception):
    """The caller has closed its connection; the attempt is to be closed and settled with what was observed."""


class Abandonable:
    """`with Abandonable(disconnect):` raises ClientGone inside the block's await as soon as the caller goes.

    With `after_s` (a provider that bills a cancelled call anyway) the block runs on for at most that long after it
    went. A refusal from the block becomes ClientGone too: nobody is left to be refused.
    """

    __slots__ = ("_after_s", "_cancelled", "_disconnect", "_task", "_timer", "_went")

    def __init__(self, disconnect: Disconnect, after_s: float = 0.0) -> None:
        self._disconnect = disconnect
        self._after_s = after_s
        self._went = False
        self._cancelled = False
        self._timer: asyncio.Handle | None = None
        self._task: asyncio.Task[object] | None = None

    def __enter__(self) -> None:
        if self._disconnect.gone and not self._after_s:
            raise ClientGone
        self._task = asyncio.current_task()
        self._disconnect.on_gone(self._gone)

    def _gone(self) -> None:
        self._went = True
        if self._after_s:
            self._timer = asyncio.get_running_loop().call_later(self._after_s, self._interrupt)
        elif asyncio.current_task() is self._task:
            # Noticed by the path itself: a running task that cancels itself is cancelled at some later await, which
            # may lie behind this block.
            self._timer = asyncio.get_running_loop().call_soon(self._interrupt)
        else:
            self._interrupt()

    def _interrupt(self) -> None:
        if self._task is not None:
            self._cancelled = True
            self._task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        task, self._task = self._task, None
        self._disconnect.forget()
        if self._timer is not None:
            self._timer.cancel()
        if self._cancelled and task is not None and task.uncancel() > 0:
            return  # cancelled from outside as well: that goes on
        if kind is not None and issubclass(kind, asyncio.CancelledError):
            ours = self._cancelled
        else:
            gave_up = self._cancelled or (self._went and not self._after_s)
            ours = gave_up and (kind is None or issubclass(kind, CallRefused))
        if ours:
            raise ClientGone from error
