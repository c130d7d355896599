"""Usage: what a provider says was consumed, normalised once into disjoint meters."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Meter(StrEnum):
    """A quantity with a price of its own. Meters of one usage never overlap."""

    INPUT = "input"
    CACHE_READ = "cache_read"
    CACHE_WRITE = "cache_write"
    CACHE_WRITE_1H = "cache_write_1h"
    INPUT_AUDIO = "input_audio"
    CACHE_READ_AUDIO = "cache_read_audio"
    INPUT_IMAGE = "input_image"
    OUTPUT = "output"
    OUTPUT_AUDIO = "output_audio"


INPUT_METERS = frozenset(
    {
        Meter.INPUT,
        Meter.CACHE_READ,
        Meter.CACHE_WRITE,
        Meter.CACHE_WRITE_1H,
        Meter.INPUT_AUDIO,
        Meter.CACHE_READ_AUDIO,
        Meter.INPUT_IMAGE,
    }
)
OUTPUT_METERS = frozenset({Meter.OUTPUT, Meter.OUTPUT_AUDIO})


class UsageSource(StrEnum):
    PROVIDER = "provider"
    ESTIMATED = "estimated"
    CACHE = "cache"
    NONE = "none"


class Usage(msgspec.Struct, frozen=True):
    """Disjoint quantities by meter; zero quantities are left out.

    `reasoning_tokens` is a subset of output, for display only. `raw` is the provider's own usage JSON (≤ 8 KiB, else
    empty). `served_tier` is the service tier the reply says was served (empty: it did not say). `fault` names a
    contradiction in the provider's numbers (a negative remainder, a non-integer): such usage has no price.
    `unknown_fields` are usage members this reader does not know: counted, never dropped silently.
    """

    meters: dict[Meter, int]
    source: UsageSource
    reasoning_tokens: int = 0
    raw: bytes = b""
    served_tier: str = ""
    fault: str = ""
    unknown_fields: tuple[str, ...] = ()

    def input_tokens(self) -> int:
        """All prompt tokens, cached ones included."""
        total = 0
        for meter, quantity in self.meters.items():
            if meter in INPUT_METERS:
                total += quantity
        return total

    def output_tokens(self) -> int:
        total = 0
        for meter, quantity in self.meters.items():
            if meter in OUTPUT_METERS:
                total += quantity
        return total
