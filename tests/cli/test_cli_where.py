"""Where commands go: a URL, the local server's socket, or the data folder itself. And what `--help` loads."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from desk.world import LOCAL_TOKEN, World

from cli.conftest import Command, serving
from gateway.cli.client import Failed, HttpClient, open_client
from gateway.cli.help_page import help_page
from gateway.cli.main import app
from gateway.settings import Settings, read_settings
from gateway.system import lock_data_folder

ROOT = Path(__file__).resolve().parent.parent.parent


def test_the_page_of_the_command_line_is_up_to_date() -> None:
    assert (ROOT / "docs" / "cli.md").read_text() == help_page(app), "run: faregate help-page > docs/cli.md"


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom gateway.cli.main import run\nrun(['--help'])\n"
        "heavy = {'fastapi', 'starlette', 'pydantic', 'sqlalchemy', 'aiohttp', 'uvicorn', 'yaml', 'genai_prices'}\n"
        "print('LOADED', sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert "LOADED []" in done.stdout


def test_without_a_server_the_folder_is_used_under_its_lock(local: Command) -> None:
    made = json.loads(local("keys", "create", "app", "--budget", "5USD/month", "--team", "search", "--json").out)
    assert made["state"] == "applied"
    assert made["secret"].startswith("fg_live_")
    assert "app" in local("keys", "list").out
    assert local("keys", "update", "app", "--budget", "7USD/month").code == 0
    assert "7 USD per month" in local("keys", "show", "app").out
    assert local("keys", "pause", "app").code == 0
    assert local("keys", "rotate", "app", "--quiet").out.startswith("fg_live_")
    assert local("keys", "revoke", "app").code == 0
    assert local("keys", "create", "app", "--quiet").code == 0, "a revoked key's name is free"
    assert "Nothing was spent" in local("spend", "--by", "team,model").out
    assert "nothing to verify" in local("ledger", "verify").out
    assert local("keys", "create", "other", "--org", "elsewhere", "--quiet").code == 0
    assert "other" not in local("keys", "list").out
    assert "other" in local("keys", "list", "--org", "elsewhere").out


def test_config_of_a_folder(local: Command, tmp_path: Path) -> None:
    missing = local("config", "validate")
    assert missing.code == 1
    assert "routes.yaml" in missing.err
    routes = tmp_path / "policies" / "routes.yaml"
    routes.write_text("providers:\n  openai:\n    kind: openai\nmodels:\n  gpt: opnai/gpt-4o-mini\n")
    wrong = local("config", "validate")
    assert wrong.code == 1
    assert "routes.yaml:5:" in wrong.err
    assert "openai" in wrong.err
    routes.write_text(routes.read_text().replace("opnai", "openai"))
    assert local("config", "validate").out.startswith("Valid: 1 model, 1 provider")
    assert not (tmp_path / "data").exists(), "a check of the files opens no store"
    other = tmp_path / "other"
    other.mkdir()
    assert local("config", "validate", str(other)).code == 1
    assert local("config", "reload").out.startswith("In use: revision ")
    assert "gpt" in local("config", "show").out


def test_the_schema_of_a_folder(local: Command, tmp_path: Path) -> None:
    before = local("db", "status")
    assert before.code == 1
    assert "db upgrade" in before.err
    assert not list(tmp_path.glob("data/*.db")), "asking creates nothing"
    assert "up to date" in local("db", "upgrade").out
    assert local("db", "status").code == 0
    assert json.loads(local("db", "upgrade", "--json").out)["parts"][0]["up_to_date"] is True


def test_verify_without_a_folder_says_so(local: Command) -> None:
    done = local("ledger", "verify")
    assert done.code == 1
    assert "FAREGATE_DATA_DIR" in done.err


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """Settings of a data folder whose sockets' names fit into what a socket may be called."""
    folder = Path(tempfile.mkdtemp(prefix="fg"))
    monkeypatch.setenv("FAREGATE_DATA_DIR", str(folder))
    monkeypatch.delenv("FAREGATE_URL", raising=False)
    settings = read_settings()
    settings.run_dir.mkdir()
    settings.secrets_dir.mkdir()
    yield settings
    shutil.rmtree(folder)


def test_a_running_server_is_asked_over_its_socket(world: World, short: Settings, faregate: Command) -> None:
    (short.secrets_dir / "local.token").write_text(LOCAL_TOKEN)
    with serving(world, uds=str(short.desk_socket)):
        assert "search-bot" in faregate("keys", "list").out
        assert faregate("keys", "pause", "search-bot").code == 0
        assert "foreign" in faregate("keys", "list", "--org", "elsewhere").out
        (short.secrets_dir / "local.token").write_text("wrong")
        refused = faregate("keys", "list")
        assert refused.code == 1
        assert "local.token" in refused.err
        (short.secrets_dir / "local.token").unlink()
        assert "as the user that Faregate runs as" in faregate("keys", "list").err


def test_while_the_desk_restarts_commands_wait_for_it(world: World, short: Settings, faregate: Command) -> None:
    (short.secrets_dir / "local.token").write_text(LOCAL_TOKEN)
    lock = lock_data_folder(short)
    begin, end = threading.Event(), threading.Event()

    def later() -> None:
        begin.wait(5)
        with serving(world, uds=str(short.desk_socket)):
            end.wait(20)

    thread = threading.Thread(target=later, daemon=True)
    thread.start()
    threading.Timer(0.3, begin.set).start()
    try:
        assert "search-bot" in faregate("keys", "list").out
    finally:
        end.set()
        thread.join(20)
        os.close(lock)


def test_a_server_that_stays_away_is_told(short: Settings, faregate: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.cli.client.RESTART_WAIT_S", 0.2)
    lock = lock_data_folder(short)
    try:
        done = faregate("keys", "list")
    finally:
        os.close(lock)
    assert done.code == 1
    assert "owns the data folder" in done.err
    assert "log" in done.err


@pytest.mark.parametrize(
    "url", ["gateway.example", "ftp://x", "http://", "http://u:p@x", "http://x?y=1", "http://x:port"]
)
def test_a_wrong_address_is_usage(url: str) -> None:
    with pytest.raises(Failed) as refused:
        open_client({"FAREGATE_URL": url, "FAREGATE_API_KEY": "k"})
    assert refused.value.usage
    assert url.partition("@")[2] in refused.value.message


def test_half_of_the_environment_is_usage(faregate: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAREGATE_URL", "https://gateway.example")
    monkeypatch.delenv("FAREGATE_API_KEY", raising=False)
    done = faregate("keys", "list")
    assert done.code == 2
    assert "FAREGATE_API_KEY" in done.err
    monkeypatch.delenv("FAREGATE_URL")
    monkeypatch.setenv("FAREGATE_PORT", "many")
    done = faregate("keys", "list")
    assert done.code == 2
    assert "FAREGATE_PORT" in done.err


def test_nobody_at_the_address(faregate: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("FAREGATE_URL", f"http://127.0.0.1:{free.getsockname()[1]}")
        monkeypatch.setenv("FAREGATE_API_KEY", "k")
        done = faregate("keys", "list")
    assert done.code == 1
    assert "Cannot reach http://127.0.0.1" in done.err


def test_something_else_at_the_address(world: World, faregate: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        monkeypatch.setenv("FAREGATE_URL", f"http://127.0.0.1:{server.getsockname()[1]}/")
        monkeypatch.setenv("FAREGATE_API_KEY", "k")
        done = faregate("keys", "list")
        thread.join(5)
    assert done.code == 1
    assert "Is the address right?" in done.err


def test_a_wrong_key_and_a_role_that_may_not(world: World, remote: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAREGATE_API_KEY", "fg_wrong")
    assert "Incorrect API key" in remote("keys", "list").err
    monkeypatch.setenv("FAREGATE_API_KEY", world.secrets["data"])
    done = remote("keys", "list")
    assert done.code == 1
    assert "does not include keys.read" in done.err


def test_a_key_in_clear_across_a_network_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    open_client({"FAREGATE_URL": "http://gateway.example", "FAREGATE_API_KEY": "k"})
    assert "others can read it" in capsys.readouterr().err
    for url in ("https://gateway.example", "http://localhost:4000", "http://127.0.0.1:4000", "http://[::1]:4000"):
        open_client({"FAREGATE_URL": url, "FAREGATE_API_KEY": "k"})
        assert capsys.readouterr().err == "", url


def test_an_address_may_have_a_prefix_and_may_be_an_sdks(world: World) -> None:
    for base in ("http://127.0.0.1/v1", "http://127.0.0.1/v1/"):
        assert HttpClient(base, {})._prefix == ""
    assert HttpClient("http://127.0.0.1/llm/v1", {})._prefix == "/llm"


def test_a_reader_that_has_seen_enough_gets_no_traceback(tmp_path: Path) -> None:
    environment = {**os.environ, "FAREGATE_DATA_DIR": str(tmp_path)}
    program = [sys.executable, "-m", "gateway.cli.main", "config", "schema"]
    with subprocess.Popen(
        program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()


def test_the_module_and_the_console_script_know_the_same_commands() -> None:
    asked = [sys.executable, "-m", "gateway.cli.main", "--help"]
    shown = subprocess.run(asked, capture_output=True, text=True, timeout=60, check=True).stdout
    known = {name for name, command in typer.main.get_group(app).commands.items() if not command.hidden}
    assert known - set(shown.split()) == set()
