"""Configuration over HTTP: what is in use, what the files would become, the log of changes, teams."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query, Response

from gateway.core.admin import ConfigRow
from gateway.core.caller import KeyRecord, Permission, team_scope
from gateway.core.config import Policy
from gateway.core.errors import NotFound
from gateway.desk.guard import Asker, Replies, Row
from gateway.desk.moments import print_moment
from gateway.desk.parts import DeskParts
from gateway.desk.policy_files import PolicyFiles
from gateway.desk.shapes import ConfigReply, LogReply, LogRow, ReloadReply, TeamList, ValidReply

_TAG = "Configuration"
_OF_LIMITS = ("lim_", "sus_")


class ConfigDesk:
    def __init__(self, parts: DeskParts, files: PolicyFiles) -> None:
        self._parts = parts
        self._files = files

    def rows(self) -> list[Row]:
        read, write = Permission.READ_CONFIG, Permission.WRITE_CONFIG
        base = "/admin/v1/config"
        pending: Replies = {
            202: {"model": ReloadReply, "description": "Stored; workers have not all acknowledged it yet."}
        }
        return [
            Row("GET", base, read, self.show, "The configuration in use", _TAG, reply=ConfigReply),
            Row(
                "POST",
                f"{base}/validate",
                write,
                self.validate,
                "Compile the files, change nothing",
                _TAG,
                reply=ValidReply,
            ),
            Row(
                "POST",
                f"{base}/reload",
                write,
                self.reload,
                "Compile the files and use them",
                _TAG,
                200,
                ReloadReply,
                pending,
            ),
            Row("GET", "/admin/v1/teams", Permission.READ_KEYS, self.teams, "Teams of this org", _TAG, reply=TeamList),
            Row(
                "GET",
                "/admin/v1/log",
                Permission.READ_AUDIT,
                self.log,
                "Changes of configuration",
                _TAG,
                reply=LogReply,
            ),
        ]

    async def show(self) -> ConfigReply:
        policy = await self._files.current()
        standing = self._files.standing
        models, providers = ([], []) if policy is None else _names(policy)
        return ConfigReply(
            revision=None if policy is None else policy.revision,
            hash=None if policy is None else policy.hash,
            models=models,
            providers=providers,
            problem=standing.problem or None,
            problem_at=_at(standing.problem_ms),
            checked_at=_at(standing.checked_ms),
        )

    async def validate(self) -> ValidReply:
        compiled = await self._files.check()
        present = await self._files.current()
        models, providers = _names(compiled)
        changed = present is None or present.hash != compiled.hash
        return ValidReply(hash=compiled.hash, changed=changed, models=models, providers=providers)

    async def reload(self, asker: Asker, response: Response) -> ReloadReply:
        done = await self._files.reload(asker.key_id)
        if not done.applied:
            response.status_code = 202
        state = "applied" if done.applied else "pending"
        return ReloadReply(revision=done.policy.revision, hash=done.policy.hash, changed=done.changed, state=state)

    async def teams(self, asker: Asker) -> TeamList:
        own = team_scope(asker)
        return TeamList(data=await self._parts.config.teams(asker.org) if own is None else [own])

    async def log(self, asker: Asker, limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> LogReply:
        rows = await self._parts.config.log(limit)
        orgs: dict[str, bool] = {}
        return LogReply(data=[LogRow.of(row) for row in rows if await self._is_ours(asker, row, orgs)])

    async def _is_ours(self, asker: KeyRecord, row: ConfigRow, known: dict[str, bool]) -> bool:
        """Rows of another org's keys and limits are left out; what is about neither (the policy) concerns every org."""
        if row.subject not in known and row.subject.startswith(_OF_LIMITS):
            known[row.subject] = await self._parts.config.org_of_limit(row.subject) == asker.org
        elif row.subject not in known:
            try:
                view = await self._parts.config.key(row.subject)
            except NotFound:
                known[row.subject] = True
            else:
                known[row.subject] = view.org == asker.org
        return known[row.subject]


def _names(policy: Policy) -> tuple[list[str], list[str]]:
    return sorted([*policy.models, *(route.name for route in policy.wildcards)]), sorted(policy.providers)


def _at(ms: int) -> str | None:
    return print_moment(ms) if ms else None
