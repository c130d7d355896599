"""Money: integer nano-USD, and rates in integer pico-USD per `per` units. No float ever touches either.

An amount is `rate × quantity / per` computed exactly and rounded half-even to nano-USD once per line.
"""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, ROUND_HALF_EVEN, Decimal, InvalidOperation

NANO = 1_000_000_000
PICO_PER_NANO = 1_000

_AMOUNT = re.compile(r"^\s*\$?\s*(\d[\d_]*(?:\.\d+)?)\s*(?:USD|usd|\$)?\s*$")


def divide_half_even(numerator: int, denominator: int) -> int:
    """`numerator / denominator` to the nearest integer, ties to even. The denominator is positive."""
    quotient, remainder = divmod(numerator, denominator)
    twice = remainder * 2
    if twice > denominator or (twice == denominator and quotient & 1):
        return quotient + 1
    return quotient


def divide_up(numerator: int, denominator: int) -> int:
    """`numerator / denominator` rounded up, for bounds. The denominator is positive."""
    return -(-numerator // denominator)


def line_nusd(rate_pico: int, quantity: int, per: int) -> int:
    """One ledger line in nano-USD: exact product, one half-even division (money reference §3)."""
    return divide_half_even(quantity * rate_pico, per * PICO_PER_NANO)


def usd_to_nusd(text: str | Decimal) -> int:
    """Nano-USD from a decimal amount of USD; more than 9 decimals round half-even."""
    return int((Decimal(text) * NANO).to_integral_value(ROUND_HALF_EVEN))


def parse_usd(text: str) -> int:
    """Nano-USD from what a person types: `5USD`, `$5`, `0.25`. Raises ValueError with what is accepted."""
    match = _AMOUNT.match(text)
    if match is None:
        raise ValueError(f"{text!r} is not an amount of money; write it like 5USD or 0.25USD")
    try:
        amount = Decimal(match.group(1).replace("_", ""))
    except InvalidOperation as error:
        raise ValueError(f"{text!r} is not an amount of money; write it like 5USD or 0.25USD") from error
    nusd = amount * NANO
    if nusd != nusd.to_integral_value():
        raise ValueError(f"{text!r} is finer than one nano-USD (9 decimals)")
    return int(nusd)


def print_usd(nusd: int) -> str:
    """The exact decimal USD of an amount, without an exponent or trailing zeros: 360000 → `0.00036`."""
    sign = "-" if nusd < 0 else ""
    whole, rest = divmod(abs(nusd), NANO)
    if not rest:
        return f"{sign}{whole}"
    return f"{sign}{whole}.{rest:09d}".rstrip("0")


def print_cents(nusd: int) -> str:
    """USD for pages: cents, half-even, thousands grouped; anything under a cent but not 0 is `<$0.01`."""
    if 0 < nusd < NANO // 100:
        return "<$0.01"
    cents = divide_half_even(abs(nusd), NANO // 100)
    sign = "-" if nusd < 0 and cents else ""
    return f"{sign}${cents // 100:,}.{cents % 100:02d}"


def per_mtok_to_pico(usd_per_mtok: str | Decimal) -> int:
    """Pico-USD per token from a published USD per million tokens. Raises ValueError when it is not integral."""
    pico = Decimal(usd_per_mtok) * 1_000_000
    if pico != pico.to_integral_value():
        raise ValueError(f"{usd_per_mtok} USD per million tokens is finer than one pico-USD per token")
    return int(pico)


def ceil_nusd(amount: Decimal) -> int:
    """Nano-USD of a decimal USD amount, rounded up (for bounds)."""
    return int((amount * NANO).to_integral_value(ROUND_CEILING))
