"""Keys and limits the tests of this folder share."""

from __future__ import annotations

from gateway.core.caller import KeyRecord
from gateway.core.limits import Limit, OnExceed, Unit, Window, WindowKind

NOON_MS = 1_795_608_000_000  # 2026-11-25T12:00:00Z
DAY = Window(WindowKind.DAY)
MINUTE = Window(WindowKind.ROLLING, 60)
TOTAL = Window(WindowKind.TOTAL)


def key(*limits: Limit, key_id: str = "k1", team: str = "growth", org: str = "acme") -> KeyRecord:
    return KeyRecord(key_id=key_id, name="n", org=org, team=team, role="data", hashes=(), limits=limits)


def limit(
    unit: Unit,
    amount: int,
    window: Window,
    *,
    id: str = "lim",
    scope: tuple[tuple[str, str], ...] = (("key", "k1"),),
    on_exceed: OnExceed = OnExceed.BLOCK,
) -> Limit:
    return Limit(id=id, unit=unit, amount=amount, window=window, scope=scope, on_exceed=on_exceed)
