"""What the gateway's books say of a call, and how its answer differs from the provider's own."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from live.running import Running, wait_for

from gateway.core.ids import ATTEMPT, print_id

OF_THE_MOMENT = ("id", "created", "timings", "system_fingerprint", "x_groq")
"""Members that differ between two equal calls."""
_ALL_THERE = re.compile(r"^records not in SQL yet +0$", re.MULTILINE)


def recorded(server: Running, request_id: str) -> Any:
    """The call as its owner sees it, once it is in the ledger."""

    def look() -> Any:
        reply = server.call("GET", f"/v1/requests/{request_id}", key=server.keys["app"])
        return reply.json if reply.status == 200 and reply.json["outcome"] != "running" else None

    return wait_for(f"{request_id} in the ledger", look)


def events(body: bytes) -> list[str]:
    """The data of each event of a stream; comments are left out."""
    blocks = body.decode().replace("\r\n", "\n").split("\n\n")
    lines = [line for block in blocks for line in block.split("\n")]
    return [line.removeprefix("data:").strip() for line in lines if line.startswith("data:")]


def timeless(data: Iterable[str]) -> list[str]:
    """JSON texts without what differs from call to call, order and every other member kept."""
    made = []
    for text in data:
        if text == "[DONE]":
            made.append(text)
            continue
        members = json.loads(text)
        made.append(json.dumps({name: value for name, value in members.items() if name not in OF_THE_MOMENT}))
    return made


@dataclass(frozen=True, slots=True)
class BookedAttempt:
    """An attempt that has ended, as SQL has it."""

    attempt_id: str
    provider: str
    outcome: str
    source: str
    output_tokens: int
    reported_nusd: int | None


def attempts(data_dir: Path) -> list[BookedAttempt]:
    """All of the ledger's. The ledger must have caught up: `balanced` waits for that."""
    query = (
        "select attempt.attempt_id, provider, outcome, source, output_tokens, reported_nusd from attempt "
        "join posting on posting.attempt_id = attempt.attempt_id"
    )
    with closing(sqlite3.connect(f"file:{data_dir}/ledger.db?mode=ro", uri=True)) as ledger:
        return [BookedAttempt(print_id(ATTEMPT, row[0]), *row[1:]) for row in ledger.execute(query)]


def balanced(server: Running) -> bool:
    """Whether `ledger verify` is green with nothing left to record, once that is so."""

    def green() -> bool:
        done = server.faregate("ledger", "verify", check=False)
        return done.returncode == 0 and bool(_ALL_THERE.search(done.stdout))

    return bool(wait_for("a green `ledger verify`", green))
