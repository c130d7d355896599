"""Between bookkeeper and PostgreSQL: the replies to COMMIT are cut, so that nobody knows what was committed; and calls
whose text a database would refuse.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from live.database import postgres
from live.raw_client import post_chat
from live.running import ROUTES, Running, running, wait_for

from benchmarks.campaign.books import missing, verified, witness_figures
from benchmarks.campaign.folders import make
from benchmarks.campaign.load import Load
from benchmarks.campaign.scripted import DONE, WORDS, Script, ScriptedUpstream, content, counted, event, stream
from benchmarks.campaign.scripts import GOOD
from benchmarks.faultproxy import CLEAN, Fault, FaultProxy

CUT = Fault(cut_reply_to=b"COMMIT")
CUT_S = 30.0
SOCKET = ".s.PGSQL.5432"
METADATA_BYTES = 2 * 1024 * 1024
SCRIPTED = """\
  scripted:
    kind: simulated
    base_url: http://127.0.0.1:{scripted}/v1
models:
  sim-scripted: scripted/sim-small
"""
_NUL = "a\x00b"
POISON: dict[str, Script] = {
    "NUL in usage": stream(WORDS, content("", "stop"), counted(GOOD | {"note": _NUL}), DONE),
    "NUL in finish reason": stream(WORDS, content("", _NUL), counted(GOOD), DONE),
    "NUL in model": stream(WORDS, event(choices=[], model=_NUL), content("", "stop"), counted(GOOD), DONE),
    "usage of 1 MB": stream(WORDS, content("", "stop"), counted(GOOD | {"note": "x" * 1_000_000}), DONE),
}


async def campaign(folder: Path, seed: int, count: int) -> list[str]:
    """`count` cut commits, with poison in between."""
    make(folder)
    sockets = Path(tempfile.mkdtemp(prefix="fgsock"))
    problems: list[str] = []
    try:
        with postgres() as database:
            async with (
                FaultProxy(database.folder / SOCKET, seed, listen=sockets / SOCKET) as proxy,
                ScriptedUpstream(POISON, folder / "witness.jsonl") as scripted,
            ):
                routes = ROUTES.replace("models:\n", SCRIPTED.format(scripted=scripted.port))
                url = database.url.replace(str(database.folder), str(sockets))
                context, server = await asyncio.to_thread(entered, folder, routes, url)
                try:
                    problems = await _cuts(server, proxy, seed, count)
                finally:
                    await asyncio.to_thread(context.__exit__, None, None, None)
    finally:
        shutil.rmtree(sockets)
    return problems


def entered(folder: Path, routes: str, url: str) -> tuple[Any, Running]:
    """In a thread: the start waits for the database, whose proxy runs in this process's event loop."""
    context = running(folder, routes=routes, database_url=url)
    return context, context.__enter__()


async def _cuts(server: Running, proxy: FaultProxy, seed: int, count: int) -> list[str]:
    problems: list[str] = []
    secret = await asyncio.to_thread(server.new_key, "load", "--budget", "1000USD/month", "--rpm", "1000000")
    load = Load(server, secret, 8, seed)
    poisoned: dict[str, int] = {}
    for number in range(count):
        before = proxy.disturbed
        proxy.set(CUT)
        await asyncio.to_thread(wait_for, "a cut commit", lambda was=before: proxy.disturbed > was, CUT_S)
        proxy.set(CLEAN)
        if number % 5 == 0:
            poisoned |= await _poison(server, secret)
        await asyncio.sleep(0.3)
    seen = await load.stop()
    print(f"  {proxy.disturbed} commits whose reply was cut; poison answered {poisoned}\n  clients: {seen.line()}")
    green, text = await verified(server)
    print(f"  witness: {witness_figures(server)}\n{text}")
    if not green:
        problems.append("ledger verify is not green")
    if set(seen.statuses) != {200} or seen.cut:
        problems.append(f"clients noticed: {seen.line()}")
    if any(status not in (200, 400, 404) for status in poisoned.values()):
        problems.append(f"poison was answered {poisoned}")
    problems += [f"not in the ledger: {absent}" for absent in await missing(server, secret, seen)]
    problems += [f"in the log: {line}" for line in server.log().split("\n") if "Traceback" in line]
    return problems


async def _poison(server: Running, secret: str) -> dict[str, int]:
    """Statuses by what was odd."""
    plain: dict[str, Any] = {"model": "sim-small", "messages": [{"role": "user", "content": "x"}], "max_tokens": 5}
    metadata = {"note": "x" * METADATA_BYTES}
    asked: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
        "NUL in user": (plain | {"user": _NUL}, {}),
        "NUL in text": (plain | {"messages": [{"role": "user", "content": _NUL}]}, {}),
        "NUL in the model asked": (plain | {"model": _NUL}, {}),
        "2 MB of metadata": (plain | {"metadata": metadata}, {}),
        "2 MB of a model's name": (plain | {"model": json.dumps(metadata)}, {}),
        "odd tags": (plain, {"x-faregate-tags": "a=\xff\xfe,=,b", "x-faregate-user": "\xff" * 4000}),
        **{name: (plain | {"model": "sim-scripted", "stream": True}, {"x-sim-script": name}) for name in POISON},
    }
    statuses: dict[str, int] = {}
    for name, (body, headers) in asked.items():
        shown = {key: value.encode("utf-8").decode("latin-1") for key, value in headers.items()}
        statuses[name] = (await post_chat(server.port, secret, body, shown))[0]
    return statuses
