"""What changes between two sheets: every rate that a call could meet, once, and nothing that it could not."""

from __future__ import annotations

from fractions import Fraction

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.charge import PriceRow, PriceSheet, Terms, Uplift
from gateway.core.usage import Meter
from gateway.pricing.draft import identified
from gateway.pricing.moves import moves, opinions_differ
from gateway.pricing.reported import gap_ppm, is_gap

NOW = 1_795_392_000_000
DAY = 86_400_000


def priced(*rows: PriceRow, uplifts: tuple[Uplift, ...] = ()) -> PriceSheet:
    return PriceSheet("m", tuple(identified("k", "m", row) for row in rows), uplifts=uplifts)


def rate(meter: Meter, pico: int, **more: object) -> PriceRow:
    return msgspec.structs.replace(PriceRow("", meter, pico, source="a 1"), **more)


PLAIN = (rate(Meter.INPUT, 100), rate(Meter.OUTPUT, 400))


def seen(before: PriceSheet | None, after: PriceSheet | None) -> list[tuple[str, str, int, Fraction | None, bool]]:
    found = moves(before, after, NOW)
    return [(move.tier, move.meter, move.above, move.percent, move.wants_confirmation) for move in found]


@pytest.mark.parametrize(
    ("new", "percent", "confirm"),
    [(125, 25, False), (126, 26, True), (75, -25, False), (74, -26, True), (0, -100, True), (101, 1, False)],
)
def test_more_than_a_quarter_either_way_wants_a_yes(new: int, percent: int, confirm: bool) -> None:
    after = priced(rate(Meter.INPUT, new), PLAIN[1])
    assert seen(priced(*PLAIN), after) == [("standard", "input", 0, Fraction(percent), confirm)]


def test_what_is_merely_written_another_way_is_no_change() -> None:
    after = priced(
        rate(Meter.INPUT, 100_000, per=1000, source="b 2"),
        rate(Meter.OUTPUT, 400, to_ms=NOW + DAY),
        rate(Meter.OUTPUT, 400, from_ms=NOW + DAY),
        rate(Meter.CACHE_READ, 100),  # what cached input cost without a row of its own
    )
    assert seen(priced(*PLAIN), after) == []
    past = priced(*PLAIN, rate(Meter.INPUT, 7, to_ms=NOW - 1))
    assert seen(priced(*PLAIN), past) == [], "history is nobody's next call"


def test_a_rate_of_next_month_is_seen_today_and_a_cliff_once() -> None:
    later = priced(*PLAIN, rate(Meter.INPUT, 1000, from_ms=NOW + 30 * DAY))
    (move,) = moves(priced(*PLAIN), later, NOW)
    assert (move.from_ms, move.percent, move.wants_confirmation) == (NOW + 30 * DAY, 900, True)
    cliff = priced(*PLAIN, rate(Meter.INPUT, 200, min_input=1000))
    assert seen(priced(*PLAIN), cliff) == [("standard", "input", 1000, Fraction(100), True)]
    both = priced(rate(Meter.INPUT, 110), PLAIN[1])
    assert seen(cliff, both) == [
        ("standard", "input", 0, Fraction(10), False),
        ("standard", "input", 1000, Fraction(-45), True),
    ]


def test_a_lost_price_wants_a_yes_and_a_new_one_does_not() -> None:
    assert seen(priced(*PLAIN), None) == [
        ("standard", "input", 0, None, True),
        ("standard", "output", 0, None, True),
    ]
    assert [move[3:] for move in seen(None, priced(*PLAIN))] == [(None, False)] * 2
    more = priced(*PLAIN, rate(Meter.INPUT, 50, tier="batch"), rate(Meter.OUTPUT, 200, tier="batch"))
    assert [move[4] for move in seen(priced(*PLAIN), more)] == [False, False]
    assert {move[0] for move in seen(more, priced(*PLAIN)) if move[4]} == {"batch"}
    free = priced(rate(Meter.INPUT, 0), rate(Meter.OUTPUT, 0))
    assert all(move[4] for move in seen(free, priced(*PLAIN))), "what was free and costs something"


def test_hours_places_and_margins_are_looked_at() -> None:
    night = priced(*PLAIN, rate(Meter.INPUT, 50, week=((0, 60),)))
    assert seen(priced(*PLAIN), night) == [("standard", "input", 0, Fraction(-50), True)]
    placed = priced(*PLAIN, uplifts=(Uplift("eu", 1_100_000),))
    dearer = priced(*PLAIN, uplifts=(Uplift("eu", 1_500_000),))
    ((tier, meter, _, percent, confirm),) = seen(placed, dearer)
    assert (tier, meter, percent > 36, confirm) == ("", "uplift:eu", True, True)
    ((_, place, *_),) = seen(priced(*PLAIN), priced(*PLAIN, uplifts=(Uplift("us", 1_100_000, by_reply=True),)))
    assert place == "uplift:us by reply"
    margin = priced(rate(Meter.INPUT, 100, terms=Terms(billed_pico=150)), PLAIN[1])
    (move,) = moves(priced(*PLAIN), margin, NOW)
    assert (move.billed, move.old, move.new, move.wants_confirmation) == (True, 100, 150, True)


@given(st.integers(1, 10**9), st.integers(0, 10**9))
def test_a_move_is_what_its_rates_say(old: int, new: int) -> None:
    found = moves(priced(rate(Meter.INPUT, old)), priced(rate(Meter.INPUT, new)), NOW)
    if old == new:
        assert found == []
        return
    (move,) = found
    assert move.wants_confirmation == (abs(new - old) * 4 > old)


def test_two_sources_differ_by_more_than_one_per_cent() -> None:
    opinions = {
        "input": (Fraction(100), Fraction(101)),
        "output": (Fraction(100), Fraction(102)),
        "image": (Fraction(0), Fraction(5)),
    }
    assert opinions_differ(opinions) == {"output": Fraction(2)}


@pytest.mark.parametrize(
    ("effective", "reported", "ppm", "gap"),
    [
        (1000, 1010, 10_000, False),
        (1000, 1011, 11_000, True),
        (1000, 989, -11_000, True),
        (0, 0, None, False),
        (0, 5, 1_000_000, True),
        (None, 5, None, False),
        (5, None, None, False),
        (10**15, 10**15 + 10**13, 10_000, False),
        (10**15, 10**15 + 10**13 + 1, 10_000, True),
    ],
)
def test_a_providers_own_word_beside_ours(
    effective: int | None, reported: int | None, ppm: int | None, gap: bool
) -> None:
    assert (gap_ppm(effective, reported), is_gap(effective, reported)) == (ppm, gap)


def test_a_small_move_now_hides_no_large_one_of_next_month() -> None:
    after = priced(rate(Meter.INPUT, 110), rate(Meter.INPUT, 1000, from_ms=NOW + 30 * DAY), PLAIN[1])
    assert seen(priced(*PLAIN), after) == [
        ("standard", "input", 0, Fraction(10), False),
        ("standard", "input", 0, Fraction(900), True),
    ]


def test_a_fee_for_each_request_is_money_for_what_was_free() -> None:
    fee = priced(*PLAIN, rate(Meter.REQUEST, 10**12))
    assert seen(priced(*PLAIN), fee) == [("standard", "request", 0, None, True)]
    assert seen(fee, priced(*PLAIN)) == [("standard", "request", 0, Fraction(-100), True)]
    assert seen(priced(*PLAIN), priced(*PLAIN, rate(Meter.REQUEST, 0))) == []
    low = priced(*fee.rows, rate(Meter.REQUEST_LOW, 10**13))
    assert seen(fee, low) == [("standard", "request_low", 0, Fraction(900), True)]


def test_a_least_quantity_multiplies_what_small_calls_cost() -> None:
    least = priced(rate(Meter.INPUT, 100, terms=Terms(min_quantity=1000)), PLAIN[1])
    assert seen(priced(*PLAIN), least) == [("standard", "least:input", 0, Fraction(99_900), True)]
    assert [move[4] for move in seen(least, priced(*PLAIN))] == [True]


def test_a_margin_hides_behind_no_move_of_what_is_owed() -> None:
    margin = priced(rate(Meter.INPUT, 101, terms=Terms(billed_pico=1010)), PLAIN[1])
    assert seen(priced(*PLAIN), margin) == [
        ("standard", "input", 0, Fraction(1), False),
        ("standard", "input", 0, Fraction(910), True),
    ]
    before = priced(rate(Meter.INPUT, 100, terms=Terms(billed_pico=200)), PLAIN[1])
    both = priced(rate(Meter.INPUT, 110, terms=Terms(billed_pico=220)), PLAIN[1])
    assert seen(before, both) == [("standard", "input", 0, Fraction(10), False)], "the same margin on another rate"


def test_long_cache_writes_that_become_unpriced_want_a_yes() -> None:
    """Without any price for cache writes the long ones cost plain input; with one for short ones they cost nobody
    knows what."""
    after = priced(*PLAIN, rate(Meter.CACHE_WRITE, 100))
    assert {move[1] for move in seen(priced(*PLAIN), after) if move[4]} == {"cache_write_1h", "cache_write_12h"}


def test_prices_that_turn_too_often_to_be_looked_at_want_a_yes() -> None:
    often = [rate(Meter.INPUT, 100, from_ms=NOW + at) for at in range(1, 1002)]
    (move,) = moves(priced(*PLAIN), priced(*PLAIN, *often, rate(Meter.INPUT, 9_000, from_ms=NOW + DAY)), NOW)
    assert (move.meter, move.wants_confirmation) == ("unseen:times", True)
