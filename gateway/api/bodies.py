"""How much of request bodies a worker holds: of one call, and of all calls that run at the same time."""

from __future__ import annotations


class BodyRoom:
    """Bytes held for running calls. `one_bytes` bounds a single body, `all_bytes` all of them together."""

    __slots__ = ("all_bytes", "held_bytes", "one_bytes")

    def __init__(self, one_bytes: int, all_bytes: int) -> None:
        self.one_bytes = one_bytes
        self.all_bytes = max(all_bytes, one_bytes)
        self.held_bytes = 0

    def take(self, size_bytes: int) -> bool:
        """False, and nothing is taken, when there is no room."""
        if self.held_bytes + size_bytes > self.all_bytes:
            return False
        self.held_bytes += size_bytes
        return True

    def give(self, size_bytes: int) -> None:
        self.held_bytes -= size_bytes
