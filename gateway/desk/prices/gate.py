"""Which prices are in force, and which wait for a person's yes.

What would be in force is made of the two sources of the version in force (or of a draft, once it is published) and of
`prices.yaml` as it is now. It goes into force by itself unless it moves a rate of a model that is in use by more than
25 %. Then the prices in the compiled policy stay, rate by rate, and the change waits to be published.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from gateway.core.charge import PriceSheet
from gateway.core.config import Policy
from gateway.core.errors import ConfigInvalid, Conflict, StoreUnavailable
from gateway.core.price_admin import MOST_LISTED, PriceDraft, PriceSource, PriceVersion, SourceKind
from gateway.desk.parts import DeskParts, PriceParts
from gateway.desk.prices.file import NOTHING, Written, read_prices
from gateway.pricing.book import PriceBook
from gateway.pricing.moves import BY_REPLY, UPLIFT, Move, moves
from gateway.pricing.sources import bundled_sources
from gateway.pricing.vendors import EVERY_MODEL
from gateway.pricing.versions import OpenSources, book_of, imported_of, make_version, says_imported
from gateway.routing.compile import Sheets
from gateway.routing.plan import sheet_key
from gateway.routing.problems import Problems, invalid
from gateway.routing.resolve import substitute
from gateway.vault.policy_files import load_prices

_LOG = logging.getLogger("faregate.desk")
FILES = "files"
"""Who changes the configuration where the watch does."""
IN_USE_MS = 30 * 24 * 3_600_000
"""A model is in use when the ledger has a call of it in the last 30 days."""
_BOOKS = 4


class MoveUnconfirmed(Conflict):
    """A price of a model in use would move by more than 25 %: a person must say yes to exactly this change. `extra`
    holds what to confirm."""

    code = "price_move_unconfirmed"


class Waiting(NamedTuple):
    """Prices that are not in force: what they would be, and what of models in use they would move."""

    version: PriceVersion
    book: PriceBook
    moves: dict[str, list[Move]]

    @property
    def large(self) -> dict[str, list[Move]]:
        """The moves that want a yes, by `kind/model`."""
        found = {key: [move for move in listed if move.wants_confirmation] for key, listed in self.moves.items()}
        return {key: listed for key, listed in found.items() if listed}


class Choice(NamedTuple):
    """What to compile the policy with. `publish`: a version to store first, as the one that follows `after`; without it
    `after` is the version that the policy is compiled by."""

    sheets: Sheets
    publish: PriceVersion | None
    after: int
    waiting: Waiting | None


def load_written(config_dir: Path, kinds: Iterable[str]) -> tuple[Written, str]:
    """What the folder's `prices.yaml` says, and its text; nothing where there is none. Raises ConfigInvalid that lists
    every problem as `file:line: message. suggestion`."""
    file = load_prices(config_dir)
    if file is None:
        return NOTHING, ""
    problems = Problems(str(file.path))
    written = read_prices(file.text, frozenset(kinds), problems)
    if problems:
        raise invalid(problems.sorted())
    return written, file.text


class PriceGate:
    """Chooses. Its callers take turns; what it does on its own is reading."""

    def __init__(self, parts: DeskParts, prices: PriceParts) -> None:
        self._parts = parts
        self._prices = prices
        self._opened = OpenSources()
        self._books: dict[str, PriceBook] = {}
        self._bundled: tuple[PriceSource, PriceSource] | None = None
        self._told = ""
        self._turn = threading.Lock()
        self.written = NOTHING
        """What the last valid `prices.yaml` said."""
        self.waiting: Waiting | None = None
        """A change of the file that is not in force."""

    def book(self, version: PriceVersion) -> PriceBook:
        """The book of a version with its content; the last few are remembered. For worker threads, several at once."""
        with self._turn:
            self._shipped()  # so that what ships is not read a second time
            book = self._books.pop(version.sha256, None) or book_of(version, self._opened)
            self._books[version.sha256] = book
            if len(self._books) > _BOOKS:
                del self._books[next(iter(self._books))]
        return book

    def bundled(self) -> tuple[PriceSource, PriceSource]:
        """The sources that ship here. For worker threads: the first time takes half a second."""
        with self._turn:
            return self._shipped()

    def _shipped(self) -> tuple[PriceSource, PriceSource]:
        if self._bundled is None:
            self._bundled = bundled_sources()
            self._opened.keep(*self._bundled)
        return self._bundled

    def read_file(self) -> tuple[Written, str]:
        """Raises ConfigInvalid."""
        return load_written(self._parts.settings.config_dir, self._prices.kinds)

    def as_written(self) -> Written:
        """What the file says: as it was last valid, or, where nobody watches it, as it is; nothing if it is not."""
        if self._parts.watch_files:
            return self.written
        try:
            return self.read_file()[0]
        except ConfigInvalid:
            return self.written

    def written_of(self, version: PriceVersion | None) -> Written:
        """What the file said that a version was made with."""
        text = "" if version is None else version.file_text
        return read_prices(text, frozenset(self._prices.kinds), Problems("prices.yaml")) if text else NOTHING

    def candidate(
        self, written: Written, text: str, in_force: PriceVersion | None, draft: PriceDraft | None
    ) -> PriceVersion:
        """What would be in force: with a draft's sources, else with those in force; such as shipped with Faregate are
        renewed with it. What was imported and is, byte for byte, what ships now counts as that."""
        shipped = self.bundled()
        imported: tuple[SourceKind, ...] = ()
        if draft is not None:
            genai, litellm = draft.genai, draft.litellm
            pairs = zip((genai, litellm), shipped, strict=True)
            imported = tuple(source.kind for source, ours in pairs if source.sha256 != ours.sha256)
        elif in_force is None:
            genai, litellm = shipped
        else:
            imported = imported_of(in_force)
            genai = in_force.genai if "genai" in imported else shipped[0]
            litellm = in_force.litellm if "litellm" in imported else shipped[1]
        if in_force is not None and not says_imported(in_force) and imported == imported_of(in_force):
            made = make_version(genai, litellm, written.prices, text)
            if made.sha256 == in_force.sha256:
                return made  # it is what an older version of Faregate has published, and says
        return make_version(genai, litellm, msgspec.structs.replace(written.prices, imported=imported), text)

    def choose(
        self,
        policy: Policy | None,
        in_force: PriceVersion | None,
        used: Iterable[str],
        *,
        draft: PriceDraft | None = None,
        confirm: str | None = None,
    ) -> Choice:
        """What to compile with now. `confirm` is the digest of a change that a person has seen and wants: then nothing
        waits. Raises ConfigInvalid; with `confirm` (also the empty one) MoveUnconfirmed, Conflict."""
        written, text = self.read_file()
        version = self.candidate(written, text, in_force, draft)
        book = self.book(version)
        self.written = written
        known = in_force is not None and in_force.sha256 == version.sha256
        after = 0 if in_force is None else in_force.number
        held = Waiting(version, book, self.moves(policy, book, used))
        agreed = in_force is not None and policy is not None and known and _confirmed(in_force, policy)
        if confirm is not None:
            if known and not held.moves:
                raise Conflict("Nothing waits to be published: the prices in force are what the sources and file say.")
            self._check_confirmed(held, confirm)
            return self._used(book, version, after)
        if not held.large or agreed:
            return self._used(book, None if known else version, after)
        self._waits(held)
        base = book if in_force is None else self.book(in_force)
        return Choice(kept_sheets(policy, base) if policy else base.sheets_for, None, after, held)

    def moves(self, policy: Policy | None, book: PriceBook, used: Iterable[str]) -> dict[str, list[Move]]:
        """What of the prices in a policy the book would move, by `kind/model`; only models that are in use."""
        if policy is None:
            return {}
        now_ms = self._parts.clock.now_ms()
        found: dict[str, list[Move]] = {}
        for key in used:
            kind, _, model = key.partition("/")
            before = policy.sheets.get(key) or policy.sheets.get(f"{kind}/{EVERY_MODEL}")
            if before is None:
                continue
            listed = [move for move in moves(before, book.sheet(kind, model), now_ms) if matters(policy, kind, move)]
            if listed:
                found[key] = listed
        return found

    async def used(self, policy: Policy | None) -> list[str]:
        """The models in use as `kind/model`: those of calls of the last 30 days; where the ledger cannot tell, those
        that a route names, and whatever a wildcard may reach."""
        if policy is None:
            return []
        since_ms = self._parts.clock.now_ms() - IN_USE_MS
        try:
            deployments = await self._prices.queries.deployments_since(since_ms)
        except StoreUnavailable:
            return reachable_keys(policy)
        return used_keys(policy, deployments)

    def _check_confirmed(self, held: Waiting, confirm: str) -> None:
        if confirm and confirm != held.version.sha256:
            raise Conflict(
                "What you confirm is not what would be published now; look at `faregate prices diff` again.",
                param="confirm",
                extra={"confirm": held.version.sha256},
            )
        if held.large and not confirm:
            models = "1 model" if len(held.large) == 1 else f"{len(held.large)} models"
            raise MoveUnconfirmed(
                f"Rates of {models} in use would move by more than 25 %, or be lost: "
                f"{', '.join(list(held.large)[:5])}. Look at `faregate prices diff`, then publish with --confirm.",
                extra={"confirm": held.version.sha256},
            )

    def _waits(self, held: Waiting) -> None:
        self.waiting = held
        if self._told != held.version.sha256:
            self._told = held.version.sha256
            names = ", ".join(list(held.large)[:5])
            _LOG.warning(
                "new prices wait: rates of models in use would move by more than 25 %%, or be lost (%s); the last "
                "ones stay in force. `faregate prices diff` shows them, `faregate prices publish --confirm` uses them",
                names,
            )

    def _used(self, book: PriceBook, publish: PriceVersion | None, after: int) -> Choice:
        self.waiting, self._told = None, ""
        return Choice(book.sheets_for, publish, after, None)


def _confirmed(in_force: PriceVersion, policy: Policy) -> bool:
    """Whether somebody published a version, and what should have followed was cut off: the policy is older."""
    return in_force.revision > policy.revision and in_force.published_by != FILES


def matters(policy: Policy | None, kind: str, move: Move) -> bool:
    """Whether a call can meet a move: a factor for a place only where a provider is there, or a reply may say so."""
    if policy is None or not move.meter.startswith(UPLIFT) or move.meter.endswith(BY_REPLY):
        return True
    places = {provider.region for provider in policy.providers.values() if provider.kind == kind}
    return move.meter.removeprefix(UPLIFT) in places


def kept_sheets(policy: Policy, base: PriceBook) -> Sheets:
    """The prices that a policy has, and those of a book for models that it does not have."""

    def sheets(kind: str, models: Iterable[str] | None) -> Mapping[str, PriceSheet]:
        start = f"{kind}/"
        kept = {key[len(start) :]: sheet for key, sheet in policy.sheets.items() if key.startswith(start)}
        if models is None:
            return {**base.sheets_for(kind), **kept}
        names = list(models)
        found = base.sheets_for(kind, [name for name in names if name not in kept])
        return found | {name: kept[name] for name in names if name in kept}

    return sheets


def price_key(policy: Policy, deployment_id: str) -> str | None:
    """Under which `kind/model` a policy has the prices of a deployment (`provider/model`, as the ledger has it); None
    for a provider that is not there any more."""
    name, _, model = deployment_id.partition("/")
    provider = policy.providers.get(name)
    if provider is None or not model:
        return None
    for route in policy.models.values():
        for deployment in route.deployments:
            if deployment.id == deployment_id:
                return sheet_key(provider.kind, deployment)
    return next(_wildcard_keys(policy, name, model), f"{provider.kind}/{model}")


def _wildcard_keys(policy: Policy, name: str, model: str) -> Iterator[str]:
    """The same by each wildcard that may have led to a provider's model, the longest first."""
    for wildcard in policy.wildcards:
        for at, pattern in enumerate(wildcard.deployments):
            before, _, after = pattern.model.partition("*")
            fits = len(model) > len(before) + len(after) and model.startswith(before) and model.endswith(after)
            if pattern.provider == name and fits:
                matched = model[len(before) : len(model) - len(after)]
                yield sheet_key(policy.providers[name].kind, substitute(wildcard, matched).deployments[at])


def used_keys(policy: Policy, deployments: Sequence[str]) -> list[str]:
    """Under which `kind/model` a policy has the prices of deployments that were called: under several, where routes
    price one deployment differently; of a provider that is not there any more (it may have another name by now) those
    of all that have such a model. Of more than the ledger lists: of all that can be reached, too."""
    routed: dict[str, set[str]] = {}
    models: dict[str, set[str]] = {}
    for route in policy.models.values():
        for one in route.deployments:
            key = sheet_key(policy.providers[one.provider].kind, one)
            routed.setdefault(one.id, set()).add(key)
            models.setdefault(one.model, set()).add(key)
    kinds = {provider.kind for provider in policy.providers.values()}
    found: set[str] = set()
    for deployment in deployments:
        name, _, model = deployment.partition("/")
        if name not in policy.providers:
            found |= models.get(model, set()) | {f"{kind}/{model}" for kind in kinds if model}
        elif model:
            keys = routed.get(deployment, set()).union(_wildcard_keys(policy, name, model))
            found |= keys or {f"{policy.providers[name].kind}/{model}"}
    return sorted(found.union(reachable_keys(policy)) if len(deployments) >= MOST_LISTED else found)


def reachable_keys(policy: Policy) -> list[str]:
    """`kind/model` of every deployment that a route names, and of every model with a price at a kind of provider that a
    wildcard leads to."""
    found = {
        sheet_key(policy.providers[deployment.provider].kind, deployment)
        for route in policy.models.values()
        for deployment in route.deployments
    }
    kinds = {policy.providers[one.provider].kind for route in policy.wildcards for one in route.deployments}
    found |= {key for key in policy.sheets if key.partition("/")[0] in kinds}
    return sorted(key for key in found if EVERY_MODEL not in key)
