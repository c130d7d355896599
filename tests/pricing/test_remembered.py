"""What is remembered of prices changes no amount: the same bound, charge and rates as the plain functions give."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.call import Head
from gateway.core.charge import PriceRow, PriceSheet
from gateway.core.usage import Meter, Usage, UsageSource
from gateway.pricing.arithmetic import charge, pinned
from gateway.pricing.bound import hold_bound
from gateway.pricing.remembered import CHOICES_MAX, Prices

TIMES = st.integers(0, 60)
ROWS = st.builds(
    PriceRow,
    id=st.text("ab", max_size=3),
    meter=st.sampled_from(sorted(Meter)),
    rate_pico=st.integers(0, 10**7),
    per=st.sampled_from([1, 1000]),
    tier=st.sampled_from(["standard", "flex"]),
    min_input=st.sampled_from([0, 0, 100, 200]),
    from_ms=st.sampled_from([0, 20, 40]),
    to_ms=st.sampled_from([0, 20, 40, 50]),
)
PRICE_SHEETS = st.builds(
    PriceSheet,
    model=st.just("m"),
    rows=st.lists(ROWS, max_size=8).map(tuple),
    context_window=st.sampled_from([0, 500]),
    max_output_tokens=st.sampled_from([0, 50]),
)
HEADS = st.builds(
    Head,
    model=st.just("m"),
    max_output_tokens=st.one_of(st.none(), st.integers(1, 100)),
    choices=st.integers(1, 3),
    service_tier=st.sampled_from(["", "auto", "flex", "fast"]),
    media=st.integers(0, 1),
    audio=st.booleans(),
    cache_markers=st.booleans(),
    text_bytes=st.integers(0, 300),
    unknown_fields=st.sampled_from([(), ("new",)]),
)
USAGES = st.builds(
    Usage,
    meters=st.dictionaries(st.sampled_from(sorted(Meter)), st.integers(0, 300), max_size=4),
    source=st.sampled_from([UsageSource.PROVIDER, UsageSource.NONE]),
    served_tier=st.sampled_from(["", "flex", "default"]),
)


@settings(deadline=None)
@given(
    st.lists(PRICE_SHEETS, min_size=1, max_size=3), st.lists(st.tuples(TIMES, HEADS, USAGES), max_size=12), st.data()
)
def test_remembered_prices_are_the_prices(
    sheets: list[PriceSheet], asked: list[tuple[int, Head, Usage]], data: st.DataObject
) -> None:
    prices = Prices(capacity=2)
    for at_ms, head, usage in asked:
        sheet = data.draw(st.sampled_from(sheets))
        assert prices.bound(head, sheet, at_ms) == hold_bound(head, sheet, at_ms)
        assert prices.charge(usage, sheet, at_ms, "flex") == charge(usage, sheet, at_ms, "flex")
        assert prices.pinned(sheet, at_ms) == pinned(sheet, at_ms)


def test_words_of_providers_cannot_fill_the_memory() -> None:
    sheet = PriceSheet("m", (PriceRow("r", Meter.INPUT, 5),))
    prices = Prices()
    for number in range(3 * CHOICES_MAX):
        usage = Usage({Meter.INPUT: 1}, UsageSource.PROVIDER, served_tier=f"tier{number}")
        assert prices.charge(usage, sheet, 1).effective_nusd is None
    assert len(prices._known(sheet, 1).rows) <= CHOICES_MAX
