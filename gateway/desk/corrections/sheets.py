"""Which prices an attempt would be charged by now: those in force, effective when it was held."""

from __future__ import annotations

import asyncio

from gateway.core.admin import ConfigStore
from gateway.core.charge import Charge, PriceSheet
from gateway.core.config import Policy
from gateway.core.corrections import PostedAttempt
from gateway.desk.parts import PriceParts
from gateway.ledger.rerate import Left, usage_of
from gateway.pricing.arithmetic import charge
from gateway.pricing.book import PriceBook
from gateway.pricing.vendors import EVERY_MODEL
from gateway.pricing.versions import OpenSources, book_of


class SheetsInForce:
    """The published price book of this moment, with its whole history; without one, the prices of the policy in use.

    The kind of a provider, its region and the name a deployment is priced as come from the policy in use, and where
    that does not know the provider or the deployment any more from the one the attempt was made under.
    """

    def __init__(self, config: ConfigStore, policy: Policy | None, book: PriceBook | None, version: int = 0) -> None:
        self._config = config
        self.version = version
        self._policy = policy
        self._book = book
        self._sheets: dict[tuple[str, str], PriceSheet | None] = {}
        self._policies: dict[int, Policy | None] = {}
        self._names = _names_of(policy)
        self._names_then: dict[int, dict[str, str]] = {}

    @classmethod
    async def now(cls, config: ConfigStore, prices: PriceParts | None, opened: OpenSources) -> SheetsInForce:
        """Raises StoreUnavailable, ConfigInvalid for a version that cannot be read."""
        snapshot = await config.snapshot()
        version = None if prices is None else await prices.store.prices_in_force()
        book = None if version is None else await asyncio.to_thread(book_of, version, opened)
        number = 0 if version is None else version.number
        return cls(config, None if snapshot is None else snapshot.policy, book, number)

    async def charge(self, attempt: PostedAttempt) -> Charge | Left:
        """What the attempt costs by them."""
        provider = None if self._policy is None else self._policy.providers.get(attempt.provider)
        if provider is None:
            then = await self._policy_of(attempt.config_revision)
            provider = None if then is None else then.providers.get(attempt.provider)
        if provider is None:
            return Left.NO_PRICE
        kind = provider.kind
        sheet = await self._sheet(kind, await self._name_of(attempt))
        if sheet is None:
            return Left.NO_PRICE
        if not attempt.takes_known and any(uplift.by_reply for uplift in sheet.uplifts):
            return Left.NOT_IN_DETAIL
        for label in {line.part for line in attempt.lines if line.part}:
            await self._sheet(kind, label)
        known = {model: found for (of_kind, model), found in self._sheets.items() if of_kind == kind}
        usage = usage_of(attempt, lambda label: known.get(label) is not None)
        if isinstance(usage, Left):
            return usage
        return charge(usage, sheet, attempt.held_ms, region=provider.region, sheet_of=known.get)

    async def _name_of(self, attempt: PostedAttempt) -> str:
        """The model that the attempt's deployment is priced as: its own, unless routes.yaml says, or said, another."""
        names = self._names
        if attempt.deployment not in names:
            revision = attempt.config_revision
            if revision not in self._names_then:
                self._names_then[revision] = _names_of(await self._policy_of(revision))
            names = self._names_then[revision]
        return names.get(attempt.deployment) or attempt.model

    async def _policy_of(self, revision: int) -> Policy | None:
        if revision not in self._policies:
            self._policies[revision] = await self._config.policy_at(revision)
        return self._policies[revision]

    async def _sheet(self, kind: str, model: str) -> PriceSheet | None:
        key = (kind, model)
        if key not in self._sheets:
            self._sheets[key] = await asyncio.to_thread(self._find, kind, model)
        return self._sheets[key]

    def _find(self, kind: str, model: str) -> PriceSheet | None:
        if self._book is not None:
            return self._book.sheet(kind, model)
        sheets = {} if self._policy is None else self._policy.sheets
        return sheets.get(f"{kind}/{model}") or sheets.get(f"{kind}/{EVERY_MODEL}")


def _names_of(policy: Policy | None) -> dict[str, str]:
    """What each deployment of a policy is priced as; empty: as its own model."""
    routes = () if policy is None else (*policy.models.values(), *policy.wildcards)
    return {one.id: one.priced_as for route in routes for one in route.deployments}
