"""Discovery of members, on real packages and a real installed entry point."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from gateway.core.errors import ConfigInvalid
from gateway.core.members import discover_members

MEMBER = "class Thing:\n    name = {name!r}\n\n\nMEMBER = Thing()\n"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    """An importable package of its own for each test."""
    folder = tmp_path / f"seam_{request.node.name}"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    return folder


def found(package: Path, group: str = "") -> dict[str, object]:
    return discover_members(package.name, [str(package)], lambda member: member.name, group)


def test_members_are_found_by_their_module_and_ordered_by_name(package: Path) -> None:
    (package / "b.py").write_text(MEMBER.format(name="alpha"))
    (package / "a.py").write_text(MEMBER.format(name="omega"))
    (package / "plain.py").write_text("x = 1\n")
    assert list(found(package)) == ["alpha", "omega"]


def test_two_members_of_one_name_are_refused(package: Path) -> None:
    (package / "one.py").write_text(MEMBER.format(name="same"))
    (package / "two.py").write_text(MEMBER.format(name="same"))
    with pytest.raises(ConfigInvalid, match="'same'"):
        found(package)


def test_a_third_party_joins_by_entry_point(package: Path) -> None:
    outside = package.parent
    (outside / f"{package.name}_plugin.py").write_text(MEMBER.format(name="foreign"))
    info = outside / "plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[faregate.{package.name}]\nforeign = {package.name}_plugin:MEMBER\n")
    (package / "own.py").write_text(MEMBER.format(name="own"))
    assert str(outside) in sys.path
    assert list(found(package, f"faregate.{package.name}")) == ["foreign", "own"]
