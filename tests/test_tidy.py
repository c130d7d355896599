"""House rules that a linter does not know: sizes, rooms' READMEs, no forbidden words, nothing of this machine."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 70
MAX_README_LINES = 40
FORBIDDEN_MODULES = re.compile(r"(^|_)(utils?|helpers?|managers?|misc|common)(_|\.|$)")
FORBIDDEN_CALLS = re.compile(r"BackgroundTasks?\b|BaseHTTPMiddleware|request\.url\b|os\.environ\[|splitlines\(\)")
REGISTRY = re.compile(r"(pypi|pythonhosted|npmjs|debian)\." + "org")


def tracked(*patterns: str) -> list[Path]:
    """Files git knows (or would add), so that build output and environments do not count."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split("\n")
    return [ROOT / name for name in listed if name and (ROOT / name).exists()]


PYTHON = tracked("gateway/*.py", "tests/*.py", "benchmarks/*.py", "tools/*.py")
PRODUCT = [path for path in PYTHON if path.is_relative_to(ROOT / "gateway")]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_there_is_something_to_check() -> None:
    assert len(PRODUCT) > 50


@pytest.mark.parametrize("path", PYTHON, ids=name_of)
def test_sizes(path: Path) -> None:
    text = path.read_text()
    lines = text.count("\n")
    assert lines <= MAX_FILE_LINES, f"{name_of(path)} has {lines} lines; split it by what it means"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= MAX_FUNCTION_LINES, f"{name_of(path)}:{node.lineno} {node.name} has {length} lines"


@pytest.mark.parametrize("path", PRODUCT, ids=name_of)
def test_every_module_says_what_it_is(path: Path) -> None:
    text = path.read_text()
    if path.name == "__init__.py" and not text.strip():
        return
    assert ast.get_docstring(ast.parse(text)), f"{name_of(path)} has no docstring"
    assert not FORBIDDEN_MODULES.search(path.stem), f"{name_of(path)}: name it by what it means"


@pytest.mark.parametrize("path", PRODUCT, ids=name_of)
def test_closed_roads(path: Path) -> None:
    if path.name in ("system.py", "settings.py"):
        return  # the two that may read the environment
    for number, line in enumerate(path.read_text().split("\n"), 1):
        code = line.split("#")[0]
        found = FORBIDDEN_CALLS.search(code)
        if found and not code.lstrip().startswith(('"', "'")) and '"""' not in code:
            raise AssertionError(f"{name_of(path)}:{number} uses {found.group()}: see CONTRIBUTING, closed roads")


@pytest.mark.parametrize("path", PRODUCT, ids=name_of)
def test_no_swallowed_errors_and_no_module_state(path: Path) -> None:
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler) and all(isinstance(step, ast.Pass) for step in node.body):
            caught = ast.unparse(node.type) if node.type else "everything"
            assert caught not in ("everything", "Exception", "BaseException"), f"{name_of(path)}:{node.lineno}"
        if isinstance(node, ast.Global):
            raise AssertionError(f"{name_of(path)}:{node.lineno} has module state")


def rooms() -> list[Path]:
    return sorted(path for path in (ROOT / "gateway").iterdir() if path.is_dir() and any(path.glob("*.py")))


@pytest.mark.parametrize("room", [room for room in rooms() if room.name != "core"], ids=lambda path: path.name)
def test_every_room_has_a_short_readme(room: Path) -> None:
    if not any(path.stem != "__init__" for path in room.rglob("*.py")):
        return
    readme = room / "README.md"
    assert readme.exists(), f"{room.name} has no README.md"
    text = readme.read_text()
    assert text.count("\n") <= MAX_README_LINES
    for heading in ("Meaning", "Invariants", "Does not", "How to add"):
        assert heading in text, f"{room.name}/README.md says nothing under {heading!r}"


def test_nothing_names_this_machine_or_a_registry() -> None:
    for path in tracked("*"):
        if path.suffix in {".png", ".gz", ".wal", ".woff2", ".ico"} or path == Path(__file__):
            continue
        text = path.read_text(errors="replace")
        assert not REGISTRY.search(text), f"{name_of(path)} names a package registry's host"
        assert "/work/" + "main" not in text, f"{name_of(path)} holds a path of one machine"


def test_tests_are_not_skipped() -> None:
    mark = re.compile(r"pytest\.(mark\.)?(skip|skipif|xfail|importorskip)|unittest\.mock|monkeypatch\.setattr\(gateway")
    for path in tracked("tests/*.py"):
        if path != Path(__file__):
            found = mark.search(path.read_text())
            assert not found, f"{name_of(path)} uses {found.group() if found else ''}"
