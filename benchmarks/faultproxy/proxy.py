"""The proxy: a listener, and for each connection a link of two pumps that obey the fault of the moment."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from benchmarks.faultproxy.faults import CLEAN, Fault, Flow

CHUNK_BYTES = 64 * 1024
Address = tuple[str, int] | Path
Choose = Callable[[random.Random], Fault]
"""A fault for each new connection."""


class FaultProxy:
    """`async with FaultProxy(target) as proxy`: connect to `proxy.port`, or to the Unix socket `listen`.

    `target` may be another for new connections. `set` acts at once on the
    connections there are and on those to come; `choose` on new ones only, each its own.
    """

    def __init__(self, target: Address, seed: int = 0, listen: Path | None = None) -> None:
        self.target = target
        self._listen = listen
        self._chance = random.Random(seed)
        self._fault = CLEAN
        self._choose: Choose | None = None
        self._links: set[Link] = set()
        self._server: asyncio.Server | None = None
        self.accepted = 0
        self.disturbed = 0
        """How many resets, ends, stalls and cut replies there were."""

    async def __aenter__(self) -> FaultProxy:
        if self._listen is not None:
            self._server = await asyncio.start_unix_server(self._serve, self._listen)
        else:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=2048)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.drop()
        await asyncio.sleep(0)

    @property
    def port(self) -> int:
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    @property
    def open(self) -> int:
        return len(self._links)

    def set(self, fault: Fault) -> None:
        self._fault, self._choose = fault, None
        for link in self._links:
            link.obey(fault)

    def choose(self, choose: Choose) -> None:
        self._choose = choose

    def drop(self) -> None:
        """Resets every connection."""
        for link in list(self._links):
            link.reset()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        chosen = self._choose(self._chance) if self._choose is not None else None
        if (chosen or self._fault).refuse:
            self.disturbed += 1
            reset(writer)
            return
        try:
            if isinstance(self.target, Path):
                far = await asyncio.open_unix_connection(self.target)
            else:
                far = await asyncio.open_connection(*self.target)
        except OSError:
            reset(writer)
            return
        link = Link((reader, writer), far, chosen or self._fault, self._chance, self._note)
        self._links.add(link)
        try:
            await link.run()
        finally:
            self._links.discard(link)

    def _note(self) -> None:
        self.disturbed += 1


class Link:
    """One connection through the proxy."""

    def __init__(
        self,
        near: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        far: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        fault: Fault,
        chance: random.Random,
        note: Callable[[], None],
    ) -> None:
        self.fault = fault
        self.cut = False
        self.note = note
        self.chance = chance
        self.ended = asyncio.Event()
        self.changed = asyncio.Event()
        self._writers = (near[1], far[1])
        self._up = Pump(self, near[0], far[1], up=True)
        self._down = Pump(self, far[0], near[1], up=False)

    def obey(self, fault: Fault) -> None:
        self.fault = fault
        self._up.passed = self._down.passed = 0
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()

    async def run(self) -> None:
        pumps = [asyncio.ensure_future(pump.run()) for pump in (self._up, self._down)]
        ending = asyncio.ensure_future(self.ended.wait())
        try:
            both = asyncio.gather(*pumps, return_exceptions=True)
            await asyncio.wait((both, ending), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (*pumps, ending):
                task.cancel()
            for writer in self._writers:
                writer.close()

    def reset(self) -> None:
        for writer in self._writers:
            reset(writer)
        self.ended.set()


class Pump:
    """One direction. `passed` counts the bytes let through since the fault was set."""

    def __init__(self, link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, up: bool) -> None:
        self._link = link
        self._reader = reader
        self._writer = writer
        self._is_up = up
        self.passed = 0

    @property
    def _flow(self) -> Flow:
        return self._link.fault.up if self._is_up else self._link.fault.down

    async def run(self) -> None:
        link = self._link
        try:
            while data := await self._reader.read(CHUNK_BYTES):
                if link.fault.blackhole:
                    continue
                if self._is_up:
                    asked = link.fault.cut_reply_to
                    link.cut = link.cut or bool(asked and asked in data)
                elif link.cut:
                    link.note()
                    link.reset()
                    return
                await self._pass(data)
                if link.ended.is_set():
                    return
            await asyncio.sleep(self._flow.slow_close_ms / 1000)
            if self._writer.can_write_eof():
                self._writer.write_eof()
        except OSError:
            link.reset()  # one side broke: the other sees a break, too

    async def _pass(self, data: bytes) -> None:
        flow = self._flow
        if flow.corrupt_share:
            data = corrupted(data, flow.corrupt_share, self._link.chance)
        size = flow.slice_bytes or len(data)
        for start in range(0, len(data), size):
            if not await self._send(data[start : start + size]):
                return

    async def _send(self, piece: bytes) -> bool:
        """False when the flow has ended here."""
        while True:
            flow = self._flow
            wait_s = (flow.latency_ms + self._link.chance.uniform(0, flow.jitter_ms) + flow.slice_pause_ms) / 1000
            if flow.bytes_per_s:
                wait_s += len(piece) / flow.bytes_per_s
            if wait_s:
                await asyncio.sleep(wait_s)
            stop = flow.stops_after
            room = len(piece) if stop is None else max(0, stop - self.passed)
            self.passed += len(piece[:room])
            if room:
                self._writer.write(piece[:room])
                await self._writer.drain()
            if stop is None or self.passed < stop:
                return True
            piece = piece[room:]
            if not await self._stop(flow):
                return False

    async def _stop(self, flow: Flow) -> bool:
        """What comes at the end of a flow; True when another fault has been set meanwhile, and it goes on."""
        self._link.note()
        if flow.stops_after == flow.stall_after:
            changed = self._link.changed
            await changed.wait()
            return True
        if flow.stops_after == flow.reset_after:
            self._link.reset()
        else:
            self._writer.close()  # what was written goes out before the FIN
            with suppress(OSError):
                await self._writer.wait_closed()
            self._link.ended.set()
        return False


def reset(writer: asyncio.StreamWriter) -> None:
    """A RST instead of a FIN: what the other side has not read yet is lost to it."""
    raw = writer.get_extra_info("socket")
    if raw is not None and raw.fileno() >= 0:
        with suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def corrupted(data: bytes, share: float, chance: random.Random) -> bytes:
    changed = bytearray(data)
    for place in range(len(changed)):
        if chance.random() < share:
            changed[place] ^= 1 << chance.randrange(8)
    return bytes(changed)
