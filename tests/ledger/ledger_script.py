"""Ledger tests as text: a script of records that a bookkeeper can check, applied to any books.

    hold    c1 a1  usd=600 tokens=100  count requests=1  bound 600  input 10  at 5
    shrink  a1  usd=200  bound 400       dispatch a1       progress a1 10 20
    end     a1  usd=350                  void a1           settle c1        correct a1 r1 usd=-50

A counter's name is its unit, or `unit@name`, or `unit@name/expires_ms`. Names of calls and attempts become ids.
"""

from __future__ import annotations

from gateway.core.charge import PinnedRate
from gateway.core.limits import Take, Unit
from gateway.core.records import (
    AnyRecord,
    AttemptEnd,
    Correct,
    Dispatch,
    Entry,
    Features,
    Hold,
    Progress,
    Settle,
    Shrink,
    Void,
)

RATES = (PinnedRate("row-in", "input", 2_000, 1), PinnedRate("row-out", "output", 10_000, 1))
"""2 and 10 nano-USD a token."""


def name_id(name: str) -> bytes:
    return name.encode().ljust(16, b"\0")


def take(text: str) -> Take:
    """`usd@team/99=600` → 600 nano-USD of counter `usd@team`, which expires at 99 ms."""
    left, _, amount = text.partition("=")
    counter, _, expires = left.partition("/")
    return Take(counter, f"limit of {counter}", Unit(counter.partition("@")[0]), int(amount), int(expires or 0))


def hold(
    attempt: str,
    takes: str = "",
    counts: str = "",
    *,
    ts_ms: int = 1,
    number: int = 1,
    bound_nusd: int | None = None,
    input_estimate: int = 0,
    rates: tuple[PinnedRate, ...] = RATES,
    model: str = "m-1",
    team: str = "team-a",
) -> Hold:
    return Hold(
        ts_ms=ts_ms,
        attempt_id=name_id(attempt),
        attempt_no=number,
        org="acme",
        team=team,
        key_id="k1",
        user="u",
        session="s",
        tags=(("env", "test"),),
        endpoint="chat.completions",
        model_asked="fast",
        deployment=f"p/{model}",
        provider="p",
        model=model,
        config_revision=7,
        started_ms=ts_ms,
        takes=tuple(map(take, takes.split())),
        counts=tuple(map(take, counts.split())),
        bound_nusd=bound_nusd,
        input_estimate=input_estimate,
        rates=rates,
    )


def end(
    attempt: str,
    posted: str = "",
    *,
    ts_ms: int = 1,
    outcome: str = "ok",
    nusd: int | None = 0,
    source: str = "provider",
    tokens: tuple[int, int] = (0, 0),
    ttft_us: int = 5,
    lines: tuple = (),
    state: str = "priced",
    cause: str = "",
) -> AttemptEnd:
    return AttemptEnd(
        ts_ms=ts_ms,
        attempt_id=name_id(attempt),
        outcome=outcome,
        cause=cause,
        status=200,
        posted=tuple(map(take, posted.split())),
        lines=lines,
        state=state,
        source=source,
        list_nusd=nusd,
        effective_nusd=nusd,
        raw_usage=b"{}",
        served_tier="standard",
        model_served="m-1-2026",
        finish_reason="stop",
        upstream_id="up-1",
        ttft_us=ttft_us,
        duration_us=9,
        input_tokens=tokens[0],
        output_tokens=tokens[1],
    )


def settle(attempt: str, counts: str = "", *, ts_ms: int = 1, outcome: str = "ok") -> Settle:
    return Settle(
        ts_ms=ts_ms,
        attempt_id=name_id(attempt),
        started_ms=1,
        org="acme",
        team="team-a",
        key_id="k1",
        user="",
        session="",
        tags=(),
        config_revision=7,
        verdicts=(),
        features=Features(),
        endpoint="chat.completions",
        stream=False,
        model_asked="fast",
        model_planned="m-1",
        model_served="",
        deployment="p/m-1",
        provider="p",
        attempts=1,
        causes=(),
        outcome=outcome,
        status=200,
        error_code="",
        finish_reason="",
        refusal=False,
        ttft_us=-1,
        duration_us=1,
        overhead_us=1,
        cost_state="priced",
        list_nusd=0,
        effective_nusd=0,
        input_tokens=0,
        output_tokens=0,
        row_ids=(),
        raw_usage=b"",
        trace_id=b"",
        span_id=b"",
        counts=tuple(map(take, counts.split())),
    )


class Script:
    """Turns lines into (call id, record), remembering which call an attempt belongs to."""

    def __init__(self) -> None:
        self.call_of: dict[str, str] = {}
        self.numbers: dict[str, int] = {}

    def read(self, line: str) -> tuple[bytes, AnyRecord]:
        verb, *words = line.split()
        options = _options(words)
        ts_ms = int(options.get("at", ["1"])[0])
        bound = options.get("bound")
        bound_nusd = int(bound[0]) if bound else None
        amounts = [word for word in words if "=" in word]
        names = [word for word in words if "=" not in word]
        if verb == "hold":
            call, attempt = names[:2]
            self.call_of[attempt] = call
            self.numbers[call] = self.numbers.get(call, 0) + 1
            record: AnyRecord = hold(
                attempt,
                " ".join(amounts),
                " ".join(options.get("count", [])),
                ts_ms=ts_ms,
                number=self.numbers[call],
                bound_nusd=bound_nusd,
                input_estimate=int(options.get("input", ["0"])[0]),
            )
            return name_id(call), record
        if verb == "settle":
            last = [attempt for attempt, call in self.call_of.items() if call == names[0]]
            attempt = options.get("attempt", last[-1:] or [names[0]])[0]
            return name_id(names[0]), settle(attempt, " ".join(options.get("count", [])), ts_ms=ts_ms)
        attempt_id = name_id(names[0])
        call_id = name_id(self.call_of.get(names[0], "nobody"))
        takes = tuple(map(take, amounts))
        match verb:
            case "shrink":
                record = Shrink(ts_ms, attempt_id, takes, bound_nusd)
            case "dispatch":
                record = Dispatch(ts_ms, attempt_id)
            case "progress":
                record = Progress(ts_ms, attempt_id, int(names[1]), int(names[2]))
            case "end":
                record = end(names[0], " ".join(amounts), ts_ms=ts_ms)
            case "void":
                record = Void(ts_ms, attempt_id, "connect")
            case "correct":
                record = Correct(ts_ms, attempt_id, int(names[1].lstrip("r")), takes, "test")
            case _:
                raise AssertionError(f"no such record: {line}")
        return call_id, record


def records(text: str) -> list[tuple[bytes, AnyRecord]]:
    script = Script()
    return [script.read(line) for line in text.strip().splitlines() if line.strip()]


def entries(journal: list[tuple[bytes, AnyRecord]], journal_id: bytes = b"j" * 16) -> list[Entry]:
    """As a reader would deliver them, seqs from 1."""
    return [Entry(journal_id, seq, call_id, record, 1, 0) for seq, (call_id, record) in enumerate(journal, 1)]


def _options(words: list[str]) -> dict[str, list[str]]:
    """`at 5`, `bound 400`, `input 10`, `attempt a1`, `count requests=1 …` (to the end), taken out of `words`."""
    found: dict[str, list[str]] = {}
    if "count" in words:
        at = words.index("count")
        tail = words[at + 1 :]
        counts = [word for word in tail if "=" in word]
        found["count"] = counts
        words[at:] = [word for word in tail if word not in counts]
    for option in ("at", "bound", "input", "attempt"):
        if option in words:
            at = words.index(option)
            found[option] = [words[at + 1]]
            del words[at : at + 2]
    return found
