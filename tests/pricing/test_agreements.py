"""Discounts, margins and contracts: exact rates, in effect for their time, on top of the list that stays visible."""

from __future__ import annotations

import pytest

from gateway.core.charge import Charge, PriceRow, PriceSheet
from gateway.core.errors import ConfigInvalid
from gateway.core.usage import Meter
from gateway.pricing.agreements import Agreement, agreed, in_currency
from gateway.pricing.arithmetic import charge, pinned
from gateway.pricing.book import Override, PriceBook
from tests.pricing.examples import AT_MS, PLAIN, row, usage

RAW = (row(Meter.INPUT, "1"), row(Meter.OUTPUT, "4"))


def book(*agreements: Agreement, contract: bool = False, rows: tuple[PriceRow, ...] = RAW) -> PriceBook:
    return PriceBook([Override("own", "m", rows, contract=contract)], agreements=agreements)


def bill(prices: PriceBook, at_ms: int = AT_MS) -> Charge:
    return charge(usage(1_000_000, 1_000_000), prices.sheet("own", "m"), at_ms)


def four(charged: Charge) -> tuple[int | None, int | None, int | None, int | None]:
    return charged.list_nusd, charged.contracted_nusd, charged.effective_nusd, charged.billed_nusd


@pytest.mark.parametrize(
    ("agreements", "listed", "contracted", "billed"),
    [
        ([], 5_000, 5_000, 5_000),
        ([Agreement("own", discount_pct="10")], 5_000, 4_500, 4_500),
        ([Agreement("own", margin_pct="10")], 5_000, 5_000, 5_500),
        ([Agreement("own", discount_pct="10", margin_pct="10")], 5_000, 4_500, 4_950),
        ([Agreement("own", meters=("input",), discount_pct="50")], 5_000, 4_500, 4_500),
        ([Agreement("own", "m*", discount_pct="10"), Agreement("own", "m", discount_pct="10")], 5_000, 4_050, 4_050),
        ([Agreement("own", "other", discount_pct="10")], 5_000, 5_000, 5_000),
        ([Agreement("else", discount_pct="10")], 5_000, 5_000, 5_000),
        ([Agreement("own", discount_pct="100")], 5_000, 0, 0),
        ([Agreement("own", discount_pct="0.1")], 5_000, 4_995, 4_995),
    ],
)
def test_four_amounts(agreements: list[Agreement], listed: int, contracted: int, billed: int) -> None:
    assert four(bill(book(*agreements))) == tuple(n * 10**6 for n in (listed, contracted, contracted, billed))


def test_an_agreement_has_a_beginning_and_an_end() -> None:
    prices = book(Agreement("own", discount_pct="50", from_ms=1000, to_ms=2000))
    assert [bill(prices, at_ms).effective_nusd for at_ms in (0, 999, 1000, 1999, 2000)] == [
        5 * 10**9, 5 * 10**9, 25 * 10**8, 25 * 10**8, 5 * 10**9,
    ]  # fmt: skip
    sheet = prices.sheet("own", "m")
    assert sheet is not None
    assert len({one.id for one in sheet.rows}) == len(sheet.rows)


def test_rows_that_are_agreed_on_have_ids_of_their_own() -> None:
    """The same price by list and by contract are two rows: a bill must say by which."""
    plain, cheaper = book().sheet("own", "m"), book(Agreement("own", discount_pct="10")).sheet("own", "m")
    assert plain is not None
    assert cheaper is not None
    assert {one.id for one in plain.rows}.isdisjoint({one.id for one in cheaper.rows})


def test_a_contract_keeps_the_list_beside_it() -> None:
    own = (PriceRow("", "input", 1_000_000, source="file"), PriceRow("", "output", 8_000_000, source="file"))
    prices = PriceBook([Override("openai", "gpt-5", own, contract=True)])
    charged = charge(usage(1_000_000, 1_000_000), prices.sheet("openai", "gpt-5"), AT_MS)
    assert (charged.list_nusd, charged.effective_nusd) == (11_250_000_000, 9_000_000_000)
    without = PriceBook([Override("openai", "gpt-5", own)])
    assert charge(usage(1_000_000), without.sheet("openai", "gpt-5"), AT_MS).list_nusd == 1_000_000_000


def test_an_estimate_after_a_crash_knows_the_agreed_rates() -> None:
    sheet = book(Agreement("own", discount_pct="10", margin_pct="20")).sheet("own", "m")
    assert sheet is not None
    rate = pinned(sheet, AT_MS)[0]
    assert (rate.rate_pico / rate.per, rate.list_pico, rate.billed_pico) == (900_000, 1_000_000, 1_080_000)


@pytest.mark.parametrize("text", ["", "x", "101", "-1", "NaN", "1e9"])
def test_a_discount_is_a_percentage(text: str) -> None:
    with pytest.raises(ConfigInvalid, match="percentage"):
        agreed(RAW, [Agreement("own", discount_pct=text)])


@pytest.mark.parametrize("text", ["", "0", "-1", "NaN", "1e12"])
def test_a_rate_of_exchange_is_a_number(text: str) -> None:
    with pytest.raises(ConfigInvalid, match="rate of exchange"):
        in_currency(RAW[0], "EUR", text)


def test_a_discount_in_another_currency_is_in_both() -> None:
    euro = tuple(in_currency(one, "EUR", "1.25") for one in RAW)
    charged = bill(book(Agreement("own", discount_pct="20"), rows=euro))
    assert four(charged)[:3] == (6_250_000_000, 5_000_000_000, 5_000_000_000)
    assert sum(line.native_nano or 0 for line in charged.lines) == 4_000_000_000


def test_nothing_agreed_changes_no_row() -> None:
    assert agreed(PLAIN.rows, []) == PLAIN.rows
    assert agreed(PriceSheet("m", ()).rows, [Agreement("own", discount_pct="5")]) == ()
