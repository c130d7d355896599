"""`faregate db` and `faregate ledger`: the database's schema and months, and proof of the books. Local only."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from gateway.cli.client import Failed
from gateway.cli.output import note, plain, print_json, print_table
from gateway.cli.session import AsJson

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from gateway.bookkeeper.verify import VerifyReport
    from gateway.ledger.audit import WitnessRow
    from gateway.settings import Settings
    from gateway.store.migrate import SchemaStatus

Found = TypeVar("Found")

db = typer.Typer(help="The database's schema and months. On the gateway's machine.", no_args_is_help=True)
partitions = typer.Typer(
    help="The ledger's months on PostgreSQL. SQLite keeps whole tables and has none.", no_args_is_help=True
)
db.add_typer(partitions, name="partitions")
ledger = typer.Typer(help="The books. On the gateway's machine.", no_args_is_help=True)

_WORDS = {
    "attempts_ended_once": "attempts ended once",
    "attempts_running": "attempts running (open holds)",
    "effective_nusd": "effective cost, nano-USD",
    "sql_calls": "calls in SQL",
    "sql_postings": "postings in SQL",
    "sql_open_attempts": "attempts without an end in SQL",
    "records_not_in_sql": "records not in SQL yet",
    "witness_rows": "requests the witness saw",
    "witness_unseen": "dispatched, never seen by the witness",
}


@db.command()
def upgrade(as_json: AsJson = False) -> None:
    """Create the schema, or bring it to this version, and make the months to come.

    Safe to repeat, and while servers of this version or the one before it run; a lock keeps two runs apart.
    """
    from gateway.settings import read_settings
    from gateway.store.engine import PARTS
    from gateway.store.migrate import upgrade as upgrade_part

    settings = read_settings()

    async def run() -> list[SchemaStatus]:
        return [await upgrade_part(settings.database_url, settings.data_dir, part) for part in PARTS]

    _print_schema(asyncio.run(run()), as_json)


@db.command()
def downgrade(
    to: Annotated[
        str, typer.Option("--to", metavar="REVISION", help="The revision to go back to; base: to nothing at all.")
    ],
    part: Annotated[str, typer.Option(help="config or ledger.")] = "ledger",
    yes: Annotated[bool, typer.Option("--yes", help="Do it.")] = False,
    as_json: AsJson = False,
) -> None:
    """Take a part's schema back, before an older version is started. What later revisions added is lost.

    Detached months stay as they are. On PostgreSQL servers may run on one revision back; on SQLite none may run.
    """
    from gateway.settings import read_settings
    from gateway.store.engine import PARTS
    from gateway.store.migrate import downgrade as downgrade_part

    settings = read_settings()
    chosen = next((one for one in PARTS if one == part), None)
    if chosen is None:
        raise Failed(f"There is no part {part!r}: use {' or '.join(PARTS)}.", usage=True)
    if not yes:
        what = f"everything of {chosen}" if to == "base" else f"what revisions after {to} added to {chosen}"
        raise Failed(f"This deletes {what}, with its data. Back it up, then add --yes.")
    with _nobody_serving(settings):
        _print_schema([asyncio.run(downgrade_part(settings.database_url, settings.data_dir, chosen, to))], as_json)


@contextmanager
def _nobody_serving(settings: Settings) -> Iterator[None]:
    """SQLite is migrated at start, so an older schema under a running server would not be noticed by it."""
    from gateway.system import lock_data_folder

    if settings.database_url:
        yield
        return
    lock = lock_data_folder(settings)
    try:
        yield
    finally:
        os.close(lock)


@db.command()
def status(as_json: AsJson = False) -> None:
    """Say where the schema is and what this version needs. Exit code 1 when they differ."""
    from gateway.settings import read_settings
    from gateway.store.engine import PARTS, sqlite_file
    from gateway.store.migrate import SchemaStatus, head
    from gateway.store.migrate import status as status_of

    settings = read_settings()

    async def run() -> list[SchemaStatus]:
        found = []
        for part in PARTS:
            absent = not settings.database_url and not sqlite_file(settings.data_dir, part).exists()
            # Asking SQLite would create the file.
            known = SchemaStatus(part, None, head(part)) if absent else None
            found.append(known or await status_of(settings.database_url, settings.data_dir, part))
        return found

    found = asyncio.run(run())
    _print_schema(found, as_json)
    if not all(part.up_to_date for part in found):
        raise Failed("The schema is not this version's. `faregate db upgrade` brings it there.")


def _print_schema(found: list[SchemaStatus], as_json: bool) -> None:
    rows = [
        {"part": one.part, "current": one.current, "needed": one.head, "up_to_date": one.up_to_date} for one in found
    ]
    if as_json:
        print_json({"parts": rows})
        return
    columns = {"PART": "l", "CURRENT": "l", "NEEDED": "l", "": "l"}
    shown = [
        {
            "PART": row["part"],
            "CURRENT": row["current"] or "none",
            "NEEDED": row["needed"],
            "": "up to date" if row["up_to_date"] else "to be upgraded",
        }
        for row in rows
    ]
    print_table(columns, shown, "")


@partitions.command("list")
def list_partitions(as_json: AsJson = False) -> None:
    """The months of each table, with size and rows as PostgreSQL last estimated them.

    The default partition takes what has no month and should be empty; its rows are counted.
    """
    from gateway.store.month_keeper import partitions as partitions_of

    found = _on_ledger(partitions_of)
    rows = [
        {
            "table": one.table,
            "partition": one.name,
            "from_ms": one.from_ms,
            "to_ms": one.to_ms,
            "rows": one.rows,
            "size_bytes": one.size_bytes,
        }
        for one in found
    ]
    if as_json:
        print_json({"partitions": rows})
        return
    columns = {"TABLE": "l", "PARTITION": "l", "FROM": "l", "UP TO": "l", "ROWS": "r", "MIB": "r"}
    shown = [
        {
            "TABLE": one.table,
            "PARTITION": one.name,
            "FROM": _day(one.from_ms),
            "UP TO": _day(one.to_ms),
            "ROWS": f"{one.rows:,}",
            "MIB": f"{one.size_bytes / 1_048_576:,.1f}",
        }
        for one in found
    ]
    print_table(columns, shown, "No partitions: this is SQLite, or the schema's first revision.")


@partitions.command()
def create(
    ahead: Annotated[int, typer.Option(min=0, max=120, help="So many months after this one.")] = 3,
    month: Annotated[
        list[str] | None, typer.Option(metavar="YYYY-MM", help="This month, too. May be repeated.", show_default=False)
    ] = None,
) -> None:
    """Make months that are not there. The bookkeeper does this, too, if its role owns the tables.

    Rows of such a month that lie in the default partition move to it.
    """
    from gateway.store.month_keeper import make_months

    starts = [_month(text) for text in month or ()]
    made = _on_ledger(lambda engine: make_months(engine, ahead, starts))
    print("\n".join(made) if made else "Nothing to make: they are all there.")


@partitions.command()
def detach(
    before: Annotated[str, typer.Option(metavar="YYYY-MM", help="Take out every month before this one.")],
) -> None:
    """Take old months out of the ledger. Nothing is deleted: they stay as tables of the same names.

    Spend by hour, day and month stays complete; single calls of those months are no longer shown, and `ledger verify`
    leaves them out. All tables of a month go together.
    """
    from gateway.settings import read_settings
    from gateway.store.month_keeper import detach as detach_months

    keep_days = read_settings().journal_keep_days
    detached = _on_ledger(lambda engine: detach_months(engine, _month(before), keep_days))
    for one in detached:
        print(one.name)
    note("They are plain tables in the schema faregate_ledger now." if detached else "There is no month before that.")


def _on_ledger(ask: Callable[[AsyncEngine], Awaitable[Found]]) -> Found:
    """An answer from the ledger's database. Asking SQLite does not create its file."""
    from gateway.settings import read_settings
    from gateway.store.engine import open_engine

    settings = read_settings()
    if not settings.database_url:
        raise Failed("Only PostgreSQL has partitions: set FAREGATE_DATABASE_URL.")

    async def run() -> Found:
        engine = open_engine(settings.database_url, settings.data_dir, "ledger")
        try:
            return await ask(engine)
        finally:
            await engine.dispose()

    return asyncio.run(run())


def _month(text: str) -> int:
    try:
        return int(datetime.strptime(text, "%Y-%m").replace(tzinfo=UTC).timestamp()) * 1000
    except ValueError:
        raise Failed(f"{text!r} is not a month: write 2026-05.", usage=True) from None


def _day(time_ms: int | None) -> str:
    return "" if time_ms is None else datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d")


@ledger.command()
def verify(
    witness: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A provider's own log to compare with, as the simulated provider writes it.",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Fold the journals again and compare them with SQL, the checkpoint and a witness. While everything runs, too.

    Exit code 0: every call is there, once, and every sum is right. 1: what is wrong is named.
    """
    from gateway.settings import read_settings

    settings = read_settings()
    if not settings.journal_dir.exists():
        raise Failed(f"There are no journals in {settings.data_dir}. Is FAREGATE_DATA_DIR the server's data folder?")
    report = asyncio.run(_verify(settings, witness))
    if as_json:
        print_json(_document(report))
    else:
        _print_report(report)
    if not report.ok:
        raise typer.Exit(1)


async def _verify(settings: Settings, witness: Path | None) -> VerifyReport:
    from gateway.bookkeeper.verify import verify as verify_books
    from gateway.store.engine import open_engine, sqlite_file
    from gateway.store.queries_verify import SqlLedgerProof

    rows = None if witness is None else list(_witness_rows(witness))
    if not settings.database_url and not sqlite_file(settings.data_dir, "ledger").exists():
        return await verify_books(settings.journal_dir, settings.checkpoint_file, None, rows)
    engine = open_engine(settings.database_url, settings.data_dir, "ledger", command_timeout_s=None)
    try:
        return await verify_books(settings.journal_dir, settings.checkpoint_file, SqlLedgerProof(engine), rows)
    finally:
        await engine.dispose()


def _witness_rows(path: Path) -> Iterator[WitnessRow]:
    from gateway.ledger.audit import WitnessRow
    from gateway.simulator.witness import read_witness

    try:
        witnessed = read_witness(path)
    except (OSError, ValueError, KeyError) as error:
        raise Failed(f"The witness cannot be read: {error}") from error
    for one in witnessed:
        yield WitnessRow(
            attempt_id=one.attempt_id,
            input_tokens=_tokens(one.usage, "prompt_tokens"),
            output_tokens=_tokens(one.usage, "completion_tokens"),
            cancelled_ms=one.cancelled_ms,
            completed=one.completed,
            first_byte=one.sent_tokens > 0 or one.completed,
        )


def _tokens(usage: dict[str, object], name: str) -> int | None:
    """A provider that reports usage without a member (embeddings have no completion) reports 0 of it."""
    if not usage:
        return None
    value = usage.get(name, 0)
    return value if isinstance(value, int) else None


def _document(report: VerifyReport) -> dict[str, Any]:
    return {
        "ok": report.ok,
        "figures": report.figures,
        "problems": [{"kind": problem.kind, "detail": problem.detail} for problem in report.problems],
        "counts": report.counts,
    }


def _print_report(report: VerifyReport) -> None:
    rows = [
        {"FIGURE": _WORDS.get(name, name.replace("_", " ")), "VALUE": f"{n:,}"} for name, n in report.figures.items()
    ]
    print_table({"FIGURE": "l", "VALUE": "r"}, rows, "")
    if report.ok and not report.figures["journals"]:
        print("\nThere is nothing to verify yet: no journal was written.")
        return
    if report.ok:
        print("\nGreen: every attempt is there, once, and every sum is right.")
        return
    print(f"\n{sum(report.counts.values()):,} problems:")
    for problem in report.problems:
        print(f"  {problem.kind.replace('_', ' ')}: {plain(problem.detail)}")
    for kind, number in report.counts.items():
        named = sum(1 for problem in report.problems if problem.kind == kind)
        if number > named:
            print(f"  {kind.replace('_', ' ')}: {number - named:,} more")
