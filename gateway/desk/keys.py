"""Keys over HTTP: made, listed, changed, paused, revoked, rotated, imported."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import Body, Query, Response

from gateway.core.admin import ConfigStore, Created, KeyView
from gateway.core.caller import KeyRecord, Permission, team_scope
from gateway.core.errors import NotFound
from gateway.desk.commit import publish
from gateway.desk.guard import Asker, Replies, Row
from gateway.desk.parts import DeskParts
from gateway.desk.shapes import CreateKey, ImportKey, KeyList, KeyMembers, KeyReply, RotateKey, UpdateKey

_KEY_ID = re.compile(r"^[A-Za-z0-9_]{1,64}$")
_TAG = "Keys"


class KeyDesk:
    """The endpoints. A key of another org, or of another team for a team's key, does not exist here."""

    def __init__(self, parts: DeskParts) -> None:
        self._parts = parts
        self._config = parts.config

    def rows(self) -> list[Row]:
        read, write = Permission.READ_KEYS, Permission.WRITE_KEYS
        base = "/admin/v1/keys"
        pending: Replies = {
            202: {"model": KeyReply, "description": "Committed; workers have not all acknowledged it yet."}
        }
        made: Replies = {**pending, 200: {"model": KeyReply, "description": "It existed already."}}

        def act(action: str, endpoint: object, summary: str) -> Row:
            return Row("POST", f"{base}/{{id}}/{action}", write, endpoint, summary, _TAG, reply=KeyReply, also=pending)  # type: ignore[arg-type]

        return [
            Row("POST", base, write, self.create, "Make a key", _TAG, status=201, reply=KeyReply, also=made),
            Row("GET", base, read, self.listing, "List keys", _TAG, reply=KeyList),
            Row(
                "POST",
                f"{base}/import",
                write,
                self.take_over,
                "Import a key by its SHA-256",
                _TAG,
                201,
                KeyReply,
                pending,
            ),
            Row("GET", f"{base}/{{id}}", read, self.show, "Show a key", _TAG, reply=KeyMembers),
            Row("PATCH", f"{base}/{{id}}", write, self.update, "Change a key", _TAG, reply=KeyReply, also=pending),
            act("pause", self.pause, "Refuse its calls for now"),
            act("resume", self.resume, "Take its calls again"),
            act("revoke", self.revoke, "End a key for good"),
            act("rotate", self.rotate, "Give a key a new secret"),
        ]

    async def create(self, asker: Asker, response: Response, body: CreateKey) -> KeyReply:
        change = body.change(self._parts.clock.now_ms(), asker.org)
        created = await self._config.create_key(change, actor=asker.key_id, if_absent=body.if_absent)
        if not created.secret:
            response.status_code = 200
            return KeyReply(key=KeyMembers.of(created.view), revision=created.revision, state="applied")
        return await self._made(created, response)

    async def take_over(self, asker: Asker, response: Response, body: ImportKey) -> KeyReply:
        change = body.change(self._parts.clock.now_ms(), asker.org)
        created = await self._config.import_key(body.sha256.lower(), change, actor=asker.key_id)
        return await self._made(created, response)

    async def listing(
        self,
        asker: Asker,
        team: Annotated[str | None, Query(max_length=128)] = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        offset: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
    ) -> KeyList:
        own = team_scope(asker)
        if own is not None and team not in (None, own):
            raise NotFound(f"There is no team {team!r} here.")
        views = await self._config.keys(asker.org, team if own is None else own, limit + 1, offset)
        return KeyList(data=[KeyMembers.of(view) for view in views[:limit]], has_more=len(views) > limit)

    async def show(self, asker: Asker, id: str) -> KeyMembers:
        return KeyMembers.of(await self._visible(asker, id))

    async def update(self, asker: Asker, response: Response, id: str, body: UpdateKey) -> KeyReply:
        await self._visible(asker, id)
        view, revision = await self._config.update_key(id, body.change(self._parts.clock.now_ms()), actor=asker.key_id)
        return await self._changed(view, revision, response)

    async def pause(self, asker: Asker, response: Response, id: str) -> KeyReply:
        await self._visible(asker, id)
        view, revision = await self._config.set_paused(id, True, actor=asker.key_id)
        return await self._changed(view, revision, response)

    async def resume(self, asker: Asker, response: Response, id: str) -> KeyReply:
        await self._visible(asker, id)
        view, revision = await self._config.set_paused(id, False, actor=asker.key_id)
        return await self._changed(view, revision, response)

    async def revoke(self, asker: Asker, response: Response, id: str) -> KeyReply:
        await self._visible(asker, id)
        view, revision = await self._config.revoke_key(id, actor=asker.key_id)
        return await self._changed(view, revision, response)

    async def rotate(
        self, asker: Asker, response: Response, id: str, body: Annotated[RotateKey | None, Body()] = None
    ) -> KeyReply:
        await self._visible(asker, id)
        overlap_s = (body or RotateKey()).overlap_s
        created = await self._config.rotate_key(id, overlap_s, actor=asker.key_id)
        reply = await self._changed(created.view, created.revision, response)
        return reply.model_copy(update={"secret": created.secret})

    async def _visible(self, asker: KeyRecord, key_id: str) -> KeyView:
        return await visible_key(self._config, asker, key_id)

    async def _made(self, created: Created, response: Response) -> KeyReply:
        reply = await self._changed(created.view, created.revision, response)
        return reply.model_copy(update={"secret": created.secret or None, "created": True})

    async def _changed(self, view: KeyView, revision: int, response: Response) -> KeyReply:
        applied = await publish(self._parts, revision)
        if not applied:
            response.status_code = 202
        return KeyReply(key=KeyMembers.of(view), revision=revision, state="applied" if applied else "pending")


async def visible_key(config: ConfigStore, asker: KeyRecord, key_id: str) -> KeyView:
    """The key, if it is there for this asker. Raises NotFound, the same for one that is somebody else's."""
    missing = NotFound("There is no such key. `faregate keys list` shows what there is.")
    if not _KEY_ID.match(key_id):
        raise missing
    try:
        view = await config.key(key_id)
    except NotFound:
        raise missing from None
    own = team_scope(asker)
    if view.org != asker.org or (own is not None and view.team != own):
        raise missing
    return view
