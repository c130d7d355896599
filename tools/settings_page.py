"""Writes docs/settings.md from the metadata of gateway/settings.py.

python -m tools.settings_page          # writes the page
python -m tools.settings_page --check  # exit code 1 when the page is not current
"""

from __future__ import annotations

import sys
from dataclasses import Field, fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

from gateway.settings import Settings

PAGE = Path(__file__).resolve().parent.parent / "docs" / "settings.md"
HEAD = """\
# Settings

Made by `python -m tools.settings_page` from `gateway/settings.py`; do not edit.

Every setting is an environment variable that `faregate serve`, `faregate demo` and the local commands read once, when
they start. A value that cannot be read ends the start with a message that names the variable. Sizes are bytes and times
seconds, unless the name says else.

| variable | default | value | meaning |
|---|---|---|---|
"""
TAIL = """
Models and providers are not settings: they stand in `routes.yaml` in the folder of `FAREGATE_CONFIG_DIR`. A provider's
key is a variable of any name that `routes.yaml` refers to (`credential: env:OPENAI_API_KEY`). `FAREGATE_URL` and
`FAREGATE_API_KEY` are read by the command line alone: [cli.md](cli.md).
"""
_KINDS = {Path: "a path", str: "text", int: "a whole number", float: "a number"}
_MIB = 1024 * 1024


def settings_page() -> str:
    """The page's text: every setting in the order of the class."""
    hints = get_type_hints(Settings)
    return HEAD + "".join(_row(item, hints[item.name]) for item in fields(Settings)) + TAIL


def _row(item: Field[Any], wanted: Any) -> str:
    choices = get_args(wanted)
    value = " or ".join(f"`{choice}`" for choice in choices) if choices else _KINDS[wanted]
    meaning = str(item.metadata["meaning"]).replace("|", "\\|").replace("<", "&lt;")
    return f"| `FAREGATE_{item.name.upper()}` | {_printed(item.name, item.default)} | {value} | {meaning} |\n"


def _printed(name: str, default: object) -> str:
    if name.endswith("_bytes") and isinstance(default, int) and not default % _MIB:
        return f"`{default}` ({default // _MIB} MiB)"
    text = str(default)
    return f"`{text}`" if text else "empty"


def main(arguments: list[str]) -> int:
    if arguments == ["--check"]:
        current = PAGE.exists() and PAGE.read_text() == settings_page()
        if not current:
            print("docs/settings.md is not current: run python -m tools.settings_page", file=sys.stderr)
        return int(not current)
    if arguments:
        print(__doc__, file=sys.stderr)
        return 2
    PAGE.write_text(settings_page())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
