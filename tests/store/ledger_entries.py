"""Journal entries for tests, as a worker would have appended them, with every number derived from a seed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from gateway.core.charge import Line
from gateway.core.ids import make_id
from gateway.core.records import (
    AnyRecord,
    AttemptEnd,
    Dispatch,
    Entry,
    Features,
    Hold,
    Settle,
    Void,
)

T0 = 1_790_000_000_000
"""2026-09-21T14:13:20Z, not at the start of an hour."""


def ident(number: int, at_ms: int = T0) -> bytes:
    """A 16-byte id that differs for every number."""
    return make_id(at_ms, number.to_bytes(10, "big"))


def hold(attempt_id: bytes, **changes: object) -> Hold:
    values: dict[str, object] = {
        "ts_ms": T0,
        "attempt_id": attempt_id,
        "attempt_no": 1,
        "org": "acme",
        "team": "search",
        "key_id": "key_1",
        "user": "u1",
        "session": "s1",
        "tags": (("env", "prod"),),
        "endpoint": "chat.completions",
        "model_asked": "gpt-x",
        "deployment": "openai/gpt-x-1",
        "provider": "openai",
        "model": "gpt-x-1",
        "config_revision": 7,
        "started_ms": T0,
        "takes": (),
        "counts": (),
        "bound_nusd": 9_000,
        "input_estimate": 10,
        "rates": (),
    }
    return Hold(**{**values, **changes})  # type: ignore[arg-type]


def line(meter: str, quantity: int, rate_pico: int | None = 1_000) -> Line:
    amount = None if rate_pico is None else quantity * rate_pico // 1_000
    return Line(meter, quantity, rate_pico, 1, amount, amount, f"row:{meter}")


def end(attempt_id: bytes, lines: tuple[Line, ...] = (), **changes: object) -> AttemptEnd:
    unpriced = any(one.effective_nusd is None for one in lines)
    total = None if unpriced else sum(one.effective_nusd or 0 for one in lines)
    values: dict[str, object] = {
        "ts_ms": T0 + 900,
        "attempt_id": attempt_id,
        "outcome": "ok",
        "cause": "",
        "status": 200,
        "posted": (),
        "lines": lines,
        "state": "unpriced" if unpriced else "priced",
        "source": "provider",
        "list_nusd": total,
        "effective_nusd": total,
        "raw_usage": b'{"prompt_tokens":10}',
        "served_tier": "standard",
        "model_served": "gpt-x-1-0613",
        "finish_reason": "stop",
        "upstream_id": "chatcmpl-1",
        "ttft_us": 400,
        "duration_us": 900,
        "input_tokens": sum(one.quantity for one in lines if one.meter == "input"),
        "output_tokens": sum(one.quantity for one in lines if one.meter == "output"),
    }
    return AttemptEnd(**{**values, **changes})  # type: ignore[arg-type]


def settle(attempt_id: bytes, **changes: object) -> Settle:
    values: dict[str, object] = {
        "ts_ms": T0 + 1_000,
        "attempt_id": attempt_id,
        "started_ms": T0,
        "org": "acme",
        "team": "search",
        "key_id": "key_1",
        "user": "u1",
        "session": "s1",
        "tags": (("env", "prod"),),
        "config_revision": 7,
        "verdicts": ("allow",),
        "features": Features(body_bytes=100, messages=1),
        "endpoint": "chat.completions",
        "stream": False,
        "model_asked": "gpt-x",
        "model_planned": "gpt-x-1",
        "model_served": "gpt-x-1-0613",
        "deployment": "openai/gpt-x-1",
        "provider": "openai",
        "attempts": 1,
        "causes": (),
        "outcome": "ok",
        "status": 200,
        "error_code": "",
        "finish_reason": "stop",
        "refusal": False,
        "ttft_us": 400,
        "duration_us": 1_000,
        "overhead_us": 90,
        "cost_state": "priced",
        "list_nusd": 30,
        "effective_nusd": 30,
        "input_tokens": 10,
        "output_tokens": 20,
        "row_ids": ("row:input", "row:output"),
        "raw_usage": b"",
        "trace_id": b"t" * 16,
        "span_id": b"s" * 8,
    }
    return Settle(**{**values, **changes})  # type: ignore[arg-type]


def void(attempt_id: bytes) -> Void:
    return Void(T0 + 5, attempt_id, "connect", "refused")


@dataclass
class Book:
    """One journal being written: numbers entries and gives them offsets."""

    journal_id: bytes = field(default_factory=lambda: ident(1))
    seq: int = 0

    def entry(self, call_id: bytes, record: AnyRecord) -> Entry:
        self.seq += 1
        return Entry(self.journal_id, self.seq, call_id, record, 0, self.seq * 100)

    def entries(self, call_id: bytes, records: Iterable[AnyRecord]) -> list[Entry]:
        return [self.entry(call_id, record) for record in records]

    def call(self, number: int, **who: object) -> list[Entry]:
        """A call that went well: one attempt, 10 tokens in and 20 out, 30 nano-USD."""
        started = {"started_ms": who["started_ms"]} if "started_ms" in who else {}
        at_ms = int(started.get("started_ms", T0))  # type: ignore[call-overload]
        attempt_id = ident(number * 2 + 1, at_ms)
        whose = {word: who[word] for word in ("org", "team", "key_id", "model_asked") if word in who}
        return self.entries(
            ident(number * 2, at_ms),
            (
                hold(attempt_id, ts_ms=at_ms, **whose, **started),
                Dispatch(at_ms, attempt_id),
                end(attempt_id, (line("input", 10), line("output", 20)), ts_ms=at_ms + 900),
                settle(attempt_id, ts_ms=at_ms + 1_000, **whose, **started),
            ),
        )


def calls(count: int, book: Book | None = None, spread: int = 20) -> Iterator[Entry]:
    """The entries of `count` calls of `spread` keys over three hours."""
    book = book or Book()
    for number in range(count):
        yield from book.call(
            number + 1,
            key_id=f"key_{number % spread}",
            team=f"team_{number % 3}",
            started_ms=T0 + number % 3 * 3_600_000,
        )
