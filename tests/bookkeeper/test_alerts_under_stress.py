"""Alerts when things go wrong: restarts after a raise, channels that hang, clocks that leap, floods, damaged files."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from store.ledger_entries import end, hold

from bookkeeper.alert_world import JOURNAL, OPS, START_MS, TELLING, Told, Town, month_limit, quiet_status, shares
from bookkeeper.test_alert_delivery import HOUR_MS, full_disk
from gateway.bookkeeper.alerts import evaluation, outbox, watching
from gateway.bookkeeper.alerts.sending import MOST_PER_HOUR
from gateway.bookkeeper.alerts.watching import Watch
from gateway.core.alerts import Alert, AlertKind, Channel, Notified
from gateway.core.limits import EACH, Limit, Unit, Window, WindowKind
from gateway.core.money import NANO
from gateway.core.queries import QueryScope, SpendRow
from gateway.core.records import Entry
from gateway.ledger.fold import Books

DAY_MS = 24 * HOUR_MS


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    made = Town(tmp_path)
    yield made
    made.close()


# ---------------------------------------------------------------- restarts


@pytest.mark.parametrize("raised", [200, 1000])
async def test_a_restart_after_a_raise_loses_no_share_above_it(town: Town, raised: int) -> None:
    """50, 80 and 100 were told of the old amount; those of the new one are due when they are reached."""
    limit = month_limit(100)
    town.set(limit)
    town.spend(100, limit)
    await town.look()
    town.set(month_limit(raised))
    town.spend(1, limit)
    town.checkpoint()
    town.die()
    await town.look()
    town.spend(raised - 101, limit)
    await town.look()
    told = [(one.figures[1].amount, one.figures[2].amount) for _, one in town.told.sent]
    above = [share for share in (50, 80, 100) if share * raised > 101 * 100]
    assert sorted(told) == [(100, 50), (100, 80), (100, 100), *((raised, share) for share in above)]


async def test_what_was_spent_while_the_bookkeeper_was_dead_is_told_after_a_raise(town: Town) -> None:
    limit = month_limit(100)
    town.set(limit)
    town.spend(100, limit)
    await town.look()
    town.set(month_limit(200))
    town.spend(1, limit)
    town.checkpoint()
    town.alerting.seen = lambda entries, books: None  # type: ignore[method-assign]
    town.spend(69, limit)  # by workers, with nobody to fold it
    town.die()
    await town.look()
    assert (200, 80) in [(one.figures[1].amount, one.figures[2].amount) for _, one in town.told.sent]


# ---------------------------------------------------------------- refusals


async def test_a_call_that_is_too_large_does_not_use_up_the_limit(town: Town) -> None:
    limit = month_limit(100)
    town.set(limit)
    town.spend(5, limit)
    for _ in range(3):
        town.refuse()
        await town.look()
    (alert,) = [one for _, one in town.told.sent]
    assert "could cost more than is left" in alert.title
    assert "used up" not in alert.title
    assert alert.severity == "warning"
    town.die()
    town.spend(95, limit)
    await town.look()
    told = [one.title.partition(" of limit")[0] for _, one in town.told.sent[1:]]
    assert told == ["100 %", "80 %", "50 %"], "the worst first, and nothing swallowed"


async def test_a_refusal_is_of_the_window_that_it_was_in(town: Town) -> None:
    """Refused just before the window turned, judged just after."""
    limit = Limit("lim_d", Unit.USD, 100, Window(WindowKind.DAY), (("key", "k1"),))
    town.set(limit)
    town.clock.ms = START_MS // DAY_MS * DAY_MS + DAY_MS - 10
    town.spend(95, limit)
    await town.look()
    town.refuse()
    town.clock.ms += 1_000
    await town.look()
    alert = town.told.sent[-1][1]
    assert (alert.period, alert.figures[0].amount) == ("2026-11-18", 95)
    town.spend(100, limit)
    await town.look()
    assert "2026-11-19" in {one.period for _, one in town.told.sent if one.severity == "critical"}


# ---------------------------------------------------------------- clocks


async def test_a_clock_that_was_years_ahead_silences_nothing(town: Town) -> None:
    town.status = quiet_status(behind_ms=600_000, behind_bytes=9, store_fault="SQL is away")
    town.clock.ms += 1000 * DAY_MS
    await town.look()
    town.clock.ms = START_MS
    await town.look()
    await town.look()
    town.die()
    await town.look()
    assert len(town.told.sent) == 2


async def test_a_clock_that_is_set_back_holds_up_no_retry_and_no_channel(town: Town) -> None:
    limits = [month_limit(100, f"lim_{number}") for number in range(MOST_PER_HOUR + 1)]
    town.set(*limits)
    town.clock.ms += 10 * DAY_MS
    for limit in limits:
        town.spend(60, limit)
    town.told.answers = [Notified(False, "answered 500")] * MOST_PER_HOUR
    await town.look()
    town.clock.ms = START_MS
    await town.look()
    assert len(town.told.sent) == 2 * MOST_PER_HOUR


async def test_spending_of_hours_to_come_is_not_of_the_last_hour(town: Town) -> None:
    town.clock.ms += 30 * DAY_MS
    for _ in range(3):
        town.spend(19 * NANO)
        town.clock.ms += 2 * HOUR_MS
    town.clock.ms = START_MS
    town.spend(1 * NANO)
    await town.look()
    assert [one.kind for _, one in town.told.sent] == []


# ---------------------------------------------------------------- channels


class Stuck(Told):
    """`slow` does not answer; `broken` has what no library can send."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: asyncio.Queue[str] = asyncio.Queue()

    async def send(self, channel: Channel, alert: Alert) -> Notified:
        if channel.name == "slow":
            await asyncio.Event().wait()
        if channel.name == "broken":
            raise RuntimeError("https://hooks.example.com/SECRET")
        self.heard.put_nowait(alert.id)
        return await super().send(channel, alert)


@pytest.mark.parametrize("name", ["slow", "broken"])
async def test_one_channel_holds_up_no_other(tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    bad = msgspec.structs.replace(OPS, name=name)
    policy = msgspec.structs.replace(TELLING, channels=(bad, OPS), default=(name, "ops"))
    town = Town(tmp_path, policy)
    town.alerting._sender._notifier = stuck = Stuck()
    limits = [month_limit(100, f"lim_{number}") for number in range(20)]
    town.set(*limits)
    for limit in limits:
        town.spend(60, limit)
    running = asyncio.create_task(town.alerting._sender.run())
    async with asyncio.timeout(20):
        heard = {await stuck.heard.get() for _ in range(20)}
        town.spend(40, limits[0])  # and two more, while the first is still stuck
        heard |= {await stuck.heard.get() for _ in range(2)}
    assert not running.done()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert len(heard) == len(stuck.sent) == 22, "each once"
    assert "SECRET" not in caplog.text
    town.close()


async def test_made_up_users_do_not_use_up_a_channels_hour(town: Town) -> None:
    each = Limit("lim_u", Unit.USD, 100, Window(WindowKind.MONTH), (("key", EACH), ("user", EACH)), max_values=999)
    mine = month_limit(100)
    town.set(each, mine)
    for number in range(MOST_PER_HOUR):
        town.spend(100, each, user=f"user-{number}")
    await town.look()
    town.spend(100, mine)
    await town.look()
    assert ("lim_1", 100) in shares(town)


# ---------------------------------------------------------------- what may not stop the books


@pytest.mark.parametrize("name", ["alerts.jsonl", "alert_spending.msgpack"])
def test_a_byte_that_is_no_text_does_not_stop_a_start(town: Town, name: str) -> None:
    limit = month_limit(100)
    town.set(limit)
    town.spend(60 * NANO, limit, user="ann-ann-ann")
    town.alerting._watch.save_now()
    path = town.settings.data_dir / name
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"acme", b"\xff\xfeme"))
    assert path.read_bytes() != whole
    town.die()


async def test_one_limit_that_cannot_be_judged_hides_no_other(town: Town) -> None:
    """A time zone that this host knows no more."""
    lost = month_limit(100, "lim_0")
    others = [month_limit(100, "lim_1"), month_limit(100, "lim_2")]
    town.set(lost, *others)
    town.spend(1, lost)
    town.set(msgspec.structs.replace(lost, window=Window(WindowKind.MONTH, zone="Atlantis/Poseidonia")))
    town.spend(60, others[0], lost, others[1])
    await town.look()
    assert sorted(shares(town)) == [("lim_1", 50), ("lim_2", 50)]
    town.clock.ms += HOUR_MS
    town.spend(30, *others)
    await town.look()
    assert sorted(shares(town))[-1] == ("lim_2", 80)


async def test_on_a_full_disk_a_fault_of_recording_is_told_all_the_same(town: Town) -> None:
    town.status = quiet_status(behind_ms=600_000, behind_bytes=9, store_fault="disk full")
    town.set()
    with full_disk():
        await town.look()
        assert [one.kind for _, one in town.told.sent] == [AlertKind.RECORDING_DELAY]
        await town.look()
    await town.look()
    town.die()
    await town.look()
    assert len(town.told.sent) == 1


async def test_a_large_outbox_is_not_written_anew_at_every_look(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "MOST_BYTES", 1000)
    limits = [month_limit(100, f"lim_{number}") for number in range(30)]
    town.set(*limits)
    for limit in limits:
        town.spend(60, limit)
    with ExitStack() as kept:  # a file that is held open gives its inode to no other
        inodes: list[int] = []
        for number in range(5):
            town.alerting.outbox.flush(START_MS)
            file = kept.enter_context((town.settings.data_dir / evaluation.OUTBOX_NAME).open("rb"))
            inodes.append(os.fstat(file.fileno()).st_ino)
            town.spend(40, limits[number])
        assert os.fstat(file.fileno()).st_size > outbox.MOST_BYTES
    assert len(set(inodes)) <= 2, "replaced once at most"


class Hanging:
    """core.queries.LedgerQueries that never answers."""

    def __init__(self) -> None:
        self.asked = 0

    async def spend(self, scope: QueryScope, by: tuple[str, ...], *_: int, limit: int = 0) -> list[SpendRow]:
        self.asked += 1
        raise TimeoutError


async def test_sql_that_hangs_is_waited_for_once(tmp_path: Path) -> None:
    ledger = Hanging()
    town = Town(tmp_path, ledger=ledger)  # type: ignore[arg-type]
    for number in range(15):
        town.spend(25 * NANO, key_id=f"k{number}")
    await town.look()
    assert ledger.asked == 1
    assert len(town.told.sent) == 15
    town.close()


class Refusing:
    """core.alerts.AlertStore that refuses what it is given."""

    def __init__(self) -> None:
        self.asked: asyncio.Queue[None] = asyncio.Queue()

    async def record(self, *_: object) -> None:
        self.asked.put_nowait(None)
        raise ValueError("a value that SQL does not take")


async def test_sql_that_refuses_a_row_does_not_stop_what_is_sent(town: Town) -> None:
    store = Refusing()
    town.alerting._world = replace(town.alerting._world, store=store)  # type: ignore[arg-type]
    limit = month_limit(100)
    town.set(limit)
    town.spend(60, limit)
    running = asyncio.create_task(town.alerting.run())
    async with asyncio.timeout(20):
        for _ in range(3):
            await store.asked.get()
    assert shares(town) == [("lim_1", 50)], "sent once, whatever SQL says"
    assert not running.done()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_counters_are_swept_a_few_at_a_time(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """A million counters judged at once would hold up the fold for seconds, at a start and each quarter of an hour.
    What was told is lost with its file: a start tells all of it, and others have their turn in between."""
    monkeypatch.setattr(evaluation, "SWEEP_AT_ONCE", 3)
    limits = [month_limit(100, f"lim_{number}") for number in range(10)]
    town.set(*limits)
    for limit in limits:
        town.spend(60, limit)
    await town.look()
    town.checkpoint()
    (town.settings.data_dir / evaluation.OUTBOX_NAME).unlink()
    town.die()
    seen: list[int] = []

    async def look_on() -> None:
        while True:
            seen.append(town.alerting.outbox.added)
            await asyncio.sleep(0)

    looking = asyncio.create_task(look_on())
    await town.look()
    looking.cancel()
    assert sorted({*seen} - {0}) == [3, 6, 9, 10]


def test_made_up_users_of_a_long_fold_are_not_all_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "MOST_PENDING", 100)
    watch = Watch(tmp_path / "spending", START_MS)
    watch.spending._most = 40
    watch.begin(Books())
    for number in range(1000):
        attempt_id, call_id = number.to_bytes(16, "big"), b"c" * 16
        records = [
            hold(attempt_id, ts_ms=START_MS, user=f"user-{number}"),
            end(attempt_id, (), ts_ms=START_MS, effective_nusd=1, list_nusd=1),
        ]
        watch.see([Entry(JOURNAL, 2 * number + at, call_id, one, 1, 0) for at, one in enumerate(records, 1)])
    assert len(watch.paced) <= 110
