"""The policy files: watched, compiled, stored by hash, published. A file with a mistake never replaces a good one."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from gateway.core.config import Policy
from gateway.core.errors import ConfigInvalid, StoreUnavailable
from gateway.desk.commit import publish
from gateway.desk.limits_file import with_limits
from gateway.desk.parts import DeskParts
from gateway.vault.policy_files import Seen, changed

_LOG = logging.getLogger("faregate.desk")
_ACTOR = "files"
_LOOK_S = 0.5


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of the files: when they were last compiled, and what is wrong with them now (empty: nothing)."""

    checked_ms: int = 0
    problem: str = ""
    problem_ms: int = 0


@dataclass(frozen=True, slots=True)
class Reloaded:
    policy: Policy
    changed: bool
    applied: bool


class PolicyFiles:
    """Compiles on demand and on change; one at a time, so that revisions follow the order of the edits."""

    def __init__(self, parts: DeskParts) -> None:
        self._parts = parts
        self._turn = asyncio.Lock()
        self._asked = False
        self.standing = Standing()

    def ask(self) -> None:
        """Has `watch` read the files again at its next look, changed or not: what SIGHUP does."""
        self._asked = True

    async def check(self) -> Policy:
        """Compiles without storing. Raises ConfigInvalid."""
        return await asyncio.to_thread(self._compiled)

    def _compiled(self) -> Policy:
        return with_limits(self._parts.compile_policy(), self._parts.settings.config_dir)

    async def current(self) -> Policy | None:
        """The policy in use, or None before the first. Raises StoreUnavailable."""
        snapshot = await self._parts.config.snapshot()
        return None if snapshot is None else snapshot.policy

    async def reload(self, actor: str) -> Reloaded:
        """Compiles, stores and publishes. Raises ConfigInvalid (and keeps it as the standing problem),
        StoreUnavailable."""
        async with self._turn:
            try:
                compiled = await self.check()
            except ConfigInvalid as error:
                self._failed(error)
                raise
            known = await self.current()
            if known is not None and known.hash == compiled.hash:
                self._recovered()
                return Reloaded(known, changed=False, applied=True)
            stored = await self._parts.config.save_policy(compiled, actor=actor)
            self._recovered()
            _LOG.info("configuration revision %d (%s) by %s", stored.revision, stored.hash[:12], actor)
            applied = await publish(self._parts, stored.revision)
            return Reloaded(stored, changed=True, applied=applied)

    async def watch(self, stop: asyncio.Event) -> None:
        """Reloads now, and on every change of the folder until `stop`. What SQL could not take is tried again."""
        seen: dict[str, Seen] = {}
        due = True
        while not stop.is_set():
            names, seen = await self._look(seen)
            if names or due or self._asked:
                self._asked = False
                due = not await self._reload_quietly()
            await _sleep(stop, _LOOK_S)

    async def _look(self, before: dict[str, Seen]) -> tuple[set[str], dict[str, Seen]]:
        """What changed since. A folder that cannot be looked at counts as changed: compiling it says what is wrong."""
        now_ns = self._parts.clock.now_ms() * 1_000_000
        try:
            return await asyncio.to_thread(changed, self._parts.settings.config_dir, before, now_ns)
        except (ConfigInvalid, OSError):
            return {"?"}, before

    async def _reload_quietly(self) -> bool:
        """False when it is worth another try with the same files."""
        try:
            await self.reload(_ACTOR)
        except ConfigInvalid:
            return True  # logged and kept as the standing problem
        except StoreUnavailable as error:
            self._not_stored(error)
            return False
        except Exception:  # noqa: BLE001 - a mistake in a compiler must not end the watch; the last good policy stays
            _LOG.exception("compiling the policy files failed in an unforeseen way; they are not used")
        return True

    def _not_stored(self, error: StoreUnavailable) -> None:
        problem = f"The policy files are valid, but could not be stored: {error.message}"
        if problem != self.standing.problem:
            _LOG.warning("%s", problem)
            now_ms = self._parts.clock.now_ms()
            self.standing = Standing(now_ms, problem, now_ms)

    def _failed(self, error: ConfigInvalid) -> None:
        now_ms = self._parts.clock.now_ms()
        if error.message != self.standing.problem:
            _LOG.error("the policy files are not used: %s", error.message)
            self.standing = Standing(now_ms, error.message, now_ms)
        else:
            self.standing = Standing(now_ms, error.message, self.standing.problem_ms)

    def _recovered(self) -> None:
        if self.standing.problem:
            _LOG.info("the policy files are valid again")
        self.standing = Standing(self._parts.clock.now_ms())


async def _sleep(stop: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return
