"""The machine's clock and chance, behind core's ports: the only place that reads either for the request path."""

from __future__ import annotations

import os
import time


class SystemClock:
    """Wall and monotonic time of this machine."""

    __slots__ = ()

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic_ns(self) -> int:
        return time.monotonic_ns()


class SystemEntropy:
    """`os.urandom`, drawn in blocks: a system call for each id would cost more than the id."""

    __slots__ = ("_block", "_used")
    _BLOCK_BYTES = 4096

    def __init__(self) -> None:
        self._block = b""
        self._used = 0

    def bytes(self, count: int) -> bytes:
        used = self._used
        if used + count > len(self._block):
            self._block = os.urandom(max(self._BLOCK_BYTES, count))
            used = 0
        self._used = used + count
        return self._block[used : used + count]
