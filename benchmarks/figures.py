"""What a bench has measured."""

from __future__ import annotations

from dataclasses import dataclass, field

from benchmarks.wrk import Measured


@dataclass
class Figures:
    """Everything the report shows."""

    direct: dict[int, Measured] = field(default_factory=dict)
    proxy: dict[int, Measured] = field(default_factory=dict)
    gateway: dict[int, Measured] = field(default_factory=dict)
    streams: dict[str, dict[str, float]] = field(default_factory=dict)
    start_s: float = 0.0
    worker_ready_s: float = 0.0
    worker_mib: float = 0.0
    all_mib: float = 0.0
    delay_ms: int = 0
    backlog_bytes: int = 0
    drained_s: float = 0.0
    verified: str = ""
    calls: int = 0
    steps: dict[str, float] = field(default_factory=dict)
    machine: str = ""
