"""The bound of Messages over real Anthropic prices: no usage that a request can have costs more."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.charge import CostState
from gateway.dialects.anthropic_messages.usage import read_usage
from gateway.dialects.discover import discover
from gateway.pricing.arithmetic import charge
from gateway.pricing.book import PriceBook
from gateway.pricing.bound import TEMPLATE_TOKENS, hold_bound

NOW_MS = 1_795_900_000_000
BOOK = PriceBook()
MODELS = ("claude-haiku-4-5", "claude-sonnet-4-5", "claude-opus-4-6", "claude-opus-5-5", "claude-haiku-5-5")
SHEETS = {model: sheet for model in MODELS if (sheet := BOOK.sheet("anthropic", model)) is not None}
MESSAGES = discover()["messages"]
TTLS: list[str | None] = [None, "5m", "1h"]


def test_all_of_these_models_have_prices() -> None:
    assert SHEETS.keys() == set(MODELS)


@given(
    st.sampled_from(MODELS),
    st.sampled_from(["", *[f"ttl {ttl}" for ttl in TTLS]]),
    st.sampled_from([None, "standard", "fast"]),
    st.integers(0, 60_000),
    st.integers(0, 9_000),
    st.lists(st.integers(0, 1000), min_size=4, max_size=4),
    st.integers(0, 1000),
    st.sampled_from(["global", "us"]),
    st.booleans(),
    st.booleans(),
)
@settings(max_examples=300)
def test_no_message_costs_more_than_its_bound(
    model: str,
    marked: str,
    speed: str | None,
    text: int,
    limit: int,
    shares: list[int],
    written_out: int,
    geo: str,
    unknown: bool,
    tools: bool,
) -> None:
    body: dict[str, Any] = {"model": model, "max_tokens": limit, "messages": [{"role": "user", "content": "x" * text}]}
    if marked:
        ttl = marked.removeprefix("ttl ")
        body["cache_control"] = {"type": "ephemeral"} | ({} if ttl == "None" else {"ttl": ttl})
    if speed:
        body["speed"] = speed
    if unknown:
        body["something_new"] = 1
    if tools:
        body["tools"] = [{"name": "t", "input_schema": {"type": "object"}}]
    raw = json.dumps(body).encode()
    sheet = SHEETS[model]
    bound = hold_bound(MESSAGES.read_head(raw), sheet, NOW_MS, implicit_writes=False)
    prompt = min(len(raw) + TEMPLATE_TOKENS + 530 * tools, sheet.context_window or 10**9)
    plain, read, short, long = [prompt * share // max(1, sum(shares)) for share in shares]
    if not marked and not unknown:  # what was marked in another request is read, and nothing is written
        plain, short, long = plain + short + long, 0, 0
    elif "1h" not in marked and not unknown:
        short, long = short + long, 0
    usage = read_usage(
        {
            "input_tokens": plain,
            "cache_read_input_tokens": read,
            "cache_creation_input_tokens": short + long,
            "cache_creation": {"ephemeral_5m_input_tokens": short, "ephemeral_1h_input_tokens": long},
            "output_tokens": min(limit, sheet.max_output_tokens or limit) * written_out // 1000,
            "service_tier": "standard",
            "inference_geo": geo,
        }
        | ({"speed": speed} if speed else {})
    )
    cost = charge(usage, sheet, NOW_MS)
    if cost.state is CostState.PRICED:
        assert bound.nusd is not None
        assert cost.effective_nusd is not None
        assert cost.effective_nusd <= bound.nusd
