"""How long a burst may be and what rate may go on for ever: the bookkeeper against the load."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.bench import Bench, Row
from benchmarks.faregate import Faregate, faregate
from benchmarks.processes import load_core, spawn, spending
from benchmarks.results import Section

BURST_LENGTHS = 7.5
SUSTAINED_LENGTHS = 2.5
PROBES = 6
STEP = 1.25
FLAT_MS = 2000
RISE_MS = 500
LOOK_S = 0.2
CLOSE_ENOUGH = 1.08
REACHED = 0.97
FULL = 0.9


class Watch:
    """The recording delay and backlog, looked at while something else goes on."""

    def __init__(self, ours: Faregate) -> None:
        self._ours = ours
        self._ended = threading.Event()
        self.seen: list[tuple[float, int, int]] = []

    def run(self) -> None:
        while not self._ended.wait(LOOK_S):
            status = self._ours.status()
            self.seen.append((time.monotonic(), int(status["behind_ms"]), int(status["behind_bytes"])))

    def end(self) -> None:
        self._ended.set()

    @property
    def delay_max_ms(self) -> int:
        return max((delay for _, delay, _ in self.seen), default=0)

    @property
    def backlog_max_bytes(self) -> int:
        return max((size for _, _, size in self.seen), default=0)

    @property
    def rise_ms(self) -> float:
        """How much longer the delay was in the last quarter than in the first half."""
        delays = [delay for _, delay, _ in self.seen]
        early, late = delays[: len(delays) // 2], delays[-max(len(delays) // 4, 1) :]
        return sum(late) / len(late) - sum(early) / len(early) if early and late else 0.0


@contextmanager
def watching(ours: Faregate) -> Iterator[Watch]:
    watch = Watch(ours)
    thread = threading.Thread(target=watch.run)
    thread.start()
    try:
        yield watch
    finally:
        watch.end()
        thread.join()


def burst(bench: Bench) -> Section:
    """A burst at 32 connections that drains, then the highest steady rate."""
    with faregate(bench.new_folder("f"), bench.upstream.port) as ours:
        bench.row("warm", ours.served(), 32, 2.0)
        ours.drain()
        bookkeeper = ours.server.children()["bookkeeper"]
        loaded = int(ours.status()["loaded_calls"])
        with spending({"bookkeeper": [bookkeeper]}) as spent:
            with watching(ours) as watch:
                row = bench.row("Faregate", ours.served(), 32, bench.seconds * BURST_LENGTHS, beside=ours.beside)
            loaded_before = int(ours.status()["loaded_calls"])
            drain_s = ours.drain()
        calls = int(ours.status()["loaded_calls"]) - loaded
        bookkeeper_us = spent.cpu_s["bookkeeper"] * 1e6 / max(calls, 1)
        found: Section = {
            "burst": row,
            "burst_s": bench.seconds * BURST_LENGTHS,
            "delay_max_ms": watch.delay_max_ms,
            "backlog_max_bytes": watch.backlog_max_bytes,
            "drain_s": drain_s,
            "drain_calls": int(ours.status()["loaded_calls"]) - loaded_before,
            "bookkeeper_us": bookkeeper_us,
        }
        found["probes"] = _sustained(ours, bench, min(row["requests_s"], 1e6 / max(bookkeeper_us, 1.0)))
        return {**found, **ours.verify()}


def _sustained(ours: Faregate, bench: Bench, guess: float) -> list[Row]:
    """Rates tried, in order. Begins at what the bookkeeper's CPU per call allows, goes up or down in steps until one
    is flat and one is not, then halves in between."""
    probes: list[Row] = []
    low, high, rate = 0.0, float("inf"), guess
    for _ in range(PROBES):
        probe = _probe(ours, bench, rate)
        probes.append(probe)
        if probe["flat"]:
            low = max(low, rate)
        else:
            high = min(high, rate)
        if low and high / low < CLOSE_ENOUGH:
            break
        if not low:
            rate = high / STEP / STEP
        else:
            rate = low * STEP if high == float("inf") else (low * high) ** 0.5
    return probes


def _probe(ours: Faregate, bench: Bench, rate: float) -> Row:
    ours.drain()
    seconds = bench.seconds * SUSTAINED_LENGTHS
    roles = ours.server.children()
    groups = {"worker": [roles["worker"]], "bookkeeper": [roles["bookkeeper"]], "upstream": bench.upstream.pids}
    with watching(ours) as watch, spending(groups) as spent:
        command = ["-m", "benchmarks.openloop", str(ours.server.port), ours.key, f"{rate:.3f}", str(seconds)]
        client = spawn([sys.executable, *command], load_core(), capture=True)
        out, _ = client.communicate(timeout=seconds + 120)
    found: dict[str, Any] = json.loads(out)
    shares = {f"{name}_core": used / found["seconds"] for name, used in spent.cpu_s.items()}
    shares["client_core"] = found["client_cpu_s"] / found["seconds"]
    reached = found["answered_s"] >= REACHED * rate and not found["errors"]
    flat = reached and watch.delay_max_ms < FLAT_MS and watch.rise_ms < RISE_MS
    probe = {"rate": rate, "flat": flat, "reached": reached, "delay_max_ms": watch.delay_max_ms, **found, **shares}
    return {**probe, "bound": "" if flat else _bound(probe)}


def _bound(probe: Row) -> str:
    """What was full when the rate was too high."""
    shared = probe["bookkeeper_core"] + probe["upstream_core"] + probe["client_core"]
    if probe["worker_core"] > FULL:
        return "the worker's core"
    if shared > FULL:
        return f"the shared core (bookkeeper {probe['bookkeeper_core']:.0%}, upstream and client the rest)"
    return "the bookkeeper waits, no core is full" if probe["reached"] else "other work on this machine"
