"""Kinds whose prices are not simply a vendor's list: own hardware, routers, proxies, and what has no price at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.call import Head
from gateway.core.charge import CostState
from gateway.core.usage import Meter
from gateway.pricing.arithmetic import charge, pinned
from gateway.pricing.book import EVERY_MODEL, FREE_KINDS, VENDORS, Override, PriceBook
from gateway.pricing.bound import hold_bound
from gateway.providers.discover import discover
from tests.pricing.examples import AT_MS, row, usage

BOOK = PriceBook()
ROWS = discover()
free_kinds = pytest.mark.parametrize("kind", sorted(FREE_KINDS))


def test_rows_and_book_agree_on_what_is_free_and_whose_prices_count() -> None:
    assert {kind for kind, row_ in ROWS.items() if row_.free} == FREE_KINDS
    priced = {kind: row_.genai_prices for kind, row_ in ROWS.items() if row_.genai_prices}
    assert priced == {kind: vendor.genai for kind, vendor in VENDORS.items() if kind in ROWS}


@free_kinds
@given(model=st.text(min_size=1, max_size=40))
def test_any_model_on_own_hardware_has_an_explicit_price_of_nothing(kind: str, model: str) -> None:
    found = BOOK.sheets_for(kind, [model])[model]
    assert {one.source for one in found.rows} == {"local"}
    assert all(one.id.startswith("pr_") for one in found.rows)
    said = usage(1200, 300, cache_read=5, input_audio=7, output_audio=9, input_image=2, cache_write_1h=1)
    cost = charge(said, found, AT_MS)
    assert (cost.state, cost.effective_nusd, cost.list_nusd) == (CostState.PRICED, 0, 0)
    assert all(line.row_id for line in cost.lines), "a line that names its row is not an unknown cost"
    assert [rate.rate_pico for rate in pinned(found, AT_MS)] == [0, 0]


@free_kinds
def test_a_hard_budget_lets_a_free_call_pass(kind: str) -> None:
    found = BOOK.sheets_for(kind)[EVERY_MODEL]
    for head in (
        Head("m", text_bytes=400),
        Head("m", text_bytes=400, media=3, audio=True),
        Head("m", text_bytes=400, service_tier="flex", choices=4),
        Head("m", text_bytes=400, service_tier="auto", unknown_fields=("x",), cache_markers=True),
        Head("m", text_bytes=400, output_expected=False, inputs=9),
    ):
        assert hold_bound(head, found, AT_MS).nusd == 0, head


def test_own_hardware_can_be_given_a_price() -> None:
    dear = Override("vllm", "llama", (row(Meter.INPUT, "1"), row(Meter.OUTPUT, "2")), context_window=8192)
    found = PriceBook([dear]).sheet("vllm", "llama")
    assert found is not None
    assert charge(usage(1000, 1000), found, AT_MS).effective_nusd == 3_000_000
    assert PriceBook([dear]).names("vllm") == ["*", "llama"]


@pytest.mark.parametrize(
    ("kind", "model", "vendor", "name"),
    [
        ("litellm", "openai/gpt-4o-mini", "openai", "gpt-4o-mini"),
        ("litellm", "together_ai/openai/gpt-oss-120b", "together", "openai/gpt-oss-120b"),
        ("litellm", "xai/grok-4", "xai", "grok-4"),
    ],
)
def test_a_proxys_model_has_the_prices_of_the_vendor_it_names(kind: str, model: str, vendor: str, name: str) -> None:
    found, theirs = BOOK.sheet(kind, model), BOOK.sheet(vendor, name)
    assert found is not None
    assert theirs is not None
    assert [(one.meter, one.tier, one.rate_pico, one.per) for one in found.rows] == [
        (one.meter, one.tier, one.rate_pico, one.per) for one in theirs.rows
    ]


def test_a_routers_model_has_the_prices_of_the_provider_it_names() -> None:
    groq = BOOK.sheet("huggingface", "openai/gpt-oss-120b:groq")
    assert groq is not None
    assert all(one.source.startswith("genai-prices") for one in groq.rows)
    assert {"openai/gpt-oss-120b:groq"} <= set(BOOK.names("huggingface"))


@pytest.mark.parametrize(
    ("kind", "model", "why"),
    [
        ("huggingface", "openai/gpt-oss-120b", "name one as in"),
        ("huggingface", "openai/gpt-oss-120b:cheapest", "name one as in"),
        ("huggingface", ":groq", "name one as in"),
        ("litellm", "gpt-4o", "give it priced_as"),
        ("litellm", "nobody/gpt-4o", "give it priced_as"),
        ("hf_endpoint", "tgi", "by the hour"),
        ("nvidia", "meta/llama-3.1-8b-instruct", "by contract"),
        ("openai_compatible", "x", "no price source knows it"),
        ("deepseek", "deepseek-chat", "time of day"),
    ],
)
def test_what_has_no_price_says_why(kind: str, model: str, why: str) -> None:
    assert BOOK.sheet(kind, model) is None
    assert why in BOOK.why_unpriced(kind, model)
