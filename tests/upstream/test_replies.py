"""How a reply is read, cut at every byte: what is valid, what is refused, what only ends the connection."""

from __future__ import annotations

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.errors import AttemptFailed
from gateway.upstream.framing import HEADERS_MAX
from gateway.upstream.httptools_client import HttptoolsUpstream
from upstream.driven import LIMIT, Outcome, begun, outcome
from upstream.replies import CHUNKED, TO_THE_END, VALID, H, cut, got, replies, singly
from upstream.servers import Wire, serving


async def in_every_cut(data: bytes, expected: Outcome, **how: object) -> None:
    for in_pieces in (False, True):
        more = {"in_pieces": in_pieces, **how}
        assert await outcome([data], **more) == expected  # type: ignore[arg-type]
        for place in range(1, len(data)):
            assert await outcome(cut(data, place), **more) == expected, (place, data[:place])  # type: ignore[arg-type]
        assert await outcome(singly(data), **more) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(("data", "expected"), VALID.values(), ids=VALID.keys())
async def test_a_valid_reply_is_the_same_in_every_cut(data: bytes, expected: Outcome) -> None:
    await in_every_cut(data, expected)


@pytest.mark.parametrize(("data", "expected"), TO_THE_END.values(), ids=TO_THE_END.keys())
async def test_a_body_up_to_the_end_of_the_connection(data: bytes, expected: Outcome) -> None:
    await in_every_cut(data, expected, end="eof")
    head = data.index(b"\r\n\r\n") + 4
    assert (await outcome([data])).error == "pending"
    assert (await outcome([data], end="reset")).error == "UpstreamLost", "a reset is no end"
    assert (await outcome([data[: head - 1]], end="eof")).error == "UpstreamLost"


@pytest.mark.parametrize("framed", [b"content-length: 1000\r\n", b"transfer-encoding: chunked\r\n", b""])
async def test_the_reply_to_head_has_no_body(framed: bytes) -> None:
    data = H + framed + b"\r\n"
    name, _, value = framed.strip().partition(b": ")
    headers = [(name, value)] if name else []
    await in_every_cut(data, got(200, b"", *headers), head_only=True)


@pytest.mark.parametrize(("data", "expected"), VALID.values(), ids=VALID.keys())
async def test_cut_off_at_every_byte_it_is_lost(data: bytes, expected: Outcome) -> None:
    for place in range(len(data)):
        for end in ("eof", "reset"):
            for in_pieces in (False, True):
                cut_off = await outcome([data[:place]] if place else [], end=end, in_pieces=in_pieces)
                assert cut_off.error == "UpstreamLost", (place, end, data[:place])


SURPLUS = [
    b"x",
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nbad",
    b"0\r\n\r\n",
    b"\r\n\r\n",
]


@pytest.mark.parametrize("surplus", SURPLUS)
@pytest.mark.parametrize("name", ["length", "length 0", "chunked", "no chunks", "trailers", "204", "304 with a length"])
async def test_a_connection_that_says_too_much_is_not_used_again(name: str, surplus: bytes) -> None:
    data, expected = VALID[name]
    closed = Outcome(expected.status, expected.headers, expected.body, kept=False)
    await in_every_cut(data + surplus, closed)


REFUSED: dict[str, bytes] = {
    "both": H + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "both, the other way round": H + b"transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
    "two lengths": H + b"content-length: 5\r\ncontent-length: 6\r\n\r\nhello",
    "the same length twice": H + b"content-length: 5\r\ncontent-length: 5\r\n\r\nhello",
    "a list of lengths": H + b"content-length: 5, 5\r\n\r\nhello",
    "length +5": H + b"content-length: +5\r\n\r\nhello",
    "length -5": H + b"content-length: -5\r\n\r\nhello",
    "length 0x5": H + b"content-length: 0x5\r\n\r\nhello",
    "length 5.0": H + b"content-length: 5.0\r\n\r\nhello",
    "length 1_0": H + b"content-length: 1_0\r\n\r\nhello",
    "no length": H + b"content-length:\r\n\r\nhello",
    "a length in other digits": H + "content-length: ٥\r\n\r\nhello".encode(),
    "a length over everything": H + b"content-length: 99999999999999999999\r\n\r\nhello",
    "gzip, chunked": H + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked, identity": H + b"transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "xchunked": H + b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
    "identity": H + b"transfer-encoding: identity\r\n\r\nhello",
    "chunked twice": H + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "vertical tab": H + b"transfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "chunked in 1.0": b"HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "obs-fold": H + b"x: y\r\n z\r\ncontent-length: 0\r\n\r\n",
    "obs-fold by tab": H + b"x: y\r\n\tz\r\ncontent-length: 0\r\n\r\n",
    "a fold at the start": H + b" x: y\r\ncontent-length: 0\r\n\r\n",
    "space before colon": H + b"content-length : 0\r\n\r\n",
    "no colon": H + b"content-length\r\n\r\n",
    "no name": H + b": x\r\ncontent-length: 0\r\n\r\n",
    "a name with a space": H + b"a b: x\r\ncontent-length: 0\r\n\r\n",
    "a name beyond ascii": H + b"\xe9: x\r\ncontent-length: 0\r\n\r\n",
    "nul in a value": H + b"x: a\0b\r\ncontent-length: 0\r\n\r\n",
    "cr in a value": H + b"x: a\rb\r\ncontent-length: 0\r\n\r\n",
    "lf ends lines": b"HTTP/1.1 200 OK\ncontent-length: 0\n\n",
    "one lf among cr lf": H + b"x: y\ncontent-length: 0\r\n\r\n",
    "lf ends the head": H + b"content-length: 0\r\n\n",
    "garbage": b"garbage\r\n\r\n",
    "ssh": b"SSH-2.0-OpenSSH_9.6\r\n",
    "http 2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "an http 2 frame": b"\x00\x00\x12\x04\x00\x00\x00\x00\x00",
    "http 2 in text": b"HTTP/2.0 200 OK\r\ncontent-length: 0\r\n\r\n",
    "http 0.9": b"HTTP/0.9 200 OK\r\ncontent-length: 0\r\n\r\n",
    "http 1.2": b"HTTP/1.2 200 OK\r\ncontent-length: 0\r\n\r\n",
    "small letters": b"http/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
    "an empty line first": b"\r\n" + H + b"content-length: 0\r\n\r\n",
    "a request": b"GET / HTTP/1.1\r\n\r\n",
    "html": b"<html>hello</html>",
    "four digits": b"HTTP/1.1 2000 OK\r\ncontent-length: 0\r\n\r\n",
    "two digits": b"HTTP/1.1 20 OK\r\ncontent-length: 0\r\n\r\n",
    "no number": b"HTTP/1.1 abc OK\r\ncontent-length: 0\r\n\r\n",
    "status 099": b"HTTP/1.1 099 OK\r\ncontent-length: 0\r\n\r\n",
    "101": b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
    "101 without a word": b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + H + b"content-length: 0\r\n\r\n",
    "continue without end": b"HTTP/1.1 100 Continue\r\n\r\n" * 17,
    "a long line": H + b"x: " + b"y" * 20_000 + b"\r\ncontent-length: 0\r\n\r\n",
    "a long head": H + b"".join(b"x%d: %s\r\n" % (n, b"y" * 1000) for n in range(70)) + b"content-length: 0\r\n\r\n",
    "many headers": H + b"x: y\r\n" * (HEADERS_MAX + 1) + b"\r\n",
    "a head without end": H + b"x: " + b"y" * 70_000,
}
BAD_CHUNKS: dict[str, bytes] = {
    "+5": b"+5\r\nhello\r\n",
    "-5": b"-5\r\nhello\r\n",
    "0x5": b"0x5\r\nhello\r\n",
    "space before": b" 5\r\nhello\r\n",
    "space after": b"5 \r\nhello\r\n",
    "5_0": b"5_0\r\nhello\r\n",
    "no size": b"\r\nhello\r\n",
    "no hex": b"g\r\nhello\r\n",
    "lf only": b"5\nhello\r\n",
    "lf after": b"5\r\nhello\n0\r\n\r\n",
    "nothing after": b"5\r\nhello0\r\n\r\n",
    "too much": b"5\r\nhello!\r\n0\r\n\r\n",
    "overflow": b"fffffffffffffffff\r\nhello\r\n",
    "a folded trailer": b"0\r\nx: y\r\n z\r\n\r\n",
    "a malformed trailer": b"0\r\nx y\r\n\r\n",
    "a length in the trailer": b"0\r\ncontent-length: 5\r\n\r\n",
    "an extension of 100 KiB": b"5;" + b"x" * 100_000 + b"\r\nhello\r\n0\r\n\r\n",
    "trailers of 100 KiB": b"0\r\n" + b"x: y\r\n" * 20_000 + b"\r\n",
}


def some_cuts(data: bytes) -> list[list[bytes]]:
    places = range(1, len(data), max(1, len(data) // 200))
    return [[data], *(cut(data, place) for place in places), singly(data) if len(data) < 5000 else cut(data, *places)]


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED.keys())
async def test_what_two_parsers_could_read_differently_is_refused(data: bytes) -> None:
    for pieces in some_cuts(data):
        assert await outcome(pieces) == Outcome(error="UpstreamInvalidReply"), pieces


@pytest.mark.parametrize("data", BAD_CHUNKS.values(), ids=BAD_CHUNKS.keys())
async def test_bad_chunks_are_refused(data: bytes) -> None:
    for pieces in some_cuts(data):
        told = await outcome([CHUNKED, *pieces])
        if data.startswith((b"5;", b"0\r\nx: y\r\nx")) and len(pieces) < 3:
            continue  # so much may come in one read and do no harm
        assert told.error == "UpstreamInvalidReply", pieces


# ---------------------------------------------------------------- any reply, any cuts


@settings(max_examples=300, deadline=None)
@given(replies(), st.lists(st.integers(1, 3000), max_size=12), st.booleans())
def test_any_reply_is_the_same_in_any_cuts(
    reply: tuple[bytes, Outcome, str], places: list[int], in_pieces: bool
) -> None:
    data, expected, end = reply
    assert asyncio.run(outcome(cut(data, *places), end=end, in_pieces=in_pieces)) == expected


async def on_a_socket(pieces: list[bytes], end: str) -> Outcome:
    """The same as `outcome`, with a real socket between; the kernel may join pieces, never lose or reorder them."""

    async def saying(wire: Wire) -> None:
        await wire.request()
        for piece in pieces:
            await wire.say(piece)
            await asyncio.sleep(0)
        if not end:
            await wire.until_closed()

    with TemporaryDirectory() as folder:
        path = str(Path(folder) / "s")
        async with serving(saying, unix_socket=path) as seen:
            client = HttptoolsUpstream()
            try:
                reply = await client.send(seen.ask(url="http://unix/", unix_socket=path))
                body = await reply.read(LIMIT)
                kept = client.counts()[0].idle == 1
                return Outcome(reply.status, tuple(reply.raw_headers), body, kept=kept)
            except AttemptFailed as error:
                return Outcome(error=type(error).__name__)
            finally:
                await client.close()


@settings(max_examples=60, deadline=None)
@given(replies(), st.lists(st.integers(1, 3000), max_size=12))
def test_any_reply_is_the_same_on_a_socket(reply: tuple[bytes, Outcome, str], places: list[int]) -> None:
    data, expected, end = reply
    told = asyncio.run(on_a_socket(cut(data, *places), end))
    if not end:
        assert told == expected
    else:
        assert (told.status, told.body, told.error) == (expected.status, expected.body, "")


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.binary(max_size=200), max_size=5), st.sampled_from([b"", H, CHUNKED, H + b"content-length: 9\r\n\r\n"])
)
def test_no_bytes_do_anything_but_end_the_call(pieces: list[bytes], first: bytes) -> None:
    """Whatever comes: a reply, or one of our errors; never another exception, never a connection kept by mistake."""
    told = asyncio.run(outcome([first, *pieces] if first else pieces, end="eof"))
    assert told.error in ("", "UpstreamLost", "UpstreamInvalidReply")


@pytest.mark.parametrize("data", [VALID["length"][0], CHUNKED, CHUNKED + b"2\r\nok\r\n0\r\n\r\n"])
async def test_a_reply_to_a_call_that_was_given_up_a_moment_ago(data: bytes) -> None:
    """The task is cancelled but has not run yet when the reply arrives: nothing of it may stay open."""
    connection, line, told, answer = begun()
    answer.cancel()
    connection.data_received(data)
    connection.given_up(answer)
    assert (told.events, line.closed) == (["ended"], True)


async def test_a_reply_that_was_not_taken_any_more() -> None:
    """The reply is here, but its task is cancelled before it runs."""
    connection, line, told, answer = begun()
    connection.data_received(CHUNKED)
    connection.given_up(answer)
    assert (told.events, line.closed) == (["ended"], True)
    connection, line, told, answer = begun()
    connection.data_received(VALID["length"][0])
    connection.given_up(answer)
    assert (told.events, line.closed) == (["released"], False), "it may already serve another call"
    connection.abort()
