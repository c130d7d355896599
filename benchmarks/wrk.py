"""wrk with a POST of a usual chat request, pinned to the load's core."""

from __future__ import annotations

import re
import subprocess
import tempfile
from dataclasses import dataclass

from benchmarks.processes import load_core

_SCRIPT = """
wrk.method = "POST"
wrk.headers["content-type"] = "application/json"
wrk.headers["authorization"] = "Bearer {key}"
wrk.body = '{body}'
"""
BODY = (
    '{"model":"bench","messages":[{"role":"system","content":"You are a helpful assistant that answers briefly."},'
    '{"role":"user","content":"Name three rivers and say one sentence about each of them."}],"max_tokens":200}'
)
_UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3}


@dataclass(frozen=True)
class Measured:
    """Requests per second, latencies in ms, and answers that were not 2xx."""

    requests_s: float
    p50_ms: float
    p99_ms: float
    errors: int


def measure(port: int, key: str, connections: int, seconds: float) -> Measured:
    """One run of wrk with one thread."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(_SCRIPT.replace("{key}", key).replace("{body}", BODY))
        script.flush()
        done = subprocess.run(
            [
                "taskset",
                "-c",
                str(load_core()),
                "wrk",
                "-t1",
                f"-c{connections}",
                f"-d{seconds:.0f}s",
                "--latency",
                "-s",
                script.name,
                f"http://127.0.0.1:{port}/v1/chat/completions",
            ],
            capture_output=True,
            text=True,
            check=True,
        )
    return _read(done.stdout)


def _read(text: str) -> Measured:
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    p50 = re.search(r"50%\s+([\d.]+)(us|ms|s)", text)
    p99 = re.search(r"99%\s+([\d.]+)(us|ms|s)", text)
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    if rate is None or p50 is None or p99 is None:
        raise RuntimeError(f"wrk said: {text}")
    return Measured(
        float(rate.group(1)),
        float(p50.group(1)) * _UNITS[p50.group(2)],
        float(p99.group(1)) * _UNITS[p99.group(2)],
        int(bad.group(1)) if bad else 0,
    )
