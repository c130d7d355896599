"""LiteLLM's proxy under the same load, bare and with its database."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from benchmarks import litellm_proxy
from benchmarks.bench import CONNECTIONS, Bench, Row
from benchmarks.litellm_proxy import Proxy, Unavailable
from benchmarks.processes import rss_mib
from benchmarks.results import Section
from benchmarks.wrk import sized_body

BARE = "LiteLLM bare"
DATABASE = "LiteLLM + PostgreSQL"
WARM_S = 5.0
Start = Callable[[Path, int], AbstractContextManager[Proxy]]


def litellm(bench: Bench) -> Section:
    """What cannot be measured here says why in `absent`."""
    rows: list[Row] = []
    bodies: list[Row] = []
    absent: dict[str, str] = {}
    life: dict[str, dict[str, float]] = {}
    starts: dict[str, Start] = {BARE: litellm_proxy.bare, DATABASE: litellm_proxy.with_database}
    for name, start in starts.items():
        try:
            with start(bench.new_folder("l"), bench.upstream.port) as proxy:
                idle = rss_mib(proxy.served.pids[0])
                bench.row("warm", proxy.served, 8, WARM_S)
                for connections in CONNECTIONS:
                    rows.append(bench.row(name, proxy.served, connections, bench.seconds, beside=proxy.others))
                if name == BARE:
                    bodies.append({"kib": 1, **bench.row(name, proxy.served, 32, bench.seconds, sized_body(1))})
                loaded = rss_mib(proxy.served.pids[0])
                life[name] = {"ready_s": proxy.ready_s, "idle_mib": idle, "loaded_mib": loaded}
        except Unavailable as reason:
            absent[name] = str(reason)
    try:
        version = litellm_proxy.version()
    except Unavailable:
        version = ""
    return {"rows": rows, "bodies": bodies, "absent": absent, "life": life, "version": version}
