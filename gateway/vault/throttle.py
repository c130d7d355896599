"""Slows guessing at the console's sign-in: failures are counted per address and in all, in bounded memory."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict

from gateway.core.ports import Clock

WINDOW_MS = 5 * 60 * 1000
MAX_PER_ADDRESS = 10
MAX_GLOBAL = 500
MAX_ADDRESSES = 10_000
"""Addresses remembered; the one that failed longest ago is forgotten first, while the global count goes on."""


class SignInThrottle:
    """At most `MAX_PER_ADDRESS` failures per address and `MAX_GLOBAL` in all within a window of five minutes."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failures: OrderedDict[str, tuple[int, int]] = OrderedDict()
        self._all = (0, 0)

    def wait_s(self, address: str) -> int:
        """0 when a sign-in may be tried, else the whole seconds after which it may: the answer's `retry-after`."""
        now_ms = self._now_ms()
        own = self._failures.get(_group(address), (0, 0))
        return max(_wait_s(own, MAX_PER_ADDRESS, now_ms), _wait_s(self._all, MAX_GLOBAL, now_ms))

    def failed(self, address: str) -> None:
        """Counts a refused sign-in."""
        now_ms = self._now_ms()
        group = _group(address)
        self._all = _count(self._all, now_ms)
        self._failures[group] = _count(self._failures.get(group, (0, 0)), now_ms)
        self._failures.move_to_end(group)
        if len(self._failures) > MAX_ADDRESSES:
            self._failures.popitem(last=False)

    def succeeded(self, address: str) -> None:
        """A right key forgives the address; the global count stays."""
        self._failures.pop(_group(address), None)

    def _now_ms(self) -> int:
        # Monotonic: a clock set back must not lock people out.
        return self._clock.monotonic_ns() // 1_000_000


def _count(failures: tuple[int, int], now_ms: int) -> tuple[int, int]:
    started_ms, count = failures
    if not count or now_ms - started_ms >= WINDOW_MS:
        return now_ms, 1
    return started_ms, count + 1


def _wait_s(failures: tuple[int, int], most: int, now_ms: int) -> int:
    started_ms, count = failures
    left_ms = started_ms + WINDOW_MS - now_ms
    return -(-left_ms // 1000) if count >= most and left_ms > 0 else 0


def _group(address: str) -> str:
    """An IPv6 client owns a /64 at least, so that is what is counted."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((int(parsed), 64), strict=False))
