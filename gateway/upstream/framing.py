"""Where a reply's body ends: the rules of HTTP/1.1 that httptools leaves to its user, kept stricter than it has to be.

What two parsers could read differently is refused, not guessed: behind a guess there is another call's answer.
"""

from __future__ import annotations

import httptools

HEAD_BYTES_MAX = 64 * 1024
HEADER_LINE_BYTES_MAX = 16 * 1024
HEADERS_MAX = 200
INTERIM_REPLIES_MAX = 16

CHUNKED = -1
TO_THE_END = -2
_LENGTH_DIGITS_MAX = 18

Headers = list[tuple[bytes, bytes]]


class NotHttp(Exception):
    """The reply cannot be read safely. The text says why and holds nothing that the provider sent."""


class _Fields(Headers):
    """What httptools tells of a head: a list of its headers that fills itself."""

    __slots__ = ()
    # Said to be absent: looking for one that is missing makes the parser raise and swallow an AttributeError.
    on_message_begin = on_status = on_headers_complete = on_body = on_message_complete = None
    on_chunk_header = on_chunk_complete = None

    def on_header(self, name: bytes, value: bytes) -> None:
        self.append((name.lower(), value))


def read_head(block: bytes) -> tuple[int, Headers]:
    """Status and headers, names in lower case, of a head up to and with its empty line. Raises NotHttp."""
    _check_head(block)
    headers = _Fields()
    parser = httptools.HttpResponseParser(headers)
    try:
        parser.feed_data(block)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
        raise NotHttp("its head is malformed") from error
    status = parser.get_status_code()
    if status < 100:  # 101 is malformed to the parser: nobody asked to switch
        raise NotHttp(f"its status is {status}")
    if b" \r\n" in block or b"\t\r\n" in block:
        return status, [(name, value.rstrip(b" \t")) for name, value in headers]
    return status, headers


def _check_head(block: bytes) -> None:
    """What the parser does not limit."""
    if not block.startswith((b"HTTP/1.1 ", b"HTTP/1.0 ")):
        raise NotHttp("it is not HTTP/1.1")
    if len(block) > HEAD_BYTES_MAX:
        raise NotHttp(f"its head is larger than {HEAD_BYTES_MAX} bytes")
    if block.count(b"\n") > HEADERS_MAX + 2:
        raise NotHttp(f"it has more than {HEADERS_MAX} headers")
    if len(block) > HEADER_LINE_BYTES_MAX and max(map(len, block.split(b"\r\n"))) > HEADER_LINE_BYTES_MAX:
        raise NotHttp(f"a header is longer than {HEADER_LINE_BYTES_MAX} bytes")


def check_unfinished_head(block: bytes | bytearray, new_from: int) -> None:
    """What has come so far of a head, of which only the bytes from `new_from` are new. Raises NotHttp as soon as it can
    be none: garbage must not be waited for."""
    if not block.startswith(b"HTTP/1."[: len(block)]):
        raise NotHttp("it is not HTTP/1.1")
    if len(block) > HEAD_BYTES_MAX:
        raise NotHttp(f"its head is larger than {HEAD_BYTES_MAX} bytes")
    start = max(new_from - 1, 0)
    if block.count(b"\n", start) != block.count(b"\r\n", start) + (block[start : start + 1] == b"\n" and start > 0):
        raise NotHttp("its lines do not end with CR LF")


def framing(block: bytes, headers: Headers, status: int, head_only: bool) -> tuple[int, bool]:
    """Length of the body in bytes (or CHUNKED, TO_THE_END), and whether the connection may serve another request.

    `headers` have lower-case names. Raises NotHttp when that is ambiguous.
    """
    length = TO_THE_END
    chunked = closes = False
    keeps = block[7] == 0x31  # HTTP/1.1; of 1.0 only when it says so
    for name, value in headers:
        if name == b"content-length":
            if length != TO_THE_END or not value.isdigit() or len(value) > _LENGTH_DIGITS_MAX:
                raise NotHttp("its content-length cannot be used")
            length = int(value)
        elif name == b"transfer-encoding":
            if chunked or value.lower() != b"chunked" or block[7] != 0x31:
                raise NotHttp("its transfer-encoding cannot be used")
            chunked = True
        elif name == b"connection":
            tokens = [token.strip() for token in value.lower().split(b",")]
            closes = closes or b"close" in tokens
            keeps = keeps or b"keep-alive" in tokens
    if chunked and length != TO_THE_END:
        raise NotHttp("it has both a content-length and a transfer-encoding")
    if head_only or status in (204, 304):
        return 0, keeps and not closes
    if chunked:
        return CHUNKED, keeps and not closes
    return length, keeps and not closes and length != TO_THE_END
