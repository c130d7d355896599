"""The compiled price book against its sources: same prices, nothing invented, nothing silently free."""

from __future__ import annotations

import gzip
import hashlib
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import genai_prices
import pytest
from genai_prices.data import providers
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.charge import PriceRow, PriceSheet
from gateway.core.errors import ConfigInvalid
from gateway.core.usage import Meter, Usage, UsageSource
from gateway.pricing.arithmetic import charge
from gateway.pricing.book import VENDORS, Override, PriceBook, sheets_for
from gateway.pricing.draft import Draft, exact_rate
from gateway.pricing.genai import GenaiPrices
from gateway.pricing.litellm_map import SUM_FILE, LitellmMap
from tests.pricing.examples import AT_MS, row, usage

ROOT = Path(__file__).parent.parent.parent
DATA = ROOT / "gateway" / "pricing" / "data"
BOOK = PriceBook()
OPENAI = BOOK.sheets_for("openai")


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


# ---------------------------------------------------------------- against genai-prices itself

CONTEXTS = {
    "": {},
    "default": {"service_tier": "default"},
    "flex": {"service_tier": "flex"},
    "priority": {"service_tier": "priority"},
    "fast": {"service_tier": "fast"},
    "batch": {"processing": "batch"},
}
USAGES = [
    {Meter.INPUT: 1200, Meter.OUTPUT: 300},
    {Meter.INPUT: 1808, Meter.CACHE_READ: 8192, Meter.OUTPUT: 2500},
    {Meter.INPUT: 200_000, Meter.CACHE_READ: 100_000, Meter.OUTPUT: 7},
    {Meter.INPUT: 200_000, Meter.OUTPUT: 1},
    {Meter.INPUT: 200_001, Meter.OUTPUT: 1},
    {Meter.INPUT: 272_000, Meter.OUTPUT: 1},
    {Meter.INPUT: 10, Meter.CACHE_WRITE: 600, Meter.OUTPUT: 1},
]
TIMES = [
    "2025-06-09T23:59:59",
    "2025-06-10T00:00:00",
    "2026-10-12T00:00:00",
    "2026-10-13T00:00:00",
    "2026-11-25T12:00:00",
]


def theirs(kind: str, model: str, meters: dict[Meter, int], when: str, context: dict[str, str]) -> Decimal:
    """genai-prices' own answer; it wants inclusive token counts."""
    cached, written = meters.get(Meter.CACHE_READ, 0), meters.get(Meter.CACHE_WRITE, 0)
    asked = genai_prices.Usage(
        input_tokens=meters.get(Meter.INPUT, 0) + cached + written,
        cache_read_tokens=cached,
        cache_write_tokens=written,
        output_tokens=meters.get(Meter.OUTPUT, 0),
    )
    moment = datetime.fromisoformat(when).replace(tzinfo=UTC)
    return genai_prices.calc_price(
        asked, model, provider_id=VENDORS[kind].genai, genai_request_timestamp=moment, price_context=context
    ).total_price


def of_source(found: PriceSheet, source: str) -> bool:
    return all(one.source.startswith(source) for one in found.rows)


SAMPLE = [
    *(
        ("openai", name)
        for name in ("gpt-4o-mini", "gpt-4o", "gpt-5", "gpt-6.1-sol", "o3", "gpt-4.1", "o4-mini", "gpt-5.5")
    ),
    *(("mistral", name) for name in ("mistral-large-latest", "codestral-latest")),
    *(("groq", name) for name in ("llama-3.3-70b-versatile",)),
    *(("gemini", name) for name in ("gemini-2.5-pro",)),
    *(("xai", name) for name in ("grok-4-0709",)),
    *(("anthropic", name) for name in ("claude-sonnet-4-5", "claude-haiku-4-5")),
]


@pytest.mark.parametrize(("kind", "model"), SAMPLE, ids=lambda value: value)
def test_prices_agree_with_genai_prices(kind: str, model: str) -> None:
    found = BOOK.sheet(kind, model)
    assert found is not None, BOOK.why_unpriced(kind, model)
    compared = 0
    for when in TIMES:
        for tier, context in CONTEXTS.items():
            for meters in USAGES:
                used = Usage(meters, UsageSource.PROVIDER, served_tier=tier)
                ours = charge(used, found, at(when))
                from_genai = {one.id for one in found.rows if one.source.startswith("genai-prices")}
                if ours.effective_nusd is None or not {line.row_id for line in ours.lines} <= from_genai:
                    continue  # no such tier then, which genai-prices answers with the standard price
                exact = theirs(kind, model, meters, when, context) * 10**9
                assert abs(Decimal(ours.effective_nusd) - exact) <= Decimal(len(ours.lines)) / 2, (when, tier, meters)
                compared += 1
    assert compared >= len(TIMES) * len(USAGES)


def test_a_tier_that_did_not_exist_yet_is_unpriced_not_standard() -> None:
    """genai-prices falls back to the standard price without a word; we must not."""
    used = usage(10, 10, tier="flex")
    assert charge(used, OPENAI["gpt-5"], at("2026-10-11T23:59:59")).effective_nusd is None
    assert charge(used, OPENAI["gpt-5"], at("2026-10-12T00:00:00")).effective_nusd is not None


def test_every_openai_price_per_token_is_in_the_book() -> None:
    missing = []
    for model in next(provider for provider in providers if provider.id == "openai").models:
        prices = model.get_prices(datetime(2026, 11, 25, tzinfo=UTC))
        if prices.input_mtok is not None and BOOK.sheet("openai", model.id) is None:
            missing.append(model.id)
    assert {BOOK.why_unpriced("openai", name) for name in missing} <= {
        "each call bills a search fee that its usage does not report",
        "no price source knows it",
    }
    assert len(missing) < 10


# ---------------------------------------------------------------- what a sheet is


@pytest.mark.parametrize("kind", sorted({*VENDORS, "simulated"}))
def test_sheets_are_sound(kind: str) -> None:
    found = BOOK.sheets_for(kind)
    assert found
    for name, one in found.items():
        assert one.model == name
        rows = one.rows
        assert len({found.id for found in rows}) == len(rows), f"{name} has two rows of one id"
        assert all(found.id and found.source and found.rate_pico >= 0 and found.per >= 1 for found in rows)
        keys = {(found.tier, found.meter, found.min_input, found.from_ms, found.week) for found in rows}
        assert len(keys) == len(rows), f"{name} has two rows for the same thing"
        by_tokens = any(found.meter == Meter.INPUT for found in rows)
        with_input = {found.tier for found in rows if found.meter == Meter.INPUT or not by_tokens}
        assert {found.tier for found in rows} - {"standard"} <= with_input, f"{name} has a tier without input"


def test_spans_of_a_meter_do_not_overlap() -> None:
    for one in OPENAI.values():
        groups: dict[tuple[str, str, int], list[PriceRow]] = {}
        for found in one.rows:
            groups.setdefault((found.tier, found.meter, found.min_input), []).append(found)
        for rows in groups.values():
            for earlier, later in pairwise(rows):
                assert 0 < earlier.to_ms <= later.from_ms


def test_row_ids_are_made_of_content() -> None:
    again = PriceBook().sheet("openai", "gpt-5")
    assert again == OPENAI["gpt-5"]
    assert again is not None
    assert {row.id for row in again.rows}.isdisjoint({row.id for row in OPENAI["gpt-4o"].rows})


def test_history_is_kept_for_the_desk_and_left_out_for_workers() -> None:
    then, now = at("2025-06-09T00:00:00"), at("2026-11-25T00:00:00")
    whole, recent = BOOK.sheet("openai", "o3"), PriceBook(since_ms=now).sheet("openai", "o3")
    assert whole is not None
    assert recent is not None
    assert charge(usage(1000), whole, then).effective_nusd == 10_000_000
    assert charge(usage(1000), recent, then).effective_nusd is None
    assert charge(usage(1000), recent, now) == charge(usage(1000), whole, now)
    assert len(recent.rows) < len(whole.rows)


def test_names_of_a_wildcard() -> None:
    assert {"gpt-4o", "gpt-4o-2024-08-06", "gpt-5-chat-latest", "text-embedding-3-small"} <= OPENAI.keys()
    assert BOOK.sheets_for("openai", ["gpt-5", "no-such-model"]).keys() == {"gpt-5"}
    assert sheets_for("openai", ["gpt-5"])["gpt-5"] == OPENAI["gpt-5"]
    assert BOOK.sheets_for("own") == {}


def test_a_name_matched_by_a_pattern_is_priced_when_named() -> None:
    tuned = BOOK.sheet("openai", "ft:gpt-4o-mini-2024-07-18:acme::id")
    assert tuned is not None
    assert charge(usage(1000), tuned, AT_MS).effective_nusd == 300_000


def test_an_image_costs_what_text_costs_where_there_is_no_other_price() -> None:
    assert charge(usage(input_image=1000), OPENAI["gpt-4o"], AT_MS).effective_nusd == 2_500_000
    assert charge(usage(input_image=1000), OPENAI["text-embedding-3-small"], AT_MS).effective_nusd is None


def test_sizes_are_the_larger_ones() -> None:
    """The bound must hold whichever source is behind."""
    assert (OPENAI["gpt-5"].context_window, OPENAI["gpt-5"].max_output_tokens) == (400_000, 128_000)
    assert OPENAI["gpt-5.5"].context_window == 1_050_000


@pytest.mark.parametrize(
    ("kind", "model", "why"),
    [
        ("openai", "gpt-4o-search-preview", "search fee"),
        ("openrouter", "openai/gpt-4o-search-preview", "search fee"),
        ("litellm", "openrouter/perplexity/sonar", "search fee"),
        ("openai", "gpt-99", "no price source knows it"),
        ("deepseek", "deepseek-chat", "time of day"),
        ("xai", "grok-voice-latest", "no meter counts what its price input_text_messages_kcount is of"),
        ("own", "llama", "no price source knows it"),
        ("simulated", "sim-huge", "no price source knows it"),
    ],
)
def test_what_cannot_be_priced_whole_is_not_priced(kind: str, model: str, why: str) -> None:
    assert BOOK.sheet(kind, model) is None
    assert why in BOOK.why_unpriced(kind, model)
    assert BOOK.why_unpriced("openai", "gpt-5") == ""


# ---------------------------------------------------------------- gaps


def test_gaps_are_filled_where_both_agree() -> None:
    rows = {(one.tier, one.meter, one.min_input): one for one in OPENAI["gpt-6.1-sol"].rows}
    filled = rows["ultrafast", "output", 272_000]
    assert (filled.rate_pico, filled.source.partition(" ")[0]) == (90_000_000, "litellm-map")
    assert rows["standard", "input", 0].source.startswith("genai-prices")
    assert rows["standard", "cache_write_12h", 0].rate_pico == 5_000_000
    assert rows["flex", "cache_write_12h", 272_000].rate_pico == 5_000_000


def test_a_model_only_the_map_knows() -> None:
    found = OPENAI["ft:gpt-4.1-2025-04-14"]
    assert of_source(found, "litellm-map")
    assert found.max_output_tokens == 32_768
    assert charge(usage(1000, tier="batch", cache_read=10), found, AT_MS).effective_nusd is not None


def test_the_map_adds_nothing_where_it_disagrees() -> None:
    """Of two models under one name, or one stale source, half of each would be neither's price."""
    litellm, genai = LitellmMap(), GenaiPrices()
    compared = 0
    for kind, vendor in VENDORS.items():
        for name, one in BOOK.sheets_for(kind).items():
            first, second = genai.draft(vendor.genai, name), litellm.draft(vendor.litellm, name)
            if not first or not second or not first.rows or plain_input(first) == plain_input(second):
                continue
            compared += 1
            assert of_source(one, "genai-prices"), name
    assert compared > 10


def plain_input(draft: Draft) -> set[tuple[int, int]]:
    return {
        (one.rate_pico, one.per)
        for one in draft.rows
        if (one.tier, one.meter, one.min_input, one.to_ms) == ("standard", "input", 0, 0)
    }


def test_zero_in_the_map_is_not_a_price() -> None:
    assert LitellmMap().draft("openai", "text-embedding-3-small") is not None
    draft = LitellmMap().draft("openai", "text-embedding-3-small")
    assert draft is not None
    assert all(row.rate_pico > 0 for row in draft.rows)
    assert {row.meter for row in draft.rows} == {Meter.INPUT}


# ---------------------------------------------------------------- overrides


def test_a_model_of_an_unknown_kind_is_free_by_saying_so() -> None:
    free = Override("own", "llama", (row(Meter.INPUT, "0"), row(Meter.OUTPUT, "0")), context_window=8192)
    book = PriceBook([free])
    found = book.sheet("own", "llama")
    assert found is not None
    assert found.context_window == 8192
    assert charge(usage(10, 10), found, AT_MS).effective_nusd == 0
    assert book.names("own") == ["llama"]
    assert PriceBook([Override("own", "llama", ())]).sheet("own", "llama") is None


def test_an_override_counts_from_its_own_start() -> None:
    start = at("2026-12-01T00:00:00")
    cheaper = Override("openai", "gpt-5", (row(Meter.INPUT, "1", from_ms=start),), max_output_tokens=1000)
    found = PriceBook([cheaper]).sheet("openai", "gpt-5")
    assert found is not None
    assert charge(usage(1000, 1), found, start - 1).effective_nusd == 1_250_000 + 10_000
    assert charge(usage(1000, 1), found, start).effective_nusd == 1_000_000 + 10_000
    assert charge(usage(input_image=1000), found, start).effective_nusd == 1_000_000
    assert charge(usage(1000, tier="flex"), found, start).effective_nusd == 625_000
    assert (found.max_output_tokens, found.context_window) == (1000, 400_000)


def test_an_override_replaces_cliffs_too() -> None:
    flat = Override("openai", "gpt-6.1-sol", (row(Meter.INPUT, "2"),))
    found = PriceBook([flat]).sheet("openai", "gpt-6.1-sol")
    assert found is not None
    assert charge(usage(300_000), found, AT_MS).effective_nusd == 600_000_000
    assert all(line.row_id for line in charge(usage(300_000), found, AT_MS).lines)


def test_an_override_row_without_an_id_is_given_one() -> None:
    bare = PriceRow(id="", meter="input", rate_pico=1, source="file:policies/prices.yaml")
    found = PriceBook([Override("own", "x", (bare,))]).sheet("own", "x")
    assert found is not None
    assert found.rows[0].id.startswith("pr_")
    assert found.rows[0].source == "file:policies/prices.yaml"


# ---------------------------------------------------------------- demo prices


def test_demo_prices() -> None:
    found = BOOK.sheets_for("simulated")
    assert found.keys() == {"sim-small", "sim-large", "sim-reasoning", "sim-embed"}
    assert all(of_source(one, "demo") for one in found.values())
    assert charge(usage(1200, 300), found["sim-small"], AT_MS).effective_nusd == 360_000
    assert charge(usage(1200, 300, tier="priority"), found["sim-small"], AT_MS).effective_nusd == 720_000
    assert charge(usage(8000), found["sim-embed"], AT_MS).effective_nusd == 160_000


# ---------------------------------------------------------------- exactness and the vendored file


@pytest.mark.parametrize(
    ("usd", "rate"),
    [
        ("0.15", (150_000, 1)),
        ("0.003625", (3_625, 1)),
        ("0.0000015", (15, 10)),
        ("0", (0, 1)),
        ("180", (180_000_000, 1)),
    ],
)
def test_rates_are_exact(usd: str, rate: tuple[int, int]) -> None:
    assert exact_rate(Decimal(usd), 1_000_000) == rate


@given(st.decimals(0, 10_000, places=12, allow_nan=False))
def test_no_digit_of_a_published_price_is_lost(usd_per_mtok: Decimal) -> None:
    rate_pico, per = exact_rate(usd_per_mtok, 1_000_000)
    assert Decimal(rate_pico) / per == usd_per_mtok * 1_000_000


def test_the_vendored_map_is_the_one_recorded() -> None:
    digest, _, name = (DATA / SUM_FILE).read_text().strip().partition("  ")
    packed = (DATA / name).read_bytes()
    assert hashlib.sha256(packed).hexdigest() == digest
    assert packed[4:8] == b"\0\0\0\0", "a time stamp would make the file different each time"
    assert len(json.loads(gzip.decompress(packed))) > 4000
    assert LitellmMap().version in name
    assert "MIT License" in (DATA / "LICENSE-litellm").read_text()


def test_a_changed_map_is_refused(tmp_path: Path) -> None:
    name = "litellm-model-prices-1.0.json.gz"
    (tmp_path / name).write_bytes(gzip.compress(b"{}"))
    (tmp_path / SUM_FILE).write_text(f"{'0' * 64}  {name}\n")
    with pytest.raises(ConfigInvalid, match="SHA-256"):
        LitellmMap(tmp_path).names("openai")
    (tmp_path / SUM_FILE).write_text(f"{'0' * 64}  something.gz\n")
    with pytest.raises(ConfigInvalid, match="not a vendored price map"):
        _ = LitellmMap(tmp_path).version


def test_the_vendoring_tool_finds_it_intact() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "vendor_prices.py", "--check"], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_workers_load_no_price_source() -> None:
    """Arithmetic and bound are for the worker; the book, and what it imports, is for the desk."""
    code = (
        "import sys, gateway.pricing.arithmetic, gateway.pricing.bound, gateway.limits.wants, gateway.limits.refusal,"
        "gateway.counters.memory\n"
        "print([name for name in sys.modules if name.partition('.')[0] in ('genai_prices', 'pydantic', 'litellm')"
        " or name in ('gateway.pricing.book', 'gateway.pricing.genai', 'gateway.pricing.litellm_map')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


def test_compiling_is_quick() -> None:
    """A configuration is compiled at every change of a file: thousands of models must not take seconds."""
    began = datetime.now(UTC)
    BOOK.sheets_for("openrouter")
    assert datetime.now(UTC) - began < timedelta(seconds=10)
