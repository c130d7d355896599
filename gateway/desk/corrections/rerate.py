"""Re-rating over HTTP: what calls would cost by the prices in force, and the corrections that make them cost that.

A request does a part of a run, for some seconds, and says where the next one goes on; nothing is kept in between. What
costs already what it should is left alone, so a run that was broken off is simply done again.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.core.caller import KeyRecord, Permission, team_scope
from gateway.core.charge import CostState
from gateway.core.corrections import Correcting, PostedAttempt, RerateQueries, Span
from gateway.core.errors import BadRequest, NotFound
from gateway.core.ids import ATTEMPT, make_id, parse_id, print_id, time_of
from gateway.core.queries import QueryScope
from gateway.core.records import Correct
from gateway.desk.corrections.shapes import (
    CORRECTION,
    CorrectionList,
    CorrectionReply,
    DifferenceGroup,
    Differences,
    LeftAsTheyAre,
    MovedCounter,
    RerateBody,
    RerateReply,
)
from gateway.desk.corrections.sheets import SheetsInForce
from gateway.desk.guard import Asker, Row
from gateway.desk.moments import DAY_MS, day_start_ms, parse_moment_ms, print_moment
from gateway.desk.parts import CorrectionParts, DeskParts
from gateway.desk.spend.shapes import Money
from gateway.ledger.rerate import Left, Run, correction, gives_price
from gateway.pricing.versions import OpenSources

ATTEMPTS_AT_ONCE = 1_000
WORK_S = 5.0
"""How long a request goes on taking further attempts; the last of them may wait for the bookkeeper."""
_MAX_RANGE_MS = 400 * DAY_MS
_PAUSE_MS = 3_600_000
"""How long after its last part a run may still go on."""
_SKEW_MS = 60_000
_TAG = "Prices"


class RerateDesk:
    def __init__(self, parts: DeskParts, corrections: CorrectionParts) -> None:
        self._parts = parts
        self._queries: RerateQueries = corrections.queries
        self._bookkeeper: Correcting = corrections.bookkeeper
        self._opened = OpenSources()

    def rows(self) -> list[Row]:
        return [
            Row(
                "POST",
                "/admin/v1/prices/rerate",
                Permission.CORRECT_LEDGER,
                self.rerate,
                "Price calls again by the prices in force",
                _TAG,
                reply=RerateReply,
            ),
            Row(
                "GET",
                "/admin/v1/prices/corrections",
                Permission.READ_SPEND,
                self.corrections,
                "Runs of corrections: who, why, how much",
                _TAG,
                reply=CorrectionList,
            ),
        ]

    async def corrections(self, asker: Asker) -> CorrectionList:
        of_whole_org(asker)
        runs = await self._queries.runs(QueryScope(asker.org))
        return CorrectionList(data=[CorrectionReply.of(run) for run in runs])

    async def rerate(self, asker: Asker, body: RerateBody) -> RerateReply:
        now_ms = self._parts.clock.now_ms()
        span = _span(body, now_ms)
        scope = QueryScope(asker.org, body.team, body.key)
        after = _raw(ATTEMPT, body.after, "after") or b""
        goes_on = _raw(CORRECTION, body.correction, "correction")
        run = Run(goes_on or make_id(now_ms, self._parts.entropy.bytes(10)), asker.key_id, body.reason.strip())
        if not body.dry_run and not run.reason:
            raise BadRequest("Say why: `reason` is kept with every correction.", param="reason")
        if goes_on is not None:
            await self._check_goes_on(asker.org, run, bool(after), now_ms)
        sheets = await SheetsInForce.now(self._parts.config, self._parts.prices, self._opened)
        sums = _Sums(now_ms, await self._queries.closed_until(asker.org))
        if after and not body.dry_run:
            await self._bookkeeper.append(())  # what the part before has appended is in SQL then, and is read below
        priced: set[bytes] = set()
        end_ns = self._parts.clock.monotonic_ns() + int(WORK_S * 1e9)
        while True:
            page = await self._queries.page(scope, span, after, ATTEMPTS_AT_ONCE)
            made = await self._corrections(page.attempts, sheets, run, now_ms, sums, priced)
            stale: frozenset[bytes] = frozenset()
            if made and not body.dry_run:
                done = await self._bookkeeper.append([(attempt.call_id, record) for attempt, record in made])
                stale = frozenset(done.stale)
            for attempt, record in made:
                if attempt.attempt_id in stale:
                    sums.leave("changed_meanwhile")
                else:
                    sums.add(attempt, record)
            priced -= stale
            after = page.next_id or b""
            if not after or self._parts.clock.monotonic_ns() > end_ns:
                break
        return RerateReply(
            dry_run=body.dry_run,
            version=sheets.version,
            correction=None if body.dry_run else print_id(CORRECTION, run.correction_id),
            from_ms=span.from_ms,
            from_at=print_moment(span.from_ms),
            to_ms=span.to_ms,
            to_at=print_moment(span.to_ms),
            next=print_id(ATTEMPT, after) if after else None,
            **sums.members(),
        )

    async def _check_goes_on(self, org: str, run: Run, is_later_part: bool, now_ms: int) -> None:
        """Raises BadRequest for a `correction` that is no run of this request's: what a run did stays what it did."""
        known = await self._queries.run(org, run.correction_id)
        began_ms = time_of(run.correction_id)
        of_another = known is not None and (known.actor, known.reason) != (run.actor, run.reason)
        last_ms = began_ms if known is None else known.last_ms
        if not is_later_part or of_another or not -_SKEW_MS <= now_ms - last_ms < _PAUSE_MS:
            raise BadRequest(
                "`correction` goes on with the run that a reply to this request began: the same key and reason, with "
                "its `next` as `after`, within an hour. Leave it out to begin a run.",
                param="correction",
            )

    async def _corrections(
        self,
        attempts: tuple[PostedAttempt, ...],
        sheets: SheetsInForce,
        run: Run,
        now_ms: int,
        sums: _Sums,
        priced: set[bytes],
    ) -> list[tuple[PostedAttempt, Correct]]:
        """Adds to `priced` the attempts that get their first price here, while another of their call has none: SQL may
        not know yet of those of the page before."""
        made: list[tuple[PostedAttempt, Correct]] = []
        for attempt in attempts:
            charge = await sheets.charge(attempt)
            if isinstance(charge, Left):
                sums.leave(charge.value)
                continue
            first = gives_price(attempt, charge)
            whole_call = first and attempt.call_unpriced and priced.issuperset(attempt.unpriced_others)
            record = correction(attempt, charge, run, now_ms, priced_calls=int(whole_call))
            if not isinstance(record, Correct):
                sums.leave("the_same" if record is None else record.value)
                continue
            if first and attempt.unpriced_others:
                priced.add(attempt.attempt_id)
            made.append((attempt, record))
        return made


@dataclass(slots=True)
class _Difference:
    postings: int = 0
    list_nusd: int = 0
    effective_nusd: int = 0
    billed_nusd: int = 0
    prior_nusd: int = 0

    def add(self, record: Correct, prior: bool) -> None:
        self.postings += 1
        self.list_nusd += record.list_nusd
        self.effective_nusd += record.effective_nusd
        self.billed_nusd += record.billed_nusd
        self.prior_nusd += record.effective_nusd if prior else 0

    def members(self) -> dict[str, int | Money]:
        return {
            "postings": self.postings,
            "list": Money.of(self.list_nusd),
            "effective": Money.of(self.effective_nusd),
            "billed": Money.of(self.billed_nusd),
            "prior_period": Money.of(self.prior_nusd),
        }


@dataclass(slots=True)
class _Sums:
    """What one request has come to."""

    now_ms: int
    closed_ms: int
    looked_at: int = 0
    priced_first: int = 0
    counters_unknown: int = 0
    left: dict[str, int] = field(default_factory=dict)
    total: _Difference = field(default_factory=_Difference)
    groups: dict[tuple[str, str, int], _Difference] = field(default_factory=dict)
    counters: dict[tuple[str, str], int] = field(default_factory=dict)

    def leave(self, why: str) -> None:
        """`why` is a member of LeftAsTheyAre."""
        self.looked_at += 1
        self.left[why] = self.left.get(why, 0) + 1

    def add(self, attempt: PostedAttempt, record: Correct) -> None:
        self.looked_at += 1
        prior = attempt.started_ms < self.closed_ms
        key = (attempt.model_asked, attempt.team, day_start_ms(attempt.started_ms))
        for difference in (self.total, self.groups.setdefault(key, _Difference())):
            difference.add(record, prior)
        self.priced_first += attempt.state == CostState.UNPRICED and record.state != CostState.UNPRICED
        self.counters_unknown += not attempt.takes_known
        for take in record.takes:
            if not take.expires_ms or take.expires_ms > self.now_ms:
                counter = (take.limit_id, take.counter)
                self.counters[counter] = self.counters.get(counter, 0) + take.amount

    def members(self) -> dict[str, object]:
        return {
            "looked_at": self.looked_at,
            "priced_first": self.priced_first,
            "counters_unknown": self.counters_unknown,
            "left": LeftAsTheyAre(**self.left),
            "total": Differences.model_validate(self.total.members()),
            "groups": [
                DifferenceGroup.model_validate(
                    {"model": model, "team": team, "day": print_moment(day_ms)[:10], **difference.members()}
                )
                for (model, team, day_ms), difference in sorted(self.groups.items())
            ],
            "counters": [
                MovedCounter(limit=limit, counter=counter, amount=Money.of(amount))
                for (limit, counter), amount in sorted(self.counters.items())
                if amount
            ],
        }


def of_whole_org(asker: KeyRecord) -> None:
    """Raises NotFound for who may see the spend of one team only: these sums are of all of them."""
    if team_scope(asker) is not None:
        raise NotFound("These are sums of the whole organisation, and your key sees its team's spend only.")


def _span(body: RerateBody, now_ms: int) -> Span:
    times: list[int] = []
    for param, text in (("from", body.since), ("to", body.until)):
        try:
            times.append(parse_moment_ms(text, now_ms))
        except (ValueError, OverflowError) as error:
            raise BadRequest(f"{param}: {error}", param=param) from error
    from_ms, to_ms = times
    if from_ms >= to_ms:
        raise BadRequest("`from` must be before `to`.", param="from")
    if to_ms - from_ms > _MAX_RANGE_MS:
        raise BadRequest(f"At most {_MAX_RANGE_MS // DAY_MS} days can be priced again at once.", param="from")
    return Span(from_ms, to_ms, body.model or "")


def _raw(prefix: str, text: str | None, param: str) -> bytes | None:
    if text is None:
        return None
    raw = parse_id(prefix, text)
    if raw is None:
        raise BadRequest(f"`{param}` is what a reply to this request said.", param=param)
    return raw
