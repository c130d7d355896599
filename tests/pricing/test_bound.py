"""The bound is proven: no usage a request can have costs more. And it is as tight as its rules say."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gateway.core.call import Head
from gateway.core.charge import PriceSheet
from gateway.core.usage import Meter, Usage, UsageSource
from gateway.pricing.arithmetic import charge
from gateway.pricing.book import PriceBook
from gateway.pricing.bound import TEMPLATE_TOKENS, hold_bound
from tests.pricing.examples import AT_MS, PLAIN, row, sheet

HEAD = Head(model="m", text_bytes=1000 - TEMPLATE_TOKENS, messages=1)


def with_(**changes: object) -> Head:
    return msgspec.structs.replace(HEAD, **changes)


def nusd(head: Head, prices: PriceSheet | None = PLAIN) -> int | None:
    return hold_bound(head, prices, AT_MS).nusd


def test_plain() -> None:
    bound = hold_bound(HEAD, PLAIN, AT_MS)
    assert (bound.input_bound, bound.output_bound, bound.tokens) == (1000, 8000, 9000)
    assert bound.nusd == 1000 * 1000 + 8000 * 4000 + 2, "one nano-USD per possible line: half-even rounds up too"
    assert bound.reason == ""


@pytest.mark.parametrize(
    ("head", "output"),
    [
        (with_(max_output_tokens=100), 100),
        (with_(max_output_tokens=9000), 8000),
        (with_(max_output_tokens=100, choices=3), 300),
        (with_(choices=3), 24_000),
        (with_(output_expected=False), 0),
        (with_(output_expected=False, max_output_tokens=100), 0),
    ],
)
def test_output(head: Head, output: int) -> None:
    assert hold_bound(head, PLAIN, AT_MS).output_bound == output


def test_the_whole_window_is_held_where_the_models_longest_output_is_unknown() -> None:
    assert hold_bound(HEAD, sheet(*PLAIN.rows, window=50_000), AT_MS).output_bound == 50_000


def test_without_any_maximum_there_is_no_bound() -> None:
    bound = hold_bound(HEAD, sheet(*PLAIN.rows), AT_MS)
    assert bound.nusd is None
    assert "max_completion_tokens" in bound.reason
    assert hold_bound(with_(max_output_tokens=10), sheet(*PLAIN.rows), AT_MS).nusd == 1_000_000 + 40_000 + 2


def test_a_prompt_longer_than_the_window_is_bounded_by_it() -> None:
    assert hold_bound(with_(text_bytes=10**7), PLAIN, AT_MS).input_bound == 100_000


def test_each_text_of_an_array_has_a_window_of_its_own() -> None:
    assert hold_bound(with_(text_bytes=10**7, inputs=3), PLAIN, AT_MS).input_bound == 300_000
    assert hold_bound(with_(text_bytes=150_000, inputs=3), PLAIN, AT_MS).input_bound == 150_000 + TEMPLATE_TOKENS


def test_media_are_bounded_by_the_window_alone() -> None:
    assert hold_bound(with_(media=1), PLAIN, AT_MS).input_bound == 100_000
    bound = hold_bound(with_(media=1), sheet(*PLAIN.rows, longest=10), AT_MS)
    assert bound.nusd is None
    assert "context window" in bound.reason


def test_no_price_no_bound_but_tokens_are_still_counted() -> None:
    bound = hold_bound(with_(max_output_tokens=5), None, AT_MS)
    assert (bound.nusd, bound.tokens, bound.reason) == (None, 1005, "it has no price")
    assert nusd(HEAD, sheet(window=10, longest=10)) is None
    assert nusd(HEAD, sheet(row(Meter.INPUT, "1"), window=10, longest=10)) is None
    assert nusd(HEAD, sheet(*(msgspec.structs.replace(r, from_ms=AT_MS + 1) for r in PLAIN.rows), longest=10)) is None
    assert nusd(with_(output_expected=False), sheet(row(Meter.INPUT, "1"))) == 1_000_001


def test_what_is_free_is_held_at_nothing_even_without_sizes() -> None:
    free = sheet(row(Meter.INPUT, "0"), row(Meter.OUTPUT, "0"))
    assert nusd(HEAD, free) == 0
    assert nusd(with_(media=2), free) == 0


RICH = sheet(
    *PLAIN.rows,
    row(Meter.CACHE_READ, "0.1"),
    row(Meter.CACHE_WRITE, "1.25"),
    row(Meter.CACHE_WRITE_1H, "2"),
    row(Meter.INPUT_AUDIO, "40"),
    row(Meter.OUTPUT_AUDIO, "80"),
    row(Meter.INPUT_IMAGE, "3"),
    window=100_000,
    longest=8_000,
)


@pytest.mark.parametrize(
    ("head", "implicit", "input_usd", "output_usd", "lines"),
    [
        (HEAD, False, "1", "4", 3),
        (HEAD, True, "1.25", "4", 4),
        (with_(cache_markers=True), False, "2", "4", 5),
        (with_(unknown_fields=("holo",)), False, "40", "80", 8),
    ],
)
def test_rows_in_reach(head: Head, implicit: bool, input_usd: str, output_usd: str, lines: int) -> None:
    """Writes only where they can happen, audio only with audio; an unknown field may be anything."""
    bound = hold_bound(head, RICH, AT_MS, implicit_writes=implicit)
    assert bound.nusd == int(float(input_usd) * 1000) * 1000 + int(output_usd) * 1000 * 8000 + lines


def test_images_and_audio_in_reach() -> None:
    assert nusd(with_(media=1), RICH) == 100_000 * 3000 + 8000 * 4000 + 5
    assert nusd(with_(audio=True), RICH) == 100_000 * 40_000 + 8000 * 80_000 + 6
    bound = hold_bound(with_(audio=True), PLAIN, AT_MS)
    assert (bound.nusd, bound.reason) == (None, "it has no price for audio")


TIERS = sheet(
    *PLAIN.rows,
    row(Meter.INPUT, "0.5", tier="flex"),
    row(Meter.OUTPUT, "2", tier="flex"),
    row(Meter.INPUT, "2", tier="priority"),
    row(Meter.OUTPUT, "8", tier="priority"),
    window=100_000,
    longest=8_000,
)


@pytest.mark.parametrize(
    ("tier", "factor"),
    [
        ("", 1),
        ("default", 1),
        ("standard", 1),
        ("standard_only", 1),
        ("flex", 1),
        ("priority", 2),
        ("fast", 2),
        ("auto", 2),
    ],
)
def test_a_tier_only_if_asked(tier: str, factor: int) -> None:
    """A request for flex may be served as standard; one for `auto` as anything."""
    assert nusd(with_(service_tier=tier), TIERS) == factor * (1000 * 1000 + 8000 * 4000) + 2


def test_an_unknown_tier_has_no_bound() -> None:
    bound = hold_bound(with_(service_tier="scale"), TIERS, AT_MS)
    assert (bound.nusd, bound.reason) == (None, "it has no price for the service tier scale")
    assert nusd(with_(service_tier="flex"), PLAIN) is None


def test_a_cliff_counts_when_the_input_can_reach_it() -> None:
    cliff = sheet(
        *PLAIN.rows,
        row(Meter.INPUT, "2", min_input=1000),
        row(Meter.OUTPUT, "6", min_input=1000),
        window=10**6,
        longest=10,
    )
    assert nusd(HEAD, cliff) == 1000 * 1000 + 10 * 4000 + 2
    assert nusd(with_(text_bytes=1001 - TEMPLATE_TOKENS), cliff) == 1001 * 2000 + 10 * 6000 + 2


# ---------------------------------------------------------------- the law, over real prices

BOOK = PriceBook()
MODELS = ["gpt-6.1-sol", "gpt-5", "gpt-4o", "o3", "gpt-audio", "gpt-5.4-mini", "text-embedding-3-small"]
SHEETS = [found for name in MODELS if (found := BOOK.sheet("openai", name)) is not None] + list(
    BOOK.sheets_for("simulated").values()
)
SERVED = {"": ["", "default"], "default": ["default"], "flex": ["flex", "default"], "priority": ["priority", "default"]}
SERVED |= {"fast": ["priority", "fast", "default"], "auto": ["flex", "priority", "default"]}


@settings(max_examples=500, deadline=None)
@given(
    prices=st.sampled_from(SHEETS),
    tier=st.sampled_from(sorted(SERVED)),
    text_bytes=st.one_of(st.integers(0, 5000), st.integers(0, 1_100_000)),
    longest=st.one_of(st.none(), st.integers(1, 200_000)),
    choices=st.integers(1, 4),
    flags=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    data=st.data(),
)
def test_no_usage_within_reach_costs_more_than_its_bound(
    prices: PriceSheet,
    tier: str,
    text_bytes: int,
    longest: int | None,
    choices: int,
    flags: tuple[bool, bool, bool],
    data: st.DataObject,
) -> None:
    markers, audio, unknown = flags
    expected = any(found.meter == Meter.OUTPUT for found in prices.rows)
    head = Head(
        model=prices.model, text_bytes=text_bytes, messages=1, max_output_tokens=longest, choices=choices,
        service_tier=tier, cache_markers=markers, audio=audio, media=int(audio), output_expected=expected,
        unknown_fields=("x",) if unknown else (),
    )  # fmt: skip
    bound = hold_bound(head, prices, AT_MS)
    assume(bound.nusd is not None)
    assert bound.nusd is not None
    left_in, left_out = bound.input_bound, bound.output_bound
    input_meters = [Meter.INPUT, Meter.CACHE_READ, Meter.CACHE_WRITE]
    input_meters += [Meter.CACHE_WRITE_1H] * (markers or unknown) + [Meter.INPUT_AUDIO, Meter.CACHE_READ_AUDIO] * audio
    output_meters = [Meter.OUTPUT, *[Meter.OUTPUT_AUDIO] * audio]
    meters: dict[Meter, int] = {}
    for meter in data.draw(st.permutations(input_meters)):
        meters[meter] = data.draw(st.one_of(st.just(left_in), st.integers(0, left_in)))
        left_in -= meters[meter]
    for meter in data.draw(st.permutations(output_meters)):
        meters[meter] = data.draw(st.one_of(st.just(left_out), st.integers(0, left_out)))
        left_out -= meters[meter]
    served = data.draw(st.sampled_from(SERVED[tier]))
    used = Usage({meter: n for meter, n in meters.items() if n}, UsageSource.PROVIDER, served_tier=served)
    cost = charge(used, prices, AT_MS).effective_nusd
    assert cost is None or cost <= bound.nusd
