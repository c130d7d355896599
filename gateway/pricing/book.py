"""The price book: sheets compiled from overrides, genai-prices, and the gaps from a vendored litellm map.

For the desk only: workers get compiled sheets and import none of this. Sources in order:

1. an override's rates replace, per tier and meter, what the sources say from the override's own start on;
2. genai-prices, with its history;
3. the litellm map: models, tiers and meters genai-prices does not have, and sizes. Of a model that both know it is
   believed only where the two agree on what plain input and output cost today.

Kinds on one's own hardware have explicit rows of 0 for whatever model, source `local`: free is not unknown.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from fractions import Fraction

import msgspec

from gateway.core.charge import PriceRow, PriceSheet, Terms, Uplift
from gateway.core.usage import TOKEN_METERS, Meter
from gateway.pricing import demo
from gateway.pricing.agreements import Agreement, agreed
from gateway.pricing.draft import Draft, identified
from gateway.pricing.genai import GenaiPrices
from gateway.pricing.litellm_map import LitellmMap
from gateway.pricing.rows import STANDARD, with_rates
from gateway.pricing.vendors import (
    EVERY_MODEL,
    FREE,
    FREE_KINDS,
    PROXIES,
    ROUTED,
    ROUTER,
    UNPRICED,
    VENDORS,
    Vendor,
    vendor_of,
)

_NOTHING = Draft()
_NEVER = 1 << 62


class Override(msgspec.Struct, frozen=True):
    """Rows of one model at one kind of provider that replace the sources'. A row without an id is given one.

    A local model is free by an override of rate 0; without rows it is unpriced. `contract`: its rates were negotiated,
    and what the sources say stays the list price. `uplifts` replace the sources' where there are any. `alone`: its rows
    are all there are, and what the sources say is left out.
    """

    kind: str
    model: str
    rows: tuple[PriceRow, ...]
    context_window: int = 0
    max_output_tokens: int = 0
    contract: bool = False
    uplifts: tuple[Uplift, ...] = ()
    alone: bool = False


class Fallback(msgspec.Struct, frozen=True):
    """What a model of a kind costs that has no price otherwise: the operator's guess, under a source of its own."""

    kind: str
    rows: tuple[PriceRow, ...]
    context_window: int = 0
    max_output_tokens: int = 0


class PriceBook:
    """Sheets by kind and model. Sources are loaded when first needed and kept."""

    def __init__(
        self,
        overrides: Iterable[Override] = (),
        since_ms: int = 0,
        agreements: Iterable[Agreement] = (),
        *,
        fallbacks: Iterable[Fallback] = (),
        genai: GenaiPrices | None = None,
        litellm: LitellmMap | None = None,
    ) -> None:
        """`since_ms`: rows that ended before it are left out, as a worker never prices the past. `agreements` come on
        top of what overrides and sources say, in their order. `genai` and `litellm`: other sources than ship here."""
        self._overrides = {(override.kind, override.model): override for override in overrides}
        self._since_ms = since_ms
        self._agreements = tuple(agreements)
        self._fallbacks = {fallback.kind: fallback for fallback in fallbacks}
        self._genai = genai or GenaiPrices()
        self._litellm = litellm or LitellmMap()

    def names(self, kind: str) -> list[str]:
        """Every model of a kind that a source spells out; `*` among them where any other model has a price, too."""
        own = {model for of_kind, model in self._overrides if of_kind == kind}
        if kind in self._fallbacks:
            own.add(EVERY_MODEL)
        if kind == demo.KIND:
            return sorted(own.union(demo.names()))
        if kind in FREE_KINDS:
            return sorted(own.union((EVERY_MODEL,)))
        if kind == ROUTER:
            routed = [
                (name, id_.removeprefix(ROUTED)) for id_ in self._genai.ids(ROUTED) for name in self._genai.names(id_)
            ]
            return sorted(own.union(f"{name}:{provider}" for name, provider in routed))
        vendor = VENDORS.get(kind)
        if vendor is None:
            return sorted(own)
        return sorted(own.union(self._genai.names(vendor.genai), self._litellm.names(vendor.litellm)))

    def sheets_for(self, kind: str, models: Iterable[str] | None = None) -> dict[str, PriceSheet]:
        """Sheets by model name, for the models named or (None) for all of the kind. Models without a price are
        missing: `why_unpriced` tells why."""
        names = self.names(kind) if models is None else models
        return {name: sheet for name in names if (sheet := self.sheet(kind, name)) is not None}

    def sheet(self, kind: str, model: str) -> PriceSheet | None:
        """The prices of one model, or None when it has none: not even a fallback."""
        return self.own_sheet(kind, model) or self._fallback_sheet(kind, model)

    def _fallback_sheet(self, kind: str, model: str) -> PriceSheet | None:
        fallback = self._fallbacks.get(kind)
        if fallback is None:
            return None
        rows = tuple(sorted((identified(kind, EVERY_MODEL, row) for row in fallback.rows), key=_order))
        return PriceSheet(model, rows, fallback.context_window, fallback.max_output_tokens)

    def own_sheet(self, kind: str, model: str) -> PriceSheet | None:
        """The prices of one model that somebody published, agreed or wrote for it; a fallback is none of these."""
        override = self._overrides.get((kind, model))
        draft = self._draft(kind, model)
        vendor, name = vendor_of(kind, model)
        vendor = vendor or _NO_VENDOR
        rows = draft.rows
        if override is not None:
            rows = override.rows if override.alone else _overridden(rows, override.rows, override.contract)
        rows = _everywhere((*rows, *_seen_rows(rows, vendor)))
        rows = agreed(rows, [one for one in self._agreements if one.is_for(kind, model)])
        if self._since_ms:
            rows = tuple(row for row in rows if row.to_ms == 0 or row.to_ms > self._since_ms)
        if not rows:
            return None
        window = (override.context_window if override else 0) or draft.context_window
        beyond = vendor.may_think_beyond(name, draft.reasons)
        return PriceSheet(
            model=model,
            rows=tuple(sorted((row if row.id else identified(kind, model, row) for row in rows), key=_order)),
            context_window=window,
            max_output_tokens=(override.max_output_tokens if override else 0) or draft.max_output_tokens,
            uplifts=(override.uplifts if override else ()) or draft.uplifts,
            output_beyond=window if beyond else 0,
            unbounded=_unbounded(rows, vendor) or (_NO_WINDOW if beyond and not window else ""),
        )

    def why_unpriced(self, kind: str, model: str) -> str:
        """Why a model has no price of its own: ends the sentence "it has no price: …". Empty when it has one."""
        if self.own_sheet(kind, model) is not None:
            return ""
        return self._draft(kind, model).unpriced or "no price source knows it"

    def opinions(self, kind: str, model: str) -> dict[str, tuple[Fraction, Fraction]]:
        """(first, second) source's present rate of plain input and output, in pico-USD for one unit, by meter: what
        both of them state of a model."""
        vendor, name = vendor_of(kind, model)
        if vendor is None:
            return {}
        first, second = self._genai.draft(vendor.genai, name), self._litellm.draft(vendor.litellm, name)
        if first is None or second is None:
            return {}
        ours, theirs = _plain(first.rows), _plain(second.rows)
        return {meter: (Fraction(*ours[meter]), Fraction(*theirs[meter])) for meter in ours if meter in theirs}

    def _draft(self, kind: str, model: str) -> Draft:
        """What the sources together say of a model, without overrides."""
        if kind == demo.KIND:
            return demo.draft(model) or _NOTHING
        if kind in FREE_KINDS:
            return FREE
        vendor, name = vendor_of(kind, model)
        found = self._proxied(kind, model) if vendor is None else self._vendor_draft(vendor, name)
        return found if found.rows or found.unpriced else UNPRICED.get(kind, found)

    def _proxied(self, kind: str, model: str) -> Draft:
        second = self._litellm.routed(model) if kind in PROXIES and "/" in model else None
        return _NOTHING if second is None else _whole(second)

    def _vendor_draft(self, vendor: Vendor, model: str) -> Draft:
        if vendor.fee_prefixes and model.startswith(vendor.fee_prefixes):
            return Draft(unpriced="each call bills a search fee that its usage does not report")
        first = self._genai.draft(vendor.genai, model)
        second = self._litellm.draft(vendor.litellm, model) or _NOTHING
        if first is None or (second.hourly and second.rows and not first.rows):
            return _whole(second)  # it alone knows the days of the week
        gaps, agree = _gaps(first.rows, second.rows)
        return Draft(
            rows=_with_shortest((*first.rows, *gaps), vendor.shortest_audio_s),
            context_window=max(first.context_window, second.context_window),
            max_output_tokens=second.max_output_tokens,
            unpriced=first.unpriced,
            uplifts=second.uplifts if agree else (),
            reasons=second.reasons,
        )


def sheets_for(
    kind: str, models: Iterable[str] | None = None, overrides: Iterable[Override] = ()
) -> dict[str, PriceSheet]:
    """`PriceBook(overrides).sheets_for(kind, models)`, for a single question."""
    return PriceBook(overrides).sheets_for(kind, models)


def _whole(second: Draft) -> Draft:
    """A model that only the second source knows."""
    return replace(second, rows=_completed(second.rows, second.rows))


def _unbounded(rows: Iterable[PriceRow], vendor: Vendor) -> str:
    """Why no request to a model with these rows has a bound."""
    for row in rows:
        searches = row.meter == Meter.WEB_SEARCH and vendor.searches_unasked
        if row.rate_pico and (searches or row.meter == Meter.CITATION):
            return "it searches and reads as much as it likes, and bills that"
    return ""


def _order(row: PriceRow) -> tuple[bool, str, str, int, int, tuple[tuple[int, int], ...]]:
    return row.tier != STANDARD, row.tier, row.meter, row.min_input, row.from_ms, row.week


def _group(row: PriceRow) -> tuple[str, str]:
    return row.tier, row.meter


def _gaps(first: Sequence[PriceRow], second: Sequence[PriceRow]) -> tuple[tuple[PriceRow, ...], bool]:
    """What the second source adds to a model both know: the meters and tiers that the first does not have; and whether
    the two agree.

    Nothing where they disagree on the present price of plain tokens: then they speak of different things. A tier is
    taken only with its input and output rates.
    """
    ours, theirs = _plain(first), _plain(second)
    both = ours.keys() & theirs.keys()
    if not both or any(ours[meter] != theirs[meter] for meter in both):
        return (), False
    present = {_group(row) for row in first}
    tiers = {tier for tier, _ in present}
    needed = {Meter.INPUT} | ({Meter.OUTPUT} if (STANDARD, Meter.OUTPUT) in present else set())
    offered = {tier: {row.meter for row in second if row.tier == tier} for tier in {row.tier for row in second}}
    taken = tuple(
        row for row in second if _group(row) not in present and (row.tier in tiers or needed <= offered[row.tier])
    )
    return _completed(taken, (*first, *(row for row in taken if row.tier == STANDARD)), skip=tiers), True


def _plain(rows: Sequence[PriceRow]) -> dict[str, tuple[int, int]]:
    """The present standard rates of plain input and output below any cliff."""
    return {
        row.meter: (row.rate_pico, row.per)
        for row in rows
        if row.tier == STANDARD and not row.min_input and not row.to_ms and row.meter in (Meter.INPUT, Meter.OUTPUT)
    }


def _completed(
    rows: Sequence[PriceRow], standard: Sequence[PriceRow], skip: Iterable[str] = ()
) -> tuple[PriceRow, ...]:
    """The rows, with each tier given the standard rates of the meters it does not name: that is how vendors bill them
    (OpenAI's batch table has no cached rate, and cached input costs there what it costs elsewhere)."""
    tiers = {row.tier for row in rows} - {STANDARD, *skip}
    present = {_group(row) for row in rows}
    return (
        *rows,
        *(
            msgspec.structs.replace(row, tier=tier)
            for tier in sorted(tiers)
            for row in standard
            if row.tier == STANDARD and (tier, row.meter) not in present
        ),
    )


def _overridden(rows: Sequence[PriceRow], own: Sequence[PriceRow], contract: bool) -> tuple[PriceRow, ...]:
    """The override's rows, and of each tier and meter the sources' at the times at which the override has none."""
    kept: list[PriceRow] = []
    for row in rows:
        pieces = [(row.from_ms, row.to_ms or _NEVER)]
        for one in own:
            if _group(one) == _group(row):
                pieces = [left for piece in pieces for left in _without(piece, one.from_ms, one.to_ms or _NEVER)]
        for start, end in pieces:
            until = 0 if end == _NEVER else end
            whole = (start, until) == (row.from_ms, row.to_ms)
            kept.append(row if whole else msgspec.structs.replace(row, id="", from_ms=start, to_ms=until))
    return (*kept, *([_with_list(row, rows) for row in own] if contract else own))


def _without(piece: tuple[int, int], start: int, end: int) -> list[tuple[int, int]]:
    """What [start, end) leaves of a stretch of time."""
    parts = ((piece[0], min(piece[1], start)), (max(piece[0], end), piece[1]))
    return [part for part in parts if part[0] < part[1]]


def _with_list(row: PriceRow, listed: Iterable[PriceRow]) -> PriceRow:
    """A contract's row with the list price that it is instead of: the one in effect at its start, or next after."""
    same = [one for one in listed if _group(one) == _group(row) and one.min_input == row.min_input]
    found = min(
        [one for one in same if not one.to_ms or one.to_ms > row.from_ms], key=lambda one: one.from_ms, default=None
    )
    terms = row.terms or Terms()
    if found is None or terms.list_pico is not None:
        return row
    own, per = Fraction(row.rate_pico, row.per), row.per
    billed, native = [None if rate is None else Fraction(rate, per) for rate in (terms.billed_pico, terms.native_pico)]
    return with_rates(row, terms, own, Fraction(found.rate_pico, found.per), billed, native)


def _with_shortest(rows: tuple[PriceRow, ...], shortest_audio_s: int) -> tuple[PriceRow, ...]:
    if not shortest_audio_s:
        return rows
    terms = Terms(min_quantity=shortest_audio_s)
    return tuple(msgspec.structs.replace(row, terms=terms) if row.meter == Meter.AUDIO_SECONDS else row for row in rows)


def _seen_rows(rows: Sequence[PriceRow], vendor: Vendor) -> tuple[PriceRow, ...]:
    """Images (and what else a vendor bills as text) at the price of plain input, for a model whose vendor gives them no
    price of their own: explicit rows, because a meter without a row is unpriced."""
    meters = {row.meter for row in rows}
    if Meter.OUTPUT not in meters:
        return ()
    cached = Meter.CACHE_READ if Meter.CACHE_READ in meters else Meter.INPUT
    return tuple(
        msgspec.structs.replace(row, id="", meter=meter)
        for meter in vendor.as_text
        if meter not in meters
        for row in rows
        if row.meter == (cached if meter in _CACHED else Meter.INPUT)
    )


def _everywhere(rows: tuple[PriceRow, ...]) -> tuple[PriceRow, ...]:
    """The rows, with fees that are not for tokens the same at every tier that does not name its own."""
    fees = [row for row in rows if row.tier == STANDARD and row.meter not in TOKEN_METERS]
    if not fees:
        return rows
    present = {_group(row) for row in rows}
    tiers = sorted({tier for tier, _ in present} - {STANDARD})
    return (
        *rows,
        *(
            msgspec.structs.replace(row, id="", tier=tier)
            for tier in tiers
            for row in fees
            if (tier, row.meter) not in present
        ),
    )


_CACHED = frozenset({Meter.CACHE_READ_IMAGE, Meter.CACHE_READ_VIDEO})
_NO_VENDOR = Vendor("", "")
_NO_WINDOW = "it thinks beyond the limit it is given, and its context window is not known"
