"""Token estimates and bounds where the provider has not told us yet.

The estimate is ceil(UTF-8 bytes of text / 3) and carries a version, so that its measured error can be told apart
from a later rule's. The bound is one token per byte: every byte-level BPE token covers at least one byte.
"""

from __future__ import annotations

ESTIMATE_VERSION = 1
BYTES_PER_TOKEN = 3


def estimate_tokens(text_bytes: int) -> int:
    """Tokens expected in `text_bytes` bytes of UTF-8 text."""
    return -(-text_bytes // BYTES_PER_TOKEN)
