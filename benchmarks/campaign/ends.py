"""What happens to whole processes: SIGTERM under 200 streams, a stopped worker, the death of all at once, a burst of
large bodies. Each a named case on a server of its own, `ledger verify` after each.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from live.raw_client import chat_request, parse_head
from live.running import Running, running, wait_for

from benchmarks.campaign.books import missing, verified, witness_figures
from benchmarks.campaign.leaving import BODY
from benchmarks.campaign.load import Load
from benchmarks.processes import rss_mib

STREAMS = 200
DRAIN_S = 10
NOT_READY_S = 0.1
SHORT = {"x-sim-tokens": "20", "x-sim-token-interval-ms": "250"}
"""5 s."""
ENDLESS = {"x-sim-tokens": "400", "x-sim-token-interval-ms": "250"}
"""100 s: far beyond the drain limit. Many more would not do: the simulator drafts a whole reply first."""
STOPPED_S = 10.0
LARGE_BYTES = 8 * 1024 * 1024
LARGE_AT_ONCE = 64
WORKER_MIB_MAX = 900
"""64 bodies of 8 MiB are 512 MiB; each is held once by the caller's side and once on its way up."""

Case = Callable[[Path, int], Awaitable[list[str]]]


async def f34_sigterm(folder: Path, seed: int) -> list[str]:
    """Half of 200 streams end in 5 s, half never: those get an error event at the drain limit."""
    problems: list[str] = []
    with running(folder, drain_timeout_s=str(DRAIN_S)) as server:
        secret = await asyncio.to_thread(server.new_key, "drain", "--budget", "1000USD/month", "--rpm", "1000000")
        streams = [asyncio.ensure_future(_stream(server, secret, number % 2 == 0)) for number in range(STREAMS)]
        await asyncio.sleep(2.5)
        watcher = await _kept(server)
        assert server.process is not None
        told = time.monotonic()
        server.process.terminate()
        not_ready_s = await _not_ready(*watcher)
        bodies = await asyncio.gather(*streams)
        code = await asyncio.to_thread(server.process.wait, 60)
        took_s = time.monotonic() - told
        server.process = None
        whole = [b"data: [DONE]" in body for body in bodies[::2]]
        told_so = [b"server_shutting_down" in body and b"[DONE]" not in body for body in bodies[1::2]]
        print(
            f"  /readyz 503 after {not_ready_s * 1000:.0f} ms; {sum(whole)} of {len(whole)} short streams whole, "
            f"{sum(told_so)} of {len(told_so)} endless ones told; exit {code} after {took_s:.1f} s"
        )
        if not_ready_s > NOT_READY_S:
            problems.append(f"/readyz said ready for {not_ready_s * 1000:.0f} ms")
        if not all(whole):
            cut = [body for body in bodies[::2] if b"data: [DONE]" not in body]
            events = sorted(body.count(b"data: ") for body in cut)
            problems.append(f"{len(cut)} streams that had time were cut, after {events} events: {cut[0][-300:]!r}")
        if not all(told_so):
            problems.append(f"{told_so.count(False)} streams ended without being told: {bodies[1][-300:]!r}")
        if code:
            problems.append(f"exit code {code}")
        server.start()
        problems += await _books(server)
    return problems


async def _stream(server: Running, secret: str, is_short: bool) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(chat_request(secret, BODY, SHORT if is_short else ENDLESS, close=True))
    received = bytearray()
    try:
        async with asyncio.timeout(60):
            while data := await reader.read(65536):
                received += data
    except (OSError, TimeoutError) as error:
        received += repr(error).encode()
    writer.close()
    return bytes(received)


async def _kept(server: Running) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    await _ready(reader, writer)
    return reader, writer


async def _ready(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
    writer.write(b"GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n")
    status, headers = parse_head(await reader.readuntil(b"\r\n\r\n"))
    await reader.readexactly(int(headers["content-length"]))
    return status


async def _not_ready(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> float:
    """Seconds until /readyz says 503, or the connection is ended, which says the same."""
    begun = time.monotonic()
    with suppress(OSError, asyncio.IncompleteReadError):
        while await _ready(reader, writer) == 200:  # noqa: ASYNC110 - only asking tells
            await asyncio.sleep(0.005)
    writer.close()
    return time.monotonic() - begun


async def f05_stopped_worker(folder: Path, seed: int) -> list[str]:
    """SIGSTOP for 10 s while streams run: late tokens, nothing mixed up."""
    with running(folder) as server:
        secret = await asyncio.to_thread(server.new_key, "stop", "--budget", "1000USD/month", "--rpm", "1000000")
        load = Load(server, secret, 24, seed)
        await asyncio.sleep(2.0)
        worker = server.children()["worker"]
        os.kill(worker, signal.SIGSTOP)
        await asyncio.sleep(STOPPED_S)
        os.kill(worker, signal.SIGCONT)
        await asyncio.sleep(3.0)
        seen = await load.stop()
        print(f"  stopped for {STOPPED_S:.0f} s; clients: {seen.line()}")
        problems = list(seen.wrong)
        if seen.cut or set(seen.statuses) != {200}:
            problems.append(f"clients saw more than a delay: {seen.line()}")
        if server.children()["worker"] != worker:
            problems.append("the worker was replaced")
        problems += [f"not in the ledger: {one}" for one in await missing(server, secret, seen)]
        return problems + await _books(server)


async def f04_everything_dies(folder: Path, seed: int) -> list[str]:
    """kill -9 of supervisor and children at once, and a start by whoever starts it."""
    problems: list[str] = []
    with running(folder) as server:
        secret = await asyncio.to_thread(server.new_key, "all", "--budget", "1000USD/month", "--rpm", "1000000")
        small = await asyncio.to_thread(server.new_key, "small", "--budget", "0.0002USD/total")
        spent = [(await asyncio.to_thread(server.chat, small, max_tokens=50)).status for _ in range(40)]
        load = Load(server, secret, 12, seed)
        for number in range(3):
            await asyncio.sleep(2.0)
            assert server.process is not None
            for pid in (server.process.pid, *server.children().values()):
                os.kill(pid, signal.SIGKILL)
            server.process.wait()
            begun = time.monotonic()
            await asyncio.to_thread(server.start)
            ready_s = time.monotonic() - begun
            after = (await asyncio.to_thread(server.chat, small, max_tokens=50)).status
            print(f"  death {number + 1}: ready again after {ready_s:.2f} s; the spent budget answers {after}")
            if after != 402 or spent[-1] != 402:
                problems.append(f"a spent budget answered {spent[-1]} before and {after} after")
        seen = await load.stop()
        print(f"  clients: {seen.line()}")
        if 401 in seen.statuses:
            problems.append("a good key was refused")
        absent = await missing(server, secret, seen)
        if len(absent) > seen.statuses.get(503, 0):  # a refusal before the key is known is counted, not recorded
            problems += [f"not in the ledger: {one}" for one in absent]
        problems += seen.wrong
        return problems + await _books(server)


async def f07_large_bodies(folder: Path, seed: int) -> list[str]:
    """64 bodies of 8 MiB at once, and 8 that are over the limit."""
    problems: list[str] = []
    with running(folder, max_body_bytes=str(LARGE_BYTES + 65536)) as server:
        secret = await asyncio.to_thread(server.new_key, "large", "--budget", "1000USD/month", "--rpm", "1000000")
        worker = server.children()["worker"]
        text = "x" * (LARGE_BYTES - 1024)
        body = {"model": "sim-small", "messages": [{"role": "user", "content": text}]}
        request = chat_request(secret, body, close=True)
        body["messages"] = [{"role": "user", "content": text + "x" * 131072}]
        too_large = chat_request(secret, body, close=True)
        asked = [asyncio.ensure_future(_send(server, request)) for _ in range(LARGE_AT_ONCE)]
        asked += [asyncio.ensure_future(_send(server, too_large)) for _ in range(8)]
        most_mib = 0.0
        while not all(task.done() for task in asked):
            most_mib = max(most_mib, rss_mib(worker))
            await asyncio.sleep(0.05)
        answers = [task.result() for task in asked]
        statuses = {status: answers.count(status) for status in sorted(set(answers))}
        await asyncio.sleep(2.0)
        print(f"  answers {statuses}; worker at most {most_mib:.0f} MiB, {rss_mib(worker):.0f} MiB after")
        if answers[LARGE_AT_ONCE:] != [413] * 8:
            problems.append(f"too large bodies: {answers[LARGE_AT_ONCE:]}")
        if not set(answers) <= {200, 400, 413, 429, 503}:
            problems.append(f"unexpected answers {statuses}")
        if most_mib > WORKER_MIB_MAX:
            problems.append(f"the worker held {most_mib:.0f} MiB")
        if server.children()["worker"] != worker:
            problems.append("the worker died")
        return problems + await _books(server)


async def _send(server: Running, request: bytes) -> int:
    """The status; 0 if there was none."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        async with asyncio.timeout(120):
            writer.write(request)
            return parse_head(await reader.readuntil(b"\r\n\r\n"))[0]
    except (OSError, TimeoutError, asyncio.IncompleteReadError):
        return 0
    finally:
        writer.close()


async def _books(server: Running) -> list[str]:
    await asyncio.to_thread(wait_for, "readiness", server.ready)
    green, text = await verified(server)
    print(f"  ledger verify {'green' if green else 'NOT GREEN'}; {witness_figures(server)}")
    traces = [f"in the log: {line}" for line in server.log().split("\n") if "Traceback" in line]
    return traces if green else [*traces, f"ledger verify is not green: {text}"]


CASES: dict[str, Case] = {
    "F34 SIGTERM": f34_sigterm,
    "F05 stopped worker": f05_stopped_worker,
    "F04 everything dies": f04_everything_dies,
    "F07 large bodies": f07_large_bodies,
}


async def campaign(folder: Path, seed: int, count: int) -> list[str]:
    """Every case `count` times."""
    problems: list[str] = []
    for number in range(count):
        for name, case in CASES.items():
            print(f" {name}", flush=True)
            try:
                found = await case(folder / f"{name[:3]}-{number}", seed + number)
            except (AssertionError, TimeoutError, OSError) as error:
                found = [repr(error)]
            problems += [f"{name}: {problem}" for problem in found]
    return problems
