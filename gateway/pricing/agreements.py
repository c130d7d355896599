"""What was agreed besides the list: discounts, margins, contracts in another currency. All become rates of rows.

Discounts and margins are exact: the rates that come of them are whole pico-USD per `per` units, however large `per` has
to be, so that each amount of a line is still rounded once (money reference §3).
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal, InvalidOperation
from fractions import Fraction

import msgspec

from gateway.core.charge import PriceRow, Terms
from gateway.core.errors import ConfigInvalid
from gateway.pricing.rows import with_rates

_PERCENT = 100


class Agreement(msgspec.Struct, frozen=True):
    """A discount from a vendor, a margin on what is charged inside, or both, on [from_ms, to_ms), to_ms 0 = open.

    `model` is a name, or a beginning with `*`. `meters` are those it is for, empty: all. Percentages are decimal text:
    `15` is 15 %. The discount makes the contracted rate out of the list's, the margin the billed one out of that.
    """

    kind: str
    model: str = "*"
    meters: tuple[str, ...] = ()
    discount_pct: str = "0"
    margin_pct: str = "0"
    from_ms: int = 0
    to_ms: int = 0

    def is_for(self, kind: str, model: str) -> bool:
        if kind != self.kind:
            return False
        return model.startswith(self.model[:-1]) if self.model.endswith("*") else model == self.model


def agreed(rows: Iterable[PriceRow], agreements: Iterable[Agreement]) -> tuple[PriceRow, ...]:
    """The rows as agreed. One that an agreement begins or ends within is cut there. Later agreements come on top.

    Raises ConfigInvalid for a percentage that is none: a discount from 0 to 100, a margin from -100 to 10 000.
    """
    found = tuple(rows)
    for agreement in agreements:
        kept = 1 - _percent(agreement.discount_pct, 0, 100)
        margin = 1 + _percent(agreement.margin_pct, -100, 10_000)
        found = tuple(
            _applied(piece, kept, margin) if inside else piece
            for row in found
            for piece, inside in _cut(row, agreement)
        )
    return found


def _percent(text: str, least: int, most: int) -> Fraction:
    try:
        value = Decimal(text)
        if not least <= value <= most:
            raise InvalidOperation
    except InvalidOperation as error:
        raise ConfigInvalid(f"{text!r} is not a percentage from {least} to {most}; write it like 15 or 2.5") from error
    return Fraction(value) / _PERCENT


def _cut(row: PriceRow, agreement: Agreement) -> list[tuple[PriceRow, bool]]:
    """The row in pieces, and which of them the agreement is for."""
    if agreement.meters and row.meter not in agreement.meters:
        return [(row, False)]
    ends = sorted(
        moment
        for moment in {agreement.from_ms, agreement.to_ms}
        if row.from_ms < moment and (moment < row.to_ms or not row.to_ms)
    )
    starts = [row.from_ms, *ends]
    pieces = zip(starts, [*ends, row.to_ms], strict=True)
    if not ends:
        return [(row, _inside(row.from_ms, agreement))]
    return [
        (msgspec.structs.replace(row, id="", from_ms=start, to_ms=end), _inside(start, agreement))
        for start, end in pieces
    ]


def _inside(start_ms: int, agreement: Agreement) -> bool:
    return agreement.from_ms <= start_ms and (not agreement.to_ms or start_ms < agreement.to_ms)


def _applied(row: PriceRow, kept: Fraction, margin: Fraction) -> PriceRow:
    terms = row.terms or Terms()
    rate = Fraction(row.rate_pico, row.per)
    listed = rate if terms.list_pico is None else Fraction(terms.list_pico, row.per)
    billed = rate if terms.billed_pico is None else Fraction(terms.billed_pico, row.per)
    native = None if terms.native_pico is None else Fraction(terms.native_pico, row.per) * kept
    contracted = rate * kept
    billed = billed * kept * margin
    return with_rates(
        msgspec.structs.replace(row, id=""),
        terms,
        contracted,
        None if listed == contracted else listed,
        None if billed == contracted else billed,
        native,
    )


def in_currency(row: PriceRow, currency: str, fx: str) -> PriceRow:
    """A row whose rate is in another currency (pico of it), in USD by the rate of exchange `fx`, USD for one of it.

    Raises ConfigInvalid for a rate of exchange that is none. The list is taken to be the same, in the same currency.
    """
    try:
        value = Decimal(fx)
        if not 0 < value < 10**9:
            raise InvalidOperation
    except InvalidOperation as error:
        raise ConfigInvalid(f"{fx!r} is not a rate of exchange; write it like 1.085") from error
    native = Fraction(row.rate_pico, row.per)
    terms = msgspec.structs.replace(row.terms or Terms(), currency=currency, fx=fx)
    return with_rates(msgspec.structs.replace(row, id=""), terms, native * Fraction(value), native=native)
