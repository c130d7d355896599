"""Usage as the gateway may book it: what the vendor reported, or nothing.

litellm fills gaps: where a vendor reports no usage it counts tokens itself, with a tokenizer that is seldom the
model's. Its counter is switched off (`litellm_engine`), which leaves zeros in those places, and no call with input has
zero input tokens. A contradiction is passed on as it is: the worker's dialect finds it and books the call as estimated.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from math import isfinite

COUNTED_BY_LITELLM = frozenset({"aleph_alpha", "ollama", "petals", "predibase"})
"""Vendors for which litellm counts with a tokenizer that cannot be switched off."""

_COPIES = frozenset({"cache_creation_input_tokens", "cache_read_input_tokens", "cost"})
"""Said again elsewhere in the same object, or no count. The gateway's own prices decide what a call costs."""

Fields = dict[str, object]


def reported_usage(usage: object, vendor: str, *, has_output: bool, produced: bool = False) -> Fields | None:
    """litellm's usage in OpenAI's names, or None where it is not the vendor's.

    `has_output`: the call has output tokens at all (an embedding has none). `produced`: the reply holds some output,
    so that zero output tokens are no report.
    """
    if not isinstance(usage, Mapping) or vendor in COUNTED_BY_LITELLM:
        return None
    if not _counts(usage, "prompt_tokens"):
        return None
    if has_output and (
        usage.get("completion_tokens") is None or (produced and not _counts(usage, "completion_tokens"))
    ):
        return None
    kept: Fields = {name: value for name, value in usage.items() if value is not None and name not in _COPIES}
    if not has_output:
        kept.pop("completion_tokens", None)
    details = _prompt_details(usage)
    if details:
        kept["prompt_tokens_details"] = details
    else:
        kept.pop("prompt_tokens_details", None)
    output = _numbers(usage.get("completion_tokens_details"))
    if output:
        kept["completion_tokens_details"] = output
    else:
        kept.pop("completion_tokens_details", None)
    return kept


def _prompt_details(usage: Mapping[str, object]) -> Fields:
    """Cached tokens under OpenAI's names, wherever litellm has put them."""
    details = _numbers(usage.get("prompt_tokens_details"))
    written = details.pop("cache_creation_tokens", None) or usage.get("cache_creation_input_tokens")
    read = usage.get("cache_read_input_tokens")
    if written and not details.get("cache_write_tokens"):
        details["cache_write_tokens"] = written
    if read and not details.get("cached_tokens"):
        details["cached_tokens"] = read
    return details


def _numbers(details: object) -> Fields:
    if not isinstance(details, Mapping):
        return {}
    return {name: value for name, value in details.items() if value is not None}


def _counts(usage: Mapping[str, object], name: str) -> bool:
    """Whether something is counted there. What is no number is passed on, for the worker to find."""
    return usage.get(name) not in (None, 0)


def cost_text(cost: object) -> str:
    """litellm's own figure for a call as decimal text in USD, or nothing. It is told, never booked."""
    if isinstance(cost, bool) or not isinstance(cost, int | float) or not isfinite(cost) or cost <= 0:
        return ""
    return f"{Decimal(repr(cost)):f}"
