"""`docs/cli.md`, made from the commands' own help."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer
import typer.main

WIDTH = 100
_HEAD = """\
# The command line

Made by `faregate help-page`; do not edit.

With `FAREGATE_URL` and `FAREGATE_API_KEY` set, commands talk to that gateway over HTTP. Without, they talk to the
gateway of this machine: to the running server's control plane over its socket or, when none runs, straight to the data
folder under its lock. `serve`, `demo`, `db` and `ledger` always mean this machine. `--json` prints what the API
answers.

| exit code | means |
|---|---|
| 0 | done |
| 1 | refused or failed; the reason is on stderr |
| 2 | the command line or the environment is not usable |
"""


def help_page(app: typer.Typer) -> str:
    """Every visible command with its help, in the order of the program's own list."""
    command: Any = typer.main.get_command(app)
    parts = [_HEAD]
    for path, text in _pages(command, None, "faregate"):
        parts.append(f"\n## `{path}`\n\n```\n{text}\n```\n")
    return "".join(parts)


def _pages(command: Any, parent: Any, name: str) -> Iterator[tuple[str, str]]:
    context = command.context_class(
        command, info_name=name, parent=parent, terminal_width=WIDTH, max_content_width=WIDTH
    )
    # Trailing spaces of help texts would not survive an editor.
    text = "\n".join(line.rstrip() for line in command.get_help(context).strip().split("\n"))
    yield context.command_path, text
    commands = getattr(command, "commands", {})
    for child_name in command.list_commands(context) if commands else ():
        child = commands[child_name]
        if not child.hidden:
            yield from _pages(child, context, child_name)
