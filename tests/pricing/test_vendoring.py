"""The tool that takes litellm's price map out of a wheel."""

from __future__ import annotations

import gzip
import hashlib
import json
import zipfile
from pathlib import Path

import pytest

from tools import vendor_prices

MAP = json.dumps({f"model-{number}": {"mode": "chat"} for number in range(1000)}).encode()
LICENCE = b"MIT License\n\nCopyright (c) someone\n"


def wheel(folder: Path, content: bytes = MAP, licence: bytes = LICENCE, version: str = "9.8.7") -> Path:
    path = folder / f"litellm-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(vendor_prices.MAP, content)
        archive.writestr(f"litellm-{version}.dist-info/METADATA", "Name: litellm\n")
        archive.writestr(f"litellm-{version}.dist-info/licenses/LICENSE", licence)
    return path


def run(folder: Path, *arguments: str) -> int:
    return vendor_prices.main([*arguments], folder)


def test_a_wheel_is_vendored_and_then_intact(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, data = wheel(tmp_path), tmp_path / "data"
    assert run(data, str(source)) == 0
    name = "litellm-model-prices-9.8.7.json.gz"
    packed = (data / name).read_bytes()
    assert gzip.decompress(packed) == MAP
    assert (data / vendor_prices.SUM_FILE).read_text() == f"{hashlib.sha256(packed).hexdigest()}  {name}\n"
    assert (data / "LICENSE-litellm").read_bytes() == LICENCE
    readme = (data / "README.md").read_text()
    assert "9.8.7" in readme
    assert "http" not in readme
    assert run(data, "--check") == 0
    assert run(data, "--check", str(source)) == 0
    assert "intact" in capsys.readouterr().out


def test_vendoring_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    source = wheel(tmp_path)
    for folder in ("a", "b"):
        assert run(tmp_path / folder, str(source)) == 0
    first, second = ({path.name: path.read_bytes() for path in (tmp_path / folder).iterdir()} for folder in ("a", "b"))
    assert first == second


def test_a_newer_map_replaces_the_older(tmp_path: Path) -> None:
    data = tmp_path / "data"
    assert run(data, str(wheel(tmp_path))) == 0
    assert run(data, str(wheel(tmp_path, version="9.9.0"))) == 0
    assert [path.name for path in data.glob("*.gz")] == ["litellm-model-prices-9.9.0.json.gz"]
    assert run(data, "--check") == 0


def test_what_differs_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "data"
    assert run(data, str(wheel(tmp_path))) == 0
    other = wheel(tmp_path, MAP.replace(b"model-1", b"model-x"))
    assert run(data, "--check", str(other)) == 1
    assert "differs from the wheel's" in capsys.readouterr().out
    (data / "litellm-model-prices-9.8.7.json.gz").write_bytes(gzip.compress(b"{}"))
    assert run(data, "--check") == 1
    assert "recorded SHA-256" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "licence"), [(b"{}", LICENCE), (MAP, b"All rights reserved"), (b"[not json", LICENCE)]
)
def test_another_wheel_is_refused(tmp_path: Path, content: bytes, licence: bytes) -> None:
    data = tmp_path / "data"
    assert run(data, str(wheel(tmp_path, content, licence))) == 1
    assert not data.exists()
    (tmp_path / "x.whl").write_bytes(b"no zip")
    assert run(data, str(tmp_path / "x.whl")) == 1
    assert run(data, str(tmp_path / "missing.whl")) == 1


def test_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path) == 1
    assert "--check" in capsys.readouterr().out
