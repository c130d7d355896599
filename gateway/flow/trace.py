"""W3C trace context of a call: taken from the caller when it is well formed, else begun here."""

from __future__ import annotations

import re

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}(?:-.*)?")
"""Longer ones are of versions to come, whose first members stay what they are."""


def read_traceparent(header: str, call_id: bytes) -> tuple[bytes, bytes]:
    """(trace id 16 bytes, parent span id 8 bytes or empty); without a valid header the call id is the trace id."""
    found = _TRACEPARENT.fullmatch(header.strip()) if header else None
    if found is None:
        return call_id, b""
    return bytes.fromhex(found.group(1)), bytes.fromhex(found.group(2))
