"""A chunked body taken apart by httptools, and the end of it found to the byte."""

from __future__ import annotations

import httptools

from gateway.upstream.framing import NotHttp

UNPRODUCTIVE_BYTES_MAX = 64 * 1024
"""Chunk extensions and trailers that may come without a byte of body."""
_HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


class Chunked:
    """Puts the pieces of one body into a list. Trailers are dropped."""

    __slots__ = (
        "_begun",
        "_complete_at",
        "_parser",
        "_pieces",
        "_tail",
        "_unproductive",
        "complete",
        "on_body",
        "surplus",
    )

    def __init__(self, pieces: list[bytes]) -> None:
        """`pieces` is appended to; its reader may clear it between two feeds."""
        self.complete = False
        self.surplus = False
        """After the end there was more: the connection must not be used again."""
        self.on_body = pieces.append  # called by the parser without a Python frame in between: one call per event
        self._pieces = pieces
        self._complete_at = 0
        self._begun = 0
        self._unproductive = 0
        self._tail = b""
        self._parser = httptools.HttpResponseParser(self)
        self._parser.feed_data(_HEAD)

    def on_message_begin(self) -> None:
        self._begun += 1

    def on_message_complete(self) -> None:
        if not self.complete:
            self.complete = True
            self._complete_at = len(self._pieces)

    def feed(self, data: bytes) -> int:
        """How many bytes of body came out of it. Raises NotHttp when it is not what chunked means."""
        pieces = self._pieces
        before = len(pieces)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self.complete:
                raise NotHttp("its chunks are malformed") from error
            self.surplus = True
        if self.complete:
            del pieces[self._complete_at :]
            end = self._tail + data[-6:]
            # one that ended with this data ends with exactly one empty line; the parser overlooks more of them
            self.surplus = (
                self.surplus or self._begun > 1 or not end.endswith(b"\r\n\r\n") or end.endswith(b"\r\n\r\n\r\n")
            )
        else:
            self._tail = data[-6:] if len(data) >= 6 else (self._tail + data)[-6:]
        count = len(pieces) - before
        size = len(pieces[-1]) if count == 1 else sum(map(len, pieces[before:]))
        if size:
            self._unproductive = 0
        else:
            self._unproductive += len(data)
            if self._unproductive > UNPRODUCTIVE_BYTES_MAX:
                raise NotHttp("its chunks hold more extensions or trailers than body")
        return size

    def close(self) -> None:
        """Breaks the circle between parser and callbacks, so that nothing is left to the garbage collector."""
        del self._parser
