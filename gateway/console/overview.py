"""The first page: what this month and today have cost, by model and by key, day by day, and the last calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.console.calls import CallLine, call_lines
from gateway.console.chart import Chart, day_text, draw
from gateway.console.names import key_names
from gateway.console.parts import ConsoleParts
from gateway.console.periods import DAY_MS, Month, month_after, month_before
from gateway.console.words import NOTHING, UNPRICED, Amount, clock, full_time, iso, money, percent
from gateway.core.caller import KeyRecord, team_scope
from gateway.core.money import print_cents
from gateway.core.queries import Freshness, QueryScope, SpendRow

SERIES = 5
"""Models with a colour of their own; the others are one."""
_TABLE_ROWS = 8
_LAST_CALLS = 20
_MOST_GROUPS = 5000


@dataclass(frozen=True, slots=True)
class ShareRow:
    """A line of the tables by model and by key. `share` is of 1000, for the bar."""

    id: str
    name: str
    team: str
    amount: Amount
    share: int
    percent: str
    calls: int
    tokens: tuple[int, int]
    unpriced: int
    series: int

    @property
    def partly_unpriced(self) -> int:
        """Unpriced calls beside a sum; 0 where there is no sum."""
        return 0 if self.amount is UNPRICED else self.unpriced


@dataclass(frozen=True, slots=True)
class Sums:
    """Totals of a period."""

    amount: Amount
    list_amount: Amount
    effective_nusd: int
    list_nusd: int
    calls: int
    errors: int
    error_share: str
    estimated_nusd: int
    estimated: Amount
    estimated_share: str
    unpriced: int
    tokens: tuple[int, int]


@dataclass(frozen=True, slots=True)
class DayRow:
    day: str
    name: str
    amounts: tuple[Amount, ...]
    total: Amount


@dataclass(frozen=True, slots=True)
class Overview:
    """All that the page shows. `today` is None when another month is looked at."""

    month: Month
    previous: Month
    following: Month | None
    following_path: str
    sums: Sums
    today: Sums | None
    per_thousand: Amount | None
    by_model: tuple[ShareRow, ...]
    other_models: int
    by_key: tuple[ShareRow, ...]
    other_keys: int
    series: tuple[str, ...]
    chart: Chart
    day_names: tuple[str, ...]
    days: tuple[DayRow, ...]
    series_totals: tuple[Amount, ...]
    chart_words: str
    calls: tuple[CallLine, ...]
    freshness: Freshness
    newest: str
    newest_iso: str
    newest_full: str
    team: str | None


async def look(parts: ConsoleParts, asker: KeyRecord, month: Month, now_ms: int) -> Overview:
    """Asks the ledger for one page. Raises StoreUnavailable."""
    ledger, scope = parts.ledger, QueryScope(asker.org, team_scope(asker))
    present = month.holds(now_ms)
    until_ms = now_ms + 1 if present else month.to_ms
    by_day = await ledger.spend(scope, ("day",), month.from_ms, until_ms, _MOST_GROUPS)
    by_model = await ledger.spend(scope, ("model",), month.from_ms, until_ms, _MOST_GROUPS)
    by_key = await ledger.spend(scope, ("key",), month.from_ms, until_ms, _MOST_GROUPS)
    by_both = await ledger.spend(scope, ("day", "model"), month.from_ms, until_ms, _MOST_GROUPS)
    sums = _sums(by_day)
    today = _sums(await ledger.spend(scope, ("day",), now_ms - now_ms % DAY_MS, until_ms)) if present else None
    calls = await ledger.calls(scope, limit=_LAST_CALLS)
    freshness = await ledger.freshness()
    newest_ms = freshness.newest_ms
    series = tuple(row.group[0] for row in by_model[:SERIES])
    shown_days = tuple(day for day in month.days if not present or day <= iso(now_ms)[:10])
    others = len(by_model) > len(series)
    amounts = _per_day(shown_days, series, others, by_day, by_both)
    names = await key_names(parts, asker.org, [row.group[0] for row in by_key[:_TABLE_ROWS]])
    following = month_after(month)
    legend = tuple(model or NOTHING for model in series)
    if others:
        legend = (*legend, _others_text(len(by_model) - len(series)))
    return Overview(
        month=month,
        previous=month_before(month),
        following=None if present else following,
        following_path="/ui" if following.holds(now_ms) else f"/ui?month={following.id}",
        sums=sums,
        today=today,
        per_thousand=_per_thousand(sums),
        by_model=_shares(by_model, sums.effective_nusd, {}, parts),
        other_models=max(0, len(by_model) - _TABLE_ROWS),
        by_key=_shares(by_key, sums.effective_nusd, names, parts),
        other_keys=max(0, len(by_key) - _TABLE_ROWS),
        series=legend,
        chart=draw(month.days, amounts),
        day_names=tuple(day_text(day) for day in month.days),
        days=tuple(_day_row(day, row) for day, row in zip(shown_days, amounts, strict=True)),
        series_totals=tuple(money(sum(column)) for column in zip(*amounts, strict=True)),
        chart_words=_chart_words(month, shown_days, amounts, legend),
        calls=await call_lines(parts, asker.org, calls, now_ms),
        freshness=freshness,
        newest=clock(newest_ms, now_ms) if newest_ms else "",
        newest_iso=iso(newest_ms),
        newest_full=full_time(newest_ms),
        team=scope.team,
    )


def _sums(rows: Sequence[SpendRow]) -> Sums:
    effective, listed = sum(row.effective_nusd for row in rows), sum(row.list_nusd for row in rows)
    calls, errors = sum(row.calls for row in rows), sum(row.errors for row in rows)
    estimated = sum(row.estimated_nusd for row in rows)
    unpriced = sum(row.unpriced_calls for row in rows)
    return Sums(
        amount=_summed(effective, unpriced),
        list_amount=_summed(listed, unpriced),
        effective_nusd=effective,
        list_nusd=listed,
        calls=calls,
        errors=errors,
        error_share=percent(errors, calls),
        estimated_nusd=estimated,
        estimated=money(estimated),
        estimated_share=percent(estimated, effective),
        unpriced=unpriced,
        tokens=(sum(row.input_tokens for row in rows), sum(row.output_tokens for row in rows)),
    )


def _summed(nusd: int, unpriced: int) -> Amount:
    """A sum of 0 beside unpriced calls (refused ones cost 0 and are no reason to say it) is not known to be 0."""
    return UNPRICED if unpriced and not nusd else money(nusd)


def _per_thousand(sums: Sums) -> Amount | None:
    """The mean cost of 1,000 priced calls, or None without any."""
    priced = sums.calls - sums.unpriced
    return money(sums.effective_nusd * 1000 // priced) if priced > 0 else None


def _per_day(
    days: Sequence[str], series: tuple[str, ...], others: bool, by_day: Sequence[SpendRow], by_both: Sequence[SpendRow]
) -> list[list[int]]:
    """Nano-USD per day and series. The others are the day's sum less the series, so that each bar is the day's sum."""
    totals = {row.group[0]: row.effective_nusd for row in by_day}
    cells = {row.group: row.effective_nusd for row in by_both}
    rows: list[list[int]] = []
    for day in days:
        row = [cells.get((day, model), 0) for model in series]
        if others:
            row.append(totals.get(day, 0) - sum(row))
        rows.append(row)
    return rows


def _shares(rows: Sequence[SpendRow], whole: int, names: dict[str, str], parts: ConsoleParts) -> tuple[ShareRow, ...]:
    largest = max((row.effective_nusd for row in rows), default=0)
    return tuple(
        ShareRow(
            id=row.group[0],
            name=names.get(row.group[0], row.group[0]) or NOTHING,
            team=_team(parts, row.group[0]) if names else "",
            amount=_summed(row.effective_nusd, row.unpriced_calls),
            share=max(0, row.effective_nusd) * 1000 // largest if largest > 0 else 0,
            percent=percent(max(0, row.effective_nusd), whole),
            calls=row.calls,
            tokens=(row.input_tokens, row.output_tokens),
            unpriced=row.unpriced_calls,
            series=min(index, SERIES),
        )
        for index, row in enumerate(rows[:_TABLE_ROWS])
    )


def _team(parts: ConsoleParts, key_id: str) -> str:
    record = parts.ring.by_id(key_id)
    return "" if record is None else record.team


def _day_row(day: str, row: Sequence[int]) -> DayRow:
    return DayRow(day, day_text(day), tuple(money(nusd) for nusd in row), money(sum(row)))


def _others_text(number: int) -> str:
    return "1 other" if number == 1 else f"{number} others"


def _chart_words(month: Month, days: Sequence[str], amounts: Sequence[Sequence[int]], legend: Sequence[str]) -> str:
    """What the drawing says, for those who do not see it."""
    sums = [sum(row) for row in amounts]
    if not any(sums):
        return f"Spend per day by model in {month.name}: nothing spent."
    top = max(range(len(sums)), key=sums.__getitem__)
    return (
        f"Spend per day by model in {month.name}, stacked bars of {', '.join(legend)}. "
        f"Dearest day {day_text(days[top])} with {print_cents(sums[top])}, in all {print_cents(sum(sums))}. "
        "The table below the chart has every value."
    )
