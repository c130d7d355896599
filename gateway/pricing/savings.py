"""What was not spent. A saving is counterfactual: it stands beside the ledger and is never a negative cost."""

from __future__ import annotations

import msgspec

from gateway.core.charge import PriceSheet
from gateway.core.usage import Usage
from gateway.pricing.arithmetic import charge


class Saving(msgspec.Struct, frozen=True):
    """What the provider would have charged for an answer that came from our cache; None: it has no price."""

    nusd: int | None
    input_tokens: int
    output_tokens: int


def cache_saving(first: Usage, sheet: PriceSheet | None, at_ms: int, region: str = "") -> Saving:
    """The saving of one cache hit, by the usage of the call that filled the cache and the prices at the hit."""
    would = charge(first, sheet, at_ms, region=region)
    return Saving(would.effective_nusd, first.input_tokens(), first.output_tokens())
