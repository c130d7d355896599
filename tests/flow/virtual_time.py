"""An event loop whose clock jumps to the next timer: waits take no time, and every run takes the same course."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar

T = TypeVar("T")


class _Jumping(selectors.SelectSelector):
    """Never waits. Where the loop would wait for a timer, the clock is put forward to it."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 1.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise AssertionError("everything waits for something that never comes")
            self.now_s += max(0.0, timeout)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now_s

    def live_timers(self) -> list[asyncio.TimerHandle]:
        """Timers that nobody has cancelled: at the end of a test, what was left behind."""
        return [timer for timer in self._scheduled if not timer.cancelled()]  # type: ignore[attr-defined]


def play(main: Coroutine[Any, Any, T]) -> T:
    """Runs a test to its end in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


class Stepping:
    """Drives a coroutine and tells, at each of its suspensions, the how manieth that is.

    Awaiting it is awaiting the coroutine. `on_suspend` is called just before the suspension, so what it wants to happen
    while the coroutine is suspended it puts into `loop.call_soon`.
    """

    def __init__(self, driven: Coroutine[Any, Any, Any], on_suspend: Callable[[int], None]) -> None:
        self._driven = driven
        self._on_suspend = on_suspend
        self.suspensions = 0

    def __await__(self) -> Generator[Any, Any, Any]:
        step = self._driven.send
        given: Any = None
        while True:
            try:
                awaited = step(given)
            except StopIteration as stopped:
                return stopped.value
            self._on_suspend(self.suspensions)
            self.suspensions += 1
            try:
                given = yield awaited
                step = self._driven.send
            except BaseException as error:
                given = error
                step = self._driven.throw
