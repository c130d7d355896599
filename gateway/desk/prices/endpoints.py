"""The price book over HTTP: what is in force, what would change, what a model and a call cost and why."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections import Counter
from typing import Annotated

import msgspec
from fastapi import Query, Response

from gateway.core.caller import KeyRecord, Permission, Role, team_scope
from gateway.core.config import Policy
from gateway.core.errors import BadRequest, ConfigInvalid, Conflict, NotFound, NotPermitted
from gateway.core.ids import CALL, parse_id
from gateway.core.price_admin import PriceDraft, PriceSource, PriceVersion, UnpricedEnds, UsedModel
from gateway.core.queries import QueryScope
from gateway.desk.guard import Asker, Replies, Row
from gateway.desk.moments import parse_moment_ms, print_moment
from gateway.desk.parts import IMPORT_PATH, DeskParts, PriceParts
from gateway.desk.policy_files import PolicyFiles
from gateway.desk.prices.diff import diff_of
from gateway.desk.prices.gate import PriceGate, Waiting, price_key
from gateway.desk.prices.shapes import (
    AgreementReply,
    ChargedCall,
    CoverageReply,
    CoverageRow,
    DiffReply,
    DiscardReply,
    DraftReply,
    ExplainModelReply,
    ImportPrices,
    ImportReply,
    PricesReply,
    PublishPrices,
    PublishReply,
    UnpricedReason,
    UnpricedReply,
    UnpricedRow,
    VersionReply,
    WaitingReply,
)
from gateway.desk.prices.told import (
    explain_call,
    explain_model,
    key_of,
    pending_reply,
    sheet_in_force,
    state_of,
    why_of_calls,
    why_of_ends,
)
from gateway.desk.spend.endpoints import scope_of_calls
from gateway.desk.spend.shapes import FreshnessReply
from gateway.pricing.book import PriceBook
from gateway.pricing.sources import MOST_PACKED_BYTES, read_source

_TAG = "Prices"
_BASE = "/admin/v1/prices"
_MOST_VERSIONS = 100
_TURNS = 4
"""How often an import begins again because of another one, before it gives up."""
_WRITE = Permission.WRITE_PRICES
"""Who may say what money means: admin, and finance where there is one org."""
Since = Annotated[str, Query(max_length=40, description="`30d`, `24h`, `month`, `2026-11-01`.")]


class PriceDesk:
    """The endpoints. Prices are one installation's, and every org's; calls and sums are the asker's org's."""

    def __init__(self, parts: DeskParts, prices: PriceParts, gate: PriceGate, files: PolicyFiles) -> None:
        self._parts = parts
        self._prices = prices
        self._gate = gate
        self._files = files

    def rows(self) -> list[Row]:
        read, spend = Permission.READ_CONFIG, Permission.READ_SPEND
        pending: Replies = {
            202: {"model": PublishReply, "description": "Stored; workers have not all acknowledged it yet."},
            409: {"description": "A rate of a model in use moves by more than 25 % and was not confirmed."},
        }

        def row(path: str, permission: Permission, endpoint: object, summary: str, reply: object) -> Row:
            return Row("GET", f"{_BASE}{path}", permission, endpoint, summary, _TAG, 200, reply)  # type: ignore[arg-type]

        return [
            row("", read, self.show, "The price book in force, and what waits", PricesReply),
            row("/diff", read, self.diff, "What would change if it were published", DiffReply),
            row("/explain", read, self.explain, "A model's prices and where they are from", ExplainModelReply),
            row("/calls/{id}", spend, self.call, "A call's cost, line by line", ChargedCall),
            row("/coverage", spend, self.coverage, "Which models have a price", CoverageReply),
            row("/unpriced", spend, self.unpriced, "Calls without a price, by model and reason", UnpricedReply),
            Row("POST", IMPORT_PATH, _WRITE, self.bring, "Import a price source as a draft", _TAG, 201, ImportReply),
            Row("DELETE", f"{_BASE}/draft", _WRITE, self.discard, "Discard the draft", _TAG, reply=DiscardReply),
            Row(
                "POST",
                f"{_BASE}/publish",
                _WRITE,
                self.publish,
                "Put the draft, or what waits, into force",
                _TAG,
                200,
                PublishReply,
                pending,
            ),
        ]

    # ------------------------------------------------------------ the book

    async def show(self) -> PricesReply:
        store = self._prices.store
        versions = await store.price_versions(_MOST_VERSIONS)
        draft = await store.price_draft()
        waiting, problem = await self._waiting()
        written = await asyncio.to_thread(self._gate.as_written)
        return PricesReply(
            in_force=VersionReply.of(versions[0]) if versions else None,
            versions=[VersionReply.of(version) for version in versions],
            draft=None if draft is None else DraftReply.of(draft),
            waiting=None if waiting is None else _waiting_reply(waiting),
            written=[f"{one.kind}/{one.model}" for one in written.prices.overrides],
            agreements=[AgreementReply.of(one) for one in written.prices.agreements],
            fallback=[one.kind for one in written.prices.fallbacks],
            pending=[pending_reply(one, self._parts.clock.now_ms()) for one in written.pending],
            problem=problem or None,
        )

    async def diff(
        self,
        everything: Annotated[
            bool, Query(alias="all", description="Of kinds of providers, too, that no route uses.")
        ] = False,
        limit: Annotated[int, Query(ge=1, le=5000)] = 500,
    ) -> DiffReply:
        policy, in_force = await self._files.current(), await self._prices.store.prices_in_force()
        draft = await self._prices.store.price_draft()
        used = await self._gate.used(policy)

        def compared() -> DiffReply:
            written, text = self._gate.read_file()
            version = self._gate.candidate(written, text, in_force, draft)
            kinds = self._prices.kinds if everything or policy is None else _kinds_of(policy)
            return diff_of(
                self._gate,
                policy,
                in_force,
                version,
                used,
                sorted(kinds),
                of_draft=draft is not None,
                now_ms=self._parts.clock.now_ms(),
                limit=limit,
            )

        return await asyncio.to_thread(compared)

    async def bring(self, asker: Asker, body: ImportPrices) -> ImportReply:
        await self._check_may_set(asker)
        source = None if body.shipped else await asyncio.to_thread(_read, body)
        if source is not None:
            source = msgspec.structs.replace(source, recorded_by=asker.key_id)
        for _ in range(_TURNS):
            try:
                return await self._bring(asker, source)
            except Conflict:
                continue  # somebody else imports, too: beside what they have brought
        return await self._bring(asker, source)

    async def _bring(self, asker: KeyRecord, source: PriceSource | None) -> ImportReply:
        """One try to make a draft of a source, or of what ships. Raises Conflict when what it is made beside has
        changed meanwhile."""
        store = self._prices.store
        in_force, draft = await store.prices_in_force(), await store.price_draft()
        if source is None:
            genai, litellm = await asyncio.to_thread(self._gate.bundled)
        else:
            genai, litellm = await self._beside(source, in_force, draft)
        changed = in_force is None or (genai.sha256, litellm.sha256) != (in_force.genai.sha256, in_force.litellm.sha256)
        after = 0 if in_force is None else in_force.number
        made = PriceDraft(genai, litellm, 0, asker.key_id)
        made = await store.save_price_draft(made, actor=asker.key_id, over=draft, after=after)
        return ImportReply(draft=DraftReply.of(made), changed=changed)

    async def _check_may_set(self, asker: KeyRecord) -> None:
        """Prices are those of all orgs: where there are several, only an administrator of the installation sets them.
        Raises NotPermitted."""
        if asker.role == Role.ADMIN:
            return
        others = [org for org in await self._parts.config.orgs() if org != asker.org]
        if others:
            raise NotPermitted(
                f"These prices are those of every organisation here, and your role, {asker.role}, is of "
                f"{asker.org!r} alone. Ask somebody with the role admin to do it."
            )

    async def _beside(
        self, source: PriceSource, in_force: PriceVersion | None, draft: PriceDraft | None
    ) -> tuple[PriceSource, PriceSource]:
        """Both sources of a draft with this one: the other is that of the draft before, else the one in force."""
        if draft is not None:
            genai, litellm = draft.genai, draft.litellm
        elif in_force is not None:
            genai, litellm = in_force.genai, in_force.litellm
        else:
            genai, litellm = await asyncio.to_thread(self._gate.bundled)
        return (source, litellm) if source.kind == "genai" else (genai, source)

    async def discard(self, asker: Asker) -> DiscardReply:
        await self._check_may_set(asker)
        return DiscardReply(discarded=await self._prices.store.drop_price_draft(actor=asker.key_id))

    async def publish(self, asker: Asker, response: Response, body: PublishPrices) -> PublishReply:
        await self._check_may_set(asker)
        done = await self._files.reload(asker.key_id, body.confirm)
        if not done.applied:
            response.status_code = 202
        (version,) = await self._prices.store.price_versions(1)
        state = "applied" if done.applied else "pending"
        return PublishReply(version=VersionReply.of(version), revision=done.policy.revision, state=state)

    # ------------------------------------------------------------ what they mean

    async def explain(
        self,
        model: Annotated[str, Query(max_length=320, description="A route's name, or kind/model like openai/gpt-4o.")],
    ) -> ExplainModelReply:
        policy, in_force, book = await self._present()
        key = key_of(policy, self._prices.kinds, model)
        used = frozenset(await self._gate.used(policy))
        sheet = sheet_in_force(policy, book, key)

        def told() -> ExplainModelReply:
            written = self._gate.written_of(in_force)._replace(pending=self._gate.as_written().pending)
            return explain_model(key, sheet, book, written, version, used, self._parts.clock.now_ms())

        version = 0 if in_force is None else in_force.number
        return await asyncio.to_thread(told)

    async def call(self, asker: Asker, id: str) -> ChargedCall:
        raw = parse_id(CALL, id)
        found = None if raw is None else await self._parts.ledger.call(scope_of_calls(asker), raw)
        if found is None:
            raise NotFound("There is no such call among yours, or it is not recorded yet (that takes at most 5 s).")
        row, attempts = found
        policy = await self._parts.config.policy_at(row.config_revision)
        version = await self._prices.store.price_version_at(row.config_revision)
        present = await self._files.current()
        return await asyncio.to_thread(explain_call, row, attempts, (policy, present), version)

    async def coverage(self, asker: Asker, since: Since = "30d") -> CoverageReply:
        policy, in_force, book = await self._present()
        since_ms = self._moment(since)
        seen = list(await self._prices.queries.used_models(_scope(asker), since_ms))
        routed = frozenset() if policy is None else _routed(policy)
        known = {(one.model, one.deployment) for one in seen}
        seen += [UsedModel(*pair, 0, 0, 0, 0) for pair in sorted(routed - known)]

        def covered() -> list[CoverageRow]:
            return [_coverage(one, policy, book) for one in seen if one.deployment]

        rows = await asyncio.to_thread(covered)
        version = 0 if in_force is None else in_force.number
        return CoverageReply(version=version, since_at=print_moment(since_ms), data=rows)

    async def unpriced(self, asker: Asker, since: Since = "30d") -> UnpricedReply:
        policy, _, book = await self._present()
        since_ms = self._moment(since)
        found = await self._prices.queries.used_models(_scope(asker), since_ms, unpriced=True)
        ends: dict[tuple[str, str], list[UnpricedEnds]] = {}
        for end in await self._prices.queries.unpriced_ends(_scope(asker), since_ms):
            ends.setdefault((end.model, end.deployment), []).append(end)
        rows = await asyncio.to_thread(
            lambda: [_unpriced(one, ends.get((one.model, one.deployment), []), policy, book) for one in found]
        )
        freshness = FreshnessReply.of(await self._parts.ledger.freshness())
        return UnpricedReply(since_at=print_moment(since_ms), data=rows, freshness=freshness)

    # ------------------------------------------------------------ within

    async def _present(self) -> tuple[Policy | None, PriceVersion | None, PriceBook]:
        """The policy in use, the version in force, and its book: what ships where there is no version yet."""
        policy, in_force = await self._files.current(), await self._prices.store.prices_in_force()
        book = PriceBook() if in_force is None else await asyncio.to_thread(self._gate.book, in_force)
        return policy, in_force, book

    async def _waiting(self) -> tuple[Waiting | None, str]:
        """What of the file waits, and what is wrong with the files: as the watch last saw them, or, where nobody
        watches, as they are."""
        if self._parts.watch_files:
            return self._gate.waiting, self._files.standing.problem
        try:
            await self._files.check()
        except ConfigInvalid as error:
            return None, error.message
        return self._gate.waiting, ""

    def _moment(self, since: str) -> int:
        try:
            return parse_moment_ms(since, self._parts.clock.now_ms())
        except (ValueError, OverflowError) as error:
            raise BadRequest(f"since: {error}", param="since") from error


def _scope(asker: KeyRecord) -> QueryScope:
    return QueryScope(asker.org, team_scope(asker))


def _kinds_of(policy: Policy) -> set[str]:
    return {provider.kind for provider in policy.providers.values()}


def _waiting_reply(waiting: Waiting) -> WaitingReply:
    return WaitingReply(confirm=waiting.version.sha256, models=list(waiting.large))


def _read(body: ImportPrices) -> PriceSource:
    try:
        content = base64.b64decode(body.content, validate=True)
    except (binascii.Error, ValueError):
        raise BadRequest("content must be a file in base64.", param="content") from None
    if not content:
        raise BadRequest("Send a file's content, or `shipped`: true.", param="content")
    if len(content) > MOST_PACKED_BYTES:
        raise BadRequest(f"The file is larger than {MOST_PACKED_BYTES} bytes; compress it.", param="content")
    return read_source(body.name, content)


def _routed(policy: Policy) -> frozenset[tuple[str, str]]:
    """(name, deployment) of every route that is neither a wildcard nor an alias."""
    return frozenset(
        (route.name, deployment.id)
        for route in policy.models.values()
        for deployment in route.deployments
        if not route.alias_of
    )


def _key(one: UsedModel, policy: Policy | None) -> str:
    key = None if policy is None else price_key(policy, one.deployment)
    return key or one.deployment


def _coverage(one: UsedModel, policy: Policy | None, book: PriceBook) -> CoverageRow:
    key = _key(one, policy)
    sheet = sheet_in_force(policy, book, key)
    state, reason = state_of(book, key, sheet)
    return CoverageRow(
        model=one.model,
        deployment=one.deployment,
        priced_as=key,
        routed=policy is not None and one.model in policy.models,
        state=state,
        reason=reason,
        sources=sorted({row.source for row in sheet.rows}) if sheet is not None else [],
        calls=one.calls,
        unpriced_calls=one.unpriced_calls,
    )


def _unpriced(one: UsedModel, ends: list[UnpricedEnds], policy: Policy | None, book: PriceBook) -> UnpricedRow:
    key = _key(one, policy)
    reason = (
        why_of_calls(book, key, sheet_in_force(policy, book, key)) if one.deployment else "no deployment was planned"
    )
    reasons: Counter[str] = Counter()
    for end in ends:
        reasons[why_of_ends(end, reason)] += end.attempts
    return UnpricedRow(
        model=one.model,
        deployment=one.deployment,
        reason=reason,
        reasons=[UnpricedReason(reason=text, attempts=attempts) for text, attempts in reasons.most_common()],
        calls=one.unpriced_calls,
        first_at=print_moment(one.first_ms),
        last_at=print_moment(one.last_ms),
    )
