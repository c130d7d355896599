"""The figures of all parts, kept next to the page, so that a run of some parts keeps the others."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

from benchmarks.machine import load_average

DOCS = Path(__file__).resolve().parent.parent / "docs"

Section = dict[str, Any]
"""What a part measured, and under `run`, `made`, `load`, `seconds` and `machine` when and on what."""


class Results:
    """Sections by part. Read from the file at start, written after each part."""

    def __init__(self, path: Path, run: str, seconds: float, machine: dict[str, str]) -> None:
        self._path = path
        self._common = {"run": run, "seconds": seconds, "machine": machine}
        self.sections: dict[str, Section] = json.loads(path.read_text()) if path.exists() else {}

    def put(self, part: str, load: float, figures: Section) -> None:
        """Replaces a part's section. `load` is the load average before the part began."""
        made = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
        self.sections[part] = {"made": made, "load": round(load, 2), **self._common, **figures}
        self._path.write_text(json.dumps(self.sections, indent=1, sort_keys=True) + "\n")


def new_run() -> str:
    """The name of this run: ratios are fair only between figures of the same one."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")


def load_now() -> float:
    """The load average that belongs to what is measured next."""
    return load_average()
