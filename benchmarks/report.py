"""The bench's figures as `docs/benchmarks.md`."""

from __future__ import annotations

import datetime
from pathlib import Path

from benchmarks.figures import Figures

TARGET = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"
DESIGN_US = {"identify": 2, "guard": 3, "admit": 4, "plan": 6, "reserve": 4, "settle": 13}


def write_report(figures: Figures) -> None:
    """Prints the page and writes it."""
    text = "\n".join([*_head(figures), *_requests(figures), *_streams(figures), *_life(figures), *_steps(figures)])
    TARGET.write_text(text + "\n")
    print(text)


def _head(figures: Figures) -> list[str]:
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    return [
        "# Benchmarks",
        "",
        f"Made by `make bench` on {today}: {figures.machine}. One run; the worker (or the bare proxy) has one",
        "core, load, upstream, bookkeeper and desk share the other. Everything is on: key, one request limit and two",
        "money budgets, holds, journal, prices, metrics, ledger. Machines are noisy: quote ratios of one run.",
        "",
        f"After {figures.calls:,} calls: `faregate ledger verify` is **{figures.verified}**.",
        "",
    ]


def _requests(figures: Figures) -> list[str]:
    rows = [
        "## Requests (0.8 kB replies, instant upstream)",
        "",
        "| connections | upstream alone | bare nginx | Faregate | share of nginx | added p50 | added p99 |",
        "|---|---|---|---|---|---|---|",
    ]
    for connections, ours in figures.gateway.items():
        direct = figures.direct[connections]
        proxy = figures.proxy.get(connections)
        shown = f"{proxy.requests_s:,.0f}/s" if proxy else "not installed"
        share = f"{ours.requests_s / proxy.requests_s:.0%}" if proxy else "–"
        rows.append(
            f"| {connections} | {direct.requests_s:,.0f}/s | {shown} | **{ours.requests_s:,.0f}/s**"
            f"{_errors(ours.errors)} | {share} | {ours.p50_ms - direct.p50_ms:.2f} ms "
            f"| {ours.p99_ms - direct.p99_ms:.2f} ms |"
        )
    return [*rows, ""]


def _errors(count: int) -> str:
    return f" ({count} errors)" if count else ""


def _streams(figures: Figures) -> list[str]:
    rows = [
        "## Streams (200 events each, 32 connections)",
        "",
        "| upstream sends | streams | events | events per CPU-second of the worker | worker's core used |",
        "|---|---|---|---|---|",
    ]
    names = {"burst": "all at once", "paced": "one event per ms"}
    for pace, found in figures.streams.items():
        rows.append(
            f"| {names[pace]} | {found['streams_s']:,.0f}/s | {found['events_s']:,.0f}/s "
            f"| **{found['events_cpu_s']:,.0f}** | {found['cpu_share']:.0%} |"
        )
    return [*rows, ""]


def _life(figures: Figures) -> list[str]:
    return [
        "## Start, memory, ledger",
        "",
        "| what | figure |",
        "|---|---|",
        f"| `faregate serve` on a new data folder, until ready | {figures.start_s:.1f} s |",
        f"| worker killed, its journal adopted, the next one ready | {figures.worker_ready_s:.2f} s |",
        f"| worker's memory at start | {figures.worker_mib:.0f} MiB |",
        f"| worker, desk and bookkeeper after the load | {figures.all_mib:.0f} MiB |",
        f"| largest backlog of the bookkeeper under full load | {figures.backlog_bytes / 2**20:.0f} MiB |",
        f"| longest usage recording delay under full load | {figures.delay_ms / 1000:.1f} s |",
        f"| time until the backlog was empty after the load | {figures.drained_s:.1f} s |",
        "",
    ]


def _steps(figures: Figures) -> list[str]:
    rows = [
        "## CPU by step",
        "",
        "Median of the path's own functions on the bench's call, in one process without a network. What a whole call",
        "takes beyond these is reading, writing and the upstream client.",
        "",
        "| step | µs | design |",
        "|---|---|---|",
    ]
    for name, cost in figures.steps.items():
        rows.append(f"| {name} | {cost:.1f} | {DESIGN_US.get(name, '')} |")
    whole = 1e6 / max(figures.gateway[32].requests_s, 1.0)
    rest = whole - sum(figures.steps.values())
    rows.append(f"| read, write, upstream client, event loop | {rest:.0f} | 50 |")
    rows.append(f"| **a whole call** (1 s ÷ requests/s at 32 connections) | **{whole:.0f}** | 83 |")
    return [*rows, ""]
