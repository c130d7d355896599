"""Versions of the price book: the same content gives the same prices, and a file that is none is refused."""

from __future__ import annotations

import gzip
import json
from decimal import Decimal

import msgspec
import pytest

from gateway.core.errors import BadRequest, ConfigInvalid
from gateway.core.price_admin import PriceSource
from gateway.core.usage import Meter
from gateway.pricing.agreements import Agreement
from gateway.pricing.book import Fallback, Override, PriceBook
from gateway.pricing.draft import exact_rate
from gateway.pricing.sources import bundled_sources, read_source
from gateway.pricing.versions import (
    NOTHING_WRITTEN,
    OpenSources,
    PriceFile,
    book_of,
    decode_written,
    encode_written,
    make_version,
)
from tests.pricing.examples import row

OPENED = OpenSources()


@pytest.fixture(scope="module")
def sources() -> tuple[PriceSource, PriceSource]:
    return bundled_sources()


def changed(source: PriceSource, model: str, per_mtok: str) -> bytes:
    """genai-prices' data file with another input price of an OpenAI model."""
    providers = json.loads(gzip.decompress(source.content), parse_float=Decimal)
    (openai,) = [one for one in providers if one["id"] == "openai"]
    (found,) = [one for one in openai["models"] if one["id"] == model]
    found["prices"]["input_mtok"] = per_mtok
    return json.dumps(providers, default=str).encode()


def test_the_kept_sources_are_those_that_ship_to_the_last_row(sources: tuple[PriceSource, PriceSource]) -> None:
    """Every sheet of a version built from its stored content is the one that the installed package gives."""
    kept, shipped = book_of(make_version(*sources, NOTHING_WRITTEN), OPENED), PriceBook()
    for kind in ("openai", "anthropic", "gemini", "deepseek", "xai", "groq", "perplexity", "mistral"):
        names = shipped.names(kind)
        assert names == kept.names(kind)
        for name in names:
            assert kept.sheet(kind, name) == shipped.sheet(kind, name), (kind, name)
    assert bundled_sources() == sources, "the same release gives the same bytes"


def test_a_versions_name_is_its_content(sources: tuple[PriceSource, PriceSource]) -> None:
    plain = make_version(*sources, NOTHING_WRITTEN, "# one\n")
    assert plain.sha256 == make_version(*sources, NOTHING_WRITTEN, "# two\n").sha256, "a remark is no price"
    written = PriceFile((Override("openai", "own", (row(Meter.INPUT, "1"),)),))
    assert make_version(*sources, written).sha256 != plain.sha256
    other = msgspec.structs.replace(sources[0], sha256="0" * 64)
    assert make_version(other, sources[1], NOTHING_WRITTEN).sha256 != plain.sha256
    everything = PriceFile(
        written.overrides,
        (Agreement("openai", discount_pct="15"),),
        (Fallback("openai", (row(Meter.INPUT, "9", source="fallback:prices.yaml"),), 1000),),
    )
    assert decode_written(encode_written(everything)) == everything
    with pytest.raises(ConfigInvalid):
        decode_written(b"\xc1")


def test_a_newer_data_file_changes_what_it_says_and_nothing_else(sources: tuple[PriceSource, PriceSource]) -> None:
    newer = read_source("data-2026-12.json", changed(sources[0], "gpt-4o-mini", "0.16"))
    assert (newer.kind, newer.name) == ("genai", f"genai-prices data-2026-12@{newer.sha256[:8]}")
    before = book_of(make_version(*sources, NOTHING_WRITTEN), OPENED)
    after = book_of(make_version(newer, sources[1], NOTHING_WRITTEN), OPENED)

    def input_pico(book: PriceBook, model: str) -> int:
        sheet = book.sheet("openai", model)
        assert sheet is not None
        return next(one.rate_pico for one in sheet.rows if (one.meter, one.tier) == (Meter.INPUT, "standard"))

    assert [input_pico(book, "gpt-4o-mini") for book in (before, after)] == [150_000, 160_000]
    assert [input_pico(book, "gpt-4o") for book in (before, after)] == [2_500_000, 2_500_000]
    assert [one.id for one in (before.sheet("openai", "gpt-4o") or after).rows] == [  # type: ignore[union-attr]
        one.id
        for one in (after.sheet("openai", "gpt-4o") or before).rows  # type: ignore[union-attr]
    ], "a price that stays keeps its row's id"


def test_files_are_known_by_their_shape_plain_or_packed(sources: tuple[PriceSource, PriceSource]) -> None:
    genai, litellm = sources
    plain = gzip.decompress(litellm.content)
    for content in (plain, litellm.content, gzip.compress(plain, 1)):
        found = read_source("/home/ada/model_prices_and_context_window.json.gz", content)
        assert (found.kind, found.sha256) == ("litellm", litellm.sha256)
        assert found.name.startswith("litellm-map model_prices_and_context_window@")
    assert read_source("x", genai.content).sha256 == genai.sha256


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not JSON"),
        (b"<html>", "not JSON"),
        (b"\x1f\x8bnonsense", "no whole gzip"),
        (b"[]", "0 providers"),
        (b'[{"id": 1}]', "genai-prices cannot read the file"),
        (b"{}", "0 models"),
        (b'{"gpt": {"litellm_provider": "openai", "mode": "chat"}}', "1 models"),
        (b'{"gpt": 5}', "neither"),
        (b"5", "neither"),
        (b"[" * 100_000, "not JSON"),
    ],
)
def test_what_is_no_price_source_is_refused(content: bytes, said: str) -> None:
    with pytest.raises(BadRequest, match=said):
        read_source("file", content)


@pytest.mark.parametrize("price", ["-1", "1e30"])
def test_prices_that_cannot_be_are_refused(sources: tuple[PriceSource, PriceSource], price: str) -> None:
    with pytest.raises(BadRequest):
        read_source("data.json", changed(sources[0], "gpt-4o-mini", price))


@pytest.mark.parametrize(
    "price",
    ["NaN", "Infinity", "-1", '"0.1"', "true", "[]", "1e99999", "1e999980", "1e-999980", "99999999999999999999"],
)
def test_a_map_with_a_price_that_is_no_number_is_refused(sources: tuple[PriceSource, PriceSource], price: str) -> None:
    """A text or a number below nothing would leave the model without that rate, `true` would be 1 USD for a token, and
    1e999980 takes half a minute to write as a whole number."""
    text = gzip.decompress(sources[1].content).decode()
    changed_map = text.replace('"input_cost_per_token": 1.5e-07', f'"input_cost_per_token": {price}')
    assert changed_map != text
    with pytest.raises(BadRequest, match=r"no price|no number|64 bits"):
        read_source("map.json", changed_map.encode())


def test_a_name_that_no_reply_can_be_written_with_is_refused(sources: tuple[PriceSource, PriceSource]) -> None:
    text = gzip.decompress(sources[1].content).decode()
    with pytest.raises(BadRequest, match="no Unicode"):
        read_source("map.json", text.replace('"gpt-4o-mini": {', '"gpt-4o-mini\\ud800": {').encode())


@pytest.mark.parametrize(
    ("pattern", "heavy"),
    [
        (r"^([a-z0-9.-]+)+!$", True),
        (r"(a|a)*b", True),
        (r"(a){1,99}", True),
        (r"(a+)\1", True),
        (r"(?P<x>a)(?P=x)", True),
        (r".*.*.*!", True),
        (r"a?" * 30 + "a" * 30, True),
        (r"^(typesafe/)?jev-1\.13(-\d{8})?$", False),
        (r"^grok-4\.7\[fast=true\]+$", False),
        (r"^(?!.*-[tT][tT][sS](?:$|-))", False),
    ],
)
def test_a_pattern_that_may_never_end_is_refused(
    sources: tuple[PriceSource, PriceSource], pattern: str, heavy: bool
) -> None:
    providers = json.loads(gzip.decompress(sources[0].content))
    (openai,) = [one for one in providers if one["id"] == "openai"]
    openai["models"][0]["match"] = {"or": [{"equals": "x"}, {"regex": pattern}]}
    content = json.dumps(providers).encode()
    if heavy:
        with pytest.raises(BadRequest, match="may never end"):
            read_source("data.json", content)
    else:
        assert read_source("data.json", content).kind == "genai"


@pytest.mark.parametrize("usd", ["1e999980", "1e-999980", "Infinity", "NaN"])
def test_what_is_no_price_of_this_world_is_no_rate(usd: str) -> None:
    with pytest.raises(ValueError, match="no price"):
        exact_rate(Decimal(usd), 1_000_000)


def test_stored_content_that_changed_is_never_used(sources: tuple[PriceSource, PriceSource]) -> None:
    broken = msgspec.structs.replace(sources[0], content=gzip.compress(b"[]"))
    with pytest.raises(ConfigInvalid, match="SHA-256 differs"):
        book_of(make_version(broken, sources[1], NOTHING_WRITTEN))
    dearer = PriceFile((Override("openai", "gpt-4o-mini", (row(Meter.INPUT, "9"),)),))
    version = msgspec.structs.replace(make_version(*sources, NOTHING_WRITTEN), written=encode_written(dearer))
    with pytest.raises(ConfigInvalid, match="SHA-256 differs"):
        book_of(version)
