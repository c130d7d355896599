"""The figures of all parts as `docs/performance.md`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.report_more import burst, dialects, memory, steps, streams
from benchmarks.results import Section
from benchmarks.tables import amount, made, note, table

Row = dict[str, Any]
LOAD_IS_LIMIT = 0.9
SERVER_IS_LIMIT = 0.9


def page(sections: Mapping[str, Section]) -> str:
    """The whole page; a part that was never measured is left out."""
    lines = _head(sections)
    if "requests" in sections or "litellm" in sections:
        lines += _requests(sections)
    if "bodies" in sections:
        lines += _bodies(sections)
    for part, write in {"burst": burst, "streams": streams}.items():
        if part in sections:
            lines += write(sections[part])
    if "memory" in sections:
        lines += memory(sections["memory"], sections.get("litellm", {}))
    if "steps" in sections:
        lines += steps(sections["steps"], sections.get("requests", {}))
    if "dialects" in sections:
        lines += dialects(sections["dialects"])
    return "\n".join(lines).rstrip("\n") + "\n"


def _head(sections: Mapping[str, Section]) -> list[str]:
    newest = max(sections.values(), key=lambda section: str(section["run"]))
    machine = newest["machine"]
    lines = [
        "# Performance",
        "",
        "Made by `make bench`; do not edit. The server under test has one core; load, upstream, bookkeeper and desk",
        "(of LiteLLM: its query engine and PostgreSQL) share the other. Everything is on in Faregate: key, one request",
        "limit, two money budgets, holds, journal on a real disk, prices, metrics, ledger. Loopback, an instant",
        "upstream, no TLS. Machines are noisy: quote ratios of one run, not figures of two.",
        "",
        f"- Machine: {machine['cores']} cores, {machine['processor']}, {machine['memory_gib']} GiB, Linux"
        f" {machine['kernel']}; journal on {machine['journal_on']}.",
        f"- {machine['python']}.",
    ]
    if any(section["run"] != newest["run"] for section in sections.values()):
        lines.append("- Not all parts are of one run; each says when it was made. Do not compare across runs.")
    if any(section["load"] > 0.7 for section in sections.values()):
        lines.append(
            "- **Some parts were made on a busy machine (load average above 0.7): their figures are too low.**"
        )
    for part, section in sections.items():
        if section.get("verified", "green") != "green":
            lines.append(f"- **{part}: `faregate ledger verify` is {section['verified']}**: these do not count.")
    return [*lines, ""]


def _requests(sections: Mapping[str, Section]) -> list[str]:
    mine, theirs = sections.get("requests", {}), sections.get("litellm", {})
    rows: list[Row] = [*mine.get("rows", []), *theirs.get("rows", [])]
    direct = {row["connections"]: row for row in rows if row["server"] == "upstream alone"}
    slowest = {row["connections"]: row["requests_s"] for row in rows if row["server"] == "LiteLLM bare"}
    about = "≈ " if mine and theirs and mine["run"] != theirs["run"] else ""
    lines = ["## Requests (0.3 kB asked, 0.8 kB answered)", "", *made(mine or theirs)]
    shown = []
    for row in sorted(rows, key=lambda row: int(row["connections"])):
        base = direct.get(row["connections"])
        answered = row["requests_s"] > 0
        added = row["server"] != "upstream alone" and base and answered
        less = slowest.get(row["connections"])
        shown.append(
            [
                str(row["connections"]),
                _name(row["server"]),
                f"{row['requests_s']:,.0f}",
                amount(row["p50_ms"]) if answered else "none answered",
                amount(row["p99_ms"]) if answered else "",
                amount(row["p50_ms"] - base["p50_ms"]) if added and base else "",
                amount(row["p99_ms"] - base["p99_ms"]) if added and base else "",
                f"{row['cpu_us']:,.0f}" if answered else "",
                str(row["errors"]),
                _limit(row),
                f"{about}{row['requests_s'] / less:.1f} ×" if less else "–",
            ]
        )
    head = ["connections", "server", "req/s", "p50 ms", "p99 ms", "added p50", "added p99", "CPU µs a call", "errors"]
    lines += table([*head, "limit", "times LiteLLM bare"], shown)
    lines += note(mine, theirs)
    for name, reason in theirs.get("absent", {}).items():
        lines += [f"{name} could not be measured here: {reason}", ""]
    lines += [
        "`limit`: what was full: the server's core, the load side's (then the server could do more), or neither (at",
        "one connection both wait for each other; else other work on the machine). CPU of a call is the server alone:",
        "nginx's master and worker, Faregate's worker, LiteLLM's Python process. LiteLLM bare has a master key and",
        "nothing else; Faregate's hop alone is its server protocol and its client without the path between them: what",
        "its CPU is less than Faregate's is the path. LiteLLM + PostgreSQL has a virtual key with budget and request",
        "limit, and the settings of its production guide.",
        "",
    ]
    return lines


def _name(server: str) -> str:
    return f"**{server}**" if server == "Faregate" else server


def _limit(row: Row) -> str:
    if row["server"] == "upstream alone":
        return "–"
    if row["core"] >= SERVER_IS_LIMIT:
        return "server"
    return "load side" if row["load_core"] >= LOAD_IS_LIMIT else "neither"


def _bodies(sections: Mapping[str, Section]) -> list[str]:
    section, theirs = sections["bodies"], sections.get("litellm", {})
    rows: list[Row] = [*section["rows"], *theirs.get("bodies", [])]
    proxies = {row["kib"]: row["requests_s"] for row in rows if row["server"] == "nginx"}
    shown = []
    for row in sorted(rows, key=lambda row: int(row["kib"])):
        proxy = proxies.get(row["kib"])
        shown.append(
            [
                str(row["kib"]),
                _name(row["server"]),
                f"{row['requests_s']:,.0f}",
                f"{row['requests_s'] * row['kib'] * 2 / 1024:,.0f}",
                amount(row["p50_ms"]),
                amount(row["p99_ms"]),
                f"{row['cpu_us']:,.0f}",
                str(row["errors"]),
                _limit(row),
                f"{row['requests_s'] / proxy:.0%}"
                if proxy and row["server"] not in ("nginx", "upstream alone")
                else "–",
            ]
        )
    head = ["KiB each way", "server", "req/s", "MiB/s", "p50 ms", "p99 ms", "CPU µs a call", "errors", "limit"]
    title = ["## Bodies (request and reply of that size, 32 connections)", "", *made(section)]
    return [*title, *table([*head, "share of nginx"], shown), *note(section, theirs if theirs.get("bodies") else {})]
