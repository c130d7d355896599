"""Laws of money: exact, half-even, printed and parsed without loss."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.money import (
    NANO,
    divide_half_even,
    divide_up,
    line_nusd,
    parse_usd,
    per_mtok_to_pico,
    print_cents,
    print_usd,
    usd_to_nusd,
)

amounts = st.integers(-(10**18), 10**18)


@given(st.integers(-(10**24), 10**24), st.integers(1, 10**12))
def test_half_even_division_is_decimals(numerator: int, denominator: int) -> None:
    # 60 digits are more than any of these quotients has before it repeats around the half.
    exact = Decimal(numerator) / Decimal(denominator) if numerator % denominator == 0 else None
    rounded = divide_half_even(numerator, denominator)
    if exact is not None:
        assert rounded == exact
    twice = 2 * (numerator - rounded * denominator)
    assert abs(twice) <= denominator
    if abs(twice) == denominator:
        assert rounded % 2 == 0


@given(st.integers(0, 10**9), st.integers(0, 10**12), st.sampled_from([1, 1000, 3600, 10**6]))
def test_a_line_is_rounded_once(rate_pico: int, quantity: int, per: int) -> None:
    with_decimals = Decimal(rate_pico * quantity).scaleb(-3)
    scaled = divide_half_even(rate_pico * quantity, per * 1000)
    assert line_nusd(rate_pico, quantity, per) == scaled
    if per == 1:
        assert scaled == int(with_decimals.quantize(Decimal(1), ROUND_HALF_EVEN))


@given(st.integers(0, 10**24), st.integers(1, 10**12))
def test_division_up_bounds(numerator: int, denominator: int) -> None:
    up = divide_up(numerator, denominator)
    assert (up - 1) * denominator < numerator <= up * denominator or numerator == up == 0


@given(amounts)
def test_what_is_printed_is_exact(nusd: int) -> None:
    assert usd_to_nusd(print_usd(nusd)) == nusd
    assert "E" not in print_usd(nusd)


@given(st.integers(0, 10**18))
def test_what_is_printed_can_be_typed(nusd: int) -> None:
    assert parse_usd(print_usd(nusd)) == nusd
    assert parse_usd(f"${print_usd(nusd)}") == nusd
    assert parse_usd(f"{print_usd(nusd)}USD") == nusd


@pytest.mark.parametrize(
    ("nusd", "shown"),
    [
        (0, "$0.00"),
        (1, "<$0.01"),
        (9_999_999, "<$0.01"),
        (10_000_000, "$0.01"),
        (15_000_000, "$0.02"),
        (25_000_000, "$0.02"),
        (31_204_180_000_000, "$31,204.18"),
        (-5_000_000_000, "-$5.00"),
        (-1, "$0.00"),
    ],
)
def test_cents(nusd: int, shown: str) -> None:
    assert print_cents(nusd) == shown


@pytest.mark.parametrize("text", ["", "five", "-1", "1.2.3", "1e3", "0.0000000001", "5EUR"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"amount of money|finer than"):
        parse_usd(text)


def test_published_rates_become_integers_or_are_refused() -> None:
    assert per_mtok_to_pico("0.15") == 150_000
    assert per_mtok_to_pico("0.003625") == 3_625
    with pytest.raises(ValueError, match="finer than one pico-USD"):
        per_mtok_to_pico("0.0000001")
    assert NANO == 10**9
