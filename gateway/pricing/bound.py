"""The most a request can cost, before it is sent: what a hard budget holds for it.

bound = max input tokens × dearest input row + max output tokens × choices × dearest output row, rounded up, where a row
counts only if this request can reach it. Reply lines round half-even, so each possible line adds one nano-USD.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from gateway.core.call import Head
from gateway.core.charge import PriceSheet
from gateway.core.money import PICO_PER_NANO, divide_up
from gateway.core.usage import INPUT_METERS, OUTPUT_METERS, Meter
from gateway.pricing.rows import STANDARD

TEMPLATE_TOKENS = 64
"""Tokens a provider's chat template adds once a call (the reply's start, a system line of its own). What it adds to a
message is less than the JSON around that message, which `text_bytes` counts: it is the whole body."""

_DEFAULT_TIERS = frozenset({"", "default", "standard", "standard_only"})
_SERVED_FOR: dict[str, frozenset[str]] = {"fast": frozenset({"fast", "priority"})}
"""Tiers a request for one tier may be served and billed at, beside standard. OpenAI answers `fast` with `priority`."""

_STANDARD_ONLY = frozenset({STANDARD})
_AUDIO = frozenset({Meter.INPUT_AUDIO, Meter.CACHE_READ_AUDIO, Meter.OUTPUT_AUDIO})


class Bound(msgspec.Struct, frozen=True):
    """The most one request can use and cost.

    `nusd` is None when that cannot be proven; `reason` then says why, for the message of a refusal. `input_bound` and
    `output_bound` (all choices together) are tokens, as far as known.
    """

    nusd: int | None
    input_bound: int
    output_bound: int
    reason: str = ""

    @property
    def tokens(self) -> int:
        return self.input_bound + self.output_bound


class Reach(msgspec.Struct, frozen=True):
    """The rates a request can be billed at: (pico-USD, scale) of input and of output rows, and what is known of them.

    An amount is `rate × tokens / scale` nano-USD. `lines` is how many meters have a rate, `tiers` how many tiers rows.
    """

    input: tuple[tuple[int, int], ...]
    output: tuple[tuple[int, int], ...]
    lines: int
    tiers: int
    standard: bool


FindReach = Callable[[PriceSheet, frozenset[str] | None, frozenset[str], int, int], Reach]
"""`reach`, or one that remembers what it found."""


def hold_bound(
    head: Head, sheet: PriceSheet | None, at_ms: int, *, implicit_writes: bool = True, find: FindReach | None = None
) -> Bound:
    """The proven upper bound of a request to a model with the prices `sheet` at `at_ms`, ms UTC.

    `implicit_writes`: the provider writes its prompt cache unasked and bills that (OpenAI does since gpt-5.6), so the
    cache-write row is in reach without a marker. Pass False only for a provider that writes on markers alone.
    """
    window = sheet.context_window if sheet is not None else 0
    media = head.media > 0 or head.audio
    if media:
        input_bound = window
    else:
        input_bound = head.text_bytes + TEMPLATE_TOKENS
        if window and window * head.inputs < input_bound:
            input_bound = window * head.inputs
    per_choice = _output_bound(head, sheet.max_output_tokens if sheet is not None else 0, window)
    output_bound = (per_choice or 0) * max(1, head.choices)
    if sheet is None:
        return Bound(None, input_bound, output_bound, "it has no price")
    reason = ""
    if media and not window:
        reason = "it has no known context window, which bounds images and audio"
    elif per_choice is None:
        reason = "it has no known output limit: send max_completion_tokens (or max_tokens)"
    if reason and any(row.rate_pico for row in sheet.rows):  # what is free needs no size
        return Bound(None, input_bound, output_bound, reason)
    tiers = _tiers(head)
    found = (find or reach)(sheet, tiers, _meters(head, implicit_writes), input_bound, at_ms)
    return _price(head, sheet, found, tiers, input_bound, output_bound)


def _output_bound(head: Head, model_max: int, window: int) -> int | None:
    """Output tokens of one choice: the caller's limit or the model's, whichever is lower; else the whole window."""
    if not head.output_expected:
        return 0
    asked = head.max_output_tokens
    if asked is not None:
        return min(asked, model_max) if model_max else asked
    return model_max or window or None


def reach(
    sheet: PriceSheet, tiers: frozenset[str] | None, meters: frozenset[str], input_bound: int, at_ms: int
) -> Reach:
    """The rows of `tiers` (None: any) and `meters` in effect at `at_ms` for a prompt of at most `input_bound`."""
    rates: dict[bool, dict[tuple[int, int], None]] = {False: {}, True: {}}
    priced: set[str] = set()
    seen: set[str] = set()
    for row in sheet.rows:
        if (
            (tiers is not None and row.tier not in tiers)
            or row.meter not in meters
            or (row.min_input and row.min_input >= input_bound)
            or row.from_ms > at_ms
            or (row.to_ms and row.to_ms <= at_ms)
        ):
            continue
        seen.add(row.tier)
        if row.rate_pico:
            priced.add(row.meter)
        rates[row.meter in OUTPUT_METERS][row.rate_pico, row.per * PICO_PER_NANO] = None
    return Reach(_dearest(rates[False]), _dearest(rates[True]), len(priced), len(seen), STANDARD in seen)


def _dearest(rates: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Of the rates with one scale only the highest can decide."""
    highest: dict[int, int] = {}
    for rate, scale in rates:
        highest[scale] = max(rate, highest.get(scale, 0))
    return tuple((rate, scale) for scale, rate in highest.items())


def _price(
    head: Head,
    sheet: PriceSheet,
    found: Reach,
    tiers: frozenset[str] | None,
    input_bound: int,
    output_bound: int,
) -> Bound:
    reason = ""
    if not found.standard or not found.input:
        reason = "it has no price in effect"
    elif output_bound and not found.output:
        reason = "it has no price for output"
    elif tiers is not None and len(tiers) > 1 and found.tiers == 1:
        reason = f"it has no price for the service tier {head.service_tier}"
    elif head.audio and not any(row.meter in _AUDIO for row in sheet.rows):
        reason = "it has no price for audio"
    if reason:
        return Bound(None, input_bound, output_bound, reason)
    nusd = found.lines + _most(found.input, input_bound) + _most(found.output, output_bound)
    return Bound(nusd, input_bound, output_bound)


def _most(rates: tuple[tuple[int, int], ...], tokens: int) -> int:
    if len(rates) == 1:
        rate, scale = rates[0]
        return divide_up(rate * tokens, scale)
    return max([divide_up(rate * tokens, scale) for rate, scale in rates], default=0)


def _tiers(head: Head) -> frozenset[str] | None:
    """The tiers this request can be billed at; None: any. `auto` leaves the choice to the provider's project."""
    if head.unknown_fields or head.service_tier == "auto":
        return None
    tier = head.service_tier
    if tier in _DEFAULT_TIERS:
        return _STANDARD_ONLY
    return _STANDARD_ONLY | _SERVED_FOR.get(tier, frozenset({tier}))


def _meters(head: Head, implicit_writes: bool) -> frozenset[str]:
    if head.unknown_fields:
        return _ALL
    return _REACHABLE[implicit_writes or head.cache_markers, head.cache_markers, head.audio, head.media > 0]


def _reachable(writes: bool, long_writes: bool, audio: bool, media: bool) -> frozenset[str]:
    meters = {Meter.INPUT, Meter.CACHE_READ, Meter.OUTPUT}
    if writes:
        meters.add(Meter.CACHE_WRITE)
    if long_writes:
        meters.add(Meter.CACHE_WRITE_1H)
    if audio:
        meters |= _AUDIO
    if media:
        meters.add(Meter.INPUT_IMAGE)
    return frozenset(meters)


_ALL: frozenset[str] = INPUT_METERS | OUTPUT_METERS
_FLAGS = (False, True)
_REACHABLE = {
    (writes, long_writes, audio, media): _reachable(writes, long_writes, audio, media)
    for writes in _FLAGS
    for long_writes in _FLAGS
    for audio in _FLAGS
    for media in _FLAGS
}
