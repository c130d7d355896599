"""What a file adds to the book: rates for a time, and a fallback that is never taken for a published price."""

from __future__ import annotations

import msgspec
import pytest

from gateway.core.charge import PriceSheet
from gateway.core.usage import Meter
from gateway.pricing.book import Fallback, Override, PriceBook
from gateway.pricing.rows import rows_for
from tests.pricing.examples import row

BOOK = PriceBook()
OWN = "file:prices.yaml"


def input_row(sheet: PriceSheet | None, at_ms: int, tokens: int = 10) -> tuple[int, str]:
    assert sheet is not None
    found = rows_for(sheet, "standard", tokens, at_ms)[Meter.INPUT]
    return found.rate_pico, found.source.partition(" ")[0]


@pytest.mark.parametrize(
    ("at_ms", "rate"),
    [(999, 2_500_000), (1000, 9_000_000), (1999, 9_000_000), (2000, 2_500_000), (3500, 8_000_000), (10**12, 8_000_000)],
)
def test_outside_of_its_time_an_override_leaves_the_sources_rates(at_ms: int, rate: int) -> None:
    rows = (
        row(Meter.INPUT, "9", from_ms=1000, to_ms=2000, source=OWN),
        row(Meter.INPUT, "8", from_ms=3000, source=OWN),
    )
    sheet = PriceBook([Override("openai", "gpt-4o", rows)]).sheet("openai", "gpt-4o")
    assert input_row(sheet, at_ms) == (rate, OWN if rate != 2_500_000 else "genai-prices")
    plain = BOOK.sheet("openai", "gpt-4o")
    assert plain is not None
    assert sheet is not None
    others = [one for one in sheet.rows if one.meter == Meter.OUTPUT]
    assert others == [one for one in plain.rows if one.meter == Meter.OUTPUT]


def test_a_fallback_is_for_models_without_a_price_and_says_so() -> None:
    rates = (
        row(Meter.INPUT, "30", source="fallback:prices.yaml"),
        row(Meter.OUTPUT, "60", source="fallback:prices.yaml"),
    )
    book = PriceBook(fallbacks=[Fallback("openai", rates, 4096, 512)])
    unknown = book.sheet("openai", "gpt-99")
    assert unknown is not None
    assert (unknown.context_window, unknown.max_output_tokens) == (4096, 512)
    assert {one.source for one in unknown.rows} == {"fallback:prices.yaml"}
    assert book.own_sheet("openai", "gpt-99") is None
    assert book.why_unpriced("openai", "gpt-99") == "no price source knows it", "it still has no price of its own"
    assert book.sheet("openai", "gpt-4o") == BOOK.sheet("openai", "gpt-4o")
    assert book.sheet("groq", "gpt-99") is None
    assert "*" in book.names("openai"), "models that only a wildcard names have it, too"
    assert [one.id for one in (book.sheet("openai", "*") or unknown).rows] == [one.id for one in unknown.rows]
    searcher = book.sheet("openai", "gpt-4o-search-preview")
    assert searcher is not None
    assert searcher.rows[0].source == "fallback:prices.yaml"


def test_opinions_are_what_both_sources_say() -> None:
    opinions = BOOK.opinions("openai", "gpt-4o")
    assert {meter: (int(one), int(other)) for meter, (one, other) in opinions.items()} == {
        "input": (2_500_000, 2_500_000),
        "output": (10_000_000, 10_000_000),
    }
    assert BOOK.opinions("ollama", "x") == BOOK.opinions("openai", "none") == {}


def test_an_identified_row_of_a_cut_source_differs_from_the_whole_one() -> None:
    sheet = PriceBook([Override("openai", "gpt-4o", (row(Meter.INPUT, "9", to_ms=5),))]).sheet("openai", "gpt-4o")
    assert sheet is not None
    ids = [one.id for one in sheet.rows]
    assert len(set(ids)) == len(ids)
    assert msgspec.structs.asdict(sheet)["model"] == "gpt-4o"
