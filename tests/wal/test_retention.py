"""Old segments go when a snapshot stands for them, and nothing acknowledged goes with them."""

from __future__ import annotations

import errno
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import product
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wal.builders import (
    LOSSES,
    Disk,
    append_frames,
    fake_disk,
    payload,
    payloads,
    written_log,
)
from tests.wal.fake_fs import Call, FakeFileSystem, Moment, SimulatedCrash
from wal import (
    Damaged,
    Lock,
    Log,
    LogFailed,
    Position,
    Reader,
    RecordsGone,
    check_snapshot,
    find_snapshots,
    list_segments,
    open_snapshot,
    remove_segments_before,
    remove_snapshot,
    sync_snapshots,
    write_snapshot,
)
from wal.directory import find_segments


def remove_before(disk: Disk, lsn: int) -> int:
    return remove_segments_before(disk.directory, lsn, file_system=disk.file_system)


# The functions.


def test_segments_are_listed_with_their_files(disk: Disk) -> None:
    disk.file_system.make_directory(disk.directory)
    assert list_segments(disk.directory, file_system=disk.file_system) == []
    written_log(disk, frames=20)
    segments = list_segments(disk.directory, file_system=disk.file_system)
    assert [segment.path for segment in segments] == disk.segments()
    firsts = find_segments(disk.file_system, disk.directory)
    assert [segment.first_lsn for segment in segments] == firsts
    for segment in segments[:-1]:
        assert 256 < segment.size_bytes < disk.segment_bytes
    assert segments[-1].size_bytes == disk.segment_bytes


def test_segments_go_when_all_their_records_are_before_and_never_the_last(disk: Disk) -> None:
    written = written_log(disk, frames=20)
    firsts = find_segments(disk.file_system, disk.directory)
    gone = 0
    for lsn in range(len(written) + 10):
        count = remove_before(disk, lsn)
        gone += count
        left = find_segments(disk.file_system, disk.directory)
        assert left == firsts[gone:]
        assert len(left) == 1 or left[1] > lsn
    assert gone == len(firsts) - 1
    assert remove_before(disk, 1 << 40) == 0


def test_the_log_is_written_and_followed_while_segments_go(disk: Disk) -> None:
    log = disk.open()
    written: list[bytes] = []
    reader = disk.reader()
    late = disk.reader()
    for _ in range(10):
        written += append_frames(log, start=len(written) + 1, frames=3)
        assert payloads(reader)[-1:] == written[-1:]
        remove_before(disk, reader.position.lsn)
    assert reader.position == log.position
    assert len(disk.segments()) < 3
    first = find_segments(disk.file_system, disk.directory)[0]
    assert payloads(log.records(first - 1)) == written[first - 1 :]
    # It has its segment open and reads that to its end; the next one is gone.
    with pytest.raises(RecordsGone):
        list(late)
    with disk.reader() as anew:
        assert payloads(anew) == written[first - 1 :]
    reader.close()
    late.close()
    log.close()


def test_a_replay_that_is_overtaken_by_a_removal_says_so(disk: Disk) -> None:
    written = written_log(disk, frames=20)
    with disk.open() as log:
        records = log.records()
        assert next(records).payload == written[0]
        remove_before(disk, len(written))
        with pytest.raises(RecordsGone) as caught:
            list(records)
        assert caught.value.first_lsn == find_segments(disk.file_system, disk.directory)[0]


def test_segments_go_while_the_writer_thread_makes_new_ones(disk: Disk) -> None:
    log = disk.open()
    failures: list[BaseException] = []
    log.start(lambda _: None, failures.append, lambda _: None)
    removed = lsn = 0
    for number in range(1, 400):
        lsn = log.append(payload(number))
        if number % 5 == 0:
            removed += remove_before(disk, log.durable_lsn + 1)
        if number % 50 == 0:
            assert log.wait_durable(lsn, 60)
    after = log.position
    assert removed > 10
    log.close()
    assert not failures
    firsts = find_segments(disk.file_system, disk.directory)
    with disk.reader() as reader:
        assert [record.lsn for record in reader] == list(range(firsts[0], lsn + 1))
    disk.open(disk.position_of(firsts[0]), known=[after]).close()


def half_removed() -> tuple[Disk, FakeFileSystem]:
    """A log whose first segment was removed by a process that was killed before its sync."""
    disk, file_system = fake_disk()
    written_log(disk, frames=20)
    file_system.unlink(disk.segments()[0])
    return disk, file_system


def test_a_power_loss_at_any_call_of_a_removal_leaves_no_gap() -> None:
    disk, file_system = half_removed()
    firsts = find_segments(file_system, disk.directory)
    before = len(file_system.calls)
    assert remove_before(disk, firsts[-1]) == len(firsts) - 1
    for number, end, seed in product(range(before, len(file_system.calls)), LOSSES, range(5)):
        disk, file_system = half_removed()
        file_system.random = Random(seed)
        file_system.crash_at(number + 1, "after")
        with pytest.raises(SimulatedCrash):
            remove_before(disk, firsts[-1])
        end(file_system)
        left = find_segments(file_system, disk.directory)
        assert left in ([1, *firsts], firsts[-len(left) :])


def test_a_removal_whose_sync_fails_stops_at_once() -> None:
    for number in (1, 3, 5):
        disk, file_system = fake_disk()
        written_log(disk, frames=20)
        firsts = find_segments(file_system, disk.directory)
        file_system.fail_at(len(file_system.calls) + number, errno.EIO)
        with pytest.raises(LogFailed):
            remove_before(disk, firsts[-1])
        assert find_segments(file_system, disk.directory) == firsts[number // 2 :]


# The life of an owner: append, make snapshots, remove what they stand for.

SNAPSHOTS = "/data/snapshots"
LOCK = "/data/lock"
ROUNDS = 2


@dataclass
class Owner:
    """Its state is the list of all payloads. It makes a snapshot in every round, keeps the last few
    and the segments behind the oldest of them."""

    disk: Disk
    kept: int
    appended: list[bytes] = field(default_factory=list)
    acknowledged: int = 0

    def open(self) -> Log:
        """Recover; afterwards `appended` is the state."""
        file_system = self.disk.file_system
        file_system.make_directory("/data")
        lock = Lock(LOCK, file_system=file_system)
        state: list[bytes] = []
        positions = [
            check_snapshot(SNAPSHOTS, lsn, file_system=file_system)
            for lsn in find_snapshots(SNAPSHOTS, file_system=file_system)
        ]
        after: Position | None = None
        if positions:
            with open_snapshot(SNAPSHOTS, positions[-1].lsn, file_system=file_system) as snapshot:
                after = snapshot.position
                state += (each for block in snapshot.blocks() for each in pickle.loads(block))
        log = self.disk.open(after, known=positions, lock=lock)
        state += payloads(log.records(len(state)))
        assert state == self.appended[: len(state)]
        assert log.durable_lsn == len(state) >= self.acknowledged
        self.appended, self.acknowledged = state, len(state)
        return log

    def run(self) -> None:
        log = self.open()
        try:
            # The newest snapshot may be of a process that was killed.
            if find_snapshots(SNAPSHOTS, file_system=self.disk.file_system):
                sync_snapshots(SNAPSHOTS, file_system=self.disk.file_system)
                self.remove_old()
            for _ in range(ROUNDS):
                self.write(log)
                self.make_snapshot(log.position)
                self.remove_old()
            self.write(log)
            log.close()
        except Exception:
            log.abandon()
            raise

    def write(self, log: Log) -> None:
        for _ in range(4):
            for _ in range(3):
                self.appended.append(payload(len(self.appended) + 1))
                log.append(self.appended[-1])
            # A refused write is tried again; the disk refuses once.
            assert log.flush() or log.flush()
            self.acknowledged = log.durable_lsn

    def make_snapshot(self, position: Position) -> None:
        state = self.appended
        blocks = (pickle.dumps(state[start : start + 10]) for start in range(0, len(state), 10))
        write_snapshot(SNAPSHOTS, position, blocks, file_system=self.disk.file_system)

    def remove_old(self) -> None:
        file_system = self.disk.file_system
        lsns = find_snapshots(SNAPSHOTS, file_system=file_system)
        for lsn in lsns[: -self.kept]:
            remove_snapshot(SNAPSHOTS, lsn, file_system=file_system)
        remove_before(self.disk, lsns[-self.kept :][0] + 1)

    def check(self) -> None:
        """Everything acknowledged comes back, and all is as good as new."""
        self.open().abandon()
        with Reader(self.disk.directory, file_system=self.disk.file_system) as reader:
            begin = reader.position.lsn
            assert payloads(reader) == self.appended[begin:]
        self.run()
        self.open().close()
        assert len(find_snapshots(SNAPSHOTS, file_system=self.disk.file_system)) == self.kept
        assert len(self.disk.segments()) <= 4 * self.kept
        assert not [text for text in self.disk.warnings if "not needed" in text]


def start(kept: int, seed: int = 11) -> tuple[Owner, FakeFileSystem]:
    disk, file_system = fake_disk()
    file_system.random = Random(seed)
    return Owner(disk, kept), file_system


def calls_of_a_good_run(kept: int) -> list[Call]:
    owner, file_system = start(kept)
    owner.run()
    owner.run()
    return file_system.calls


CALLS = {kept: calls_of_a_good_run(kept) for kept in (1, 2)}


def run_to_the_fault(owner: Owner) -> BaseException | None:
    try:
        owner.run()
        owner.run()
    except (LogFailed, OSError, SimulatedCrash) as error:
        return error
    return None


def test_the_life_of_an_owner_meets_every_kind_of_call() -> None:
    for kept, calls in CALLS.items():
        paths = [call.path for call in calls if call.operation == "unlink"]
        assert sum(path.endswith(".wal") for path in paths) > 2, kept
        assert sum(path.endswith(".snapshot") for path in paths) == 4 - kept
    owner, _ = start(2)
    owner.check()
    assert find_segments(owner.disk.file_system, owner.disk.directory)[0] > 1


@pytest.mark.parametrize("kept", [1, 2])
@pytest.mark.parametrize("moment", ["before", "during", "after"])
@pytest.mark.parametrize("end", LOSSES)
def test_a_power_loss_at_any_call_loses_nothing_acknowledged(
    kept: int, moment: Moment, end: Callable[[FakeFileSystem], None]
) -> None:
    for call in CALLS[kept]:
        owner, file_system = start(kept, call.number)
        file_system.crash_at(call.number, moment)
        assert isinstance(run_to_the_fault(owner), SimulatedCrash), call
        end(file_system)
        owner.check()


@pytest.mark.parametrize("later", [1, 8, 15, 30])
def test_a_kill_at_any_call_and_a_power_loss_later_lose_nothing_acknowledged(later: int) -> None:
    """What the killed process did not sync is seen by the next one, and may still be lost."""
    for call in CALLS[1]:
        kill_and_later_lose_power(call, later)


def test_a_snapshot_without_a_durable_name_is_not_relied_on() -> None:
    renames = [call for call in CALLS[1] if call.path.endswith("snapshot.tmp")]
    for call, later in product(renames, range(1, 40)):
        if call.operation == "rename":
            kill_and_later_lose_power(call, later)


def kill_and_later_lose_power(call: Call, later: int) -> None:
    owner, file_system = start(1, call.number)
    file_system.crash_at(call.number, "after")
    run_to_the_fault(owner)
    file_system.kill()
    file_system.crash_at(len(file_system.calls) + later)
    run_to_the_fault(owner)
    file_system.crash("none")
    owner.check()


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("written", [0, 13])
def test_a_call_that_fails_loses_nothing_acknowledged(error: int, written: int) -> None:
    for call in CALLS[1]:
        owner, file_system = start(1)
        file_system.fail_at(call.number, error, written=written)
        run_to_the_fault(owner)
        file_system.crash("none")
        owner.check()


@given(seed=st.integers(0, 2**32), kept=st.integers(1, 2), data=st.data())
def test_a_life_of_crashes_loses_nothing_acknowledged(
    seed: int, kept: int, data: st.DataObject
) -> None:
    owner, file_system = start(kept, seed)
    moments: st.SearchStrategy[Moment] = st.sampled_from(["before", "during", "after"])
    for _ in range(data.draw(st.integers(1, 6))):
        file_system.crash_at(
            len(file_system.calls) + data.draw(st.integers(1, 150)), data.draw(moments)
        )
        run_to_the_fault(owner)
        data.draw(st.sampled_from([*LOSSES, FakeFileSystem.kill]))(file_system)
        owner.open().abandon()
    owner.check()


def test_if_the_newest_snapshot_is_damaged_the_one_before_it_and_the_log_will_do() -> None:
    owner, file_system = start(2)
    owner.run()
    newest = find_snapshots(SNAPSHOTS, file_system=file_system)[-1]
    path = f"{SNAPSHOTS}/{newest:020d}.snapshot"
    file_system.put(path, bytes(file_system.files[path])[:-1])
    with pytest.raises(Damaged):
        owner.open()
    file_system.kill()
    file_system.remove(path)
    owner.open().close()
    assert owner.acknowledged == len(owner.appended) > newest
