"""Closing months over HTTP. A closed month's sums never change; what is corrected in it later counts in the open month.

There is no way to open one again: its figures have been sent to somebody, and a correction that is shown apart, with
its reason, says more than a month that says something else than it did.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from gateway.core.caller import Permission
from gateway.core.corrections import ClosedMonth, Correcting, MonthSums, Periods, month_name
from gateway.core.errors import BadRequest, Conflict, StoreUnavailable
from gateway.desk.corrections.rerate import of_whole_org
from gateway.desk.guard import Asker, Row
from gateway.desk.moments import next_month_ms, print_moment
from gateway.desk.parts import CorrectionParts, DeskParts
from gateway.desk.spend.shapes import Money

_MONTH = re.compile(r"^(\d{4})-(\d{2})$")
_TAG = "Periods"


class CloseBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    month: Annotated[str, Field(max_length=7, examples=["2026-10"])]
    dry_run: bool = False
    reason: Annotated[str, Field(max_length=500)] = ""


class MonthReply(BaseModel):
    """A month and its sums. `prior_period` is what was posted in it for months closed before; it is in no other sum.
    `digest` names the rows that the sums are of."""

    month: str
    closed: bool
    closed_at: str | None = None
    closed_by: str = ""
    reason: str = ""
    calls: int
    attempts: int
    list: Money
    effective: Money
    billed: Money
    prior_period: Money
    digest: str

    @classmethod
    def open(cls, month_ms: int, sums: MonthSums) -> MonthReply:
        return cls(month=month_name(month_ms), closed=False, **_members(sums))

    @classmethod
    def of(cls, month: ClosedMonth) -> MonthReply:
        return cls(
            month=month.name,
            closed=True,
            closed_at=print_moment(month.closed_ms),
            closed_by=month.actor,
            reason=month.reason,
            **_members(month.sums),
        )


class CloseReply(BaseModel):
    """`obstacles` say why it cannot be closed now; of a dry run only."""

    object: Literal["period"] = "period"
    dry_run: bool
    month: MonthReply
    obstacles: list[str]


class PeriodList(BaseModel):
    object: Literal["list"] = "list"
    data: list[MonthReply]
    next: Annotated[str | None, Field(description="The month to be closed next; null: nothing is recorded.")]


class PeriodDesk:
    def __init__(self, parts: DeskParts, corrections: CorrectionParts) -> None:
        self._parts = parts
        self._periods: Periods = corrections.periods
        self._bookkeeper: Correcting = corrections.bookkeeper

    def rows(self) -> list[Row]:
        return [
            Row(
                "GET", "/admin/v1/periods", Permission.READ_SPEND, self.listing, "Closed months", _TAG, reply=PeriodList
            ),
            Row(
                "POST",
                "/admin/v1/periods/close",
                Permission.CORRECT_LEDGER,
                self.close,
                "Close a month for good",
                _TAG,
                reply=CloseReply,
            ),
        ]

    async def listing(self, asker: Asker) -> PeriodList:
        of_whole_org(asker)
        closed = await self._periods.closed(asker.org)
        next_ms = await self._periods.next_ms(asker.org)
        return PeriodList(
            data=[MonthReply.of(month) for month in closed], next=month_name(next_ms) if next_ms else None
        )

    async def close(self, asker: Asker, body: CloseBody) -> CloseReply:
        month_ms = _month_ms(body.month)
        now_ms = self._parts.clock.now_ms()
        obstacles = await self._obstacles(asker.org, month_ms, now_ms)
        if body.dry_run:
            sums = await self._periods.sums(asker.org, month_ms)
            return CloseReply(dry_run=True, month=MonthReply.open(month_ms, sums), obstacles=obstacles)
        if obstacles:
            raise Conflict(" ".join(obstacles))
        closed = await self._periods.close(asker.org, month_ms, now_ms, asker.key_id, body.reason.strip())
        return CloseReply(dry_run=False, month=MonthReply.of(closed), obstacles=[])

    async def _obstacles(self, org: str, month_ms: int, now_ms: int) -> list[str]:
        """Why a month cannot be closed now, each with what to do."""
        name, end_ms = month_name(month_ms), next_month_ms(month_ms)
        if now_ms < end_ms:
            return [f"{name} is not over before {print_moment(end_ms)}: close it then."]
        next_ms = await self._periods.next_ms(org)
        if not next_ms:
            return ["Nothing is recorded of this organisation yet: there is no month to be closed."]
        if month_ms < next_ms:
            if any(one.month_ms == month_ms for one in await self._periods.closed(org)):
                return [f"{name} is closed already."]
            return [f"Nothing is recorded of {name}: {month_name(next_ms)} is the month to be closed next."]
        if month_ms > next_ms:
            return [f"{month_name(next_ms)} is open, and months are closed in their order: close it first."]
        found = []
        try:
            missing = await self._bookkeeper.all_loaded(end_ms)
        except StoreUnavailable as error:
            found.append(error.message)
        else:
            found += [f"{missing} Wait until all of {name} is recorded, and close it then."] if missing else []
        if left := await self._periods.unfinished(org, month_ms):
            found.append(
                f"{left} calls or attempts of {name} have not ended in SQL. They end with their worker; "
                "`faregate ledger verify` names those that never will."
            )
        return found


def _month_ms(text: str) -> int:
    match = _MONTH.match(text.strip())
    try:
        year, month = (int(match.group(1)), int(match.group(2))) if match else (0, 0)
        return int(datetime(year, month, 1, tzinfo=UTC).timestamp()) * 1000
    except ValueError as error:
        raise BadRequest(f"{text!r} is not a month; write it like 2026-10.", param="month") from error


def _members(sums: MonthSums) -> dict[str, object]:
    return {
        "calls": sums.calls,
        "attempts": sums.attempts,
        "list": Money.of(sums.list_nusd),
        "effective": Money.of(sums.effective_nusd),
        "billed": Money.of(sums.billed_nusd),
        "prior_period": Money.of(sums.prior_effective_nusd),
        "digest": sums.digest.hex(),
    }
