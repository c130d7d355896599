"""Every dimension a price may have besides tokens and tiers: place, hour, quantity, fees, reasoning, model runs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import msgspec
import pytest

from gateway.core.charge import Charge, CostState, Line, PinnedRate, PriceRow, PriceSheet, Terms, Uplift
from gateway.core.usage import Meter, Usage, UsagePart, UsageSource
from gateway.dialects.openai_chat.usage import read_usage
from gateway.pricing.arithmetic import charge, pinned
from gateway.pricing.book import Override, PriceBook
from gateway.pricing.remembered import Prices
from gateway.pricing.week import WEEK_MINUTES, is_within, joined, others, turns_around
from tests.pricing.examples import AT_MS, PLAIN, row, sheet, usage

BOOK = PriceBook()


def sheet_of(kind: str, model: str) -> PriceSheet:
    found = BOOK.sheet(kind, model)
    assert found is not None, BOOK.why_unpriced(kind, model)
    return found


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def amounts(charged: Charge) -> dict[str, int | None]:
    return {line.meter: line.effective_nusd for line in charged.lines}


# ---------------------------------------------------------------- where it is computed

GEO = msgspec.structs.replace(
    sheet(*PLAIN.rows, PriceRow("w", Meter.WEB_SEARCH, 10**10)),
    uplifts=(Uplift("us", 1_100_000, by_reply=True), Uplift("eu", 1_250_000)),
)


def in_geo(served: str, region: str) -> Charge:
    used = msgspec.structs.replace(usage(1000, 100, web_search=1), region=served)
    return charge(used, GEO, AT_MS, region=region)


@pytest.mark.parametrize(
    ("served", "region", "factor", "ppm"),
    [
        ("", "", "1", 0),
        ("global", "", "1", 0),
        ("us", "", "1.1", 1_100_000),
        ("", "eu", "1.25", 1_250_000),
        ("us", "eu", "1.375", 1_375_000),
    ],
)
def test_places_multiply_tokens_and_nothing_else(served: str, region: str, factor: str, ppm: int) -> None:
    charged = in_geo(served, region)
    assert amounts(charged) == {
        "input": int(1_000_000 * Decimal(factor)),
        "output": int(400_000 * Decimal(factor)),
        "web_search": 10_000_000,
    }
    assert [line.uplift_ppm for line in charged.lines] == [ppm, ppm, 0]
    assert charged.list_nusd == charged.effective_nusd == charged.billed_nusd
    for line in charged.lines:
        assert line.rate_pico is not None
        assert line.effective_nusd == line.rate_pico * line.quantity / line.per / 1000, "a line is quantity × rate"


@pytest.mark.parametrize(("served", "region"), [("mars", ""), ("", "mars"), ("eu", ""), ("", "us")])
def test_a_place_the_sheet_does_not_know_is_unpriced(served: str, region: str) -> None:
    charged = in_geo(served, region)
    assert (charged.state, charged.effective_nusd) == (CostState.UNPRICED, None)


def test_a_place_is_pinned_with_its_uplift() -> None:
    assert [rate.rate_pico / rate.per for rate in pinned(GEO, AT_MS, "eu")] == [1_250_000, 5_000_000]
    assert Prices().pinned(GEO, AT_MS, "eu") == pinned(GEO, AT_MS, "eu") != pinned(GEO, AT_MS)


# ---------------------------------------------------------------- the hour and the day

DEEP = sheet_of("deepseek", "deepseek-flash")


@pytest.mark.parametrize(
    ("moment", "peak"),
    [
        ("2026-11-23T00:59:59", False),
        ("2026-11-23T01:00:00", True),
        ("2026-11-23T03:59:59", True),
        ("2026-11-23T04:00:00", False),
        ("2026-11-23T06:00:00", True),
        ("2026-11-23T10:00:00", False),
        ("2026-11-27T09:59:59", True),
        ("2026-11-28T02:00:00", False),
        ("2026-11-29T07:00:00", False),
        ("2026-11-30T01:00:00", True),
    ],
)
def test_deepseek_is_dearer_in_working_hours_from_monday_to_friday(moment: str, peak: bool) -> None:
    used = usage(1_000_000, 1_000_000, cache_read=1_000_000)
    dear, cheap = (300_000_000, 1_200_000_000, 6_000_000), (150_000_000, 600_000_000, 3_000_000)
    charged = charge(used, DEEP, at(moment))
    assert tuple(line.effective_nusd for line in charged.lines) == (dear if peak else cheap)
    assert all(line.row_id for line in charged.lines)


def test_prices_remember_no_longer_than_the_hour() -> None:
    prices = Prices()
    moment = datetime(2026, 11, 22, 23, 0, tzinfo=UTC)
    used = usage(1000, 1000)
    seen = set()
    for _ in range(8 * 24 * 2):
        now_ms = int(moment.timestamp() * 1000)
        assert prices.charge(used, DEEP, now_ms) == charge(used, DEEP, now_ms)
        seen.add(charge(used, DEEP, now_ms).effective_nusd)
        moment += timedelta(minutes=30)
    assert len(seen) == 2


def test_spans_of_a_week() -> None:
    spans = joined([(60, 120), (100, 180), (300, 300), (180, 200)])
    assert spans == ((60, 200),)
    assert others(spans) == ((0, 60), (200, WEEK_MINUTES))
    assert others(others(spans)) == spans
    monday = at("2026-11-23T00:00:00")
    assert [is_within(spans, monday + minute * 60_000) for minute in (59, 60, 199, 200)] == [False, True, True, False]
    assert turns_around(spans, monday) == (monday - (WEEK_MINUTES - 200) * 60_000, monday + 60 * 60_000)
    assert turns_around(spans, monday + 60 * 60_000) == (monday + 60 * 60_000, monday + 200 * 60_000)


# ---------------------------------------------------------------- least quantities, other units


@pytest.mark.parametrize(
    ("kind", "model", "used", "nusd", "billed"),
    [
        ("groq", "whisper-large-v3", {Meter.AUDIO_SECONDS: 3}, 308_333, 10),
        ("groq", "whisper-large-v3", {Meter.AUDIO_SECONDS: 3600}, 111_000_000, 3600),
        ("openai", "whisper-1", {Meter.AUDIO_SECONDS: 1}, 100_000, 1),
        ("openai", "tts-1", {Meter.CHARACTERS: 1_000_000}, 15_000_000_000, 1_000_000),
        ("mistral", "mistral-ocr-4-0", {Meter.PAGES: 3}, 12_000_000, 3),
        ("mistral", "mistral-ocr-4-0", {Meter.ANNOTATED_PAGES: 3}, 15_000_000, 3),
        ("cohere", "rerank-v3.5", {Meter.SEARCH_UNITS: 1}, 2_000_000, 1),
        ("gemini", "gemini-2.5-pro", {Meter.MAPS_SEARCH: 2}, 50_000_000, 2),
        ("openai", "gpt-5", {Meter.FILE_SEARCH: 2}, 5_000_000, 2),
    ],
)
def test_what_is_not_counted_in_tokens(kind: str, model: str, used: dict[Meter, int], nusd: int, billed: int) -> None:
    charged = charge(Usage(used, UsageSource.PROVIDER), sheet_of(kind, model), AT_MS)
    assert charged.effective_nusd == nusd
    assert [line.quantity for line in charged.lines] == [billed]


def test_fees_are_the_same_at_every_tier() -> None:
    for tier in ("", "flex", "priority", "batch"):
        used = Usage({Meter.WEB_SEARCH: 1}, UsageSource.PROVIDER, served_tier=tier)
        assert charge(used, sheet_of("openai", "gpt-5"), AT_MS).effective_nusd == 10_000_000


# ---------------------------------------------------------------- the fee of a request, reasoning, citations


@pytest.mark.parametrize(
    ("size", "fee", "meter"),
    [
        ("low", 6_000_000, "request_low"),
        ("medium", 10_000_000, "request_medium"),
        ("high", 14_000_000, "request_high"),
        ("", 14_000_000, "request"),
        ("huge", 14_000_000, "request"),
    ],
)
def test_a_request_has_a_fee_by_how_much_it_searched(size: str, fee: int, meter: str) -> None:
    said = {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12, "num_search_queries": 3}
    charged = charge(read_usage(said | {"search_context_size": size}), sheet_of("perplexity", "sonar-pro"), AT_MS)
    assert amounts(charged) == {"input": 30_000, "output": 30_000, "web_search": 0, meter: fee}
    assert charged.effective_nusd == fee + 60_000
    assert charged.state is CostState.PRICED


def test_deep_research_costs_what_it_reports() -> None:
    """The provider's own sum in a recorded reply: reasoning, citations and searches each at a price of their own."""
    raw = (
        b'{"prompt_tokens":9,"completion_tokens":100,"total_tokens":109,"search_context_size":"low","citation_tokens":'
        b'7299,"num_search_queries":18,"reasoning_tokens":73248}'
    )
    used = read_usage(raw, reasoning_outside=True)
    assert used.unknown_fields == ()
    charged = charge(used, sheet_of("perplexity", "sonar-deep-research"), AT_MS)
    assert charged.effective_nusd == 325_160_000
    assert amounts(charged) == {
        "input": 18_000,
        "output": 800_000,
        "reasoning": 219_744_000,
        "citation": 14_598_000,
        "web_search": 90_000_000,
    }


def test_reasoning_is_output_where_it_has_no_price_of_its_own() -> None:
    used = msgspec.structs.replace(usage(0, 100), reasoning_tokens=60)
    assert amounts(charge(used, PLAIN, AT_MS)) == {"output": 400_000}
    apart = sheet(*PLAIN.rows, row(Meter.REASONING, "1"))
    assert amounts(charge(used, apart, AT_MS)) == {"output": 160_000, "reasoning": 60_000}
    all_of_it = msgspec.structs.replace(used, reasoning_tokens=200)
    assert amounts(charge(all_of_it, apart, AT_MS)) == {"reasoning": 100_000}


# ---------------------------------------------------------------- several model runs behind one reply

TIERED = sheet(*PLAIN.rows, row(Meter.INPUT, "2", min_input=1000))
OTHER = msgspec.structs.replace(sheet(row(Meter.INPUT, "10"), row(Meter.OUTPUT, "20")), model="other")


def runs(*parts: UsagePart) -> Usage:
    total: dict[Meter, int] = {}
    for part in parts:
        for meter, quantity in part.meters.items():
            total[meter] = total.get(meter, 0) + quantity
    return Usage(total, UsageSource.PROVIDER, parts=parts)


def test_each_run_has_the_tier_of_its_own_prompt() -> None:
    used = runs(UsagePart("a", "", {Meter.INPUT: 600}), UsagePart("b", "", {Meter.INPUT: 1001, Meter.OUTPUT: 1}))
    charged = charge(used, TIERED, AT_MS)
    assert [(line.part, line.meter, line.effective_nusd) for line in charged.lines] == [
        ("a", "input", 600_000), ("b", "input", 2_002_000), ("b", "output", 4_000),
    ]  # fmt: skip
    assert charged.effective_nusd == sum(line.effective_nusd or 0 for line in charged.lines)


def test_a_run_of_another_model_has_that_models_prices_or_none() -> None:
    used = runs(UsagePart("main", "", {Meter.INPUT: 1}), UsagePart("advisor", "other", {Meter.INPUT: 1}))
    known = charge(used, TIERED, AT_MS, sheet_of={"other": OTHER}.get)
    assert [line.effective_nusd for line in known.lines] == [1_000, 10_000]
    for lookup in (None, {"someone": OTHER}.get):
        unknown = charge(used, TIERED, AT_MS, sheet_of=lookup)
        assert (unknown.state, unknown.effective_nusd) == (CostState.UNPRICED, None)
        assert [line.effective_nusd for line in unknown.lines] == [1_000, None]
    assert Prices().charge(used, TIERED, AT_MS, sheet_of={"other": OTHER}.get) == known


# ---------------------------------------------------------------- old journals


def test_lines_and_rows_of_older_records_are_read() -> None:
    """Fields were only added at the end: what an older worker wrote has the amounts it had."""
    packed = msgspec.msgpack.encode(("input", 24, 150_000, 1, 3_600, 3_600, "pr_1"))
    line = msgspec.msgpack.decode(packed, type=Line)
    assert (line.effective_nusd, line.contracted_nusd, line.billed_nusd, line.part) == (3_600, 3_600, 3_600, "")
    rate = msgspec.msgpack.decode(msgspec.msgpack.encode(("pr_1", "input", 150_000, 1)), type=PinnedRate)
    assert (rate.rate_pico, rate.list_pico) == (150_000, None)
    old = msgspec.msgpack.encode(("pr_1", "input", 150_000, 1, "standard", 0, 0, 0, "demo"))
    assert msgspec.msgpack.decode(old, type=PriceRow) == PriceRow("pr_1", "input", 150_000, source="demo")
    whole = msgspec.msgpack.encode(("m", (), 5, 6))
    assert msgspec.msgpack.decode(whole, type=PriceSheet) == PriceSheet("m", (), 5, 6)


def test_a_row_may_hold_everything_and_travels() -> None:
    full = PriceRow(
        "x", "input", 1, 2, "flex", 3, 4, 5, "s", ((1, 2), (3, 4)), Terms(7, 8, 9, "EUR", 10, "1.085", 1_100_000)
    )
    sent = PriceSheet("m", (full,), 1, 2, (Uplift("us", 1_100_000, True),), 3, "why")
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(sent), type=PriceSheet) == sent


def test_an_override_may_bring_its_own_uplifts() -> None:
    book = PriceBook([Override("own", "m", PLAIN.rows, uplifts=(Uplift("eu", 2_000_000),))])
    assert charge(usage(1000), book.sheet("own", "m"), AT_MS, region="eu").effective_nusd == 2_000_000
