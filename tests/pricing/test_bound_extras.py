"""The bound of what is not tokens of one run: tools at the provider, fees, seconds, images, places, hours."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.call import Head
from gateway.core.charge import PriceRow, PriceSheet, Terms, Uplift
from gateway.core.usage import Meter, Usage, UsageSource
from gateway.pricing.arithmetic import charge
from gateway.pricing.book import PriceBook
from gateway.pricing.bound import NO_EXTRAS, TEMPLATE_TOKENS, Bound, Extras, hold_bound
from gateway.pricing.remembered import Prices
from tests.pricing.examples import AT_MS, PLAIN, row, sheet

HEAD = Head(model="m", text_bytes=1000 - TEMPLATE_TOKENS, messages=1, max_output_tokens=100)
TOKENS_NUSD = 1000 * 1000 + 100 * 4000 + 2
SEARCH = PriceRow("s", Meter.WEB_SEARCH, 10**10)
WITH_SEARCH = sheet(*PLAIN.rows, SEARCH, window=5_000, longest=8_000)
BOOK = PriceBook()


def bound(prices: PriceSheet, extras: Extras = NO_EXTRAS, head: Head = HEAD, region: str = "") -> Bound:
    found = hold_bound(head, prices, AT_MS, extras=extras, region=region)
    assert Prices().bound(head, prices, AT_MS, region, extras) == found
    return found


def test_a_tool_is_out_of_reach_until_it_is_named() -> None:
    assert bound(WITH_SEARCH).nusd == TOKENS_NUSD
    assert bound(WITH_SEARCH, head=msgspec.structs.replace(HEAD, tools=3)).nusd == TOKENS_NUSD


def test_a_named_tool_with_a_limit_is_held_with_what_it_finds() -> None:
    found = bound(WITH_SEARCH, Extras(counts=((Meter.WEB_SEARCH, 3),), runs=4))
    assert found.input_bound == 4 * 5_000, "the model may read its whole context before and after every call"
    assert found.nusd == 20_000 * 1000 + 100 * 4000 + 2 + 3 * 10_000_000 + 1


@pytest.mark.parametrize(
    ("prices", "extras", "reason"),
    [
        (WITH_SEARCH, Extras(((Meter.WEB_SEARCH, None),), None), "without a limit on their calls"),
        (WITH_SEARCH, Extras(((Meter.WEB_SEARCH, None),), 2), "billed by web search, and the request sets no limit"),
        (WITH_SEARCH, Extras(((Meter.FILE_SEARCH, 1),), 2), "it has no price for file search"),
        (sheet(*PLAIN.rows, SEARCH, longest=10), Extras(((Meter.WEB_SEARCH, 1),), 2), "no known context window"),
        (sheet(*PLAIN.rows, PriceRow("i", Meter.IMAGES, 5), longest=10), Extras(), "billed by images"),
        (msgspec.structs.replace(PLAIN, unbounded="it searches on"), Extras(), "it searches on"),
    ],
)
def test_what_cannot_be_proven_has_no_bound(prices: PriceSheet, extras: Extras, reason: str) -> None:
    found = bound(prices, extras)
    assert found.nusd is None
    assert reason in found.reason


def test_a_free_tool_needs_no_limit() -> None:
    free = sheet(*PLAIN.rows, PriceRow("f", Meter.WEB_FETCH, 0), window=5_000, longest=8_000)
    assert bound(free, Extras(((Meter.WEB_FETCH, None),), 1)).nusd == TOKENS_NUSD


def test_the_dearest_fee_of_a_request_is_held_once() -> None:
    fees = [PriceRow(size, f"request{size}", nusd * 1000) for size, nusd in (("", 7), ("_low", 5), ("_high", 9))]
    assert bound(sheet(*PLAIN.rows, *fees, window=5_000)).nusd == TOKENS_NUSD + 9 + 1
    sonar = BOOK.sheet("perplexity", "sonar-pro")
    assert sonar is not None
    assert bound(sonar).nusd == 1000 * 3000 + 100 * 15_000 + 2 + 14_000_000 + 1


def test_seconds_and_pictures_need_a_limit_and_characters_have_one() -> None:
    heard = sheet(PriceRow("a", Meter.AUDIO_SECONDS, 111 * 10**9, per=3600, terms=Terms(min_quantity=10)))
    assert bound(heard).nusd is None
    assert "audio seconds" in bound(heard).reason
    assert bound(heard, Extras(((Meter.AUDIO_SECONDS, 3),))).nusd == 308_334 + 1, "ten seconds at the least"
    spoken = sheet(PriceRow("c", Meter.CHARACTERS, 15_000_000))
    assert bound(spoken, head=msgspec.structs.replace(HEAD, text_bytes=10)).nusd == 10 * 15_000 + 1
    drawn = sheet(PriceRow("i", Meter.IMAGES, 4 * 10**10))
    assert bound(drawn, Extras(((Meter.IMAGES, 2),))).nusd == 80_000_000 + 1


def test_places_a_reply_may_tell_unasked_are_held() -> None:
    geo = msgspec.structs.replace(PLAIN, uplifts=(Uplift("us", 1_100_000, by_reply=True), Uplift("eu", 1_500_000)))
    assert bound(geo).nusd == 1_100_000 + 440_000 + 2
    assert bound(geo, region="eu").nusd == 1_650_000 + 660_000 + 2
    unknown = bound(geo, region="mars")
    assert (unknown.nusd, unknown.reason) == (None, "it has no price for the region mars")


def test_reasoning_beyond_the_callers_limit_is_held() -> None:
    beyond = msgspec.structs.replace(PLAIN, output_beyond=50_000)
    assert bound(beyond).output_bound == 50_100
    grok = BOOK.sheet("xai", "grok-4.3")
    assert grok is not None
    assert grok.output_beyond == grok.context_window > 0


@pytest.mark.parametrize(
    ("kind", "model", "beyond"),
    [
        ("xai", "grok-4.7-latest", True),
        ("xai", "grok-4", True),
        ("xai", "grok-3-mini", True),
        ("xai", "grok-4-fast-reasoning", True),
        ("xai", "grok-latest", True),
        ("litellm", "xai/grok-4.7-latest", True),
        ("openrouter", "x-ai/grok-4.7", True),
        ("openrouter", "~x-ai/grok-latest", True),
        ("xai", "grok-4-fast-non-reasoning", False),
        ("xai", "grok-3", False),
        ("openrouter", "openai/gpt-5", False),
    ],
)
def test_a_reasoning_model_is_one_under_all_of_its_names(kind: str, model: str, beyond: bool) -> None:
    """`grok-4.7-latest` had no room for its reasoning in the bound, and `grok-4.7` had."""
    found = BOOK.sheet(kind, model)
    assert found is not None
    assert found.output_beyond == (found.context_window if beyond else 0)
    assert bool(found.output_beyond) is beyond or found.unbounded


def test_a_reasoning_model_of_unknown_size_has_no_bound() -> None:
    found = BOOK.sheet("openrouter", "grok-3-mini")
    assert found is not None
    assert bound(found).nusd is None
    assert "context window is not known" in bound(found).reason


@pytest.mark.parametrize("model", ["sonar-deep-research"])
def test_a_model_that_searches_on_its_own_has_no_bound(model: str) -> None:
    found = BOOK.sheet("perplexity", model)
    assert found is not None
    assert bound(found).nusd is None
    assert "as much as it likes" in bound(found).reason


def test_the_hour_of_the_hold_is_the_hour_of_the_charge() -> None:
    night = ((0, 60),)
    hourly = sheet(
        msgspec.structs.replace(row(Meter.INPUT, "1"), week=((60, 10_080),)),
        msgspec.structs.replace(row(Meter.INPUT, "9"), week=night),
        row(Meter.OUTPUT, "4"),
        window=5_000,
    )
    monday_ms = 4 * 86_400_000
    assert hold_bound(HEAD, hourly, monday_ms).nusd == 9 * 10**6 + 400_000 + 2
    assert hold_bound(HEAD, hourly, monday_ms + 3_600_000).nusd == TOKENS_NUSD
    deep = BOOK.sheet("deepseek", "deepseek-flash")
    assert deep is not None
    assert hold_bound(HEAD, deep, monday_ms).nusd == 1000 * 150 + 100 * 600 + 3, "off-peak rows alone, at night"
    assert hold_bound(HEAD, deep, monday_ms + 2 * 3_600_000).nusd == 1000 * 300 + 100 * 1200 + 3


# ---------------------------------------------------------------- the law, with all of it together

SHEETS = [
    found
    for kind, model in [
        ("openai", "gpt-5"), ("openai", "gpt-6.1-sol"), ("anthropic", "claude-opus-5-5"), ("gemini", "gemini-2.5-pro"),
        ("deepseek", "deepseek-flash"), ("perplexity", "sonar-pro"), ("gemini", "gemini-3-pro-image-preview"),
        ("anthropic", "claude-sonnet-4-5"), ("xai", "grok-4.3"),
    ]
    if (found := BOOK.sheet(kind, model)) is not None
]  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(
    prices=st.sampled_from(SHEETS),
    at_ms=st.integers(AT_MS, AT_MS + 7 * 86_400_000),
    text_bytes=st.integers(0, 600_000),
    longest=st.integers(1, 100_000),
    calls=st.one_of(st.none(), st.integers(0, 5)),
    media=st.booleans(),
    data=st.data(),
)
def test_no_usage_in_reach_costs_more_than_its_bound_whatever_it_is_made_of(
    prices: PriceSheet, at_ms: int, text_bytes: int, longest: int, calls: int | None, media: bool, data: st.DataObject
) -> None:
    head = Head("m", text_bytes=text_bytes, max_output_tokens=longest, media=int(media))
    extras = Extras() if calls is None else Extras(((Meter.WEB_SEARCH, calls),), calls + 1)
    region = data.draw(st.sampled_from(["", *[one.region for one in prices.uplifts if not one.by_reply]]))
    held = hold_bound(head, prices, at_ms, extras=extras, region=region)
    if held.nusd is None:
        assert calls is not None, held.reason
        return
    meters: dict[Meter, int] = {}
    left = held.input_bound
    inputs = [Meter.INPUT, Meter.CACHE_READ, Meter.CACHE_WRITE, *[Meter.INPUT_IMAGE, Meter.INPUT_VIDEO] * media]
    for meter in data.draw(st.permutations(inputs)):
        meters[meter] = data.draw(st.one_of(st.just(left), st.integers(0, left)))
        left -= meters[meter]
    outputs = [Meter.OUTPUT, Meter.OUTPUT_IMAGE]
    left = held.output_bound
    for meter in data.draw(st.permutations(outputs)):
        meters[meter] = data.draw(st.one_of(st.just(left), st.integers(0, left)))
        left -= meters[meter]
    meters[Meter.WEB_SEARCH] = calls or 0
    used = Usage(
        {meter: n for meter, n in meters.items() if n},
        UsageSource.PROVIDER,
        region=data.draw(st.sampled_from(["", "global", *[one.region for one in prices.uplifts if one.by_reply]])),
        search_size=data.draw(st.sampled_from(["", "low", "high"])),
        reasoning_tokens=data.draw(st.integers(0, meters[Meter.OUTPUT])),
    )
    cost = charge(used, prices, at_ms, region=region).effective_nusd
    assert cost is None or cost <= held.nusd
