"""Burst, streams, memory and steps of the page."""

from __future__ import annotations

from typing import Any

from benchmarks.results import Section
from benchmarks.tables import amount, made, note, table

DESIGN_US = {"identify": 2, "guard": 3, "admit": 4, "plan": 6, "reserve": 4, "settle": 13}
LOAD_IS_LIMIT = 0.9


def burst(section: Section) -> list[str]:
    row = section["burst"]
    drained = section["drain_calls"] / section["drain_s"] if section["drain_s"] > 1 else 0.0
    alone = 1e6 / max(section["bookkeeper_us"], 1.0)
    facts = [
        ["requests/s", f"**{row['requests_s']:,.0f}** ({row['errors']} errors)"],
        ["p50, p99", f"{amount(row['p50_ms'])} ms, {amount(row['p99_ms'])} ms"],
        ["longest usage recording delay meanwhile", f"{section['delay_max_ms'] / 1000:.1f} s"],
        ["largest backlog", f"{section['backlog_max_bytes'] / 2**20:,.0f} MiB"],
        ["time to drain afterwards (the status is a second old at most)", f"{section['drain_s']:.1f} s"],
        ["calls/s into the ledger while draining", f"{drained:,.0f}" if drained else "too short to say"],
        ["bookkeeper's CPU a call", f"{section['bookkeeper_us']:.0f} µs: {alone:,.0f} calls/s with a core of its own"],
    ]
    title = [f"## A burst of {section['burst_s']:.0f} s at 32 connections, and the sustained rate", ""]
    return [*title, *made(section), *table(["what", "figure"], facts), *_sustained(section["probes"])]


def _sustained(probes: list[dict[str, Any]]) -> list[str]:
    flat = [probe for probe in probes if probe["flat"]]
    steep = [probe for probe in probes if not probe["flat"]]
    best = max(flat, key=lambda probe: float(probe["rate"]), default=None)
    first = min(steep, key=lambda probe: float(probe["rate"]), default=None)
    lines = [
        f"Sustained rate: **{best['rate']:,.0f}/s** at a fixed rate without waiting for answers (open loop)."
        if best
        else "Sustained rate: none of the rates tried was flat.",
        "Flat means: recording delay below 2 s and not rising, every request answered in time.",
        f"Beyond it: {first['bound']}." if first else "No rate tried was too high.",
        "Load, upstream and bookkeeper share a core here; where the load comes from elsewhere, the rate is higher.",
        "",
    ]
    rows = [
        [
            f"{probe['rate']:,.0f}",
            "yes" if probe["flat"] else f"no: {probe['bound']}",
            f"{probe['answered_s']:,.0f}",
            f"{probe['delay_max_ms'] / 1000:.1f}",
            f"{amount(probe['p50_ms'])} / {amount(probe['p99_ms'])}",
            f"{probe['worker_core']:.0%}",
            f"{probe['bookkeeper_core']:.0%}",
            f"{probe['upstream_core'] + probe['client_core']:.0%}",
        ]
        for probe in probes
    ]
    head = ["asked/s", "flat", "answered/s", "longest delay s", "p50 / p99 ms", "worker", "bookkeeper", "load side"]
    return [*lines, *table(head, rows)]


def streams(section: Section) -> list[str]:
    names = {"paced": "one event at a time", "burst": "200 events at once"}
    rows = [
        [
            names[row["mode"]],
            f"{row['concurrent']:,}",
            f"{row['events_s']:,.0f}",
            f"**{row['events_cpu_s']:,.0f}**",
            f"{row['events_read']:.1f}",
            f"{amount(row['first_p50_ms'])} / {amount(row['first_p99_ms'])}",
            amount(row["direct_first_p99_ms"]),
            f"{row['core']:.0%}",
            f"{row['load_core']:.0%}" + (" (the limit)" if row["load_core"] >= LOAD_IS_LIMIT > row["core"] else ""),
            f"{row['worker_mib']:.0f}",
            str(row["errors"]),
        ]
        for row in section["rows"]
    ]
    head = ["upstream sends", "streams", "events/s", "events per worker CPU-second", "events per read of the client"]
    head += ["first event p50 / p99 ms", "p99 without Faregate", "worker's core", "load core", "worker MiB", "errors"]
    text = [
        "One event at a time offers 15,000 events/s over all streams, whatever their number: what a worker could do is",
        "events per CPU-second. In bursts, every stream begins anew as soon as it ends: the time to the first event is",
        "then time in the queue. Calls are part of both: with few events a stream, the call costs more than they do.",
        "",
    ]
    return ["## Streams", "", *made(section), *table(head, rows), *text]


def memory(section: Section, theirs: Section) -> list[str]:
    roles = sorted(section["idle_mib"], reverse=True)
    columns = {
        f"idle, {section['keys']:,} keys": "idle_mib",
        "most under load": "loaded_mib",
        f"{section['after_s']:.0f} s after it": "after_mib",
    }
    rows = [[role, *(f"{section[name].get(role, 0.0):.0f}" for name in columns.values())] for role in roles]
    totals = [f"{sum(section[name].values()):.0f}" for name in columns.values()]
    lines = ["## Memory (MiB) and start", "", *made(section), *table(["process", *columns], [*rows, ["all", *totals]])]
    restarts = section["restart_s"]
    facts = [
        ["Faregate, `serve` on a new data folder until ready, all processes", f"{section['start_s']:.2f} s"],
        [
            f"its worker, killed until the next is ready (median of {len(restarts)})",
            f"{restarts[len(restarts) // 2]:.2f} s",
        ],
    ]
    for name, life in theirs.get("life", {}).items():
        said = f"{life['ready_s']:.1f} s; {life['idle_mib']:.0f} MiB idle, {life['loaded_mib']:.0f} MiB after the load"
        facts.append([f"{name} {theirs['version']}, until ready", said])
    return [*lines, *table(["start", "figure"], facts), *note(section, theirs if theirs.get("life") else {})]


def steps(section: Section, requests: Section) -> list[str]:
    lines = [
        "## CPU by step",
        "",
        *made(section),
        "Median of the path's own functions on the bench's call, in one process without a network. What a whole call",
        "takes beyond these is reading, writing and the upstream connection.",
        "",
    ]
    costs: dict[str, float] = section["steps_us"]
    rows = [[name, f"{cost:.1f}", str(DESIGN_US.get(name, ""))] for name, cost in costs.items()]
    whole = next(
        (r["cpu_us"] for r in requests.get("rows", []) if r["server"] == "Faregate" and r["connections"] == 32), 0.0
    )
    if whole:
        rows.append(["read, write, upstream connection, event loop", f"{whole - sum(costs.values()):.0f}", "50"])
        rows.append(["**a whole call** (worker's CPU at 32 connections)", f"**{whole:.0f}**", "83"])
    lines += table(["step", "µs", "design"], rows)
    return [*lines, *(note(section, requests) if requests else []), *_limits(section)]


def _limits(section: Section) -> list[str]:
    """What more limits cost. A part measured before they were is left out."""
    by_count: dict[str, dict[str, float]] = section.get("limits_us", {})
    if not by_count:
        return []
    names = list(next(iter(by_count.values())))
    rows = [
        [name, *(f"{costs[name]:.1f}" for costs in by_count.values()), str(DESIGN_US.get(name, ""))] for name in names
    ]
    head = ["step", *(f"µs at {count} matching limit{'s' if count != '1' else ''}" for count in by_count), "design"]
    text = [
        "As many limits on requests (admit) as on money (reserve, settle) match the call. Each limit more is a counter",
        "to look up and to move (13 in a rolling window), and its name and amount in HOLD and ATTEMPT_END: what grows",
        "is the fold, and the bytes of the records. Price is part of settle and knows no limits. To shrink the hold of",
        f"two budgets, once a stream that tells its prompt early, took {section['shrink_us']:.0f} µs.",
        "",
    ]
    return ["### With more limits", "", *table(head, rows), *text]


def dialects(section: Section) -> list[str]:
    """Each dialect with a provider of each."""
    first = section["rows"][0]
    rows = []
    for row in section["rows"]:
        passed = row["asked"] == row["provider"]
        counted = f"{row['instructions']:,} ({row['instructions'] / first['instructions']:.2f})" if passed else ""
        spent = f"{row['us']:.0f} ({row['us'] / first['us']:.2f})"
        what = "passes" if passed else f"into {row['provider']}"
        rows.append([row["asked"], what, spent, counted if row["instructions"] else "", f"{row['event_us']:.1f}"])
    text = [
        "A whole call in one process without the kernel, with key, limits, journal and upstream connection: the least",
        "of many batches, in brackets against the first row. Instructions are callgrind's, which other work does not",
        "change. An event of a stream is fed alone, as providers send them.",
        "",
    ]
    head = ["asked in", "provider's dialect", "µs a call", "instructions a call", "µs an event"]
    return ["## Dialects", "", *made(section), *text, *table(head, rows)]
