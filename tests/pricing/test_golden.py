"""The golden cases: raw usage as providers send it, every line, every total, and the wrong answers of known bugs.

Cases whose wire format has a reader are read by it; of the others the usage is given by hand until they have one.
"""

from __future__ import annotations

import json
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.core.charge import CostState
from gateway.core.money import usd_to_nusd
from gateway.core.usage import Meter, Usage, UsageSource
from gateway.dialects.openai_chat.usage import read_usage
from gateway.pricing.arithmetic import charge
from gateway.pricing.book import PriceBook

GOLDEN = json.loads((Path(__file__).parent.parent / "golden" / "golden_costs.json").read_text(), parse_float=Decimal)
CASES: dict[str, dict[str, Any]] = {case["id"]: case for case in GOLDEN["cases"]}
PER = {"mtok": 1_000_000}

READ = ["G01", "G02", "G03", "G04", "G13", "G14", "G18"]
BY_HAND = {
    "G05": {Meter.INPUT: 200, Meter.CACHE_READ: 2000, Meter.CACHE_WRITE: 400, Meter.OUTPUT: 500},
    "G06": {Meter.INPUT: 200, Meter.CACHE_READ: 2000, Meter.CACHE_WRITE_1H: 400, Meter.OUTPUT: 500},
    "G07": {Meter.INPUT: 200_000, Meter.CACHE_READ: 100_000, Meter.OUTPUT: 2000},
    "G08": {Meter.INPUT: 272_000, Meter.OUTPUT: 1000},
    "G09": {Meter.INPUT: 200_000, Meter.CACHE_READ: 100_000, Meter.OUTPUT: 2000},
    "G11": {Meter.INPUT: 600_000, Meter.CACHE_READ: 400_000, Meter.OUTPUT: 200_000},
    "G15": {
        Meter.INPUT: 200,
        Meter.CACHE_READ: 200,
        Meter.INPUT_AUDIO: 400,
        Meter.CACHE_READ_AUDIO: 600,
        Meter.OUTPUT: 100,
        Meter.OUTPUT_AUDIO: 500,
    },
}
SAME_METER = {"input_text": "input", "cache_read_text": "cache_read", "output_text": "output"}
SAME_METER |= {"cache_write_12h": "cache_write_1h"}
"""The golden file's names of what is one meter here: text is plain, and a provider's longest-lived cache write."""


@pytest.fixture(scope="module")
def book() -> PriceBook:
    return PriceBook()


def usage_of(case: dict[str, Any]) -> Usage:
    context = case.get("context", {})
    served = context.get("service_tier_served", context.get("processing", ""))
    if case["id"] in BY_HAND:
        return Usage(BY_HAND[case["id"]], UsageSource.PROVIDER, served_tier=served)
    raw = msgspec.json.encode(case["raw_usage"])
    return read_usage(raw, served, has_output=case["api"] != "embeddings")


def price(case: dict[str, Any], book: PriceBook) -> Any:
    at_ms = int(datetime.fromisoformat(case["timestamp"]).timestamp() * 1000)
    requested = case.get("context", {}).get("service_tier_requested", "")
    return charge(usage_of(case), book.sheet(case["provider"], case["model"]), at_ms, requested)


def test_the_whole_file_is_here() -> None:
    assert len(CASES) == 30
    assert {"G01", "G24", "P01", "P06"} <= CASES.keys()


@pytest.mark.parametrize("id", sorted([*READ, *BY_HAND]))
def test_case(id: str, book: PriceBook) -> None:
    case = CASES[id]
    charged = price(case, book)
    assert charged.state is CostState.PRICED
    expected = {
        SAME_METER.get(line["meter"], line["meter"]): (
            int(line["quantity"]),
            Decimal(line["unit_price_usd"]),
            line["amount_nano_usd"],
        )
        for line in case["lines"]
    }
    found = {
        line.meter: (line.quantity, Decimal(line.rate_pico * PER["mtok"]) / line.per / 10**12, line.effective_nusd)
        for line in charged.lines
    }
    assert found == expected
    assert all(line.list_nusd == line.effective_nusd and line.row_id for line in charged.lines)
    assert charged.effective_nusd == charged.list_nusd == case["expected_nano_usd"]
    assert charged.effective_nusd == usd_to_nusd(case["expected_cost_usd"])
    for wrong in case.get("wrong_answers", []):
        assert charged.effective_nusd != usd_to_nusd(wrong["value_usd"]), wrong["bug"]


def test_p03_an_unknown_model_is_unpriced(book: PriceBook) -> None:
    given = CASES["P03"]["given"]
    assert book.sheet("openai", given["model"]) is None
    charged = charge(read_usage(msgspec.json.encode(given["usage"])), None, 0)
    assert (charged.state, charged.effective_nusd, charged.list_nusd) == (CostState.UNPRICED, None, None)
