"""Streams: one event per read and in bursts, at 50, 500 and 2 000 at a time."""

from __future__ import annotations

import json
import sys
from typing import Any

from benchmarks.bench import Bench, Row
from benchmarks.faregate import faregate
from benchmarks.processes import Served, load_core, rss_mib, spawn, spending
from benchmarks.results import Section
from benchmarks.upstream import EVENTS

CONCURRENT = (50, 500, 2000)
OFFERED_EVENTS_S = 15_000
FEWEST_EVENTS = 20


def streams(bench: Bench) -> Section:
    """Each load against the upstream alone first: what it then takes to the first event is not ours."""
    rows: list[Row] = []
    with faregate(bench.new_folder("f"), bench.upstream.port) as ours:
        worker = ours.worker
        for mode in ("paced", "burst"):
            for concurrent in CONCURRENT:
                ours.drain()
                wish = _wish(mode, concurrent, bench.seconds)
                direct = _load(bench, bench.upstream, concurrent, bench.seconds / 2, wish)
                row = _load(bench, ours.served(), concurrent, bench.seconds, wish, ours.beside)
                row |= {"mode": mode, "concurrent": concurrent, "worker_mib": rss_mib(worker)}
                rows.append(
                    row | {"direct_first_p99_ms": direct["first_p99_ms"], "direct_events_s": direct["events_s"]}
                )
        return {"rows": rows, **ours.verify()}


def _wish(mode: str, concurrent: int, seconds: float) -> str:
    """Paced streams together offer a rate below what the worker can do, so that events arrive one by one; a stream is
    no longer than the load."""
    if mode == "burst":
        return "burst"
    interval_s = concurrent / OFFERED_EVENTS_S
    events = min(max(int(seconds * 2 / interval_s), FEWEST_EVENTS), EVENTS)
    return f"paced-{interval_s * 1e6:.0f}-{events}"


def _load(
    bench: Bench, served: Served, concurrent: int, seconds: float, wish: str, beside: tuple[int, ...] = ()
) -> Row:
    command = ["-m", "benchmarks.streams", str(served.port), served.key, str(concurrent), str(seconds), wish]
    with spending({"server": served.pids, "upstream": bench.upstream.pids, "beside": beside}) as spent:
        client = spawn([sys.executable, *command], load_core(), capture=True)
        out, _ = client.communicate(timeout=seconds * 4 + 300)
    found: dict[str, Any] = json.loads(out)
    cpu = spent.cpu_s
    return {
        "streams": found["streams"],
        "errors": found["errors"],
        "events_s": found["events"] / found["seconds"],
        "events_cpu_s": found["events"] / max(cpu["server"], 0.01),
        "events_read": found["events"] / max(found["reads"], 1),
        "first_p50_ms": found["first_p50_ms"],
        "first_p99_ms": found["first_p99_ms"],
        "core": cpu["server"] / found["seconds"],
        "load_core": (cpu["upstream"] + cpu["beside"] + found["client_cpu_s"]) / found["seconds"],
    }
