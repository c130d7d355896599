"""Memory of the three processes idle, loaded and after, and how soon a worker is ready."""

from __future__ import annotations

import threading
import time

from benchmarks.bench import STANDARD_S, Bench
from benchmarks.faregate import Faregate, faregate
from benchmarks.results import Section

KEYS = 1000
AFTER_LENGTHS = 30.0 / STANDARD_S
LOOK_S = 0.25
SETTLE_S = 2.0
RESTARTS = 3


def memory(bench: Bench) -> Section:
    """With a thousand keys; the load is 256 connections."""
    with faregate(bench.new_folder("f"), bench.upstream.port) as ours:
        ours.add_keys(KEYS)
        restarts = [ours.restart_worker() for _ in range(RESTARTS)]
        time.sleep(SETTLE_S)
        idle = ours.memory_mib()
        loaded = _loaded(ours, bench)
        after_s = bench.seconds * AFTER_LENGTHS
        time.sleep(after_s)
        after = ours.memory_mib()
        found: Section = {"keys": KEYS, "idle_mib": idle, "loaded_mib": loaded, "after_mib": after, "after_s": after_s}
        return {**found, "start_s": ours.start_s, "restart_s": sorted(restarts), **ours.verify()}


def _loaded(ours: Faregate, bench: Bench) -> dict[str, float]:
    """The most each process had while loaded."""
    most: dict[str, float] = {}
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(LOOK_S):
            for role, mib in ours.memory_mib().items():
                most[role] = max(most.get(role, 0.0), mib)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        bench.row("Faregate", ours.served(), 256, bench.seconds, beside=ours.beside)
    finally:
        ended.set()
        thread.join()
    return most
