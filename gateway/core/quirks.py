"""How a vendor's OpenAI-shaped API differs from OpenAI's, as data: rows of `providers/` carry them."""

from __future__ import annotations

import msgspec


class Quirks(msgspec.Struct, frozen=True):
    """The defaults are OpenAI's own behaviour; every field names one difference."""

    stream_usage: bool = True
    """It understands `stream_options.include_usage`; False: the member is not added, usage comes by itself or not."""


PLAIN = Quirks()
"""No difference at all."""
