"""The headers of a request as the path reads them: lower-case names, one value each, within bounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gateway.core.errors import BadRequest, BodyTooLarge, UnsupportedMediaType

MAX_HEADERS = 100
MAX_HEADER_BYTES = 32 * 1024
_JSON = "application/json"
_ONCE = frozenset({"authorization", "x-faregate-api-key", "x-api-key", "api-key", "x-goog-api-key"})
"""Headers that say who asks: of two that differ none is believed."""


def read_headers(raw: Sequence[tuple[bytes, bytes]]) -> dict[str, str]:
    """Lower-case request headers. A second, different key or an over-long block is a 400, never a guess."""
    headers: dict[str, str] = {}
    size = 0
    if len(raw) > MAX_HEADERS:
        raise BadRequest(f"The request has more than {MAX_HEADERS} headers.")
    for name, value in raw:
        size += len(name) + len(value)
        text = name.decode("latin-1")
        if text in headers:
            if text in _ONCE and headers[text] != value.decode("latin-1"):
                raise BadRequest(f"The request carries two different {text} headers. Send one.")
            continue
        headers[text] = value.decode("latin-1")
    if size > MAX_HEADER_BYTES:
        raise BadRequest(f"The request's headers are larger than {MAX_HEADER_BYTES} bytes.")
    return headers


def check_body_headers(headers: Mapping[str, str], max_body_bytes: int) -> None:
    """What can be refused before a byte of the body is read. Raises UnsupportedMediaType, BodyTooLarge."""
    sent = headers.get("content-type", "")
    if sent != _JSON and sent.partition(";")[0].strip().lower() != _JSON:
        raise UnsupportedMediaType(f"The content type must be {_JSON}, not {sent[:100] or 'absent'}.")
    encoding = headers.get("content-encoding")
    if encoding is not None and encoding.lower() not in ("", "identity"):
        raise UnsupportedMediaType(f"Compressed request bodies ({encoding[:40]}) are not accepted; send it as it is.")
    length = headers.get("content-length", "")
    if length.isdecimal() and int(length) > max_body_bytes:
        raise too_large(int(length), max_body_bytes)


def too_large(size_bytes: int, max_body_bytes: int) -> BodyTooLarge:
    return BodyTooLarge(f"The body has {size_bytes} bytes or more; at most {max_body_bytes} are accepted here.")
