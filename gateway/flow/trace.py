"""W3C trace context of a call: taken from the caller when it is well formed, else begun here."""

from __future__ import annotations

_LENGTH = 55
_ZERO_TRACE = "0" * 32
_ZERO_SPAN = "0" * 16


def read_traceparent(header: str, call_id: bytes) -> tuple[bytes, bytes]:
    """(trace id 16 bytes, parent span id 8 bytes or empty); without a valid header the call id is the trace id."""
    if len(header) >= _LENGTH:
        version, _, rest = header.partition("-")
        trace, _, rest = rest.partition("-")
        span = rest.partition("-")[0]
        if len(version) == 2 and version != "ff" and len(trace) == 32 and len(span) == 16:
            try:
                if trace != _ZERO_TRACE and span != _ZERO_SPAN:
                    return bytes.fromhex(trace), bytes.fromhex(span)
            except ValueError:
                return call_id, b""
    return call_id, b""
