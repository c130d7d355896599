"""Other people's pytest suites, run in their own environment, and what came of each of their tests."""

from __future__ import annotations

import json
import subprocess
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from rig import ENVIRONMENTS, bare_environment

Outcome = Literal["passed", "failed", "skipped"]
SUITE_S = 1500.0
"""A hang guard for one run of a suite."""


@dataclass(frozen=True, slots=True)
class Result:
    """Of one test, and why."""

    outcome: Outcome
    why: str = ""


def run_suite(
    group: str, arguments: Sequence[str], environment: Mapping[str, str], folder: Path, where: Path
) -> dict[str, Result]:
    """The results by name (`module::class::test[parameters]`) of a pytest run in the environment of `group`.

    `folder` gets the run's report and log; `where` is the working folder, whose configuration pytest reads."""
    report = folder / "report.xml"
    command = [str(ENVIRONMENTS / group / "bin/python"), "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    command += [f"--junitxml={report}", "-o", "junit_family=xunit1", *arguments]
    with (folder / "suite.log").open("wb") as log:
        done = subprocess.run(
            command,
            env=bare_environment(folder) | {"PYTHONDONTWRITEBYTECODE": "1"} | dict(environment),
            cwd=where,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            timeout=SUITE_S,
            check=False,
        )
    if done.returncode not in (0, 1) or not report.exists():
        raise AssertionError(f"exit {done.returncode}: {(folder / 'suite.log').read_text(errors='replace')[-3000:]}")
    return results(report)


def results(report: Path) -> dict[str, Result]:
    found: dict[str, Result] = {}
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        name = f"{case.get('classname', '').replace('.', '/')}::{case.get('name')}"
        found[name] = _result(case)
    return found


def _result(case: ElementTree.Element) -> Result:
    for child in case:
        if child.tag in ("failure", "error"):
            return Result("failed", f"{child.get('message') or ''}\n{child.text or ''}"[-2000:])
        if child.tag == "skipped":
            return Result("skipped", child.get("message") or "")
    return Result("passed")


@dataclass(frozen=True, slots=True)
class Explained:
    """The failures of a run against a committed list: kinds of patterns with reasons."""

    unexplained: dict[str, str]
    stale: tuple[str, ...]
    """Patterns under which nothing failed: the list has become a lie."""
    by_reason: Mapping[tuple[str, str], int]
    """How many failed, by kind and reason."""
    of_kind: Mapping[str, str]
    """The kind of each explained failure."""


def explain(found: Mapping[str, Result], listed: Path) -> Explained:
    """`listed` is JSON: by kind, a pattern of test names (as `fnmatch` reads it, brackets aside), and the reason."""
    kinds: dict[str, dict[str, str]] = json.loads(listed.read_text()) if listed.exists() else {}
    patterns = [(kind, pattern, reason) for kind, rows in kinds.items() for pattern, reason in rows.items()]
    unexplained: dict[str, str] = {}
    by_reason: Counter[tuple[str, str]] = Counter()
    of_kind: dict[str, str] = {}
    used = set()
    for name, result in found.items():
        if result.outcome != "failed":
            continue
        row = next((row for row in patterns if fnmatchcase(name.replace("[", "("), row[1].replace("[", "("))), None)
        if row is None:
            unexplained[name] = result.why
            continue
        kind, pattern, reason = row
        used.add(pattern)
        by_reason[kind, reason] += 1
        of_kind[name] = kind
    return Explained(unexplained, tuple(row[1] for row in patterns if row[1] not in used), by_reason, of_kind)


def counted(found: Mapping[str, Result]) -> Counter[str]:
    return Counter(result.outcome for result in found.values())
