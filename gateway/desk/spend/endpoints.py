"""Reading the ledger over HTTP: sums by dimension, one call, what a key has used itself."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query

from gateway.core.caller import KeyRecord, Permission, Role, team_scope
from gateway.core.errors import BadRequest, NotFound
from gateway.core.ids import CALL, parse_id, time_of
from gateway.core.limits import Limit, Unit, WindowKind
from gateway.core.queries import (
    BESIDE_VALUES,
    SESSION,
    SPEND_DIMENSIONS,
    TAG_PREFIX,
    USER,
    QueryScope,
    SpendRow,
    is_value_dimension,
)
from gateway.desk.errors import NotRecordedYet
from gateway.desk.guard import Asker, Row
from gateway.desk.limits.explain import Asked, explain, present_policy
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
_BY = (
    f"Of {', '.join(SPEND_DIMENSIONS)}; one of user, session and tag:NAME (a tag of `tags: rollups`), by the day, "
    f"beside {', '.join(BESIDE_VALUES)}."
)
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
        by: Annotated[str, Query(max_length=200, description=_BY)] = "model",
        since: Annotated[
            str, Query(max_length=40, description="`7d`, `24h`, `today`, `month`, `2026-11-01`.")
        ] = "month",
        until: Annotated[str, Query(max_length=40)] = "now",
        team: Annotated[str | None, Query(max_length=128)] = None,
        key: Annotated[str | None, Query(max_length=64)] = None,
        user: Annotated[str, Query(max_length=256, description="Of this end user only.")] = "",
        session: Annotated[str, Query(max_length=256, description="Of this session only.")] = "",
        tag: Annotated[str, Query(max_length=400, description="Of calls with this tag only: `feature=search`.")] = "",
        limit: Annotated[int, Query(ge=1, le=_MAX_ROWS)] = _MAX_ROWS,
    ) -> SpendReply:
        of = _one_value(user, session, tag)
        dimensions = _dimensions(by, of)
        value = next(filter(is_value_dimension, dimensions), None) if of is None else of[0]
        await self._check_summed(value, "by" if of is None else "tag")
        now_ms = self._parts.clock.now_ms()
        from_ms, to_ms = _moment(since, now_ms, "since"), _moment(until, now_ms, "until")
        if from_ms >= to_ms:
            raise BadRequest("`since` must be before `until`.", param="since")
        if to_ms - from_ms > _MAX_RANGE_MS:
            raise BadRequest(f"At most {_MAX_RANGE_MS // DAY_MS} days can be asked for at once.", param="since")
        # The ledger's sums are of whole hours, or days: say which, not what was typed.
        step_ms = DAY_MS if value else HOUR_MS
        from_ms, to_ms = from_ms - from_ms % step_ms, -(-to_ms // step_ms) * step_ms
        scope = QueryScope(asker.org, _team(asker, team), key)
        found = await self._ledger.spend(scope, dimensions, from_ms, to_ms, limit + 1, of)
        whole = await self._ledger.spend(scope, ("org",), from_ms, to_ms, 1, of)
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

    async def _check_summed(self, dimension: str | None, param: str) -> None:
        """Raises BadRequest for a tag that the ledger keeps no sums of."""
        if dimension is None or not dimension.startswith(TAG_PREFIX):
            return
        declared = (await present_policy(self._parts)).tags.rollups
        name = dimension.removeprefix(TAG_PREFIX)
        if name not in declared:
            known = ", ".join(f"{TAG_PREFIX}{one}" for one in declared) or "none yet"
            raise BadRequest(
                f"There are no sums of the tag {name!r}. Add it to `tags: rollups` of limits.yaml: calls from then on "
                f"are summed by it. Tags with sums: {known}.",
                param=param,
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


def _one_value(user: str, session: str, tag: str) -> tuple[str, str] | None:
    """The value that callers chose of which sums are wanted, with its dimension; None: of none in particular."""
    name, equals, value = tag.partition("=")
    if tag and not (name.strip() and equals and value.strip()):
        raise BadRequest("Write a tag like feature=search.", param="tag")
    asked = [
        (dimension, one)
        for dimension, one in ((USER, user), (SESSION, session), (f"{TAG_PREFIX}{name.strip()}", value.strip()))
        if one
    ]
    if len(asked) > 1:
        raise BadRequest("Users, sessions and tags have sums of their own, and none together: give one.")
    return asked[0] if asked else None


def _dimensions(text: str, of: tuple[str, str] | None) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    known = ", ".join(SPEND_DIMENSIONS)
    for name in names:
        if name not in SPEND_DIMENSIONS and not is_value_dimension(name):
            raise BadRequest(f"{name!r} is not a dimension; there are {known}, user, session and tag:NAME.", param="by")
    if not 1 <= len(names) <= _MAX_DIMENSIONS or len(set(names)) != len(names):
        raise BadRequest(f"Give one to {_MAX_DIMENSIONS} different dimensions of {known}.", param="by")
    values = [name for name in names if is_value_dimension(name)]
    if len(values) > 1:
        raise BadRequest(f"{' and '.join(values)} have sums of their own, and none together: give one.", param="by")
    if of is not None and values == [of[0]]:
        raise BadRequest(f"One {of[0]} alone is asked for: group it by something else.", param="by")
    if of is not None and values:
        raise BadRequest(f"{of[0]} and {values[0]} have sums of their own, and none together: give one.", param="by")
    summed = of[0] if of is not None else values[0] if values else ""
    beside = [name for name in names if name not in (*BESIDE_VALUES, *values)] if summed else []
    if beside:
        raise BadRequest(
            f"{summed} has sums by the day, and by {', '.join(BESIDE_VALUES)}; not by {', '.join(beside)}.",
            param="by",
        )
    return names


def _moment(text: str, now_ms: int, param: str) -> int:
    try:
        return parse_moment_ms(text, now_ms)
    except (ValueError, OverflowError) as error:
        raise BadRequest(f"{param}: {error}", param=param) from error


def _group(dimensions: list[str], row: SpendRow) -> SpendGroup:
    named = dict(zip(dimensions, row.group, strict=True))
    return SpendGroup(group=named, bucket=row.bucket, **sums_members(row))


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
