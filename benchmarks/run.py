"""`make bench`: Faregate with everything on, a bare proxy and LiteLLM's proxy in one run; one core for each side.

The server under test has one core; load and an instant upstream have the other. Figures count only if the backlog
drains and `faregate ledger verify` is green afterwards. Writes `docs/performance.md` and the figures next to it as
JSON, part by part: a run of some parts keeps what the others last measured. Loopback only.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import FrameType

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from benchmarks.bench import STANDARD_S, Bench, instant_upstream
from benchmarks.dialects import rows
from benchmarks.machine import facts, too_busy
from benchmarks.part_burst import burst
from benchmarks.part_litellm import litellm
from benchmarks.part_memory import memory
from benchmarks.part_requests import bodies, requests
from benchmarks.part_streams import streams
from benchmarks.report import page
from benchmarks.results import DOCS, Results, Section, load_now, new_run
from benchmarks.steps import limit_costs, shrink_us, step_costs
from benchmarks.translation import event_costs


def steps(bench: Bench) -> Section:
    """CPU of the path's own functions."""
    by_limits = {str(count): costs for count, costs in limit_costs().items()}
    return {"steps_us": step_costs(), "limits_us": by_limits, "shrink_us": shrink_us()}


def dialects(bench: Bench) -> Section:
    """A call, and an event of a stream, in each dialect with a provider of each."""
    events = event_costs()
    return {"rows": [row | {"event_us": events[row["asked"], row["provider"]]} for row in rows()]}


PARTS: dict[str, Callable[[Bench], Section]] = {
    "requests": requests,
    "litellm": litellm,
    "burst": burst,
    "bodies": bodies,
    "streams": streams,
    "memory": memory,
    "steps": steps,
    "dialects": dialects,
}


def main() -> None:
    chosen = _arguments()
    for tool in ("wrk", "taskset"):
        if shutil.which(tool) is None:
            sys.exit(f"{tool} is not installed: make system-deps")
    if (busy := too_busy()) and not chosen.busy:
        sys.exit(f"Not measured: {busy}.")
    signal.signal(signal.SIGTERM, _ended)
    chosen.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="fgb", dir=chosen.folder) as folder, instant_upstream() as upstream:
        bench = Bench(Path(folder), upstream, chosen.seconds)
        results = Results(chosen.out / "performance.json", new_run(), chosen.seconds, facts(Path(folder)))
        for part in chosen.only:
            load = load_now()
            print(f"== {part} (load average {load:.2f})", flush=True)
            results.put(part, load, PARTS[part](bench))
            (chosen.out / "performance.md").write_text(page(results.sections))
    print((chosen.out / "performance.md").read_text())
    if any(str(section.get("verified", "green")) != "green" for section in results.sections.values()):
        sys.exit("The ledger did not verify: these figures do not count.")


def _ended(number: int, frame: FrameType | None) -> None:
    """So that every server is stopped."""
    sys.exit(128 + number)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", type=_parts, default=list(PARTS), help=f"some of {','.join(PARTS)}")
    parser.add_argument("--seconds", type=float, default=STANDARD_S, help="length of a usual load (default 8)")
    parser.add_argument("--busy", action="store_true", help="measure even when the machine is not quiet")
    parser.add_argument("--out", type=Path, default=DOCS, help="folder of page and figures (default docs)")
    parser.add_argument("--folder", type=Path, help="where journals are written (default: the temporary folder)")
    return parser.parse_args()


def _parts(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in PARTS]:
        raise argparse.ArgumentTypeError(f"no such part: {', '.join(unknown)}")
    return names


if __name__ == "__main__":
    main()
