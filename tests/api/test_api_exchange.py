"""One exchange over ASGI: bodies within their limits, headers that are no riddle, a caller that leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from flow.virtual_time import play

from api.asking import LEAVES, Told, part
from gateway.api.exchange import (
    BODY_TIMEOUT_S,
    LINGER_S,
    AsgiExchange,
    Message,
    WatchedDisconnect,
)
from gateway.api.headers import MAX_HEADER_BYTES, MAX_HEADERS, read_headers
from gateway.core.call import AnswerHead
from gateway.core.errors import BadRequest, BodyTooLarge, FaregateError, RequestTimeout, UnsupportedMediaType

JSON = {"content-type": "application/json"}
HEAD = AnswerHead(200, ((b"content-type", b"text/plain"),))


class Caller:
    """What it sends, in order; numbers are seconds. Then it stays until it `leaves`."""

    def __init__(self, *steps: Message | float) -> None:
        self.steps = list(steps)
        self.told = Told()
        self.gone = asyncio.Event()
        self.broken = False

    async def receive(self) -> Message:
        while self.steps:
            step = self.steps.pop(0)
            if not isinstance(step, int | float):
                return step
            await asyncio.sleep(step)
        await self.gone.wait()
        return LEAVES

    async def send(self, message: Message) -> None:
        if self.broken:
            raise OSError("the connection is closed")
        await self.told.send(message)

    def exchange(self, headers: dict[str, str] | None = None, limit: int = 100) -> AsgiExchange:
        return AsgiExchange({**JSON, **(headers or {})}, self.receive, self.send, 0, limit)


GOOD: list[tuple[Sequence[Message], dict[str, str], bytes]] = [
    ((part(b"{}"),), {}, b"{}"),
    ((part(b"{", True), part(b"}")), {}, b"{}"),
    ((part(b"{}", True), part(b"")), {}, b"{}"),
    ((part(b"", True), part(b"{}", True), part(b"")), {"content-length": "2"}, b"{}"),
    ((part(b"x" * 100),), {"content-length": "100"}, b"x" * 100),
    (({"type": "http.request"},), {}, b""),
    ((part(b"{}"),), {"content-type": "Application/JSON ; charset=utf-8", "content-encoding": "Identity"}, b"{}"),
]


@pytest.mark.parametrize(("steps", "headers", "body"), GOOD)
def test_bodies_that_are_taken(steps: Sequence[Message], headers: dict[str, str], body: bytes) -> None:
    async def taken() -> None:
        caller = Caller(*steps)
        exchange = caller.exchange(headers)
        assert await exchange.body() == body
        assert not exchange.disconnect.gone
        exchange.disconnect.stop()

    play(taken())


BAD: list[tuple[Sequence[Message | float], dict[str, str], type[FaregateError], int]] = [
    ((part(b"x" * 101),), {}, BodyTooLarge, 0),
    ((part(b"x" * 60, True), part(b"x" * 60, True), part(b"never")), {}, BodyTooLarge, 1),
    ((part(b"{}"),), {"content-length": "101"}, BodyTooLarge, 1),
    ((part(b"{}"),), {"content-length": "9" * 40}, BodyTooLarge, 1),
    ((part(b"{}"),), {"content-type": "text/plain"}, UnsupportedMediaType, 1),
    ((part(b"{}"),), {"content-type": ""}, UnsupportedMediaType, 1),
    ((part(b"{}"),), {"content-type": "application/jsonp"}, UnsupportedMediaType, 1),
    ((part(b"{}"),), {"content-encoding": "gzip"}, UnsupportedMediaType, 1),
    ((part(b"{", True), BODY_TIMEOUT_S + 1), {}, RequestTimeout, 0),
]


@pytest.mark.parametrize(("steps", "headers", "error", "unread"), BAD)
def test_bodies_that_are_refused(
    steps: Sequence[Message | float], headers: dict[str, str], error: type[FaregateError], unread: int
) -> None:
    async def refused() -> None:
        caller = Caller(*steps)
        exchange = caller.exchange(headers)
        with pytest.raises(error):
            await exchange.body()
        assert len(caller.steps) == unread, "no more is read than is needed to know"

    play(refused())


@pytest.mark.parametrize("length", ["²", "-1", "1e9", " 5"])
def test_a_length_that_is_none_does_not_decide(length: str) -> None:
    async def taken() -> None:
        exchange = Caller(part(b"{}")).exchange({"content-length": length})
        assert await exchange.body() == b"{}"
        exchange.disconnect.stop()

    play(taken())


def test_a_caller_that_leaves_in_its_body_is_known_to_have_gone() -> None:
    async def left() -> None:
        exchange = Caller(part(b"{", True), LEAVES).exchange()
        with pytest.raises(BadRequest):
            await exchange.body()
        assert exchange.disconnect.gone

    play(left())


def test_leaving_is_told_once_and_later_callers_back_at_once() -> None:
    async def left() -> None:
        caller = Caller(part(b"{}"))
        exchange = caller.exchange()
        await exchange.body()
        told: list[str] = []
        exchange.disconnect.on_gone(lambda: told.append("first"))
        caller.gone.set()
        await asyncio.sleep(0.1)
        assert told == ["first"]
        exchange.disconnect.on_gone(lambda: told.append("second"))
        assert told == ["first", "second"]
        await exchange.start(HEAD)
        await exchange.write(b"x")
        await exchange.finish(b"y")
        assert caller.told.sent == [], "a caller that has gone is written nothing"
        assert exchange.started
        exchange.disconnect.stop()

    play(left())


def test_what_was_forgotten_is_not_called_back() -> None:
    async def left() -> None:
        caller = Caller()
        watched = WatchedDisconnect(caller.receive)
        watched.watch()
        watched.watch()
        watched.on_gone(lambda: pytest.fail("it was forgotten"))
        watched.forget()
        caller.gone.set()
        await asyncio.sleep(0.1)
        assert watched.gone
        watched.stop()
        watched.stop()

    play(left())


def test_a_server_that_says_by_an_error_that_the_caller_has_gone() -> None:
    async def left() -> None:
        caller = Caller(part(b"{}"))
        exchange = caller.exchange()
        await exchange.body()
        await exchange.start(HEAD)
        told: list[bool] = []
        exchange.disconnect.on_gone(lambda: told.append(True))
        caller.broken = True
        await exchange.write(b"x")
        assert told == [True]
        assert exchange.disconnect.gone
        await exchange.finish()
        exchange.disconnect.stop()

    play(left())


def test_an_answer_before_the_body_was_read_waits_for_it_a_little() -> None:
    """Else the connection is reset before the caller has read why."""

    async def refused() -> None:
        loop = asyncio.get_running_loop()
        caller = Caller(0.5, part(b"x", True), 0.5, part(b"y"))
        exchange = caller.exchange({"content-length": "2"})
        began = loop.time()
        await exchange.start(AnswerHead(413, ((b"content-length", b"2"),)))
        await exchange.finish(b"no")
        assert caller.told.body == b"no"
        assert caller.told.sent[1]["more_body"] is True, "the caller has all of it at once"
        assert loop.time() - began == pytest.approx(1.0)
        endless = Caller(part(b"x", True), 1000)
        exchange = endless.exchange({"transfer-encoding": "chunked"})
        began = loop.time()
        await exchange.start(HEAD)
        await exchange.finish(b"no")
        assert loop.time() - began == pytest.approx(LINGER_S)
        assert endless.told.done

    play(refused())


def headers(*pairs: tuple[str, str]) -> dict[str, str]:
    return read_headers([(name.encode("latin-1"), value.encode("latin-1")) for name, value in pairs])


def test_of_repeated_headers_the_first_counts() -> None:
    assert headers(("accept", "a"), ("accept", "b"), ("x", "\xe9")) == {"accept": "a", "x": "\xe9"}


@pytest.mark.parametrize("name", ["authorization", "x-api-key", "api-key", "x-goog-api-key", "x-faregate-api-key"])
def test_two_keys_that_differ_are_refused_and_the_same_twice_is_one(name: str) -> None:
    with pytest.raises(BadRequest, match=name):
        headers((name, "Bearer a"), (name, "Bearer b"))
    assert headers((name, "a"), (name, "a")) == {name: "a"}


def test_too_many_and_too_long_headers_are_refused() -> None:
    assert len(headers(*((f"h{n}", "x") for n in range(MAX_HEADERS)))) == MAX_HEADERS
    with pytest.raises(BadRequest):
        headers(*((f"h{n}", "x") for n in range(MAX_HEADERS + 1)))
    with pytest.raises(BadRequest):
        headers(("x", "y" * MAX_HEADER_BYTES))
    with pytest.raises(BadRequest):
        headers(*(("x", "y" * 1000) for _ in range(40)))
