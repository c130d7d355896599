"""A kill right before and right after each of a worker's first journal writes, one life after another under load."""

from __future__ import annotations

import asyncio
import dataclasses
import os
from pathlib import Path

from live.running import ROUTES, Running, free_port, start_simulator, wait_for

from benchmarks.campaign.books import missing, verified, witness_figures
from benchmarks.campaign.load import Load
from gateway.app import prepare_store
from gateway.cli.serve import environment_of
from gateway.settings import read_settings
from gateway.supervisor import Child, Supervisor, bind
from gateway.system import lock_data_folder

CLIENTS = 8
LIFE_S = 60.0


class Campaign(Supervisor):
    """A supervisor that gives each new worker its failpoint, and does not pause between lives."""

    points: list[str]
    lives = 0

    async def start(self, child: Child, wait: bool = True) -> None:
        if child is self.worker:
            point = self.points.pop(0) if self.points else ""
            environment = {**child.spec.environment, "FAREGATE_FAILPOINT": point}
            child.spec = dataclasses.replace(child.spec, environment=environment)
            self.lives += 1
        await super().start(child, wait)

    async def pause(self, child: Child) -> None:
        await asyncio.sleep(0)


async def campaign(folder: Path, seed: int, count: int) -> list[str]:
    """Two lives for each of the first `count` writes."""
    server = _server(folder)
    settings = read_settings(server.environment)
    lock = lock_data_folder(settings)
    await prepare_store(settings)
    listener = bind(settings.host, settings.port)
    supervisor = Campaign(settings, listener, {**server.environment, **environment_of(settings)})
    supervisor.points = [f"journal:{side}:{number}" for number in range(1, count + 1) for side in ("before", "after")]
    total = len(supervisor.points)
    later, supervisor.points = supervisor.points, []
    running = asyncio.ensure_future(supervisor.run())
    problems: list[str] = []
    try:
        await asyncio.to_thread(wait_for, "readiness", server.ready)
        secret = await asyncio.to_thread(server.new_key, "load", "--budget", "1000USD/month")
        supervisor.points = later
        await asyncio.to_thread(server.kill_pid, supervisor.pids["worker"])
        load = Load(server, secret, CLIENTS, seed)
        reported = 0
        while supervisor.points:
            before = supervisor.lives
            await asyncio.to_thread(wait_for, "the next life", lambda was=before: supervisor.lives > was, LIFE_S)
            if supervisor.lives - reported >= 50:
                reported = supervisor.lives
                print(f"  {supervisor.lives - 2} lives, {load.seen.line()}", flush=True)
        # The last failpoint's life has begun; the one after it has none and stays.
        last = supervisor.lives
        await asyncio.to_thread(wait_for, "the last death", lambda: supervisor.lives > last, LIFE_S)
        await asyncio.to_thread(wait_for, "readiness", server.ready)
        seen = await load.stop()
        green, text = await verified(server)
        print(f"  {total} kills at writes\n  clients: {seen.line()}\n  witness: {witness_figures(server)}\n{text}")
        if not green:
            problems.append("ledger verify is not green")
        problems.extend(f"not in the ledger: {absent}" for absent in await missing(server, secret, seen))
        problems.extend(seen.wrong)
    finally:
        supervisor.stop()
        await running
        listener.close()
        os.close(lock)
        assert server.simulator is not None
        server.simulator.terminate()
    return problems


def _server(folder: Path) -> Running:
    simulator_port, port = free_port(), free_port()
    policies = folder / "policies"
    policies.mkdir(parents=True)
    (policies / "routes.yaml").write_text(ROUTES.format(port=simulator_port))
    environment = {
        **os.environ,
        "FAREGATE_DATA_DIR": str(folder / "data"),
        "FAREGATE_CONFIG_DIR": str(policies),
        "FAREGATE_PORT": str(port),
    }
    server = Running(folder, port, simulator_port, environment)
    server.simulator = start_simulator(folder, simulator_port, environment)
    return server
