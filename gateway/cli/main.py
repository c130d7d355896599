"""`faregate`: the command line. Commands import what they need when they run, so that `--help` answers at once.

Exit codes: 0 done · 1 refused or failed · 2 the command line or the environment is not usable.
"""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from gateway import __version__
from gateway.cli import alerts, config, keys, limits, period, prices, rerate, spend, stores
from gateway.cli.client import Failed
from gateway.cli.output import complain
from gateway.core.errors import ConfigInvalid, FaregateError
from gateway.settings import Settings, read_settings

OK, FAILED, USAGE = 0, 1, 2

_ORDER = ("keys", "limits", "spend", "prices", "period", "alerts", "config", "ledger", "db", "serve", "restart", "demo")


class _InOrder(TyperGroup):
    """Commands as people need them: what is used daily first."""

    def list_commands(self, ctx: Any) -> list[str]:
        names = super().list_commands(ctx)
        return sorted(names, key=lambda name: _ORDER.index(name) if name in _ORDER else len(_ORDER))


app = typer.Typer(
    name="faregate",
    cls=_InOrder,
    context_settings={"max_content_width": 100},
    help="Faregate, an LLM gateway and cost manager. Every token pays its fare.\n\n"
    "With FAREGATE_URL and FAREGATE_API_KEY set, commands talk to that gateway; without, to the one of this machine. "
    "serve, demo, db and ledger always mean this machine.",
    epilog="Exit codes: 0 done, 1 refused or failed, 2 the command line or the environment is not usable.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.add_typer(keys.app, name="keys")
app.add_typer(limits.app, name="limits")
app.command("spend")(spend.spend)
prices.app.command("rerate")(rerate.rerate)
prices.app.command("corrections")(rerate.corrections)
app.add_typer(prices.app, name="prices")
app.add_typer(period.app, name="period")
app.add_typer(alerts.app, name="alerts")
app.add_typer(config.app, name="config")
app.add_typer(stores.ledger, name="ledger")
app.add_typer(stores.db, name="db")

Host = Annotated[str | None, typer.Option(help="Address to listen on (FAREGATE_HOST).", show_default=False)]
Port = Annotated[
    int | None, typer.Option(min=0, max=65_535, help="Port to listen on (FAREGATE_PORT).", show_default=False)
]
DataDir = Annotated[Path | None, typer.Option(help="Data folder (FAREGATE_DATA_DIR).", show_default=False)]


def _print_version(asked: bool) -> None:
    if asked:
        print(f"faregate {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    """Nothing of its own: options of the program."""


@app.command()
def serve(host: Host = None, port: Port = None, data_dir: DataDir = None) -> None:
    """Serve: worker, control plane and bookkeeper, until SIGTERM."""
    from gateway.cli import serve as serving

    serving.serve(_with_options(host, port, data_dir))


@app.command()
def demo(host: Host = None, port: Port = None, data_dir: DataDir = None) -> None:
    """Serve with a simulated provider, and print keys and lines to paste."""
    from gateway.cli import demo as demonstration

    demonstration.demo(_with_options(host, port, data_dir))


def _with_options(host: str | None, port: int | None, data_dir: Path | None) -> Settings:
    from gateway.cli.serve import with_options

    return with_options(read_settings(), host, port, data_dir)


@app.command("help-page", hidden=True)
def print_help_page() -> None:
    """Print docs/cli.md."""
    from gateway.cli.help_page import help_page

    print(help_page(app), end="")


def run(arguments: list[str] | None = None) -> int:
    """One command line; its exit code."""
    try:
        app(arguments, prog_name="faregate", standalone_mode=True)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else OK if ended.code is None else FAILED
    except Failed as error:
        complain(error.message)
        return USAGE if error.usage else FAILED
    except ConfigInvalid as error:
        complain(error.message)
        return USAGE if error.message.startswith("FAREGATE_") else FAILED
    except FaregateError as error:
        complain(error.message)
        return FAILED
    except BrokenPipeError:
        # The reader has seen enough (`| head`); Python must not complain about it again at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    return OK


@app.command()
def restart(data_dir: DataDir = None) -> None:
    """Replace the running server's processes by the code on disk; no call is refused."""
    from gateway.cli import restart as restarting

    restarting.restart(_with_options(None, None, data_dir))


def main() -> None:
    """The console script's entry point."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A name that the terminal's encoding does not have must not end a command.
            stream.reconfigure(errors="replace")
    sys.exit(run())


if __name__ == "__main__":
    main()
