"""When a delivery that failed is tried again."""

from __future__ import annotations

FIRST_MS = 5_000
LONGEST_MS = 3_600_000
GIVE_UP_MS = 24 * 3_600_000
"""A receiver that was away for a day is told by people, not by old alerts."""
_DOUBLINGS = 10


def next_attempt_ms(created_ms: int, now_ms: int, attempts: int, chance: bytes) -> int | None:
    """When to try again after `attempts` (at least 1) that failed; None when a day has passed since the alert.

    Full jitter: a random moment between now and 5 s doubled at each attempt, at most an hour (M. Brooker, "Exponential
    Backoff and Jitter"); `chance` is at least 4 random bytes. At least a second, so that nothing is asked in a loop.
    """
    if now_ms - created_ms >= GIVE_UP_MS:
        return None
    most_ms = min(LONGEST_MS, FIRST_MS << min(max(attempts - 1, 0), _DOUBLINGS))
    wait_ms = max(1_000, int.from_bytes(chance[:4], "big") * most_ms >> 32)
    return min(now_ms + wait_ms, created_ms + GIVE_UP_MS)
