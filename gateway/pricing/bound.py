"""The most a request can cost, before it is sent: what a hard budget holds for it.

bound = max input tokens × dearest input row + max output tokens × choices × dearest output row, rounded up, plus what
is counted otherwise (a fee per request, calls of the provider's tools, seconds, characters), where a row counts only if
this request can reach it. Reply lines round half-even, so each possible line adds one nano-USD.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from gateway.core.call import Head
from gateway.core.charge import PriceSheet
from gateway.core.money import divide_up
from gateway.core.usage import Meter
from gateway.pricing.reach import ANY_METER, AUDIO_METERS, Reach, counted_rates, reach, reachable_meters
from gateway.pricing.rows import STANDARD

TEMPLATE_TOKENS = 64
"""Tokens a provider's chat template adds once a call (the reply's start, a system line of its own). What it adds to a
message is less than the JSON around that message, which `text_bytes` counts: it is the whole body."""

_DEFAULT_TIERS = frozenset({"", "default", "standard", "standard_only"})
_SERVED_FOR: dict[str, frozenset[str]] = {"fast": frozenset({"fast", "priority"})}
"""Tiers a request for one tier may be served and billed at, beside standard. OpenAI answers `fast` with `priority`."""
_STANDARD_ONLY = frozenset({STANDARD})
_PLAIN_METERS = reachable_meters[True, False, False, False]
_SPOKEN = AUDIO_METERS | {Meter.AUDIO_SECONDS}


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


class Extras(msgspec.Struct, frozen=True):
    """What a request can use besides the tokens of one model run.

    `counts` pairs a meter that is not in tokens with the most of it (None: no limit is known): the tools at the
    provider that the request names, images, seconds, characters, rerank units. `runs` is how often the model may read
    its context, one more than the calls of such tools (None: no limit is known): what they find is input again.
    """

    counts: tuple[tuple[str, int | None], ...] = ()
    runs: int | None = 1


NO_EXTRAS = Extras()

FindReach = Callable[[PriceSheet, frozenset[str] | None, frozenset[str], int, int, str], Reach]
"""`reach`, or one that remembers what it found."""


def hold_bound(
    head: Head,
    sheet: PriceSheet | None,
    at_ms: int,
    *,
    implicit_writes: bool = True,
    region: str = "",
    extras: Extras = NO_EXTRAS,
    find: FindReach = reach,
) -> Bound:
    """The proven upper bound of a request to a model with the prices `sheet` at `at_ms`, ms UTC.

    `implicit_writes`: the provider writes its prompt cache unasked and bills that (OpenAI does since gpt-5.6), so the
    cache-write row is in reach without a marker. Pass False only for a provider that writes on markers alone.
    `region` is that of the deployment's address.
    """
    if sheet is None:
        output = 0 if head.max_output_tokens is None or not head.output_expected else head.max_output_tokens
        input_bound = 0 if head.media or head.audio else head.text_bytes + TEMPLATE_TOKENS + head.hidden_tokens
        return Bound(None, input_bound, output * max(1, head.choices), "it has no price")
    window = sheet.context_window
    media = head.media > 0 or head.audio
    if media or (extras is not NO_EXTRAS and extras.runs != 1):
        input_bound = window * (extras.runs or 1)
    else:
        input_bound = head.text_bytes + TEMPLATE_TOKENS + head.hidden_tokens
        if window and window * head.inputs < input_bound:
            input_bound = window * head.inputs
    output_bound = 0
    reason = ""
    if head.output_expected:
        per_choice = head.max_output_tokens
        model_max = sheet.max_output_tokens
        if per_choice is None:
            per_choice = model_max or window
            if not per_choice:
                reason = "it has no known output limit: send max_completion_tokens (or max_tokens)"
        elif model_max and model_max < per_choice:
            per_choice = model_max
        output_bound = (per_choice + sheet.output_beyond) * (head.choices if head.choices > 1 else 1)
    tier = head.service_tier
    if head.unknown_fields:
        tiers, meters = None, ANY_METER
    else:
        tiers = _STANDARD_ONLY if tier in _DEFAULT_TIERS else _tiers(tier)
        markers = head.cache_markers
        if markers or media or not implicit_writes:
            long = markers and head.cache_hours
            meters = reachable_meters[implicit_writes or markers, long, head.audio, head.media > 0]
        else:
            meters = _PLAIN_METERS
    found = find(sheet, tiers, meters, input_bound, at_ms, region)
    plain = found.plain
    if plain is None or media or reason or tiers is not _STANDARD_ONLY or extras is not NO_EXTRAS:
        return _whole(head, sheet, found, extras, tiers, Bound(None, input_bound, output_bound, reason))
    nusd, in_rate, in_scale, out_rate, out_scale = plain
    nusd -= -in_rate * input_bound // in_scale
    if output_bound:
        if not out_scale:
            return Bound(None, input_bound, output_bound, "it has no price for output")
        nusd -= -out_rate * output_bound // out_scale
    return Bound(nusd, input_bound, output_bound)


def _whole(
    head: Head, sheet: PriceSheet, found: Reach, extras: Extras, tiers: frozenset[str] | None, sizes: Bound
) -> Bound:
    """The bound of a request that is not of the plain kind. `sizes` has its tokens, and why they have no limit."""
    reason = _reason(head, sheet, found, extras.runs, tiers, sizes)
    if reason:
        return Bound(None, sizes.input_bound, sizes.output_bound, reason)
    nusd = found.fixed_nusd + _most(found.input, sizes.input_bound) + _most(found.output, sizes.output_bound)
    if found.counted or extras.counts:
        return _with_counts(head, found, extras, nusd, sizes)
    return Bound(nusd, sizes.input_bound, sizes.output_bound)


def _reason(
    head: Head, sheet: PriceSheet, found: Reach, runs: int | None, tiers: frozenset[str] | None, sizes: Bound
) -> str:
    """Why there is no bound; empty when there is one. What is free needs no size."""
    if any(row.rate_pico for row in sheet.rows):
        if runs is None:
            return "it may use tools at the provider without a limit on their calls"
        if (head.media or head.audio or runs != 1) and not sheet.context_window:
            what = "images and audio" if runs == 1 else "what tools find"
            return f"it has no known context window, which bounds {what}"
        if sizes.reason and (found.output or not found.counted):  # sound billed by the character has no output tokens
            return sizes.reason
    if found.reason:
        return found.reason
    if sizes.output_bound and not found.output and not found.counted:
        return "it has no price for output"
    if tiers is not None and len(tiers) > 1 and found.tiers == 1:
        return f"it has no price for the service tier {head.service_tier}"
    if head.audio and not any(row.meter in _SPOKEN for row in sheet.rows):
        return "it has no price for audio"
    return ""


def _with_counts(head: Head, found: Reach, extras: Extras, nusd: int, sizes: Bound) -> Bound:
    """Adds what is not counted in tokens. What a model is billed by must have a limit, and so must a named tool."""
    limits = dict(extras.counts)
    if Meter.CHARACTERS not in limits:
        limits[Meter.CHARACTERS] = head.text_bytes  # a character is at least one byte of the body
    counted = {one.meter: one for one in (*found.counted, *counted_rates(found.tools))}
    reason = ""
    for meter in {**dict.fromkeys([one.meter for one in found.counted]), **dict.fromkeys(dict(extras.counts))}:
        one, most = counted.get(meter), limits.get(meter)
        if most == 0:
            continue
        if one is None:
            reason = reason or f"it has no price for {_words(meter)}"
        elif most is not None:
            nusd += one.most_nusd(most)
        elif not one.free:
            reason = reason or f"it is billed by {_words(meter)}, and the request sets no limit to them"
    return Bound(None if reason else nusd, sizes.input_bound, sizes.output_bound, reason)


def _words(meter: str) -> str:
    return meter.replace("_", " ")


def _most(rates: tuple[tuple[int, int], ...], tokens: int) -> int:
    if len(rates) == 1:
        rate, scale = rates[0]
        return divide_up(rate * tokens, scale)
    return max([divide_up(rate * tokens, scale) for rate, scale in rates], default=0)


def _tiers(tier: str) -> frozenset[str] | None:
    """The tiers a request for one can be billed at; None: any. `auto` leaves the choice to the provider's project."""
    if tier == "auto":
        return None
    return _STANDARD_ONLY | _SERVED_FOR.get(tier, frozenset({tier}))
