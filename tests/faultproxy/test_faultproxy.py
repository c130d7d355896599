"""The fault proxy between two plain sockets: each fault as both sides meet it, and that it can be taken back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from benchmarks.campaign.slopes import theil_sen
from benchmarks.faultproxy import CLEAN, Fault, FaultProxy, Flow

HANG_S = 20.0
SENT = bytes(range(256)) * 40


class Echo:
    """Answers each byte; `got` is all that came, `ended` how many connections ended."""

    def __init__(self) -> None:
        self.got = bytearray()
        self.ended = 0
        self.ending = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                self.got += data
                writer.write(data)
        except ConnectionResetError:
            self.got += b"(reset)"
        self.ended += 1
        self.ending.set()
        writer.close()


@asynccontextmanager
async def between() -> AsyncIterator[tuple[FaultProxy, Echo, asyncio.StreamReader, asyncio.StreamWriter]]:
    echo = Echo()
    server = await asyncio.start_server(echo.serve, "127.0.0.1", 0)
    async with asyncio.timeout(HANG_S), FaultProxy(("127.0.0.1", server.sockets[0].getsockname()[1])) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        yield proxy, echo, reader, writer
        writer.close()
    server.close()


@pytest.mark.parametrize(
    "flow", [Flow(), Flow(slice_bytes=700), Flow(latency_ms=5, jitter_ms=5), Flow(bytes_per_s=10**6)]
)
async def test_what_only_delays_changes_nothing(flow: Flow) -> None:
    async with between() as (proxy, echo, reader, writer):
        proxy.set(Fault(up=flow, down=flow))
        writer.write(SENT)
        assert await reader.readexactly(len(SENT)) == SENT
        writer.write_eof()
        assert await reader.read() == b""
        await echo.ending.wait()
        assert echo.ended == 1
        assert proxy.disturbed == 0


async def test_an_end_comes_after_exactly_so_many_bytes() -> None:
    async with between() as (proxy, _, reader, writer):
        proxy.set(Fault(down=Flow(end_after=1234)))
        writer.write(SENT)
        assert await reader.read(-1) == SENT[:1234]
        assert proxy.disturbed == 1


async def test_a_reset_is_one_for_both_sides() -> None:
    async with between() as (proxy, echo, reader, writer):
        proxy.set(Fault(up=Flow(reset_after=100)))
        writer.write(SENT)
        with pytest.raises(ConnectionResetError):
            await reader.read(-1)
        await echo.ending.wait()
        assert echo.got.removesuffix(b"(reset)") in (SENT[:100], b"")


async def test_a_stall_ends_with_the_next_fault() -> None:
    async with between() as (proxy, _, reader, writer):
        proxy.set(Fault(down=Flow(stall_after=10)))
        writer.write(SENT)
        assert await reader.readexactly(10) == SENT[:10]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await reader.read(1)
        proxy.set(CLEAN)
        assert await reader.readexactly(len(SENT) - 10) == SENT[10:]


async def test_a_reply_is_cut_once_it_was_asked_for() -> None:
    async with between() as (proxy, echo, reader, writer):
        proxy.set(Fault(cut_reply_to=b"COMMIT"))
        writer.write(b"BEGIN;")
        assert await reader.readexactly(6) == b"BEGIN;"
        writer.write(b"COMMIT;")
        with pytest.raises(ConnectionResetError):
            await reader.read(1)
        assert echo.got.startswith(b"BEGIN;COMMIT;")


async def test_refused_black_and_corrupted() -> None:
    async with between() as (proxy, echo, reader, writer):
        proxy.set(Fault(blackhole=True))
        writer.write(b"lost")
        await asyncio.sleep(0.05)
        proxy.set(Fault(up=Flow(corrupt_share=1.0)))
        writer.write(b"seen")
        changed = await reader.readexactly(4)
        assert all(ours != theirs for ours, theirs in zip(b"seen", changed, strict=True))
        assert bytes(echo.got) == changed
        proxy.set(Fault(refuse=True))
        other, _ = await asyncio.open_connection("127.0.0.1", proxy.port)
        with pytest.raises(ConnectionError):
            await other.read()


def test_theil_and_sens_slope_is_not_moved_by_wild_samples() -> None:
    times = [5.0 * number for number in range(100)]
    values = [40.0 + time / 3600 * 12 for time in times]
    values[10], values[50] = 4000.0, -7.0
    slope = theil_sen(times, values)
    assert slope.per_hour == pytest.approx(12.0)
    assert slope.low <= 12.0 <= slope.high
    assert theil_sen(times, [7.0] * 100).high == 0
    with pytest.raises(ValueError, match="three samples"):
        theil_sen(times[:2], values[:2])
