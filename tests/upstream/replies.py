"""Replies to read: a corpus with what each is, any valid reply, and ways to cut them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from hypothesis import strategies as st

from gateway.upstream.framing import HEADERS_MAX
from upstream.driven import Outcome

H = b"HTTP/1.1 200 OK\r\n"
CHUNKED = H + b"transfer-encoding: chunked\r\n\r\n"


def cut(data: bytes, *at: int) -> list[bytes]:
    edges = sorted({0, *(place for place in at if 0 < place < len(data)), len(data)})
    return [data[start:stop] for start, stop in pairwise(edges)]


def singly(data: bytes) -> list[bytes]:
    return [data[index : index + 1] for index in range(len(data))]


def got(status: int, body: bytes, *headers: tuple[bytes, bytes], kept: bool = True) -> Outcome:
    return Outcome(status, tuple(headers), body, kept=kept)


LENGTH_2 = (b"content-length", b"2")
TE = (b"transfer-encoding", b"chunked")

VALID: dict[str, tuple[bytes, Outcome]] = {
    "length": (H + b"Content-Length: 2\r\n\r\nok", got(200, b"ok", LENGTH_2)),
    "length 0": (H + b"content-length: 0\r\n\r\n", got(200, b"", (b"content-length", b"0"))),
    "zeros before": (H + b"content-length: 002\r\n\r\nok", got(200, b"ok", (b"content-length", b"002"))),
    "chunked": (CHUNKED + b"2\r\nok\r\n3\r\nyes\r\n0\r\n\r\n", got(200, b"okyes", TE)),
    "no chunks": (CHUNKED + b"0\r\n\r\n", got(200, b"", TE)),
    "chunked, in capitals": (
        H + b"TRANSFER-ENCODING: Chunked\r\n\r\nA\r\n0123456789\r\n0\r\n\r\n",
        got(200, b"0123456789", (b"transfer-encoding", b"Chunked")),
    ),
    "extensions": (CHUNKED + b'2;a=b;c="d"\r\nok\r\n0;e\r\n\r\n', got(200, b"ok", TE)),
    "trailers": (CHUNKED + b"2\r\nok\r\n0\r\nx-t: u\r\ny-t: v\r\n\r\n", got(200, b"ok", TE)),
    "an empty line in a chunk": (CHUNKED + b"4\r\n\r\n\r\n\r\n0\r\n\r\n", got(200, b"\r\n\r\n", TE)),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", got(204, b"")),
    "304 with a length": (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 2\r\n\r\n", got(304, b"", LENGTH_2)),
    "no reason": (b"HTTP/1.1 200\r\ncontent-length: 2\r\n\r\nok", got(200, b"ok", LENGTH_2)),
    "an empty reason": (b"HTTP/1.1 200 \r\ncontent-length: 2\r\n\r\nok", got(200, b"ok", LENGTH_2)),
    "an odd status": (b"HTTP/1.1 599 Odd\r\ncontent-length: 2\r\n\r\nok", got(599, b"ok", LENGTH_2)),
    "space around": (
        H + b"x-a: \t a b \t\r\nx-b:c\r\nx-c:\r\ncontent-length:2  \r\n\r\nok",
        got(200, b"ok", (b"x-a", b"a b"), (b"x-b", b"c"), (b"x-c", b""), LENGTH_2),
    ),
    "a tab behind": (H + b"x-a: b\t\r\ncontent-length: 2\r\n\r\nok", got(200, b"ok", (b"x-a", b"b"), LENGTH_2)),
    "repeated": (
        H + b"Set-Cookie: a\r\nset-cookie: b\r\ncontent-length: 2\r\n\r\nok",
        got(200, b"ok", (b"set-cookie", b"a"), (b"set-cookie", b"b"), LENGTH_2),
    ),
    "bytes beyond ascii": (
        H + b"x-a: \xc3\xa9\xff\r\ncontent-length: 2\r\n\r\nok",
        got(200, b"ok", (b"x-a", b"\xc3\xa9\xff"), LENGTH_2),
    ),
    "continue first": (
        b"HTTP/1.1 100 Continue\r\n\r\n" + H + b"content-length: 2\r\n\r\nok",
        got(200, b"ok", LENGTH_2),
    ),
    "hints first": (
        b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" * 3 + CHUNKED + b"2\r\nok\r\n0\r\n\r\n",
        got(200, b"ok", TE),
    ),
    "close": (
        H + b"connection: close\r\ncontent-length: 2\r\n\r\nok",
        got(200, b"ok", (b"connection", b"close"), LENGTH_2, kept=False),
    ),
    "close among others": (
        H + b"connection: x, Close\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nok",
        got(200, b"ok", (b"connection", b"x, Close"), (b"connection", b"keep-alive"), LENGTH_2, kept=False),
    ),
    "close, chunked": (
        H + b"connection: close\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        got(200, b"ok", (b"connection", b"close"), TE, kept=False),
    ),
    "1.0": (b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", got(200, b"ok", LENGTH_2, kept=False)),
    "1.0 keep-alive": (
        b"HTTP/1.0 200 OK\r\nconnection: Keep-Alive\r\ncontent-length: 2\r\n\r\nok",
        got(200, b"ok", (b"connection", b"Keep-Alive"), LENGTH_2),
    ),
    "as many headers as may be": (
        H + b"x: y\r\n" * (HEADERS_MAX - 1) + b"content-length: 2\r\n\r\nok",
        got(200, b"ok", *[(b"x", b"y")] * (HEADERS_MAX - 1), LENGTH_2),
    ),
}
TO_THE_END: dict[str, tuple[bytes, Outcome]] = {
    "1.1": (H + b"x: y\r\n\r\nuntil the end", got(200, b"until the end", (b"x", b"y"), kept=False)),
    "1.0": (b"HTTP/1.0 200 OK\r\n\r\nuntil\r\n\r\n", got(200, b"until\r\n\r\n", kept=False)),
    "empty": (b"HTTP/1.1 500 No\r\n\r\n", got(500, b"", kept=False)),
    "keep-alive is not believed": (
        H + b"connection: keep-alive\r\n\r\nx",
        got(200, b"x", (b"connection", b"keep-alive"), kept=False),
    ),
}


TOKEN = st.text("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=12).map(str.encode)
VALUE = st.binary(max_size=20).map(lambda raw: bytes(byte for byte in raw if byte >= 32 and byte != 127).strip(b" \t"))
HEADER = st.tuples(TOKEN, VALUE).filter(
    lambda header: header[0] not in (b"content-length", b"transfer-encoding", b"connection", b"upgrade")
)
CHUNKS = st.lists(st.binary(min_size=1, max_size=300), max_size=6)


@st.composite
def replies(draw: Callable[..., object]) -> tuple[bytes, Outcome, str]:
    status: int = draw(st.sampled_from([200, 201, 204, 302, 304, 400, 404, 429, 500, 529]))  # type: ignore[assignment]
    headers: list[tuple[bytes, bytes]] = draw(st.lists(HEADER, max_size=8))  # type: ignore[assignment]
    chunks: list[bytes] = draw(CHUNKS)  # type: ignore[assignment]
    kind = draw(st.sampled_from(["length", "chunked", "to the end"]))
    body, end = b"".join(chunks), ""
    if kind == "length":
        headers.append((b"content-length", b"%d" % len(body)))
        wire = body
    elif kind == "chunked":
        headers.append((b"transfer-encoding", b"chunked"))
        wire = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    else:
        wire, end = body, "eof"
    if status in (204, 304):
        body = wire = b""
    head = b"HTTP/1.1 %d X\r\n" % status + b"".join(b"%b: %b\r\n" % header for header in headers) + b"\r\n"
    kept = status in (204, 304) or not end
    return head + wire, Outcome(status, tuple(headers), body, kept=kept), end
