"""What a fault proxy can do to a connection, as values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Flow:
    """What happens to the bytes of one direction. The `_after` members count bytes since the fault was set, each
    connection for itself; None: never.

    `reset_after`: the receiver gets a RST. `end_after`: a FIN, as if the sender had ended. `stall_after`: nothing more,
    and the connection stays. `corrupt_share` is the chance of each byte to be another one. `slow_close_ms` keeps an end
    back.
    """

    latency_ms: float = 0.0
    jitter_ms: float = 0.0
    bytes_per_s: int = 0
    slice_bytes: int = 0
    slice_pause_ms: float = 0.0
    corrupt_share: float = 0.0
    slow_close_ms: float = 0.0
    reset_after: int | None = None
    end_after: int | None = None
    stall_after: int | None = None

    @property
    def stops_after(self) -> int | None:
        """After how many bytes the first of the three ends of this flow comes."""
        stops = [stop for stop in (self.reset_after, self.end_after, self.stall_after) if stop is not None]
        return min(stops) if stops else None


@dataclass(frozen=True, slots=True)
class Fault:
    """`up` are the bytes from who connected, `down` those to it. `refuse`: a new connection is reset at once.
    `blackhole`: bytes are taken from both sides and go nowhere. `cut_reply_to`: once these bytes have gone up, what
    comes down next is thrown away and the connection reset."""

    up: Flow = Flow()
    down: Flow = Flow()
    refuse: bool = False
    blackhole: bool = False
    cut_reply_to: bytes = b""


CLEAN = Fault()
