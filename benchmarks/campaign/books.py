"""After a campaign: wait for the ledger to catch up, verify it against the witness, look up what clients saw."""

from __future__ import annotations

import asyncio
import json
import re
import time

from live.running import Running

from benchmarks.campaign.load import Seen

QUIESCE_S = 60.0
NOT_YET = re.compile(r"records not in SQL yet\s+([\d,]+)")


async def verified(server: Running) -> tuple[bool, str]:
    """(green, the report's text) of `faregate ledger verify --witness`.

    Tried until it is green with every record in SQL, or a minute has passed.
    """
    end = time.monotonic() + QUIESCE_S
    while True:
        done = await asyncio.to_thread(
            server.faregate, "ledger", "verify", "--witness", str(server.witness), check=False
        )
        loaded = NOT_YET.search(done.stdout)
        green = done.returncode == 0 and loaded is not None and loaded.group(1) == "0"
        if green or time.monotonic() > end:
            return green, done.stdout + done.stderr
        await asyncio.sleep(0.5)


async def missing(server: Running, secret: str, seen: Seen, most: int = 400) -> list[str]:
    """Ids that a client received and the ledger does not have (a sample of `most`)."""
    ids = seen.request_ids[:: max(1, len(seen.request_ids) // most)]
    absent: list[str] = []
    for request_id in ids:
        reply = await asyncio.to_thread(server.call, "GET", f"/v1/requests/{request_id}", None, secret)
        if reply.status != 200:
            absent.append(f"{request_id}: {reply.status} {reply.body[:200]!r}")
    return absent


def witness_figures(server: Running) -> str:
    """How many attempts the upstream's own log has, completed and cancelled."""
    begun = completed = cancelled = 0
    for line in server.witness.read_text().split("\n"):
        if not line:
            continue
        event = json.loads(line)
        if event["event"] == "begin":
            begun += 1
        else:
            completed += bool(event["completed"])
            cancelled += event["cancelled_ms"] is not None
    return f"{begun} attempts in the upstream's own log, {completed} completed, {cancelled} cancelled"
