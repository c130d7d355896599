"""Reading the ledger over HTTP: sums by dimension, one call, what a key has used itself."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query

from gateway.core.caller import KeyRecord, Permission, Role, team_scope
from gateway.core.errors import BadRequest, NotFound
from gateway.core.ids import CALL, parse_id, time_of
from gateway.core.limits import Limit, Unit, WindowKind
from gateway.core.queries import SPEND_DIMENSIONS, QueryScope, SpendRow
from gateway.desk.errors import NotRecordedYet
from gateway.desk.guard import Asker, Row
from gateway.desk.limits.explain import Asked, explain
from gateway.desk.moments import DAY_MS, day_start_ms, month_start_ms, next_month_ms, parse_moment_ms, print_moment
from gateway.desk.parts import DeskParts
from gateway.desk.shapes import limit_members
from gateway.desk.spend.shapes import (
    CallReply,
    FreshnessReply,
    ModelSums,
    Money,
    OwnLimit,
    PeriodReply,
    SpendGroup,
    SpendReply,
    Sums,
    UsageReply,
    sums_members,
    total_of,
)

_MAX_RANGE_MS = 400 * DAY_MS
HOUR_MS = 3_600_000
_MAX_DIMENSIONS = 4
_MAX_ROWS = 1000
_RECENT_MS = 30_000
_SKEW_MS = 5_000


class SpendDesk:
    def __init__(self, parts: DeskParts) -> None:
        self._parts = parts
        self._ledger = parts.ledger

    def rows(self) -> list[Row]:
        own = Permission.READ_OWN
        return [
            Row(
                "GET",
                "/admin/v1/spend",
                Permission.READ_SPEND,
                self.spend,
                "Spend by dimensions",
                "Spend",
                reply=SpendReply,
            ),
            Row(
                "GET",
                "/v1/requests/{id}",
                own,
                self.call,
                "Cost, usage and attempts of one call",
                "Own calls",
                reply=CallReply,
            ),
            Row("GET", "/v1/usage", own, self.usage, "What this key has spent", "Own calls", reply=UsageReply),
        ]

    async def spend(
        self,
        asker: Asker,
        by: Annotated[str, Query(max_length=100, description=f"Of {', '.join(SPEND_DIMENSIONS)}.")] = "model",
        since: Annotated[
            str, Query(max_length=40, description="`7d`, `24h`, `today`, `month`, `2026-11-01`.")
        ] = "month",
        until: Annotated[str, Query(max_length=40)] = "now",
        team: Annotated[str | None, Query(max_length=128)] = None,
        key: Annotated[str | None, Query(max_length=64)] = None,
        limit: Annotated[int, Query(ge=1, le=_MAX_ROWS)] = _MAX_ROWS,
    ) -> SpendReply:
        dimensions = _dimensions(by)
        now_ms = self._parts.clock.now_ms()
        from_ms, to_ms = _moment(since, now_ms, "since"), _moment(until, now_ms, "until")
        if from_ms >= to_ms:
            raise BadRequest("`since` must be before `until`.", param="since")
        if to_ms - from_ms > _MAX_RANGE_MS:
            raise BadRequest(f"At most {_MAX_RANGE_MS // DAY_MS} days can be asked for at once.", param="since")
        # The ledger's sums are of whole hours: say which, not what was typed.
        from_ms, to_ms = from_ms - from_ms % HOUR_MS, -(-to_ms // HOUR_MS) * HOUR_MS
        scope = QueryScope(asker.org, _team(asker, team), key)
        found = await self._ledger.spend(scope, dimensions, from_ms, to_ms, limit + 1)
        whole = await self._ledger.spend(scope, ("org",), from_ms, to_ms, 1)
        rows = found[:limit]
        return SpendReply(
            by=dimensions,
            from_ms=from_ms,
            from_at=print_moment(from_ms),
            to_ms=to_ms,
            to_at=print_moment(to_ms),
            data=[_group(dimensions, row) for row in rows],
            total=Sums(**sums_members(total_of(whole))),
            truncated=len(found) > limit,
            freshness=FreshnessReply.of(await self._ledger.freshness()),
        )

    async def call(self, asker: Asker, id: str) -> CallReply:
        raw = parse_id(CALL, id)
        if raw is None:
            raise NotFound(
                "That is not the id of a call: those begin with req_ and are in every answer's x-request-id."
            )
        found = await self._ledger.call(scope_of_calls(asker), raw)
        if found is None:
            age_ms = self._parts.clock.now_ms() - time_of(raw)
            if -_SKEW_MS <= age_ms < _RECENT_MS:
                raise NotRecordedYet(
                    "This call is not recorded yet, if it is one of yours: that takes at most 5 s. Ask again.",
                    headers={"retry-after": "2"},
                )
            raise NotFound("There is no such call among yours.")
        row, attempts = found
        return CallReply.of(row, attempts)

    async def usage(
        self,
        asker: Asker,
        user: Annotated[str, Query(max_length=256, description="Show limits per user for this one.")] = "",
        session: Annotated[str, Query(max_length=256)] = "",
        model: Annotated[str, Query(max_length=256)] = "",
    ) -> UsageReply:
        now_ms = self._parts.clock.now_ms()
        scope = QueryScope(asker.org, key_id=asker.key_id)
        day_ms, month_ms = day_start_ms(now_ms), month_start_ms(now_ms)
        today = await self._ledger.spend(scope, ("model",), day_ms, now_ms + 1, _MAX_ROWS)
        month = await self._ledger.spend(scope, ("model",), month_ms, now_ms + 1, _MAX_ROWS)
        spent = {WindowKind.DAY: _known_nusd(today), WindowKind.MONTH: _known_nusd(month)}
        return UsageReply(
            key_id=asker.key_id,
            today=_period(day_ms, day_ms + DAY_MS, today),
            month=_period(month_ms, next_month_ms(now_ms), month),
            limits=[_own_limit(limit, spent, asker.key_id) for limit in asker.limits],
            budgets=(await explain(self._parts, asker, Asked(user, session, model=model))).budgets,
            freshness=FreshnessReply.of(await self._ledger.freshness()),
        )


def scope_of_calls(asker: KeyRecord) -> QueryScope:
    """Whose calls a key may look at: a data key its own, a team's key its team's, others their org's."""
    if asker.role == Role.DATA:
        return QueryScope(asker.org, key_id=asker.key_id)
    return QueryScope(asker.org, team_scope(asker))


def _team(asker: KeyRecord, asked: str | None) -> str | None:
    own = team_scope(asker)
    if own is not None and asked not in (None, own):
        raise NotFound(f"There is no team {asked!r} here.")
    return asked if own is None else own


def _dimensions(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    known = ", ".join(SPEND_DIMENSIONS)
    for name in names:
        if name not in SPEND_DIMENSIONS:
            raise BadRequest(f"{name!r} is not a dimension; there are {known}.", param="by")
    if not 1 <= len(names) <= _MAX_DIMENSIONS or len(set(names)) != len(names):
        raise BadRequest(f"Give one to {_MAX_DIMENSIONS} different dimensions of {known}.", param="by")
    return names


def _moment(text: str, now_ms: int, param: str) -> int:
    try:
        return parse_moment_ms(text, now_ms)
    except (ValueError, OverflowError) as error:
        raise BadRequest(f"{param}: {error}", param=param) from error


def _group(dimensions: list[str], row: SpendRow) -> SpendGroup:
    named = dict(zip(dimensions, row.group, strict=True))
    return SpendGroup(group=named, **sums_members(row))


def _period(from_ms: int, resets_ms: int, rows: list[SpendRow]) -> PeriodReply:
    return PeriodReply(
        from_ms=from_ms,
        from_at=print_moment(from_ms),
        resets_ms=resets_ms,
        resets_at=print_moment(resets_ms),
        by_model=[ModelSums(model=row.group[0], **sums_members(row)) for row in rows],
        **sums_members(total_of(rows)),
    )


def _known_nusd(rows: list[SpendRow]) -> int | None:
    """What was spent; None beside an unpriced call, of which a budget counts all that was reserved."""
    total = total_of(rows)
    return None if total.unpriced_calls else total.effective_nusd


def _own_limit(limit: Limit, spent: dict[WindowKind, int | None], key_id: str) -> OwnLimit:
    """With what is spent where the sums at hand are exactly the limit's: this key's money in a UTC day or month."""
    mine = limit.scope == (("key", key_id),) and limit.unit is Unit.USD and limit.window.zone == "UTC"
    nusd = spent.get(limit.window.kind) if mine else None
    if nusd is None:
        return OwnLimit.model_validate(limit_members(limit))
    left = Money.of(max(0, limit.amount - nusd))
    return OwnLimit.model_validate({**limit_members(limit), "spent": Money.of(nusd), "remaining": left})
