"""A price with a beginning is in force from that very instant on: nobody publishes, reloads or restarts anything."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from gateway.core.charge import PriceRow, PriceSheet
from gateway.core.usage import Meter, Usage, UsageSource
from gateway.pricing.book import Override, PriceBook
from gateway.pricing.remembered import Prices

STARTS = int(datetime(2027, 1, 1, 10, 17, 33, tzinfo=UTC).timestamp() * 1000)
ENDS = STARTS + 90_000
USED = Usage({Meter.INPUT: 1_000}, UsageSource.PROVIDER)
OLD, NEW = 2_000_000, 3_000_000


def sheet() -> PriceSheet:
    """As `rates: [{input: 2 USD}, {input: 3 USD, from: …, to: …}]` of prices.yaml is compiled."""
    rows = (PriceRow("", "input", OLD, 1), PriceRow("", "input", NEW, 1, from_ms=STARTS, to_ms=ENDS))
    found = PriceBook([Override("openai_compatible", "mine", rows)]).sheet("openai_compatible", "mine")
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("at_ms", "nusd"),
    [
        (STARTS - 1, OLD),
        (STARTS, NEW),
        (ENDS - 1, NEW),
        (ENDS, OLD),
    ],
)
def test_a_rate_begins_and_ends_at_its_instant(at_ms: int, nusd: int) -> None:
    assert Prices().charge(USED, sheet(), at_ms).effective_nusd == nusd


def test_a_worker_that_remembers_the_old_rate_charges_the_new_one() -> None:
    """One memory over all instants, forwards and back: a hold keeps the moment it was made at."""
    prices, coming = Prices(), sheet()
    moments = [STARTS - 5, STARTS - 1, STARTS, STARTS + 1, ENDS - 1, ENDS, STARTS - 1, STARTS]
    charged = [prices.charge(USED, coming, at_ms).effective_nusd for at_ms in moments]
    assert charged == [OLD, OLD, NEW, NEW, NEW, OLD, OLD, NEW]
