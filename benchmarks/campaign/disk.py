"""A failing disk under load: EIO on fdatasync (strace injects it into the worker) and a journal folder that fills up.

Needs strace and the right to mount a tmpfs (root); says so when it has neither.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
from pathlib import Path

from live.running import Running, running, wait_for

from benchmarks.campaign.books import missing, verified, witness_figures
from benchmarks.campaign.load import Load

TMPFS_BYTES = 40 * 1024 * 1024
SMALL = {"segment_bytes": str(2 * 1024 * 1024), "journal_reserve_bytes": str(4 * 1024 * 1024)}


async def campaign(folder: Path, seed: int, count: int) -> list[str]:
    """EIO first, then the full disk."""
    return [*await _io_error(folder / "eio", seed), *await _full(folder / "full", seed)]


async def _io_error(folder: Path, seed: int) -> list[str]:
    problems: list[str] = []
    if shutil.which("strace") is None:
        return ["strace is not installed (make system-deps): EIO was not tested"]
    with running(folder) as server:
        secret = await asyncio.to_thread(server.new_key, "load", "--budget", "1000USD/month")
        load = Load(server, secret, 8, seed, leave_share=0.0)
        await asyncio.sleep(1.0)
        worker = server.children()["worker"]
        tracer = subprocess.Popen(
            [
                "strace",
                "-f",
                "-q",
                "-p",
                str(worker),
                "-e",
                "trace=fdatasync",
                "-o",
                str(folder / "strace.txt"),
                "-e",
                "inject=fdatasync:error=EIO:when=20+50",
            ],
        )
        await asyncio.sleep(6.0)
        tracer.send_signal(signal.SIGINT)
        tracer.wait(timeout=20)
        injected = (folder / "strace.txt").read_text().count("(INJECTED)")
        await asyncio.sleep(1.0)
        seen = await load.stop()
        green, text = await verified(server)
        print(f"  EIO on fdatasync: {injected} injected\n  clients: {seen.line()}\n{text}")
        if not injected:
            problems.append("no error was injected")
        if not green:
            problems.append("EIO: ledger verify is not green")
        if seen.cut or any(status != 200 for status in seen.statuses):
            problems.append(f"EIO: clients noticed: {seen.line()}")
        problems.extend(f"EIO: not in the ledger: {absent}" for absent in await missing(server, secret, seen))
    return problems


async def _full(folder: Path, seed: int) -> list[str]:
    problems: list[str] = []
    journals = folder / "data" / "journal"
    journals.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={TMPFS_BYTES}", "tmpfs", str(journals)], check=True)
    try:
        with running(folder, **SMALL) as server:
            problems = await _fill(server, journals, seed)
    finally:
        subprocess.run(["umount", "-l", str(journals)], check=True)
    return problems


async def _fill(server: Running, journals: Path, seed: int) -> list[str]:
    problems: list[str] = []
    secret = await asyncio.to_thread(server.new_key, "load", "--budget", "1000USD/month")
    load = Load(server, secret, 16, seed, leave_share=0.0)
    await asyncio.sleep(1.0)
    ballast = journals / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 65536)
        except OSError:
            print(f"  full: {ballast.stat().st_size >> 20} MiB of ballast beside the journal", flush=True)
    await asyncio.to_thread(wait_for, "a refusal", lambda: load.seen.statuses.get(503, 0) > 20, 120.0)
    whole, served = load.seen.whole, load.seen.statuses.get(200, 0)
    await asyncio.sleep(3.0)
    print(f"  while full: {load.seen.statuses}, served meanwhile {load.seen.statuses.get(200, 0) - served}")
    ballast.unlink()
    await asyncio.to_thread(wait_for, "recovery", lambda: load.seen.whole > whole + 20, 60.0)
    seen = await load.stop()
    green, text = await verified(server)
    print(f"  clients: {seen.line()}\n  witness: {witness_figures(server)}\n{text}")
    if not green:
        problems.append("full disk: ledger verify is not green")
    if seen.cut:
        problems.append(f"full disk: {seen.cut} running streams were cut")
    if set(seen.statuses) - {200, 503}:
        problems.append(f"full disk: unexpected answers {seen.statuses}")
    recorded = [row for row in await missing(server, secret, seen) if "not_found" not in row]
    problems.extend(f"full disk: not in the ledger: {absent}" for absent in recorded)
    return problems
