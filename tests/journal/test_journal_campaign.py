"""Random faults in random order: whatever `append` returned for is read, once, in order, with no alarm.

The disk fails and fills at any system call, loses what a failed fdatasync should have saved, and the process dies and
is adopted at any step. Only then may a record be missing if `append` raised for it.
"""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from journal_bench import Bench, die
from journal_world import OPTIONS, SEGMENT_BYTES, FakeClock, call_id, drain, read_all, void

from gateway.core.errors import UsageLogUnavailable
from gateway.journal.adoption import adopt
from gateway.journal.reader import JournalTail

FAST = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""The faults are ours; a real disk's fsync would only be slow."""
EXAMPLES = int(os.environ.get("FAREGATE_TEST_EXAMPLES", "150"))
"""20 000 of each have been run; more than the default is for changes to the writer or the reader."""
CODES = (errno.EIO, errno.EIO, errno.ENOSPC, errno.EDQUOT)

steps = st.one_of(
    st.tuples(st.just("write"), st.integers(1, 30), st.integers(0, 400)),
    st.tuples(st.just("write"), st.integers(1, 5), st.integers(0, 3000)),
    st.tuples(st.sampled_from(("sync", "prepare", "close_done", "step", "follow", "resume"))),
    st.tuples(st.just("sync_fails"), st.integers(0, 3), st.integers(1, 2)),
    st.tuples(st.just("write_fails"), st.integers(0, 12), st.sampled_from(CODES), st.integers(0, 60)),
    st.tuples(st.just("short"), st.integers(0, 5), st.integers(1, 60)),
    st.tuples(st.just("space"), st.sampled_from((0, 0, SEGMENT_BYTES, 2 * SEGMENT_BYTES, None))),
)


class Campaign(Bench):
    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.acknowledged: dict[int, int] = {}
        self.read: list[tuple[int, int]] = []
        self.number = 0

    def take(self, step: tuple) -> None:
        match step:
            case ("write", count, length):
                for _ in range(count):
                    self.number += 1
                    try:
                        seq = self.log.append(void(self.number, "x" * length), call_id(1))
                    except UsageLogUnavailable:
                        continue
                    assert seq not in self.acknowledged
                    self.acknowledged[seq] = self.number
            case ("sync_fails", after, times):
                self.disk.fdatasync_errors.extend([0] * after + [errno.EIO] * times)
            case ("write_fails", after, code, before):
                self.disk.pwrite_errors.extend([0] * after + [(code, before) if before else code])
            case ("short", after, before):
                self.disk.pwrite_errors.extend([0] * after + [(0, before)])
            case ("space", space_bytes):
                self.disk.space_bytes = space_bytes
            case ("follow",):
                self.read += [(entry.seq, entry.record.ts_ms) for entry in drain(self.tail)]
            case ("resume",):
                position = self.tail.position
                self.tail.close()
                damage = self.tail.damage
                self.tail = JournalTail(self.directory, position)
                self.tail.damage = damage
            case ("step",):
                self.step()
            case (name,):
                getattr(self.log, name)()

    def heal(self) -> None:
        self.disk.heal()
        for _ in range(3):
            self.step()
        assert self.log.refusal == ""
        assert self.log.synced_seq == self.log.last_seq

    def verify(self) -> None:
        self.take(("follow",))
        expected = sorted(self.acknowledged.items())
        assert self.read == expected
        assert self.tail.damage == []
        assert [(entry.seq, entry.record.ts_ms) for entry in read_all(self.directory)] == expected


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.lists(steps, max_size=40))
def test_a_disk_that_heals(sequence: list[tuple]) -> None:
    with tempfile.TemporaryDirectory(dir=FAST) as folder:
        campaign = Campaign(Path(folder))
        for step in sequence:
            campaign.take(step)
        campaign.heal()
        campaign.take(("write", 3, 10))
        campaign.verify()
        campaign.close()


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.lists(steps, max_size=30), st.lists(steps, max_size=8), st.booleans())
def test_a_process_that_dies_and_is_adopted(sequence: list[tuple], while_adopted: list[tuple], forgets: bool) -> None:
    with tempfile.TemporaryDirectory(dir=FAST) as folder:
        campaign = Campaign(Path(folder))
        campaign.disk.forgets = forgets
        for step in sequence:
            campaign.take(step)
        if campaign.log._must_carry and forgets:
            campaign.heal()  # the disk has lost records that only the process still had: it must not die just then
        die(campaign)
        for step in while_adopted:
            if step[0] in ("sync_fails", "write_fails", "short", "space", "follow"):
                campaign.take(step)
        adopted = None
        while adopted is None:
            try:
                adopted = adopt(campaign.directory, clock=FakeClock(), disk=campaign.disk, **OPTIONS)
            except UsageLogUnavailable:
                campaign.disk.heal()
        assert adopted.last_seq >= max(campaign.acknowledged, default=0)
        for _ in range(3):
            campaign.number += 1
            try:
                seq = adopted.writer.append(void(campaign.number), call_id(1))
            except UsageLogUnavailable:
                continue
            campaign.acknowledged[seq] = campaign.number
        campaign.disk.heal()
        assert adopted.seal() == max(campaign.acknowledged, default=0)
        campaign.verify()
        assert campaign.tail.finished
        campaign.tail.close()
