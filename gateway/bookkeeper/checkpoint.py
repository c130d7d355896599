"""The checkpoint file: the books of all journals of this host up to a position in each. Imports no SQL.

It is a shortcut, not the truth: `current_books` is checkpoint plus the journals' tails, and without a checkpoint the
journals from their beginning. Only when their beginning has been deleted does a lost checkpoint stop the start.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path

import msgspec

from gateway.bookkeeper.durable import write_whole
from gateway.core.errors import JournalUnreadable
from gateway.core.records import Entry
from gateway.journal.folder import list_journals
from gateway.journal.reader import JournalTail, Position
from gateway.ledger.fold import Books

MAGIC = b"FGCHKPT1"
PRUNED_NAME = "pruned"
"""In the journals' folder once segments have been deleted: from then on the journals alone are not everything."""
_DIGEST_BYTES = 32

_log = logging.getLogger(__name__)


class JournalState(msgspec.Struct, frozen=True, array_like=True):
    """How far one journal is folded, which of its calls were open there, and whether its HANDOVER lies before."""

    journal_id: bytes
    position: Position
    open_calls: tuple[bytes, ...] = ()
    handed_over: bool = False


class Checkpoint(msgspec.Struct, frozen=True, array_like=True):
    """`books` is a `Books.dump`."""

    written_ms: int
    books: bytes
    journals: tuple[JournalState, ...]

    def positions(self) -> dict[bytes, Position]:
        return {state.journal_id: state.position for state in self.journals}


def previous_file(path: Path) -> Path:
    """Where the checkpoint before the present one is."""
    return path.with_name(path.name + ".previous")


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Replaces the file in one step and keeps the one before it. Raises OSError."""
    payload = msgspec.msgpack.encode(checkpoint)
    write_whole(path, MAGIC + hashlib.sha256(payload).digest() + payload, keep=previous_file(path))


def read_checkpoint(path: Path) -> Checkpoint | None:
    """The newest checkpoint that is whole and of this version: the present one, else the one before; else None."""
    for candidate in (path, previous_file(path)):
        try:
            return _decode(candidate.read_bytes())
        except FileNotFoundError:
            continue
        except (OSError, JournalUnreadable) as error:
            _log.error("%s is not used: %s", candidate, error)
    return None


def books_of(checkpoint: Checkpoint | None, journal_root: Path) -> Books:
    """A checkpoint's books, empty ones without. Raises JournalUnreadable when the journals cannot stand in for it."""
    if checkpoint is not None:
        return Books.load(checkpoint.books)
    if (journal_root / PRUNED_NAME).exists():
        raise JournalUnreadable(
            f"no checkpoint can be read, and older segments of {journal_root} have been deleted: what was spent before "
            "them is not known. Restore checkpoint.msgpack from a backup; to start with empty counters all the same, "
            f"delete {journal_root / PRUNED_NAME}"
        )
    return Books()


def current_books(journal_root: Path, checkpoint_path: Path) -> Books:
    """Counters and open holds as of now, for whoever only looks; a worker goes on from there (`following.py`). Raises
    JournalUnreadable."""
    checkpoint = read_checkpoint(checkpoint_path)
    books = books_of(checkpoint, journal_root)
    positions = checkpoint.positions() if checkpoint is not None else {}
    for journal in list_journals(journal_root):
        for entry in _rest(journal.path, positions.get(journal.journal_id, Position())):
            books.apply(entry.record, entry.call_id)
    return books


def _rest(directory: Path, position: Position) -> Iterator[Entry]:
    """What a journal holds after a position."""
    tail = JournalTail(directory, position)
    try:
        while entries := tail.poll():
            yield from entries
        for damage in tail.drain_damage():
            _log.error("%s: records %d to %d are lost", directory, damage.first_seq, damage.last_seq)
    except FileNotFoundError:
        return
    finally:
        tail.close()


def _decode(data: bytes) -> Checkpoint:
    payload = data[len(MAGIC) + _DIGEST_BYTES :]
    if data[: len(MAGIC) + _DIGEST_BYTES] != MAGIC + hashlib.sha256(payload).digest():
        raise JournalUnreadable("it is damaged, or of another version")
    try:
        checkpoint = msgspec.msgpack.decode(payload, type=Checkpoint)
    except msgspec.MsgspecError as error:
        raise JournalUnreadable(f"it is of another version ({error})") from error
    Books.load(checkpoint.books)  # raises JournalUnreadable for another version of the books
    return checkpoint
