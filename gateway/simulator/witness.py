"""The outside log: one JSON line when an attempt begins and one when it ends, on disk before the caller can know.

A thread writes and forces lines in groups, so an attempt waits milliseconds and a thousand attempts wait together.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from pathlib import Path

import msgspec

GROUP_S = 0.002
"""How long the writer gathers lines before it forces them."""

_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(dict[str, object])


class Witnessed(msgspec.Struct, frozen=True):
    """One attempt as the log has it. `ended` False: the process died in between, or the attempt is still running."""

    attempt_id: str
    model: str
    prompt_tokens: int
    began_ms: int
    ended: bool = False
    completed: bool = False
    usage: dict[str, object] = {}
    cancelled_ms: int | None = None
    sent_tokens: int = 0
    ended_ms: int = 0


class Witness:
    """The log of one process; without a path it takes lines and keeps nothing."""

    def __init__(self, path: Path | None) -> None:
        self._file = None if path is None else os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._changed = threading.Condition()
        self._lines: list[bytes] = []
        self._waiting: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
        self._closing = False
        self._failure: OSError | None = None
        self._thread = threading.Thread(target=self._write, name="witness", daemon=True)
        if self._file is not None:
            self._thread.start()

    def note(self, event: dict[str, object]) -> None:
        """Adds a line; `ts_ms` is added to it."""
        if self._file is None:
            return
        line = _ENCODER.encode(event | {"ts_ms": time.time_ns() // 1_000_000}) + b"\n"
        with self._changed:
            self._lines.append(line)
            self._changed.notify()

    async def durable(self) -> None:
        """Returns when every line noted so far is on disk. Raises OSError when the log cannot be written."""
        if self._file is None:
            return
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        with self._changed:
            if self._failure is not None:
                raise self._failure
            self._waiting.setdefault(loop, []).append(future)
            self._changed.notify()
        await future

    def close(self) -> None:
        """Writes what is left and closes the file."""
        if self._file is None:
            return
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()
        os.close(self._file)
        self._file = None

    def _write(self) -> None:
        assert self._file is not None
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._lines or self._waiting or self._closing)
                if self._closing and not self._lines and not self._waiting:
                    return
            if not self._closing:
                time.sleep(GROUP_S)
            with self._changed:
                lines, self._lines = self._lines, []
                waiting, self._waiting = self._waiting, {}
            try:
                _write_all(self._file, b"".join(lines))
                os.fdatasync(self._file)
            except OSError as error:
                self._failure = error
            for loop, futures in waiting.items():
                if not loop.is_closed():
                    loop.call_soon_threadsafe(_release, futures, self._failure)


def _write_all(file: int, data: bytes) -> None:
    while data:
        data = data[os.write(file, data) :]


def _release(futures: list[asyncio.Future[None]], failure: OSError | None) -> None:
    for future in futures:
        if future.done():
            continue
        if failure is None:
            future.set_result(None)
        else:
            future.set_exception(failure)


def read_witness(path: Path) -> list[Witnessed]:
    """All attempts in the order they began, `begin` and `end` merged by attempt id; repeated ids stay apart.

    A torn last line (the process was killed while writing) is passed over. Raises ValueError for any other bad line.
    """
    found: list[Witnessed] = []
    running: dict[str, list[int]] = {}
    lines = path.read_bytes().split(b"\n")
    for line in lines[:-1]:
        try:
            event = _DECODER.decode(line)
        except msgspec.DecodeError as error:
            raise ValueError(f"{path} holds a line that is no JSON object: {line[:80]!r}") from error
        attempt_id = str(event["attempt_id"])
        if event["event"] == "begin":
            running.setdefault(attempt_id, []).append(len(found))
            began = {"model": event["model"], "prompt_tokens": event["prompt_tokens"], "began_ms": event["ts_ms"]}
            found.append(msgspec.convert({"attempt_id": attempt_id, **began}, Witnessed))
        elif places := running.get(attempt_id):
            place = places.pop(0)
            ended = {name: event[name] for name in ("completed", "usage", "cancelled_ms", "sent_tokens")}
            merged = msgspec.structs.asdict(found[place]) | ended | {"ended": True, "ended_ms": event["ts_ms"]}
            found[place] = msgspec.convert(merged, Witnessed)
    return found
