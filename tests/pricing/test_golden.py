"""The golden cases: raw usage as providers send it, every line, every total, and the wrong answers of known bugs.

Each case is read by the reader of its wire format and priced from the compiled book. The policy cases (P…) say what
happens around a price: caching, fallback, agreements, currencies, a client that left.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.core.call import Head
from gateway.core.charge import Charge, CostState, PriceRow, PriceSheet
from gateway.core.money import usd_to_nusd
from gateway.core.usage import Usage, UsageSource
from gateway.dialects.anthropic_messages import usage as anthropic
from gateway.dialects.openai_chat.stream import CHAT_SPELLINGS, OpenAITap
from gateway.dialects.openai_chat.usage import read_usage
from gateway.dialects.openai_responses import usage as responses
from gateway.dialects.openai_simple.batch_usage import batch_usage
from gateway.dialects.openai_simple.media_usage import image_usage, transcription_usage
from gateway.dialects.openai_simple.realtime_usage import SessionUsage
from gateway.pricing.agreements import Agreement, in_currency
from gateway.pricing.arithmetic import charge
from gateway.pricing.book import Override, PriceBook
from gateway.pricing.bound import hold_bound
from gateway.pricing.savings import cache_saving

Case = dict[str, Any]
GOLDEN = json.loads((Path(__file__).parent.parent / "golden" / "golden_costs.json").read_text(), parse_float=Decimal)
CASES: dict[str, Case] = {case["id"]: case for case in GOLDEN["cases"]}
BOOK = PriceBook()
PER = {"mtok": 1_000_000, "kcount": 1_000, "hour_s": 3_600, "mchars": 1_000_000, "kpages": 1_000, "one": 1}
SAME_METER = {"input_text": "input", "cache_read_text": "cache_read", "output_text": "output"}
SAME_METER |= {"cache_write_5m": "cache_write"}
"""The golden file's names of what is one meter here: text is plain, and so is a write for five minutes."""


def nusd(usd: str) -> int:
    return usd_to_nusd(usd)


# ---------------------------------------------------------------- readers, by the case's api


def chat(case: Case) -> Usage | None:
    served = case.get("context", {}).get("service_tier_served", "")
    return read_usage(msgspec.json.encode(case["raw_usage"]), served, has_output=case["api"] != "embeddings")


def response(case: Case) -> Usage | None:
    raw = case["raw_usage"]
    reply = {"object": "response", "service_tier": case.get("context", {}).get("service_tier_served")}
    reply |= raw if "usage" in raw else {"usage": raw}
    items = [item.rstrip(")").partition("(") for item in raw.get("output_items", [])]
    reply["output"] = [{"type": kind, "action": {"type": action}} for kind, _, action in items]
    return responses.reply_usage(msgspec.json.encode(reply))


def message(case: Case) -> Usage | None:
    return anthropic.reply_usage(msgspec.json.encode({"type": "message", "usage": case["raw_usage"]}))


def message_stream(case: Case) -> Usage | None:
    stream = anthropic.StreamUsage()
    for event in case["raw_stream"]:
        stream.feed(msgspec.json.encode(event))
    assert stream.final
    return stream.usage


def session(case: Case) -> Usage | None:
    live = SessionUsage()
    live.feed(msgspec.json.encode({"type": "response.done", "response": {"usage": case["raw_usage"]}}))
    return live.usage


READERS: dict[str, Callable[[Case], Usage | None]] = {
    "chat.completions": chat,
    "embeddings": chat,
    "responses": response,
    "batch": lambda case: batch_usage(msgspec.json.encode({"object": "batch", "usage": case["raw_usage"]})),
    "realtime": session,
    "images": lambda case: image_usage(msgspec.json.encode({"data": [{}], "usage": case["raw_usage"]})),
    "audio.transcriptions": lambda case: transcription_usage(msgspec.json.encode({"usage": case["raw_usage"]})),
    "messages": message,
    "messages(stream)": message_stream,
    "messages(beta)": message,
    "batches": message,
}


def used(case: Case) -> Usage:
    usage = READERS[case["api"]](case)
    assert usage is not None
    assert (usage.fault, usage.unknown_fields) == ("", ())
    assert usage.raw
    return usage


def sheet_of(kind: str, model: str) -> PriceSheet:
    found = BOOK.sheet(kind, model)
    assert found is not None, BOOK.why_unpriced(kind, model)
    return found


def priced(case: Case, book: PriceBook = BOOK) -> Charge:
    context = case.get("context", {})
    at_ms = int(datetime.fromisoformat(case["timestamp"]).timestamp() * 1000)
    return charge(
        used(case),
        book.sheet(case["provider"], case["model"]),
        at_ms,
        context.get("service_tier_requested", ""),
        region=context.get("data_residency", ""),
    )


# ---------------------------------------------------------------- one price case


def price_case(case: Case) -> None:
    charged = priced(case)
    assert charged.state is CostState.PRICED
    expected = {}
    for line in case["lines"]:
        meter, _, part = line["meter"].rstrip(")").partition("(")
        price = Decimal(line["unit_price_usd"]) / PER[line["per"]] * Decimal(line.get("multiplier", "1"))
        expected[SAME_METER.get(meter, meter), part] = (int(line["quantity"]), price, line["amount_nano_usd"])
    found = {}
    for line in charged.lines:
        assert line.rate_pico is not None
        assert line.effective_nusd == line.list_nusd == line.contracted_nusd == line.billed_nusd
        assert line.row_id
        price = Decimal(line.rate_pico) / line.per / 10**12
        found[line.meter, line.part] = (line.quantity, price, line.effective_nusd)
    assert found == expected
    assert len(charged.lines) == len(case["lines"])
    assert charged.effective_nusd == charged.list_nusd == case["expected_nano_usd"] == nusd(case["expected_cost_usd"])
    for wrong in case.get("wrong_answers", []):
        assert charged.effective_nusd != nusd(wrong["value_usd"]), wrong["bug"]


# ---------------------------------------------------------------- the policy cases


def cache_hit(case: Case) -> None:
    first = CASES[case["given"]["cached_request"]]
    expected = case["expected"]
    hit = Usage({}, UsageSource.CACHE)
    cost = charge(hit, sheet_of(first["provider"], first["model"]), 0)
    assert (cost.state, cost.effective_nusd, cost.lines) == (CostState.PRICED, nusd(expected["cost_usd"]), ())
    assert (hit.input_tokens(), hit.output_tokens()) == (0, 0)
    at_ms = int(datetime.fromisoformat(first["timestamp"]).timestamp() * 1000)
    saving = cache_saving(used(first), sheet_of(first["provider"], first["model"]), at_ms)
    assert saving.nusd == nusd(expected["avoided_cost_usd"])
    assert (saving.input_tokens, saving.output_tokens) == (
        expected["saved_input_tokens"],
        expected["saved_output_tokens"],
    )


def fallback(case: Case) -> None:
    first, second, expected = case["given"]["attempt_1"], case["given"]["attempt_2"], case["expected"]
    stream = anthropic.StreamUsage()
    stream.feed(msgspec.json.encode({"type": "message_start", "message": {"usage": first["message_start_usage"]}}))
    assert not stream.final
    died = stream.cut_short(first["stream_died_after_output_tokens_counted"])
    assert died is not None
    assert died.source == expected["attempt_1_usage_source"]
    lost = charge(died, sheet_of(first["provider"], first["model"]), AT_MS)
    answered = charge(read_usage(dict(second["usage"])), sheet_of(second["provider"], second["model"]), AT_MS)
    assert (lost.state, lost.effective_nusd) == (CostState.ESTIMATED, nusd(expected["attempt_1_usd"]))
    assert answered.effective_nusd == nusd(expected["attempt_2_usd"])
    assert (lost.effective_nusd or 0) + (answered.effective_nusd or 0) == nusd(expected["request_usd"])


def unknown_model(case: Case) -> None:
    given = case["given"]
    assert BOOK.sheet("openai", given["model"]) is None
    charged = charge(read_usage(dict(given["usage"])), None, 0)
    assert (charged.state, charged.effective_nusd, charged.list_nusd) == (CostState.UNPRICED, None, None)
    assert charged.billed_nusd is None
    assert charged.state == case["expected"]["price_status"]
    assert hold_bound(Head("m", text_bytes=10), None, 0).nusd is None, "what refuses it under a hard budget"


def negotiated(case: Case) -> None:
    given, expected, listed = case["given"], case["expected"], CASES[case["given"]["list"]]
    kind = listed["provider"]
    discount = Agreement(kind, meters=tuple(given["discount_meters"]), discount_pct=given["discount_pct"])
    book = PriceBook(agreements=[discount, Agreement(kind, listed["model"], margin_pct=given["margin_pct"])])
    charged = priced(listed, book)
    assert charged.list_nusd == nusd(expected["list_cost_usd"])
    assert charged.contracted_nusd == charged.effective_nusd == nusd(expected["contracted_cost_usd"])
    assert charged.billed_nusd == nusd(expected["chargeback_usd"])
    for amount in ("list_nusd", "contracted_nusd", "effective_nusd", "billed_nusd"):
        assert sum(getattr(line, amount) for line in charged.lines) == getattr(charged, amount)


def in_euro(case: Case) -> None:
    given, expected = case["given"], case["expected"]
    rows = [
        in_currency(
            PriceRow("", meter, int(Decimal(price) * 10**6), source="file:policies/prices.yaml"),
            "EUR",
            given["fx_usd_per_eur"],
        )
        for meter, price in given["price_eur_per_mtok"].items()
    ]
    book = PriceBook([Override("own", "m", tuple(rows))])
    charged = charge(read_usage(dict(given["usage"])), book.sheet("own", "m"), 0)
    assert charged.effective_nusd == nusd(expected["cost_usd"])
    assert {line.currency for line in charged.lines} == {"EUR"}
    assert sum(line.native_nano or 0 for line in charged.lines) == nusd(expected["cost_eur"])


def drained(case: Case) -> None:
    given, expected = case["given"], case["expected"]
    tap = OpenAITap(CHAT_SPELLINGS, choices=1, relay_usage=False)
    chunk = {"id": "c", "model": given["model"], "choices": [{"index": 0, "delta": {"content": "a"}}]}
    last = {"id": "c", "model": given["model"], "choices": [], "usage": given["upstream_final_usage"]}
    for event in [chunk] * given["client_gone_after_chunks"] + [last]:
        tap.feed(b"data: " + msgspec.json.encode(event) + b"\n\n")
    assert tap.usage is not None
    assert tap.usage.source == expected["usage_source"]
    assert charge(tap.usage, sheet_of(given["provider"], given["model"]), AT_MS).effective_nusd == nusd(
        expected["cost_usd"]
    )


AT_MS = int(datetime.fromisoformat("2026-11-23T12:00:00Z").timestamp() * 1000)
POLICIES: dict[str, Callable[[Case], None]] = {
    "P01": cache_hit,
    "P02": fallback,
    "P03": unknown_model,
    "P04": negotiated,
    "P05": in_euro,
    "P06": drained,
}


def test_the_whole_golden_file_is_here() -> None:
    assert len(CASES) == 30
    assert {"G01", "G24", "P01", "P06"} <= CASES.keys()


@pytest.mark.parametrize("id", sorted(CASES))
def test_golden_case(id: str) -> None:
    case = CASES[id]
    if case["kind"] == "price":
        price_case(case)
    else:
        POLICIES[id](case)
