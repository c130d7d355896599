"""wrk with a POST of a chat request, pinned to the load's core."""

from __future__ import annotations

import json
import re
import resource
import subprocess
import tempfile
from dataclasses import dataclass

from benchmarks.processes import load_core, pinned

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
_UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}
_REPLY_WAIT_S = 30


@dataclass(frozen=True)
class Measured:
    """One load: requests per second, latencies in ms, answers that were not 2xx or never came, wrk's own CPU."""

    requests: int
    seconds: float
    requests_s: float
    p50_ms: float
    p99_ms: float
    errors: int
    client_cpu_s: float


def sized_body(kib: int) -> str:
    """A request of about that size that asks the upstream for a reply of the same size."""
    bare = {"model": "bench", "user": f"kib-{kib}", "messages": [{"role": "user", "content": ""}], "max_tokens": 200}
    text = json.dumps(bare, separators=(",", ":"))
    filling = ("measured " * (kib * 1024 // 9 + 1))[: kib * 1024 - len(text)]
    return text.replace('"content":""', f'"content":"{filling}"')


def measure(port: int, key: str, connections: int, seconds: float, body: str = BODY) -> Measured:
    """One run of wrk with one thread."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(_SCRIPT.replace("{key}", key).replace("{body}", body))
        script.flush()
        command = ["wrk", "-t1", f"-c{connections}", f"-d{max(seconds, 1):.0f}s", f"--timeout={_REPLY_WAIT_S}s"]
        command += ["--latency", "-s", script.name, f"http://127.0.0.1:{port}/v1/chat/completions"]
        before = _children_cpu_s()
        done = subprocess.run(pinned(command, load_core()), capture_output=True, text=True, check=True)
    return _read(done.stdout, _children_cpu_s() - before)


def _children_cpu_s() -> float:
    """Of children that ended; only wrk does while it measures."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _read(text: str, client_cpu_s: float) -> Measured:
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    total = re.search(r"(\d+) requests in ([\d.]+)(us|ms|s|m)\b", text)
    p50 = re.search(r"50%\s+([\d.]+)(us|ms|s)", text)
    p99 = re.search(r"99%\s+([\d.]+)(us|ms|s)", text)
    if rate is None or total is None or p50 is None or p99 is None:
        raise RuntimeError(f"wrk said: {text}")
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    broken = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    requests, rate_s = int(total.group(1)), float(rate.group(1))
    return Measured(
        requests,
        float(total.group(2)) * _UNITS[total.group(3)] / 1e3,
        rate_s,
        float(p50.group(1)) * _UNITS[p50.group(2)],
        float(p99.group(1)) * _UNITS[p99.group(2)],
        (int(bad.group(1)) if bad else 0) + (sum(map(int, broken.groups())) if broken else 0),
        client_cpu_s,
    )
