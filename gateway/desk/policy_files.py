"""The policy files: watched, compiled, stored by hash, published. A file with a mistake never replaces a good one."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from gateway.core.config import Policy
from gateway.core.errors import ConfigInvalid, Conflict, StoreUnavailable
from gateway.desk.alerts.file import with_alerts
from gateway.desk.commit import publish
from gateway.desk.limits.file import with_limits
from gateway.desk.parts import DeskParts
from gateway.desk.prices.gate import FILES, Choice, PriceGate
from gateway.vault.policy_files import Seen, changed

_LOG = logging.getLogger("faregate.desk")
_LOOK_S = 0.5
_TURNS = 4
"""How often a reload begins again because another desk has published prices meanwhile, before it gives up."""


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
        self.prices = None if parts.prices is None else PriceGate(parts, parts.prices)

    def ask(self) -> None:
        """Has `watch` read the files again at its next look, changed or not: what SIGHUP does."""
        self._asked = True

    async def check(self) -> Policy:
        """Compiles without storing. Raises ConfigInvalid, StoreUnavailable."""
        return (await self._prepared(None))[1]

    async def _prepared(self, confirm: str | None) -> tuple[Choice | None, Policy]:
        """The prices to use, and the policy compiled with them. What is wrong with the files is told, all of it,
        whether SQL answers or not. Raises ConfigInvalid, StoreUnavailable; with `confirm` Conflict."""
        try:
            choice = await self._choose(confirm)
        except StoreUnavailable:
            await asyncio.to_thread(self._compiled, None)
            raise
        except ConfigInvalid as error:
            raise await asyncio.to_thread(self._with_others, error) from None
        return choice, await asyncio.to_thread(self._compiled, choice)

    def _compiled(self, choice: Choice | None) -> Policy:
        parts = self._parts
        folder = parts.settings.config_dir
        if choice is None or parts.prices is None:
            policy = parts.compile_policy()
        else:
            policy = parts.prices.compile_with(choice.sheets)
        return with_alerts(with_limits(policy, folder), folder)

    def _with_others(self, error: ConfigInvalid) -> ConfigInvalid:
        """What is wrong with prices, and what is wrong with the other files besides."""
        prices, folder = self._parts.prices, self._parts.settings.config_dir
        if prices is None:
            return error
        try:
            with_alerts(with_limits(prices.compile_with(lambda _kind, _models: {}), folder), folder)
        except ConfigInvalid as other:
            told = [problem for one in (error, other) for problem in one.extra.get("problems", ())]  # type: ignore[attr-defined]
            return ConfigInvalid(f"{error.message}\n{other.message}", extra={"problems": told})
        return error

    async def _choose(self, confirm: str | None) -> Choice | None:
        """The prices to compile with; None where there is no price book."""
        gate, prices = self.prices, self._parts.prices
        if gate is None or prices is None:
            return None
        policy, in_force = await self.current(), await prices.store.prices_in_force()
        draft = None if confirm is None else await prices.store.price_draft()
        used = await gate.used(policy)
        return await asyncio.to_thread(gate.choose, policy, in_force, used, draft=draft, confirm=confirm)

    async def current(self) -> Policy | None:
        """The policy in use, or None before the first. Raises StoreUnavailable."""
        snapshot = await self._parts.config.snapshot()
        return None if snapshot is None else snapshot.policy

    async def reload(self, actor: str, confirm: str | None = None) -> Reloaded:
        """Compiles, stores and publishes. With `confirm` prices that wait are published, too: a draft, or a change of
        the file; it is the digest of a change that somebody has seen, or empty for one that needs no yes.

        Raises ConfigInvalid (and keeps it as the standing problem), StoreUnavailable; with `confirm` Conflict."""
        async with self._turn:
            for _ in range(_TURNS):
                try:
                    return await self._reload(actor, confirm)
                except Conflict:
                    if confirm is not None:
                        raise  # a person has to look again
            return await self._reload(actor, confirm)

    async def _reload(self, actor: str, confirm: str | None) -> Reloaded:
        """One try. Raises Conflict, too, when another desk has published prices while this one compiled: the policy
        with the old ones is never stored after them."""
        try:
            choice, compiled = await self._prepared(confirm)
        except ConfigInvalid as error:
            self._failed(error)
            raise
        prices = None if choice is None else await self._save_prices(choice, actor)
        known = await self.current()
        stored = await self._parts.config.save_policy(compiled, actor=actor, prices=prices)
        self._recovered()
        if known is not None and known.revision == stored.revision:
            return Reloaded(stored, changed=False, applied=True)
        changed = known is None or known.hash != stored.hash
        if changed:
            _LOG.info("configuration revision %d (%s) by %s", stored.revision, stored.hash[:12], actor)
        applied = await publish(self._parts, stored.revision)
        return Reloaded(stored, changed=changed, applied=applied)

    async def _save_prices(self, choice: Choice, actor: str) -> int:
        """Stores a new version of the price book before the policy that is made of it. The version that it is made
        of."""
        prices = self._parts.prices
        if prices is None or choice.publish is None:
            return choice.after
        made = await prices.store.publish_prices(choice.publish, actor=actor, after=choice.after)
        _LOG.info("prices version %d (%s) by %s", made.number, made.sha256[:12], actor)
        return made.number

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
            await self.reload(FILES)
        except ConfigInvalid:
            return True  # logged and kept as the standing problem
        except StoreUnavailable as error:
            self._not_stored(error)
            return False
        except Conflict:
            return False  # another desk has just published prices: look again
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
