"""What can be asked and told of price books: their versions in the configuration's store, and their use in the ledger.

A *version* is what prices are compiled from: two price sources as they were read, and what `prices.yaml` says. It is
immutable and numbered once it is published. `gateway.pricing.versions.book_of` makes a price book of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import msgspec

from gateway.core.queries import QueryScope

SourceKind = Literal["genai", "litellm"]
BUNDLED = "bundled"
"""`recorded_by` of a source that shipped with Faregate."""
MOST_LISTED = 10_000
"""No question of use is answered with more rows."""


class PriceSource(msgspec.Struct, frozen=True):
    """A price source as it was read. `sha256` is that of the JSON, `content` the JSON compressed (gzip), or empty where
    only its name is wanted. `name` begins with `genai-prices` or `litellm-map`."""

    kind: SourceKind
    name: str
    sha256: str
    recorded_ms: int = 0
    recorded_by: str = BUNDLED
    content: bytes = b""


class PriceVersion(msgspec.Struct, frozen=True):
    """A price book: its sources, and `written`, what `prices.yaml` said when it was made (msgpack; `file_text` is the
    file itself, for people). `sha256` names this content. `number` 0: not published. Times are ms UTC; `revision` is
    the configuration's at which it was published."""

    number: int
    sha256: str
    genai: PriceSource
    litellm: PriceSource
    written: bytes
    file_text: str = ""
    published_ms: int = 0
    published_by: str = ""
    revision: int = 0


class PriceDraft(msgspec.Struct, frozen=True):
    """Sources that were imported and are not published yet."""

    genai: PriceSource
    litellm: PriceSource
    recorded_ms: int
    recorded_by: str


class PriceStore(Protocol):
    """The only writer of price books. Raises Conflict, NotFound, StoreUnavailable."""

    async def prices_in_force(self) -> PriceVersion | None:
        """The newest version with its content; None before the first."""
        ...

    async def price_version(self, number: int) -> PriceVersion:
        """One version with its content."""
        ...

    async def price_versions(self, limit: int = 100) -> list[PriceVersion]:
        """The newest first, without content."""
        ...

    async def price_version_at(self, revision: int) -> int:
        """The number of the version that the configuration of a revision was compiled from; 0: before the first."""
        ...

    async def price_draft(self) -> PriceDraft | None: ...

    async def save_price_draft(
        self, draft: PriceDraft, *, actor: str, over: PriceDraft | None, after: int
    ) -> PriceDraft:
        """The one draft there is, in place of a former one: of `over`, None where there was none. Conflict when that is
        not the present one any more, or where there was none and the newest version is not `after`: the other source of
        `draft` is then not what it was made beside."""
        ...

    async def drop_price_draft(self, *, actor: str) -> bool:
        """Whether there was one."""
        ...

    async def publish_prices(self, version: PriceVersion, *, actor: str, after: int) -> PriceVersion:
        """Stores a version under the next number, in force from now on. A draft of its sources is gone then. Conflict
        when the newest version is not `after` any more: somebody else published meanwhile."""
        ...


class UsedModel(msgspec.Struct, frozen=True):
    """What the ledger's sums know of one deployment's use. `deployment` is `provider/model`. Times are the beginnings
    of the hours in which the first and the last such call began, ms UTC."""

    model: str
    deployment: str
    calls: int
    unpriced_calls: int
    first_ms: int
    last_ms: int


class UnpricedEnds(msgspec.Struct, frozen=True):
    """Attempts that nobody could price for the same reason, as far as the ledger has it. `missing` are the meters
    without a rate where others had one; none: nothing of it had. `tier` and `region` are what the replies said."""

    model: str
    deployment: str
    tier: str
    region: str
    missing: tuple[str, ...]
    attempts: int


class PriceQueries(Protocol):
    """How prices are used, from the ledger's sums by the hour: but for ends without a price no record is read. Raises
    StoreUnavailable."""

    async def deployments_since(self, since_ms: int) -> list[str]:
        """Every deployment that was called in any org since then, as `provider/model`; of more than `MOST_LISTED` so
        many."""
        ...

    async def used_models(
        self, scope: QueryScope, since_ms: int, *, unpriced: bool = False, limit: int = 1000
    ) -> Sequence[UsedModel]:
        """The use of each model and deployment, those with the most calls first; `unpriced`: only such calls."""
        ...

    async def unpriced_ends(self, scope: QueryScope, since_ms: int) -> Sequence[UnpricedEnds]:
        """Why the newest `MOST_ENDS` of them that are without a price still had none, the most frequent first."""
        ...


MOST_ENDS = 2_000
"""Of so many ends without a price the reasons are told; how many there are in all, the sums know."""
