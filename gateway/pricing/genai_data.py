"""genai-prices' data as JSON: what a version of a price book keeps, so that it can be built again after an upgrade.

The JSON is of the shape of the package's own data file (version 2), without what reads usage: that we do ourselves.
"""

from __future__ import annotations

import dataclasses
import json
import re
from datetime import date, time
from decimal import Decimal
from typing import Any

import genai_prices
from genai_prices import types as genai
from genai_prices.data import providers as all_providers

BUNDLED_NAME = f"genai-prices {genai_prices.__version__}"
LEAST_PROVIDERS = 5
"""A data file with fewer is not the whole one."""


def bundled_json() -> bytes:
    """The data of the installed package. The same release gives the same bytes."""
    plain = [dataclasses.replace(provider, extractors=None) for provider in all_providers]
    return json.dumps(_plain(plain), sort_keys=True, separators=(",", ":")).encode()


def providers_of(content: bytes) -> list[genai.Provider]:
    """The providers of a data file. Raises ValueError for one that genai-prices would not read."""
    found = json.loads(content, parse_float=Decimal)
    if not isinstance(found, list):
        raise ValueError("is no list of providers")
    without = [{**one, "extractors": None} if isinstance(one, dict) else one for one in found]
    # The package reads its own data file by this; it has no public name, and the package is pinned.
    return genai._providers_from_raw(without)


def _plain(value: Any) -> Any:
    match value:
        case None | bool() | str() | int():
            return value
        case Decimal():
            return str(value)
        case list() | tuple():
            return [_plain(one) for one in value]
        case dict():
            return {name: _plain(one) for name, one in value.items()}
        case re.Pattern():
            return value.pattern
        case date() | time():
            return value.isoformat()
        case genai.ModelPrice():
            return {name: _plain(one) for name, one in vars(value).items() if one is not None and name[0] != "_"}
    members = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return {name.rstrip("_"): _plain(one) for name, one in members.items() if one is not None and name[0] != "_"}
