"""What people install: the wheel, in an environment of its own, run in an empty folder."""

from __future__ import annotations

import json
import os
import re
import site
import subprocess
import sys
import urllib.request
import venv
import zipfile
from pathlib import Path

import pytest
from live.running import free_port, wait_for

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.xdist_group("crashes")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(out.glob("faregate-*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of an environment that has the wheel, and this one's packages as its dependencies."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=False)
    packages = next((folder / "lib").glob("python*/site-packages"))
    (packages / "dependencies.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python")]
    command = [*pip, "install", "--quiet", "--no-deps", "--no-index", "--force-reinstall", str(wheel)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "bin"


def test_it_holds_what_the_checkout_has_beside_the_package(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for wanted in (
        "gateway/bundled/dashboards/console/templates/overview.html",
        "gateway/bundled/policies/routes.yaml",
        "gateway/bundled/prompts/support/reply.prompt",
        "gateway/store/migrations/ledger/",
        "gateway/pricing/data/",
    ):
        assert any(name.startswith(wanted) for name in names), wanted
    assert not any(name.startswith(("tests/", "benchmarks/", "tools/")) for name in names)


def test_the_demo_runs_in_an_empty_folder_and_serves_a_priced_call(installed: Path, tmp_path: Path) -> None:
    port = free_port()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("FAREGATE_", "PYTHON", "OPENAI"))},
        "FAREGATE_PORT": str(port),
    }
    where = subprocess.run(
        [installed / "python", "-c", "import gateway; print(gateway.__file__)"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert str(installed.parent) in where
    log = tmp_path / "demo.log"
    with log.open("w") as out:
        demo = subprocess.Popen([installed / "faregate", "demo"], env=environment, cwd=tmp_path, stdout=out, stderr=out)
    try:
        text = wait_for("the announcement", lambda: _announced(log, demo))
        secret = re.search(r"application key\s+(fg_live_\S+)", text)
        assert secret is not None
        cost = _call(port, secret.group(1))
        assert 0 < float(cost) < 0.01
        page = urllib.request.urlopen(f"http://127.0.0.1:{port}/ui/sign-in", timeout=30).read().decode()
        assert "Faregate" in page
        command = [installed / "faregate", "spend", "--by", "model", "--json"]

        def spent() -> str:
            done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
            return done.stdout if "sim-small" in done.stdout else ""

        assert wait_for("the spend", spent)
    finally:
        demo.terminate()
        assert demo.wait(timeout=60) == 0


def _announced(log: Path, demo: subprocess.Popen[bytes]) -> str:
    text = log.read_text()
    assert demo.poll() is None, text
    return text if "Ctrl-C" in text else ""


def _call(port: int, secret: str) -> str:
    body = {"model": "sim-small", "messages": [{"role": "user", "content": "Hello"}]}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/chat/completions",
        data=json.dumps(body).encode(),
        headers={"authorization": f"Bearer {secret}", "content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as reply:
        return str(reply.headers["x-faregate-cost-usd"])
