"""Versions of the price book: what one is made of, the name of its content, and the book of a version.

`book_of` is for whoever prices by a published version (re-rating, closing a period, explaining): take the version from
`core.price_admin.PriceStore.price_version(number)`, then `book_of(version).sheet(kind, model)` is the sheet that
`pricing.arithmetic.charge` wants. The same content gives the same rows, with the same ids, as long as the code that
reads it is the same; what was really charged is in the compiled policy of the call's `config_revision`.
"""

from __future__ import annotations

import hashlib

import msgspec

from gateway.core.errors import ConfigInvalid
from gateway.core.price_admin import BUNDLED, PriceSource, PriceVersion, SourceKind
from gateway.pricing.agreements import Agreement
from gateway.pricing.book import Fallback, Override, PriceBook
from gateway.pricing.genai import GenaiPrices
from gateway.pricing.litellm_map import LitellmMap
from gateway.pricing.sources import opened_genai, opened_litellm


class PriceFile(msgspec.Struct, frozen=True):
    """What `prices.yaml` puts in force. Members are only ever added, with defaults: versions keep it as bytes.

    `imported` is not of the file: which of a version's sources somebody brought, so that a later release leaves them.
    Without it (all older versions) those are it that `recorded_by` says so of.
    """

    overrides: tuple[Override, ...] = ()
    agreements: tuple[Agreement, ...] = ()
    fallbacks: tuple[Fallback, ...] = ()
    imported: tuple[SourceKind, ...] | msgspec.UnsetType = msgspec.UNSET


NOTHING_WRITTEN = PriceFile()
_ENCODER = msgspec.msgpack.Encoder(order="deterministic")
_DECODER = msgspec.msgpack.Decoder(PriceFile)


def encode_written(written: PriceFile) -> bytes:
    """The same prices give the same bytes, wherever in the file they stand."""
    return _ENCODER.encode(written)


def decode_written(written: bytes) -> PriceFile:
    """Raises ConfigInvalid for bytes of another version of Faregate."""
    try:
        return _DECODER.decode(written)
    except msgspec.MsgspecError as error:
        raise ConfigInvalid(f"What is stored of prices.yaml cannot be read: {error}") from error


def make_version(genai: PriceSource, litellm: PriceSource, written: PriceFile, file_text: str = "") -> PriceVersion:
    """An unpublished version of this content."""
    encoded = encode_written(written)
    return PriceVersion(0, _digest(genai, litellm, encoded), genai, litellm, encoded, file_text)


def imported_of(version: PriceVersion) -> tuple[SourceKind, ...]:
    """Which sources of a version with its content were imported: a later release does not renew them."""
    said = decode_written(version.written).imported
    if said is not msgspec.UNSET:
        return said
    return tuple(one.kind for one in (version.genai, version.litellm) if one.recorded_by != BUNDLED)


def says_imported(version: PriceVersion) -> bool:
    """Whether the version itself tells which of its sources were imported."""
    return decode_written(version.written).imported is not msgspec.UNSET


def _digest(genai: PriceSource, litellm: PriceSource, written: bytes) -> str:
    return hashlib.sha256(f"{genai.sha256}\n{litellm.sha256}\n".encode() + written).hexdigest()


class OpenSources:
    """Sources that were opened, by their digests: versions share them, and reading one takes a quarter of a second.

    Not for several threads at once."""

    def __init__(self, capacity: int = 3) -> None:
        """`capacity`: how many of each kind are remembered; each takes some 30 MiB."""
        self._capacity = capacity
        self._genai: dict[str, GenaiPrices] = {}
        self._litellm: dict[str, LitellmMap] = {}

    def keep(self, genai: PriceSource, litellm: PriceSource) -> None:
        """Remembers these two, which ship here, as they are in this process already."""
        self._genai[genai.sha256], self._litellm[litellm.sha256] = GenaiPrices(), LitellmMap()

    def genai(self, source: PriceSource) -> GenaiPrices:
        found = self._genai.pop(source.sha256, None) or opened_genai(source)
        self._genai[source.sha256] = found
        if len(self._genai) > self._capacity:
            del self._genai[next(iter(self._genai))]
        return found

    def litellm(self, source: PriceSource) -> LitellmMap:
        found = self._litellm.pop(source.sha256, None) or opened_litellm(source)
        self._litellm[source.sha256] = found
        if len(self._litellm) > self._capacity:
            del self._litellm[next(iter(self._litellm))]
        return found


def book_of(version: PriceVersion, opened: OpenSources | None = None, since_ms: int = 0) -> PriceBook:
    """The price book of a version with its content. `since_ms` as in PriceBook: 0 keeps the whole history, which
    re-rating wants. Raises ConfigInvalid for content that is not what it was."""
    if _digest(version.genai, version.litellm, version.written) != version.sha256:
        raise ConfigInvalid(f"What is stored of version {version.number} is not what was: its SHA-256 differs")
    sources = opened or OpenSources()
    written = decode_written(version.written)
    return PriceBook(
        written.overrides,
        since_ms,
        written.agreements,
        fallbacks=written.fallbacks,
        genai=sources.genai(version.genai),
        litellm=sources.litellm(version.litellm),
    )
