"""What a worker does not import: it starts in a fraction of a second because it leaves SQL and FastAPI to others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from vault.fakes import Chance, record

from gateway.core.charge import PriceRow, PriceSheet
from gateway.core.config import Deployment, ModelRoute, Policy, ProviderSettings, Snapshot
from gateway.system import SystemEntropy
from gateway.vault.last_good import write_last_good
from gateway.vault.peppers import load_peppers

NOT_FOR_WORKERS = (
    "fastapi", "starlette", "sqlalchemy", "sqlmodel", "alembic", "aiosqlite", "asyncpg", "genai_prices", "litellm",
    "pydantic", "jinja2", "typer",
)  # fmt: skip

CHILD = """
import json, sys
from gateway import app
from gateway.settings import read_settings

parts = app.create_worker(read_settings())
worker = parts.worker
plane = worker.plane
print(json.dumps({
    "ready": parts.configuration.ready,
    "models": sorted(parts.configuration.policy.models),
    "keys": len(parts.configuration.keys),
    "surfaces": sorted(plane.services.surfaces),
    "modules": sorted({name.partition(".")[0] for name in sys.modules}),
}))
plane.services.journal.close()
"""


def prepare(data: Path) -> None:
    """A data folder as a served gateway leaves it: peppers, and the last good configuration with a key and a model."""
    (data / "secrets").mkdir(parents=True, mode=0o700)
    (data / "run").mkdir(mode=0o700)
    peppers = load_peppers(data / "secrets" / "peppers.json", SystemEntropy())
    provider = ProviderSettings("p", "openai", "openai_chat", "http://127.0.0.1:1/v1")
    route = ModelRoute("fast", (Deployment("p/gpt", "p", "gpt"),))
    sheet = PriceSheet("gpt", (PriceRow("r", "input", 1000), PriceRow("s", "output", 1000)), 1000, 100)
    policy = Policy(3, "h", {"p": provider}, {"fast": route}, (), {"openai/gpt": sheet})
    key = record(peppers.mint(Chance(1), "live"))
    write_last_good(data / "run" / "config.msgpack", Snapshot(3, policy, (key,)))


def test_a_worker_starts_without_the_modules_that_others_need(tmp_path: Path) -> None:
    prepare(tmp_path)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FAREGATE_")}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", CHILD],
        env={**environment, "FAREGATE_DATA_DIR": str(tmp_path), "FAREGATE_SEGMENT_BYTES": "65536"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["ready"], said["models"], said["keys"]) == (True, ["fast"], 1), "it is a worker that could serve"
    assert {"chat.completions", "completions", "embeddings"} <= set(said["surfaces"])
    assert {"httptools", "msgspec", "prometheus_client"} <= set(said["modules"]), "the list is of modules really loaded"
    assert [name for name in NOT_FOR_WORKERS if name in said["modules"]] == []
