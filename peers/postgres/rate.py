"""How many calls a second the bookkeeper takes into SQL: `python peers/postgres/rate.py [--calls N] [--parts]`.

Real journals of calls as the path writes them, one bookkeeper pinned to one core, PostgreSQL (from its wheel, with
fsync on) on the other. `fold` and `load` are measured apart and together, from a backlog: wall time, and the CPU of
either side, say what bounds it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parents[2] / "tests")]

import uvloop
from live.database import postgres

from gateway.bookkeeper.folding import Folder, JournalSizes
from gateway.bookkeeper.loading import Loader
from gateway.core.charge import Line, PinnedRate
from gateway.core.ids import make_id
from gateway.core.limits import Take, Unit
from gateway.core.records import AnyRecord, AttemptEnd, Dispatch, Features, Hold, Settle, Shrink
from gateway.journal.writer import JournalWriter
from gateway.settings import Settings
from gateway.store import migrate
from gateway.store.engine import open_engine
from gateway.store.ledger_writer import LedgerWriter
from gateway.store.queries_verify import SqlLedgerProof
from gateway.system import SystemClock, SystemEntropy

KEYS = 200
MODELS = 12
RAW_USAGE = (
    b'{"prompt_tokens": 24, "completion_tokens": 96, "total_tokens": 120, "prompt_tokens_details": {"cached_tokens": 0,'
    b' "audio_tokens": 0}, "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0}}'
)
CLOCK, ENTROPY = SystemClock(), SystemEntropy()


def write_calls(settings: Settings, calls: int, at_once: int = 64) -> None:
    """A journal of `calls` calls, `at_once` running at a time, so that their records are mixed; every third streams."""
    chance = random.Random(1)
    writer = JournalWriter.create(
        settings.journal_dir,
        make_id(CLOCK.now_ms(), ENTROPY.bytes(10)),
        clock=CLOCK,
        segment_bytes=settings.segment_bytes,
        reserve_bytes=settings.journal_reserve_bytes,
        sync_ms=settings.journal_sync_ms,
    )
    running: list[tuple[bytes, list[AnyRecord]]] = []
    begun = 0
    while begun < calls or running:
        while begun < calls and len(running) < at_once:
            running.append(_call(chance, begun))
            begun += 1
        place = chance.randrange(len(running))
        call_id, records = running[place]
        writer.append(records.pop(0), call_id)
        if not records:
            running[place] = running[-1]
            running.pop()
    writer.close()


def _call(chance: random.Random, number: int) -> tuple[bytes, list[AnyRecord]]:
    now_ms = CLOCK.now_ms()
    call_id, attempt_id = (make_id(now_ms, ENTROPY.bytes(10)) for _ in range(2))
    key = chance.randrange(KEYS)
    who = {
        "org": "default",
        "team": f"team-{key % 20}",
        "key_id": f"key{key:06d}",
        "user": f"user-{chance.randrange(10_000)}",
        "session": "",
        "tags": (("env", "prod"), ("feature", f"f{key % 7}")),
        "endpoint": "chat.completions",
        "model_asked": f"model-{key % MODELS}",
        "deployment": f"openai/model-{key % MODELS}",
        "provider": "openai",
        "config_revision": 17,
        "started_ms": now_ms,
        "stream": number % 3 == 0,
    }
    windows = (f"lim_month|key{key:06d}|2026-11", f"lim_day|key{key:06d}|2026-11-25")
    lines = (
        Line("input", 24, 150_000, 1, 3_600, 3_600, "pr_a5e222dbe07c281e"),
        Line("output", 96, 600_000, 1, 57_600, 57_600, "pr_94cce30aa9737b5e"),
    )

    def takes(amount: int) -> tuple[Take, ...]:
        return tuple(Take(window, window.split("|")[0], Unit.USD, amount, now_ms + 86_400_000) for window in windows)

    hold = Hold(
        ts_ms=now_ms,
        attempt_id=attempt_id,
        attempt_no=1,
        model=f"model-{key % MODELS}-2026",
        takes=takes(161_703),
        counts=(
            Take(f"lim_minute|key{key:06d}|60s:{number // 1000}", "lim_minute", Unit.REQUESTS, 1, now_ms + 125_000),
        ),
        bound_nusd=161_703,
        input_estimate=30,
        rates=(
            PinnedRate("pr_a5e222dbe07c281e", "input", 150_000, 1),
            PinnedRate("pr_94cce30aa9737b5e", "output", 600_000, 1),
        ),
        **who,
    )
    end = AttemptEnd(
        ts_ms=now_ms + 1,
        attempt_id=attempt_id,
        outcome="ok",
        cause="",
        status=200,
        posted=takes(61_200),
        lines=lines,
        state="priced",
        source="provider",
        list_nusd=61_200,
        effective_nusd=61_200,
        raw_usage=RAW_USAGE,
        served_tier="default",
        model_served=f"model-{key % MODELS}-2026",
        finish_reason="stop",
        upstream_id=f"chatcmpl-{number:028d}",
        ttft_us=400_000,
        duration_us=900_000,
        input_tokens=24,
        output_tokens=96,
    )
    settle = Settle(
        ts_ms=now_ms + 1,
        attempt_id=attempt_id,
        verdicts=("allowed_models:allow",),
        features=Features(body_bytes=812, messages=3, input_estimate=30, max_output_tokens=256),
        model_planned=hold.model,
        model_served=hold.model,
        attempts=1,
        causes=(),
        outcome="ok",
        status=200,
        error_code="",
        finish_reason="stop",
        refusal=False,
        ttft_us=400_000,
        duration_us=900_000,
        overhead_us=177,
        cost_state="priced",
        list_nusd=61_200,
        effective_nusd=61_200,
        input_tokens=24,
        output_tokens=96,
        row_ids=("pr_a5e222dbe07c281e", "pr_94cce30aa9737b5e"),
        raw_usage=RAW_USAGE,
        trace_id=call_id,
        span_id=call_id[8:],
        **who,
    )
    shrink = (Shrink(now_ms, attempt_id, takes(80_000), 81_703),) if number % 3 == 0 else ()
    return call_id, [hold, Dispatch(now_ms, attempt_id), *shrink, end, settle]


def _children_cpu_s(folder: Path | None) -> float:
    """CPU seconds of PostgreSQL: the postmaster, what it runs and what it has reaped."""
    if folder is None:
        return 0.0
    master = (folder / "postmaster.pid").read_text().split("\n")[0]
    total = 0.0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, (_, rest) = stat.parent.name, stat.read_text().rsplit(")", 1)
        except (OSError, ValueError):
            continue
        fields = rest.split()
        if fields[1] == master:
            total += int(fields[11]) + int(fields[12])
        elif pid == master:
            total += sum(int(fields[number]) for number in (11, 12, 13, 14))
    return total / os.sysconf("SC_CLK_TCK")


async def _measure(settings: Settings, calls: int, part: str, server: Path | None) -> None:
    engine = open_engine(settings.database_url, settings.data_dir, "ledger")
    loader = Loader(settings.journal_dir, LedgerWriter(engine), CLOCK, ENTROPY)
    sizes = JournalSizes(settings.segment_bytes, settings.journal_reserve_bytes, settings.journal_sync_ms)
    checkpoint = settings.data_dir / f"checkpoint-{part}.msgpack"
    folder = Folder(settings.journal_dir, checkpoint, CLOCK, sizes)
    began, cpu, theirs = time.perf_counter(), time.process_time(), _children_cpu_s(server)
    tasks = []
    if part != "load":
        tasks.append(asyncio.create_task(folder.run()))
    if part != "fold":
        tasks.append(asyncio.create_task(loader.run()))

    def behind() -> bool:
        folding = part != "load" and (not folder.books.newest_ms or bool(folder.books.calls))
        return folding or (part != "fold" and loader.calls < calls)

    while behind():  # noqa: ASYNC110 - both run by themselves
        await asyncio.sleep(0.01)
    wall, cpu, theirs = time.perf_counter() - began, time.process_time() - cpu, _children_cpu_s(server) - theirs
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    kind = "PostgreSQL" if settings.database_url else "SQLite"
    print(
        f"{kind:11} {part:5} {calls / wall:8,.0f} calls/s   {wall:5.1f} s   "
        f"bookkeeper {cpu / calls * 1e6:5.0f} µs/call ({cpu / wall:4.0%})   "
        f"PostgreSQL {theirs / calls * 1e6:5.0f} µs/call ({theirs / wall:4.0%})",
        flush=True,
    )
    if part == "both" and await SqlLedgerProof(engine).verify_sums():
        raise SystemExit("the sums do not agree")
    await engine.dispose()


def _run(folder: Path, url: str, calls: int, parts: list[str], server: Path | None) -> None:
    settings = Settings(data_dir=folder, database_url=url)
    for number, part in enumerate(parts):
        if part != "fold":
            uvloop.run(migrate.upgrade(url, folder, "ledger"))
            if number:
                uvloop.run(migrate.downgrade(url, folder, "ledger", "base"))
                uvloop.run(migrate.upgrade(url, folder, "ledger"))
        uvloop.run(_measure(settings, calls, part, server))
        (folder / f"checkpoint-{part}.msgpack").unlink(missing_ok=True)


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    asked.add_argument("--calls", type=int, default=40_000)
    asked.add_argument("--at-once", type=int, default=64, help="calls running at a time: as long as they take")
    asked.add_argument("--only", choices=["sqlite", "postgres"])
    asked.add_argument("--parts", default="fold,load,both")
    given = asked.parse_args()
    parts = given.parts.split(",")
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix="fgrate") as name:
        folder = Path(name)
        write_calls(Settings(data_dir=folder, journal_reserve_bytes=64 << 20), given.calls, given.at_once)
        if given.only != "postgres":
            os.sched_setaffinity(0, cores[:1])
            _run(folder, "", given.calls, parts, None)
        if given.only != "sqlite":
            os.sched_setaffinity(0, cores[-1:])
            with postgres() as database:
                os.sched_setaffinity(0, cores[:1])
                _run(folder, database.url, given.calls, parts, database.folder)


if __name__ == "__main__":
    main()
