"""Alerts on their way: tried until they arrive or a day has passed, and the file that they are kept in."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from bookkeeper.alert_world import RULES, START_MS, Town, month_limit, shares
from gateway.bookkeeper.alerts.outbox import Outbox
from gateway.bookkeeper.alerts.sending import MOST_PER_HOUR, RECORD_AT_ONCE, Recorder
from gateway.core.alerts import Alert, AlertPolicy, Delivery, DeliveryState, Notified
from gateway.core.errors import StoreUnavailable
from gateway.core.limits import Limit, Unit, Window, WindowKind

HOUR_MS = 3_600_000


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    made = Town(tmp_path)
    yield made
    made.close()


async def test_it_is_tried_for_a_day_and_then_given_up(town: Town) -> None:
    limit = month_limit(100)
    town.set(limit)
    town.told.answers = [Notified(False, "answered 500")] * 1000
    town.spend(60, limit)
    waits = []
    while town.alerting.outbox.waiting():
        await town.look()
        for one in town.alerting.outbox.waiting():
            waits.append(one.next_ms - town.clock.ms)
            town.clock.ms = one.next_ms
            town.die()
    assert all(0 < wait <= HOUR_MS for wait in waits)
    assert 24 <= len(waits) <= 300
    assert START_MS + 24 * HOUR_MS <= town.clock.ms < START_MS + 26 * HOUR_MS
    assert len({alert.id for _, alert in town.told.sent}) == 1
    _, (delivery,) = town.alerting.outbox.unrecorded(10)
    assert (delivery.state, delivery.error) == (DeliveryState.GIVEN_UP, "answered 500")
    assert delivery.attempts == len(town.told.sent)


@pytest.mark.parametrize("how", ["gone", "no such channel"])
async def test_what_makes_no_sense_is_not_tried_again(town: Town, how: str) -> None:
    limit = month_limit(100)
    town.set(limit)
    town.spend(60, limit)
    if how == "gone":
        town.told.answers = [Notified(False, "answered 410", over=True)]
    else:
        town.policy = AlertPolicy(rules=RULES)
        town.set()
    await town.look()
    assert town.alerting.outbox.waiting() == []
    assert town.alerting.counts()["alerts_given_up"] == 1


async def test_a_channel_is_not_flooded_and_hears_the_worst_first(town: Town) -> None:
    limits = [month_limit(100, f"lim_{number}") for number in range(200)]
    town.set(*limits)
    for limit in limits:
        town.spend(60, limit)
    for limit in limits[-7:]:
        town.spend(40, limit)
    await town.look()
    assert len(town.told.sent) == MOST_PER_HOUR
    assert [share for _, share in shares(town)][:14] == [100] * 7 + [80] * 7
    for _ in range(3):
        await town.look()
    assert len(town.told.sent) == MOST_PER_HOUR
    town.clock.ms += HOUR_MS
    await town.look()
    assert len(town.told.sent) == 214
    assert len({alert.id for _, alert in town.told.sent}) == 214


# ---------------------------------------------------------------- the outbox


def test_a_torn_line_was_never_believed_and_a_damaged_one_is_left_out(tmp_path: Path) -> None:
    town = Town(tmp_path)
    limit = month_limit(100)
    town.set(limit)
    town.spend(60, limit)
    town.spend(30, limit)
    town.close()
    path = town.settings.data_dir / "alerts.jsonl"
    whole = path.read_bytes()
    assert path.stat().st_mode & 0o077 == 0
    assert whole.count(b"\n") == 2
    for content, kept in ((whole[:-5], 1), (b"{}\n" + whole, 2), (b"", 0)):
        path.write_bytes(content)
        outbox = Outbox(path, START_MS)
        assert len(outbox.waiting()) == kept
        outbox.close()
        assert path.read_bytes().count(b"\n") == kept, "what was torn is gone from the file"


@contextmanager
def full_disk() -> Iterator[None]:
    """No file of this process may grow: the kernel refuses every write."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_on_a_full_disk_nothing_is_sent_and_later_everything(town: Town) -> None:
    limit = month_limit(100)
    town.set(limit)
    with full_disk():
        town.spend(60, limit)
    await town.alerting._sender.deliver_due()
    assert town.told.sent == [], "it is on no disk yet"
    await town.look()
    assert shares(town) == [("lim_1", 50)]
    town.die()
    await town.look()
    assert shares(town) == [("lim_1", 50)]


def test_what_is_long_over_is_forgotten_and_what_counts_stays(tmp_path: Path) -> None:
    town = Town(tmp_path)
    ends, stays = month_limit(100), Limit("lim_t", Unit.USD, 100, Window(WindowKind.TOTAL), (("key", "k1"),))
    town.set(ends, stays)
    town.spend(60, ends, stays)
    town.look_now()
    town.close()
    path = town.settings.data_dir / "alerts.jsonl"
    later = Outbox(path, START_MS + 100 * 24 * HOUR_MS)
    later.close()
    kept = [json.loads(line) for line in path.read_text().strip().split("\n")]
    assert [one["alert"]["limit_id"] for one in kept if one["op"] == "made"] == ["lim_t"]
    assert later.marks.last_told("lim_t|k1|all", 50) == 100


# ---------------------------------------------------------------- SQL


class Ledgerless:
    """core.alerts.AlertStore that is away for a while."""

    def __init__(self) -> None:
        self.down = True
        self.alerts: dict[str, Alert] = {}
        self.deliveries: dict[tuple[str, str], Delivery] = {}

    async def record(self, alerts: Sequence[Alert], deliveries: Sequence[Delivery]) -> None:
        if self.down:
            raise StoreUnavailable("SQL is away")
        self.alerts |= {alert.id: alert for alert in alerts}
        self.deliveries |= {(one.alert_id, one.channel): one for one in deliveries}


class Keeping(Ledgerless):
    """One that also forgets, and remembers up to when it was asked to."""

    def __init__(self, old: int) -> None:
        super().__init__()
        self.down = False
        self.old = old
        self.before_ms: list[int] = []

    async def forget_alerts(self, before_ms: int, limit: int = 1000) -> int:
        self.before_ms.append(before_ms)
        gone = min(limit, self.old)
        self.old -= gone
        return gone


async def test_sql_forgets_what_is_older_than_it_is_kept_once_an_hour(town: Town) -> None:
    store = Keeping(RECORD_AT_ONCE + 7)
    recorder = Recorder(town.alerting.outbox, store, town.clock, 400, pause_s=0.0)  # type: ignore[arg-type]
    assert [await recorder.forget() for _ in range(3)] == [True, False, False]
    assert (store.old, store.before_ms) == (0, [town.clock.now_ms() - 400 * 24 * HOUR_MS] * 2)
    town.clock.ms += HOUR_MS
    assert not await recorder.forget()
    assert len(store.before_ms) == 3


async def test_sql_is_told_everything_when_it_is_back(town: Town) -> None:
    store = Ledgerless()
    recorder = Recorder(town.alerting.outbox, store, town.clock, 400, pause_s=0.0)  # type: ignore[arg-type]
    limit = month_limit(100)
    town.set(limit)
    town.spend(60, limit)
    assert not await recorder.record()
    await town.look()
    assert shares(town) == [("lim_1", 50)], "delivered all the same"
    assert recorder.fault == "SQL is away"
    store.down = False
    await recorder.record()
    (alert,) = store.alerts.values()
    assert [one.state for one in store.deliveries.values()] == [DeliveryState.SENT]
    assert alert.links == (), "a pause link is for the channel only"
    assert town.alerting.outbox.unrecorded(10) == ([], [])
    town.spend(30, limit)
    await recorder.record()
    assert [one.state for one in store.deliveries.values()] == [DeliveryState.SENT, DeliveryState.WAITING]
