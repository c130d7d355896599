"""Fault campaigns against whole servers: `python -m benchmarks.faults [kills] [goodbye] …`; see docs/faults.md.

Every part ends with `faregate ledger verify --witness` and prints its figures; the exit status says whether all were
green. Loopback only, bounded in count and time.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from benchmarks.campaign import (
    agents,
    clock,
    crowd,
    disk,
    ends,
    goodbye,
    handover,
    kills,
    machine,
    slow,
    soak,
    sql,
    sqlcuts,
    storm,
    upstreams,
    writes,
)

Part = Callable[[Path, int, int], Awaitable[list[str]]]
PARTS: dict[str, tuple[Part, int]] = {
    "kills": (kills.campaign, 200),
    "writes": (writes.campaign, 200),
    "sql": (sql.campaign, 60),
    "disk": (disk.campaign, 1),
    "handover": (handover.campaign, 100),
    "sqlhandover": (handover.on_postgres, 20),
    "goodbye": (goodbye.campaign, 1000),
    "slow": (slow.campaign, 1000),
    "upstreams": (upstreams.campaign, 1),
    "ends": (ends.campaign, 1),
    "sqlcuts": (sqlcuts.campaign, 40),
    "clock": (clock.campaign, 1),
    "crowd": (crowd.campaign, 60),
    "machine": (machine.campaign, 300),
    "agents": (agents.campaign, 1),
    "storm": (storm.campaign, 5),
    "soak": (soak.campaign, 10),
}
MINUTES = frozenset({"storm", "soak"})
ASKED_FOR = frozenset({"soak"})
"""Parts that only run when they are named."""


async def run(names: list[str], seed: int, count: int | None, minutes: int | None) -> int:
    failed = 0
    for name in names:
        part, usual = PARTS[name]
        usual = minutes or usual if name in MINUTES else count or usual
        begun = time.monotonic()
        print(f"== {name} (seed {seed}, {usual})", flush=True)
        with tempfile.TemporaryDirectory(prefix="fg") as folder:
            problems = await part(Path(folder), seed, usual)
        for problem in problems[:10]:
            print(f"PROBLEM: {problem[:300]}")
        if len(problems) > 10:
            print(f"PROBLEM: … and {len(problems) - 10} more")
        failed += bool(problems)
        print(f"== {name}: {'FAILED' if problems else 'green'} in {time.monotonic() - begun:.0f} s", flush=True)
    return 1 if failed else 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="which parts; none: all but soak")
    parser.add_argument("--seed", type=int, default=20261124)
    parser.add_argument(
        "--count", type=int, help="kills, writes, seconds, steps, restarts or clients instead of the usual number"
    )
    parser.add_argument("--minutes", type=int, help="how long storm and soak go on instead of their usual time")
    chosen = parser.parse_args()
    sys.exit(
        asyncio.run(
            run(
                chosen.parts or [name for name in PARTS if name not in ASKED_FOR],
                chosen.seed,
                chosen.count,
                chosen.minutes,
            )
        )
    )


if __name__ == "__main__":
    main()
