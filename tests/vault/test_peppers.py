"""Peppers: made at first start, refused when weak or open to others."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from pathlib import Path

import pytest

from gateway.core.errors import ConfigInvalid
from gateway.vault.keys import parse
from gateway.vault.peppers import Peppers, load_peppers
from vault.fakes import Chance, record


def write(path: Path, content: object, mode: int = 0o600) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    path.chmod(mode)
    return path


def strong(byte: bytes = b"p") -> str:
    return base64.b64encode(byte * 32).decode()


def test_the_first_start_makes_them_once_and_privately(tmp_path: Path) -> None:
    path = tmp_path / "secrets" / "peppers.json"
    minted = load_peppers(path, Chance(1)).mint(Chance(5), "live")
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert [name.name for name in path.parent.iterdir()] == ["peppers.json"]
    content = path.read_bytes()
    again = load_peppers(path, Chance(2))
    assert path.read_bytes() == content
    assert again.mint(Chance(5), "live") == minted


def test_they_are_not_made_where_keys_exist_already(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match=r"is missing.*Restore it from a backup"):
        load_peppers(tmp_path / "peppers.json")


def test_the_newest_version_hashes_new_keys(tmp_path: Path) -> None:
    path = write(tmp_path / "p.json", {"peppers": {"2": strong(b"b"), "10": strong(b"j"), "1": strong(b"a")}})
    peppers = load_peppers(path)
    assert peppers.newest == 10
    minted = peppers.mint(Chance(), "live")
    parsed = parse(minted.text)
    assert parsed is not None
    assert minted.digest == hmac.digest(b"j" * 32, parsed[1].encode(), hashlib.sha256)
    assert repr(peppers) == "Peppers(versions=[1, 2, 10])"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"peppers": {"1": base64.b64encode(b"x" * 31).decode()}}, "pepper 1 has under 32 bytes.*Add a new version"),
        ({"peppers": {"1": ""}}, "under 32 bytes"),
        ({"peppers": {}}, "at least one pepper"),
        ({"peppers": {"0": strong()}}, "versions count from 1"),
        ({"peppers": {"one": strong()}}, "is not"),
        ({"peppers": {"1": "hunter2!"}}, "is not"),
        ({"peppers": [strong()]}, "is not"),
        ({"pepper": {"1": strong()}}, "is not"),
        ("", "is not"),
        ("hunter2", "is not"),
    ],
)
def test_weak_or_malformed_peppers_stop_the_start(tmp_path: Path, content: object, message: str) -> None:
    path = write(tmp_path / "p.json", content)
    with pytest.raises(ConfigInvalid, match=message) as caught:
        load_peppers(path, Chance())
    assert str(path) in caught.value.message
    assert "hunter2" not in caught.value.message
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o620, 0o601])
def test_a_file_that_others_may_use_stops_the_start(tmp_path: Path, mode: int) -> None:
    path = write(tmp_path / "p.json", {"peppers": {"1": strong()}}, mode)
    with pytest.raises(ConfigInvalid, match=f"mode {mode:04o}.*chmod 600 {path}"):
        load_peppers(path)


def test_what_is_no_file_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match="not a regular file"):
        load_peppers(tmp_path, Chance())
    large = write(tmp_path / "p.json", "x" * 70_000)
    with pytest.raises(ConfigInvalid, match="bytes"):
        load_peppers(large, Chance())


def test_keys_under_a_lost_pepper_are_named() -> None:
    old = Peppers({3: b"c" * 32}).mint(Chance(1), "live")
    now = Peppers({4: b"d" * 32})
    new = now.mint(Chance(2), "live")
    assert now.unusable([record(old), record(new)]) == {3: [old.key_id]}
