"""docs/postgresql.md, tried literally: every command, in its order, as an operator and an administrator would."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from live.running import Running, free_port, running, wait_for
from servers import Bouncer, Distribution
from store.ledger_entries import Book
from store.months_made import at

from gateway.store.engine import open_engine
from gateway.store.ledger_writer import LedgerWriter

PAGE = Path(__file__).resolve().parents[2] / "docs" / "postgresql.md"


@dataclass
class Manual:
    """The page's blocks, and a machine on which they are run."""

    debian: Distribution
    folder: Path
    blocks: dict[str, list[tuple[str, str]]]
    run_already: set[tuple[str, int]] = field(default_factory=set)

    def place(self, text: str) -> str:
        """The page's example addresses, as they are on this machine."""
        text = text.replace("db.example port=5432", f"localhost port={self.debian.port}")
        text = text.replace("db.example", f"localhost:{self.debian.port}")
        return text.replace("/etc/faregate/db-ca.pem", str(self.debian.authority))

    def url(self, database: str, role: str = "faregate", password: str = "change-me") -> str:
        tls = f"sslmode=verify-full&sslrootcert={self.debian.authority}"
        return f"postgresql://{role}:{password}@localhost:{self.debian.port}/{database}?{tls}"

    def run(self, heading: str, number: int, environment: Mapping[str, str] | None = None) -> str:
        """One block of shell commands, all of which must succeed; what it prints."""
        self.run_already.add((heading, number))
        language, text = self.blocks[heading][number]
        assert language == "sh"
        path = f"{self.debian.binaries}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        administrator = {"PGHOST": str(self.debian.folder), "PGPORT": str(self.debian.port), "PGUSER": "postgres"}
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", self.place(text)],
            cwd=self.folder,
            env={**os.environ, **administrator, "PATH": path, **(environment or {})},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{heading}: {text}\n{done.stdout}\n{done.stderr}"
        assert "ERROR" not in done.stderr, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def manual(debian: Distribution, tmp_path_factory: pytest.TempPathFactory) -> Manual:
    blocks: dict[str, list[tuple[str, str]]] = {}
    for section in PAGE.read_text().split("\n## ")[1:]:
        heading, _, body = section.partition("\n")
        blocks[heading] = re.findall(r"```(\w+)\n(.*?)```", body, re.DOTALL)
    return Manual(debian, tmp_path_factory.mktemp("manual"), blocks)


@pytest.fixture(scope="module")
def serving(manual: Manual) -> Iterator[Running]:
    """The page's first section, up to `faregate serve`."""
    manual.run("From an empty server", 0)
    assert "up to date" in manual.run("From an empty server", 1)
    with running(manual.folder / "first", database_url=manual.url("faregate")) as live:
        yield live


def test_from_an_empty_server_to_a_call_in_the_ledger(serving: Running) -> None:
    secret = serving.new_key("app", "--budget", "5USD/month")
    assert [serving.chat(secret).status for _ in range(20)] == [200] * 20
    assert "Green" in serving.verified().stdout


def test_only_the_right_server_is_talked_to(manual: Manual, serving: Running) -> None:
    right = manual.url("faregate")
    for wrong, says in (
        (right.replace("ca.pem", "other.pem"), "CERTIFICATE_VERIFY_FAILED"),
        (right.replace("@localhost", "@127.0.0.1"), "CERTIFICATE_VERIFY_FAILED"),
    ):
        serving.environment["FAREGATE_DATABASE_URL"] = wrong
        refused = serving.faregate("db", "status", check=False)
        assert (refused.returncode, says in refused.stderr) == (1, True), refused.stderr
        assert "change-me" not in refused.stderr
    serving.environment["FAREGATE_DATABASE_URL"] = right.replace("@localhost", "@127.0.0.1").replace("full", "ca")
    assert serving.faregate("db", "status").returncode == 0
    serving.environment["FAREGATE_DATABASE_URL"] = right


def test_two_roles(manual: Manual) -> None:
    assert "up to date" in manual.run("Two roles", 0)
    owner = {"FAREGATE_DATABASE_URL": manual.url("faregate_two", "faregate_owner")}
    assert "call_" in manual.run("Two roles", 1, owner)
    with running(manual.folder / "two") as live:
        live.stop()
        live.environment["FAREGATE_DATABASE_URL"] = manual.url("faregate_two", "faregate_app", "change-me-too")
        live.start()
        secret = live.new_key("app")
        assert [live.chat(secret).status for _ in range(20)] == [200] * 20
        assert "Green" in live.verified().stdout
        assert "months to come" not in live.log()
        assert "sim-small" in manual.run("Two roles", 2, owner)


def test_the_poolers_configuration(manual: Manual, serving: Running) -> None:
    """As the page has it, but for addresses."""
    folder = Path(tempfile.mkdtemp(prefix="fgbounce"))
    port = free_port()
    ((_, ini),) = manual.blocks["PgBouncer"]
    text = manual.place(ini).replace("6432", str(port)).replace("/etc/pgbouncer/userlist.txt", f"{folder}/users")
    assert "localhost" in text
    text += f"unix_socket_dir =\nlogfile = {folder}/log\npidfile = {folder}/pid\n"
    (folder / "ini").write_text(text)
    (folder / "users").write_text('"faregate" "change-me"\n')
    pooled = Bouncer(folder, port, None)
    pooled.share("postgres" if os.geteuid() == 0 else None)
    pooled.start()
    direct = serving.environment["FAREGATE_DATABASE_URL"]
    try:
        serving.stop()
        serving.environment["FAREGATE_DATABASE_URL"] = (
            f"postgresql://faregate:change-me@127.0.0.1:{port}/faregate?pgbouncer=1"
        )
        assert "up to date" in serving.faregate("db", "upgrade").stdout
        serving.start()
        secret = serving.new_key("pooled")
        assert [serving.chat(secret).status for _ in range(20)] == [200] * 20
        assert "Green" in serving.verified().stdout
        serving.stop()
    finally:
        pooled.stop()
        shutil.rmtree(folder)
    serving.environment["FAREGATE_DATABASE_URL"] = direct
    serving.start()


def test_months(manual: Manual, serving: Running) -> None:
    url = {"FAREGATE_DATABASE_URL": manual.url("faregate")}
    assert "call_default" in manual.run("Months", 0, url)
    serving.faregate("db", "partitions", "create", "--month", "2023-11")
    asyncio.run(_load_a_call_of_november(manual.url("faregate")))
    printed = manual.run("Months", 1, url)
    assert "call_2023_11" in printed
    assert printed.count("DROP TABLE") == 4
    assert (manual.folder / "call_2023_11.dump").stat().st_size > 1_000
    assert "2023" not in serving.faregate("db", "partitions", "list").stdout
    assert "Green" in serving.verified().stdout


async def _load_a_call_of_november(url: str) -> None:
    engine = open_engine(url, Path(), "ledger")
    loaded = await LedgerWriter(engine).load(Book().call(1, started_ms=at(2023, 11, 5)))
    assert loaded.calls == 1
    await engine.dispose()


def test_backup_and_restore(manual: Manual, serving: Running) -> None:
    url = {"FAREGATE_DATABASE_URL": manual.url("faregate")}
    before = serving.new_key("before")
    assert [serving.chat(before).status for _ in range(30)] == [200] * 30
    serving.verified()
    manual.run("Backups", 0, url)
    later = serving.new_key("later")
    assert [serving.chat(key).status for key in (before, later) for _ in range(30)] == [200] * 60
    serving.verified()
    serving.stop()
    manual.run("Backups", 1, url)
    serving.start()
    assert "Green" in serving.verified().stdout, "what the backup lacked was loaded again"
    assert serving.chat(before).status == 200
    assert serving.chat(later).status == 401
    lacking = serving.faregate("spend", "--by", "key", "--since", "1h").stdout
    assert later.split("_")[2] in lacking, "its spend is there all the same"


def test_upgrade_and_downgrade(manual: Manual, serving: Running) -> None:
    url = {"FAREGATE_DATABASE_URL": manual.url("faregate"), "FAREGATE_DATA_DIR": str(serving.data_dir)}
    printed = manual.run("Upgrade and downgrade", 0, url)
    assert "to be upgraded" in printed
    assert printed.rstrip().endswith("up to date")
    wait_for("calls", lambda: serving.chat(serving.keys["app"]).status == 200)
    assert "Green" in serving.verified().stdout


def test_no_command_of_the_page_was_left_out(manual: Manual) -> None:
    """Runs last."""
    shell = {
        (heading, number)
        for heading, blocks in manual.blocks.items()
        for number, (language, _) in enumerate(blocks)
        if language == "sh"
    }
    assert shell == manual.run_already
