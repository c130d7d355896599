"""Requests and bodies: upstream alone, bare nginx, our own hop without the path, Faregate."""

from __future__ import annotations

from benchmarks.bench import BODIES_KIB, CONNECTIONS, Bench, Row, bare_hop
from benchmarks.faregate import faregate
from benchmarks.nginx import bare_proxy
from benchmarks.results import Section
from benchmarks.wrk import sized_body

WARM_S = 2.0
BARE_HOP = "Faregate's hop alone"


def requests(bench: Bench) -> Section:
    """A usual chat request at 1, 32 and 256 connections."""
    rows: list[Row] = [
        bench.row("upstream alone", bench.upstream, connections, bench.seconds / 2) for connections in CONNECTIONS
    ]
    with bare_proxy(bench.new_folder("n"), bench.upstream.port) as proxy:
        if proxy is not None:
            rows += [bench.row("nginx", proxy, connections, bench.seconds) for connections in CONNECTIONS]
    with bare_hop(bench.upstream.port) as hop:
        rows += [bench.row(BARE_HOP, hop, connections, bench.seconds / 2) for connections in CONNECTIONS]
    with faregate(bench.new_folder("f"), bench.upstream.port) as ours:
        served = ours.served()
        bench.row("warm", served, 32, WARM_S)
        for connections in CONNECTIONS:
            ours.drain()
            rows.append(bench.row("Faregate", served, connections, bench.seconds, beside=ours.beside))
        return {"rows": rows, **ours.verify()}


def bodies(bench: Bench) -> Section:
    """Requests and replies of 1, 16 and 256 KiB at 32 connections."""
    texts = {kib: sized_body(kib) for kib in BODIES_KIB}
    rows: list[Row] = []
    for kib, text in texts.items():
        rows.append({"kib": kib, **bench.row("upstream alone", bench.upstream, 32, bench.seconds / 2, text)})
    with bare_proxy(bench.new_folder("n"), bench.upstream.port) as proxy:
        if proxy is not None:
            for kib, text in texts.items():
                rows.append({"kib": kib, **bench.row("nginx", proxy, 32, bench.seconds, text)})
    with faregate(bench.new_folder("f"), bench.upstream.port) as ours:
        served = ours.served()
        bench.row("warm", served, 32, WARM_S)
        for kib, text in texts.items():
            ours.drain()
            rows.append({"kib": kib, **bench.row("Faregate", served, 32, bench.seconds, text, ours.beside)})
        return {"rows": rows, **ours.verify()}
