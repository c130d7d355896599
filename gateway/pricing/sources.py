"""Price sources as they are kept: the two that ship with Faregate, and files that an operator imports."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
from collections.abc import Iterable
from decimal import Decimal

from gateway.core.errors import BadRequest, ConfigInvalid
from gateway.core.price_admin import PriceSource, SourceKind
from gateway.pricing.draft import MOST_PLACES, MOST_RATE_PICO, Draft
from gateway.pricing.genai import GenaiPrices
from gateway.pricing.genai_data import BUNDLED_NAME, LEAST_PROVIDERS, bundled_json, providers_of
from gateway.pricing.litellm_map import LitellmMap, is_price
from gateway.pricing.written import print_amount

MOST_JSON_BYTES = 16 * 1024 * 1024
MOST_PACKED_BYTES = 8 * 1024 * 1024
LEAST_MODELS = 100
"""A litellm map with fewer prices is not the whole one; what is missing in it would lose its price."""
_GZIP = b"\x1f\x8b"
_LABEL = re.compile(r"[^0-9A-Za-z._+-]+")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_BRACKETED = re.compile(r"\[\^?\]?[^\]]*\]")
_REPEATED_GROUP = re.compile(r"\)[*+{]|\(\?P")
_WIDE = re.compile(r"[*+]|\{\d*,")
_OPTIONAL = re.compile(r"(?<!\()\?")
_MOST_WIDE, _MOST_OPTIONAL = 2, 6
_WORDS: dict[SourceKind, str] = {"genai": "genai-prices", "litellm": "litellm-map"}


def bundled_sources() -> tuple[PriceSource, PriceSource]:
    """(genai-prices, litellm map) as they ship, with their content. Takes half a second: keep them."""
    litellm = LitellmMap()
    return (
        _source("genai", BUNDLED_NAME, bundled_json()),
        _source("litellm", litellm.source, litellm.read()),
    )


def read_source(file_name: str, content: bytes) -> PriceSource:
    """The source that a file holds: genai-prices' data file, or a litellm map, plain or gzip. Its kind is told by its
    shape, its name by the file's. Raises BadRequest that says what is wrong with it."""
    plain = _unpacked(content)
    try:
        document = json.loads(plain, parse_float=Decimal, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"The file is not JSON: {str(error)[:120]}.", param="content") from None
    _check_values(document)
    kind: SourceKind
    if isinstance(document, list):
        kind = "genai"
        _check_genai(plain)
    elif isinstance(document, dict) and all(isinstance(entry, dict) for entry in document.values()):
        kind = "litellm"
        priced = [entry for entry in document.values() if "litellm_provider" in entry and "mode" in entry]
        if len(priced) < LEAST_MODELS:
            raise BadRequest(
                f"The file has {len(priced)} models with litellm_provider and mode; a whole litellm map has thousands.",
                param="content",
            )
        _check_litellm(plain, document)
    else:
        raise BadRequest(
            "The file is neither a data file of genai-prices (a list of providers) nor a litellm map (model names with "
            "their prices).",
            param="content",
        )
    label = _LABEL.sub("-", file_name.rsplit("/", 1)[-1].removesuffix(".gz").removesuffix(".json")).strip("-.")[:60]
    digest = hashlib.sha256(plain).hexdigest()
    return _source(kind, f"{_WORDS[kind]} {label or 'import'}@{digest[:8]}", plain)


def opened_genai(source: PriceSource) -> GenaiPrices:
    """The prices of a kept source. Raises ConfigInvalid when its content is not what its digest says."""
    return GenaiPrices(_content(source), source.name)


def opened_litellm(source: PriceSource) -> LitellmMap:
    return LitellmMap(content=_content(source), name=source.name)


def _source(kind: SourceKind, name: str, plain: bytes) -> PriceSource:
    packed = gzip.compress(plain, compresslevel=9, mtime=0)
    return PriceSource(kind, name, hashlib.sha256(plain).hexdigest(), content=packed)


def _content(source: PriceSource) -> bytes:
    plain = gzip.decompress(source.content)
    if hashlib.sha256(plain).hexdigest() != source.sha256:
        raise ConfigInvalid(f"What is stored of {source.name} is not what was: its SHA-256 differs")
    return plain


def _unpacked(content: bytes) -> bytes:
    if not content.startswith(_GZIP):
        plain = content
    else:
        try:
            with gzip.GzipFile(fileobj=io.BytesIO(content)) as packed:
                plain = packed.read(MOST_JSON_BYTES + 1)
        except (OSError, EOFError) as error:
            raise BadRequest(f"The file is no whole gzip: {error}.", param="content") from None
    if len(plain) > MOST_JSON_BYTES:
        raise BadRequest(f"The file is larger than {MOST_JSON_BYTES} bytes.", param="content")
    return plain


def _check_genai(plain: bytes) -> None:
    """Reads all of it, so that no mistake in it waits for the first call."""
    try:
        providers = providers_of(plain)
        prices = GenaiPrices(plain)
        drafts = [prices.draft(one.id, name) for one in providers for name in prices.names(one.id)]
    except Exception as error:
        said = f"{type(error).__name__}: {error}".split("\n")[0]
        raise BadRequest(f"genai-prices cannot read the file: {said[:200]}.", param="content") from error
    if len(providers) < LEAST_PROVIDERS or len(drafts) < LEAST_MODELS:
        raise BadRequest(
            f"The file has {len(providers)} providers and {len(drafts)} models; a whole one has dozens and thousands.",
            param="content",
        )
    _check_rates(drafts)


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is no number")


def _check_values(document: object) -> None:
    """What no price book can hold: numbers beyond 64 bits (reading 1e999999 would take the desk's memory), half
    characters, which no reply can be written with, and patterns that could be matched for hours."""
    waiting = [document]
    while waiting:
        match waiting.pop():
            case {"regex": str() as pattern} if _is_heavy(pattern):
                raise BadRequest(f"The file has a pattern that may never end: {pattern[:80]}.", param="content")
            case dict() as found:
                waiting += [*found, *found.values()]
            case list() as found:
                waiting += found
            case str() as text if not text.isascii() and any("\ud800" <= sign <= "\udfff" for sign in text):
                raise BadRequest(f"The file has a text that is no Unicode: {ascii(text)[:80]}.", param="content")
            case Decimal() as number if number and abs(number.adjusted()) > MOST_PLACES:
                raise BadRequest(f"The file has a number that is no price: {str(number)[:40]}.", param="content")
            case int() as number if abs(number) >= 1 << 63:
                raise BadRequest("The file has a whole number of more than 64 bits.", param="content")


def _is_heavy(pattern: str) -> bool:
    """Whether a pattern repeats a group, refers back, or has more parts of open length than matching a name needs: the
    time that such a one takes may double with each letter, and nothing else of the desk runs meanwhile."""
    bare = _BRACKETED.sub("x", _ESCAPED.sub(lambda sign: "#" if sign[1].isdigit() else "x", pattern))
    wide, optional = len(_WIDE.findall(bare)), len(_OPTIONAL.findall(bare))
    return "#" in bare or bool(_REPEATED_GROUP.search(bare)) or wide > _MOST_WIDE or optional > _MOST_OPTIONAL


def _check_litellm(plain: bytes, document: dict[str, dict[str, object]]) -> None:
    for name, entry in document.items():
        for key in filter(is_price, entry):
            value = entry[key]
            if value is not None and (isinstance(value, bool) or not isinstance(value, int | Decimal) or value < 0):
                raise BadRequest(f"The map's {key} of {name[:80]} is no price: {str(value)[:40]}.", param="content")
    prices = LitellmMap(content=plain, name="import")
    try:
        drafts = [prices.draft(provider, name) for provider in prices.providers() for name in prices.names(provider)]
    except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError) as error:
        raise BadRequest(
            f"The map cannot be read: {type(error).__name__}: {str(error)[:160]}.", param="content"
        ) from error
    _check_rates(drafts)


def _check_rates(drafts: Iterable[Draft | None]) -> None:
    """A price below nothing, or one that no ledger can hold, is a mistake of the file."""
    for draft in drafts:
        for row in () if draft is None else draft.rows:
            if not 0 <= row.rate_pico <= MOST_RATE_PICO:
                usd = print_amount(row.rate_pico, row.per, row.meter)
                raise BadRequest(f"The file has a price of {usd[:80]}.", param="content")
            if row.min_input < 0:
                raise BadRequest(f"The file has a price for prompts above {row.min_input} tokens.", param="content")
