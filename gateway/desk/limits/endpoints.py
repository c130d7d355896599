"""Limits over HTTP: listed, made, changed, increased for a time, suspended, removed, explained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated

import msgspec
from fastapi import Query, Response

from gateway.core.caller import KeyRecord, Permission, team_scope
from gateway.core.errors import BadRequest, NotFound
from gateway.core.limit_admin import LimitView
from gateway.core.limits import EACH, Limit, Suspension
from gateway.desk.commit import publish
from gateway.desk.errors import ManagedByFile
from gateway.desk.guard import Asker, Replies, Row
from gateway.desk.keys import visible_key
from gateway.desk.limits.explain import Asked, explain, present_policy
from gateway.desk.limits.file import downgrade_faults, routed_faults
from gateway.desk.limits.shapes import (
    ChangeLimit,
    CreateLimit,
    ExplainReply,
    IncreaseLimit,
    LimitList,
    LimitMembers,
    LimitRemoved,
    LimitWritten,
    SuspendLimits,
    SuspensionList,
    SuspensionMembers,
    SuspensionWritten,
)
from gateway.desk.moments import parse_duration_s
from gateway.desk.parts import DeskParts
from gateway.desk.shapes import Applied
from gateway.limits.scope import Scope
from gateway.limits.text import parse_limit, write_limit
from gateway.limits.written import Mistake, read_amount, read_limit, read_scope, read_until, write_scope

_TAG = "Limits"
_BASE = "/admin/v1/limits"
_NO_END = "none"


class LimitDesk:
    """The endpoints. A limit is owned by a file or by SQL; of another org, it does not exist here."""

    def __init__(self, parts: DeskParts) -> None:
        self._parts = parts
        self._config = parts.config

    def rows(self) -> list[Row]:
        read, write = Permission.READ_KEYS, Permission.WRITE_LIMITS
        pending: Replies = {202: {"description": "Committed; workers have not all acknowledged it yet."}}
        one, lifted = f"{_BASE}/{{id}}", "/admin/v1/suspensions"

        def row(method: str, path: str, endpoint: object, summary: str, reply: object, status: int = 200) -> Row:
            permission = read if method == "GET" else write
            also = {} if method == "GET" else pending
            return Row(method, path, permission, endpoint, summary, _TAG, status, reply, also)  # type: ignore[arg-type]

        return [
            row("GET", _BASE, self.listing, "List limits", LimitList),
            row("POST", _BASE, self.create, "Make a limit", LimitWritten, 201),
            row("GET", one, self.show, "Show a limit", LimitMembers),
            row("PATCH", one, self.change, "Change a limit", LimitWritten),
            row("DELETE", one, self.remove, "Remove a limit", LimitRemoved),
            row("POST", f"{one}/increase", self.increase, "Allow more for a time", LimitWritten),
            row("GET", lifted, self.suspensions, "List suspensions", SuspensionList),
            row("POST", lifted, self.suspend, "Let limits refuse nothing for a time", SuspensionWritten, 201),
            row("DELETE", f"{lifted}/{{id}}", self.end_suspension, "End a suspension now", LimitRemoved),
            Row(
                "GET",
                "/admin/v1/budgets/explain",
                Permission.READ_SPEND,
                self.explain,
                "Every limit that applies to a key",
                _TAG,
                reply=ExplainReply,
            ),
        ]

    # ------------------------------------------------------------ read

    async def listing(self, asker: Asker) -> LimitList:
        of_files = [LimitMembers.of_file(limit) for limit in await self._of_files() if _concerns(limit, asker)]
        of_sql = [LimitMembers.of_sql(view) for view in await self._config.limits(asker.org)]
        own = team_scope(asker)
        return LimitList(data=[*of_files, *(one for one in of_sql if own in (None, one.scope.get("team", own)))])

    async def show(self, asker: Asker, id: str) -> LimitMembers:
        for limit in await self._of_files():
            if limit.id == id and _concerns(limit, asker):
                return LimitMembers.of_file(limit)
        view = await self._config.limit(asker.org, id)
        if not _concerns(view.limit, asker):
            raise _missing(id)
        return LimitMembers.of_sql(view)

    async def explain(
        self,
        asker: Asker,
        key: Annotated[str, Query(max_length=64, description="The key's id.")],
        user: Annotated[str, Query(max_length=256)] = "",
        session: Annotated[str, Query(max_length=256)] = "",
        model: Annotated[str, Query(max_length=256)] = "",
        deployment: Annotated[str, Query(max_length=320, description="provider/model")] = "",
        tag: Annotated[list[str] | None, Query(max_length=16, description="name=value")] = None,
    ) -> ExplainReply:
        view = await visible_key(self._config, asker, key)
        record = KeyRecord(
            view.key_id,
            view.name,
            view.org,
            view.team,
            view.role,
            (),
            tags=tuple(view.tags.items()),
            limits=view.limits,
        )
        tags = tuple(_tag(text) for text in tag or ())
        return await explain(self._parts, record, Asked(user, session, tags, model, deployment))

    # ------------------------------------------------------------ write

    async def create(self, asker: Asker, response: Response, body: CreateLimit) -> LimitWritten:
        name = body.name or ""
        if name:
            await self._refuse_file_owned(name)
        with _mistakes():
            members = {**body.members(), "scope": _in_org(body.scope, asker.org)}
            limit = read_limit("", members, origin="sql", name=name)
        await self._check_scope(asker, limit.scope)
        await self._check_downgrade(limit)
        view, revision = await self._config.create_limit(asker.org, limit, actor=asker.key_id)
        return await self._written(view, revision, response)

    async def change(self, asker: Asker, response: Response, id: str, body: ChangeLimit) -> LimitWritten:
        before = await self._own(asker, id)
        given = body.model_dump(exclude_none=True)
        if body.name:
            await self._refuse_file_owned(body.name)
        if body.limit is not None:
            _check_same_counters(before, body.limit)
        with _mistakes():
            after = read_limit(before.id, _merged(before, given), origin="sql", name=body.name or before.name)
        after = msgspec.structs.replace(
            after, increase=before.increase, increase_until_ms=before.increase_until_ms, scope=before.scope
        )
        await self._check_downgrade(after)
        view, revision = await self._config.replace_limit(asker.org, after, actor=asker.key_id)
        return await self._written(view, revision, response)

    async def increase(self, asker: Asker, response: Response, id: str, body: IncreaseLimit) -> LimitWritten:
        before = await self._own(asker, id)
        now_ms = self._parts.clock.now_ms()
        by, until_ms = 0, 0
        if body.by != _NO_END:
            if (body.until is None) == (body.lasts is None):
                raise BadRequest(
                    "Say when the increase ends: either `until` a time, or `lasts` so long.", param="until"
                )
            with _mistakes():
                by, until_ms = read_amount(body.by, before.unit), _moment_ms(body, now_ms)
            if until_ms <= now_ms:
                raise BadRequest("The increase would be over already.", param="until")
        after = msgspec.structs.replace(before, increase=by, increase_until_ms=until_ms)
        view, revision = await self._config.replace_limit(asker.org, after, actor=asker.key_id)
        return await self._written(view, revision, response)

    async def remove(self, asker: Asker, response: Response, id: str) -> LimitRemoved:
        limit = await self._own(asker, id)
        revision = await self._config.remove_limit(asker.org, limit.id, actor=asker.key_id)
        return await self._gone(limit.id, revision, response)

    # ------------------------------------------------------------ suspensions

    async def suspensions(self, asker: Asker) -> SuspensionList:
        now_ms = self._parts.clock.now_ms()
        found = await self._config.suspensions(asker.org)
        return SuspensionList(data=[SuspensionMembers.of(one, now_ms) for one in found])

    async def suspend(self, asker: Asker, response: Response, body: SuspendLimits) -> SuspensionWritten:
        now_ms = self._parts.clock.now_ms()
        if not body.scope and body.limit is None:
            raise BadRequest(
                "Name a scope or a limit: nothing else is worth a suspension of everything.", param="scope"
            )
        limit_id = "" if body.limit is None else (await self._anyones(asker, body.limit)).id
        with _mistakes():
            scope = read_scope(_in_org(body.scope, asker.org))
        await self._check_scope(asker, scope)
        suspension = Suspension(
            id="",
            scope=scope,
            until_ms=now_ms + parse_duration_s(body.lasts) * 1000,
            reason=body.reason,
            actor=asker.key_id,
            created_ms=now_ms,
            limit_id=limit_id,
        )
        made, revision = await self._config.suspend(asker.org, suspension)
        state = await self._published(revision, response)
        return SuspensionWritten(suspension=SuspensionMembers.of(made, now_ms), revision=revision, state=state)

    async def end_suspension(self, asker: Asker, response: Response, id: str) -> LimitRemoved:
        revision = await self._config.end_suspension(asker.org, id, actor=asker.key_id)
        return await self._gone(id, revision, response)

    # ------------------------------------------------------------ within

    async def _of_files(self) -> tuple[Limit, ...]:
        return (await present_policy(self._parts)).limits

    async def _refuse_file_owned(self, id: str) -> None:
        for limit in await self._of_files():
            if limit.id == id:
                file, _, line = limit.origin.rpartition(":")
                raise ManagedByFile(
                    f"The limit {id} is in {file}, line {line}: change it there. It is read again when it changes.",
                    extra={"file": file, "line": int(line)},
                )

    async def _own(self, asker: KeyRecord, id: str) -> Limit:
        """A limit that SQL owns. Raises ManagedByFile, NotFound."""
        await self._refuse_file_owned(id)
        return (await self._config.limit(asker.org, id)).limit

    async def _anyones(self, asker: KeyRecord, id: str) -> Limit:
        for limit in await self._of_files():
            if limit.id == id and _concerns(limit, asker):
                return limit
        return (await self._config.limit(asker.org, id)).limit

    async def _check_scope(self, asker: KeyRecord, scope: Scope) -> None:
        """A limit or suspension of what is not there would never hold, and nobody would notice."""
        key_id = dict(scope).get("key", EACH)
        if key_id != EACH:
            try:
                await visible_key(self._config, asker, key_id)
            except NotFound:
                raise BadRequest(f"scope: there is no key {key_id[:40]!r}; give its id", param="scope") from None
        policy = await present_policy(self._parts)
        for message, suggestion in routed_faults(scope, policy) if policy.revision else ():
            raise BadRequest(f"scope: {message}. {suggestion}", param="scope")

    async def _check_downgrade(self, limit: Limit) -> None:
        """A limit that goes on with a model that is not there would only refuse, and nobody would notice."""
        policy = await present_policy(self._parts)
        for message, suggestion in downgrade_faults(limit, policy) if policy.revision else ():
            raise BadRequest(f"downgrade_to: {message}. {suggestion}", param="downgrade_to")

    async def _written(self, view: LimitView, revision: int, response: Response) -> LimitWritten:
        state = await self._published(revision, response)
        return LimitWritten(limit=LimitMembers.of_sql(view), revision=revision, state=state)

    async def _gone(self, id: str, revision: int, response: Response) -> LimitRemoved:
        return LimitRemoved(id=id, revision=revision, state=await self._published(revision, response))

    async def _published(self, revision: int, response: Response) -> Applied:
        if await publish(self._parts, revision):
            return "applied"
        response.status_code = 202
        return "pending"


def _concerns(limit: Limit, asker: KeyRecord) -> bool:
    """Whether a limit can hold for the asker's org, and for its team where that is all it may see."""
    scope = dict(limit.scope)
    own = team_scope(asker)
    return scope.get("org", EACH) in (EACH, asker.org) and (own is None or scope.get("team", EACH) in (EACH, own))


def _in_org(scope: Mapping[str, str], org: str) -> dict[str, str]:
    """A scope within the asker's org: whatever SQL owns is some org's. What it implies without the org, it still does:
    users are counted within each key unless the asker names a wider owner. Raises Mistake."""
    if scope.get("org", org) != org:
        raise Mistake("scope", "a limit is about the org of whoever makes it")
    return {**write_scope(read_scope(scope)), "org": org}


def _check_same_counters(before: Limit, text: str) -> None:
    try:
        after = parse_limit(text)
    except ValueError as error:
        raise BadRequest(f"limit: {error}", param="limit") from None
    if (after.unit, after.window) != (before.unit, before.window):
        raise BadRequest(
            "limit: a limit keeps its unit and window, for its counters are theirs. Make another one and remove this.",
            param="limit",
        )


def _merged(before: Limit, given: Mapping[str, object]) -> dict[str, object]:
    """The members of a limit with some of them changed, as `read_limit` takes them."""
    members: dict[str, object] = {
        "limit": write_limit(before),
        "scope": write_scope(before.scope),
        "on_exceed": before.on_exceed.value,
        "hold": before.hold.value,
        "alerts": list(before.alerts),
    }
    if before.max_values:
        members["max_values"] = before.max_values
    if given.get("on_exceed", before.on_exceed.value) == before.on_exceed.value:
        kept = {"downgrade_to": before.downgrade_to, "min_output": before.min_output}
        members |= {name: value for name, value in kept.items() if value}
    return members | {name: value for name, value in given.items() if name != "name"}


def _moment_ms(body: IncreaseLimit, now_ms: int) -> int:
    if body.until is not None:
        return read_until(body.until)
    try:
        return now_ms + parse_duration_s(body.lasts or "") * 1000
    except ValueError as error:
        raise BadRequest(f"lasts: {error}", param="lasts") from None


def _tag(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise BadRequest(f"tag: {text[:60]!r} is not like name=value", param="tag")
    return name, value


def _missing(id: str) -> NotFound:
    return NotFound(f"There is no limit {id[:60]!r}. `faregate limits list` shows what there is.")


@contextmanager
def _mistakes() -> Iterator[None]:
    """A mistake in a limit's members is the asker's to mend."""
    try:
        yield
    except Mistake as mistake:
        raise BadRequest(str(mistake), param=mistake.member) from None
