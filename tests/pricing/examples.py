"""Sheets and usages the tests of this folder share."""

from __future__ import annotations

from decimal import Decimal

from gateway.core.charge import PriceRow, PriceSheet
from gateway.core.usage import Meter, Usage, UsageSource
from gateway.pricing.draft import exact_rate

AT_MS = 1_795_608_000_000  # 2026-11-25T12:00:00Z


def row(
    meter: Meter,
    usd_per_mtok: str,
    *,
    tier: str = "standard",
    min_input: int = 0,
    from_ms: int = 0,
    to_ms: int = 0,
    id: str = "",
    source: str = "test",
) -> PriceRow:
    rate_pico, per = exact_rate(Decimal(usd_per_mtok), 1_000_000)
    return PriceRow(
        id=id or f"{meter}/{tier}/{min_input}/{from_ms}",
        meter=meter,
        rate_pico=rate_pico,
        per=per,
        tier=tier,
        min_input=min_input,
        from_ms=from_ms,
        to_ms=to_ms,
        source=source,
    )


def sheet(*rows: PriceRow, window: int = 0, longest: int = 0) -> PriceSheet:
    return PriceSheet(model="m", rows=rows, context_window=window, max_output_tokens=longest)


PLAIN = sheet(row(Meter.INPUT, "1"), row(Meter.OUTPUT, "4"), window=100_000, longest=8_000)


def usage(
    input: int = 0,
    output: int = 0,
    *,
    source: UsageSource = UsageSource.PROVIDER,
    tier: str = "",
    fault: str = "",
    **more: int,
) -> Usage:
    meters = {Meter.INPUT: input, Meter.OUTPUT: output, **{Meter(name): amount for name, amount in more.items()}}
    return Usage({meter: n for meter, n in meters.items() if n}, source, served_tier=tier, fault=fault)
