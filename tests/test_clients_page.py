"""docs/clients.md against what is installed to try it: no client without its line, no version that was not tried."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CLIENTS = ROOT / "peers/clients"
PAGE = (ROOT / "docs/clients.md").read_text()
LOCKED = re.compile(r"^([a-z0-9][a-z0-9._-]*)(?:\[[a-z,]+\])?==(\S+)", re.MULTILINE)
TRIED = re.compile(r"(@?[a-z][a-z/-]*[a-z]) ((?:\d+\.)+\d+)")


def locked() -> dict[str, set[str]]:
    """The versions of every package that some environment of the clients has."""
    found: dict[str, set[str]] = {}
    for path in sorted((CLIENTS / "locks").glob("*.lock")):
        for name, version in LOCKED.findall(path.read_text()):
            found.setdefault(name, set()).add(version)
    packages = json.loads((CLIENTS / "locks/node/package-lock.json").read_text())["packages"]
    for place, package in packages.items():
        found.setdefault(place.rpartition("node_modules/")[2], set()).add(package.get("version", ""))
    return found


def test_versions_on_the_page_are_those_that_are_tried() -> None:
    versions = locked()
    named = [(name, version) for name, version in TRIED.findall(PAGE) if name in versions]
    assert len(named) > 15
    assert [(name, version) for name, version in named if version not in versions[name]] == []


@pytest.mark.parametrize("group", sorted(path.stem for path in (CLIENTS / "locks").glob("*.in")))
def test_each_environment_is_locked_with_hashes(group: str) -> None:
    text = (CLIENTS / f"locks/{group}.lock").read_text()
    assert len(LOCKED.findall(text)) == len(re.findall(r"==\S+ \\$", text, re.MULTILINE)) > 0
    wanted = re.findall(r"^([a-z0-9-]+)", (CLIENTS / f"locks/{group}.in").read_text(), re.MULTILINE)
    names = {name for name, _ in LOCKED.findall(text)}
    assert set(wanted) <= names


def test_every_program_of_a_client_is_in_the_roster() -> None:
    told = (CLIENTS / "roster.py").read_text() + (CLIENTS / "test_langchain_suites.py").read_text()
    programs = [path.name for place in ("python", "node") for path in (CLIENTS / place).iterdir() if path.is_file()]
    assert [name for name in programs if not name.startswith("steps.") and f'"{name}"' not in told] == []


def test_every_explained_failure_has_a_reason() -> None:
    for path in sorted((CLIENTS / "explained").glob("*.json")):
        for kind, rows in json.loads(path.read_text()).items():
            assert kind, path
            assert rows, f"{path.name}: nothing is {kind}"
            assert all(len(reason) > 8 for reason in rows.values())
