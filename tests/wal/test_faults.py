"""Every call fails once, and every call is once the moment of a crash, over a small workload.

It rotates, closes and opens again. Invariants 1, 5 and 7: nothing acknowledged is lost, and nothing
is acknowledged or shown that is not durable.
"""

from __future__ import annotations

import errno
import itertools
from dataclasses import dataclass, field
from random import Random
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wal.builders import Disk, append_frames, fake_disk, payload, payloads
from tests.wal.fake_fs import Call, FakeFileSystem, Moment, SimulatedCrash
from wal import Log, LogFailed, Reader

FRAMES = 12
SYNCS = ("fsync", "fdatasync", "fsync_directory")


@dataclass
class Workload:
    """Opens a log, appends, flushes, closes; remembers what was appended and acknowledged."""

    disk: Disk
    appended: list[bytes] = field(default_factory=list)
    acknowledged: int = 0

    def run(self) -> None:
        log = self.disk.open()
        try:
            self.appended = payloads(log.records())
            self.write(log)
            log.close()
        except LogFailed:
            with pytest.raises(LogFailed):
                log.append(b"after a failure")
            log.abandon()
            raise

    def write(self, log: Log) -> None:
        for _ in range(FRAMES):
            for _ in range(2):
                self.appended.append(payload(len(self.appended) + 1))
                log.append(self.appended[-1])
            self.flush(log)

    def flush(self, log: Log) -> None:
        try:
            done = log.flush()
        finally:
            assert log.durable_lsn >= self.acknowledged
            self.acknowledged = log.durable_lsn
        if not done:
            # The disk refused; it does so once, so the next try must do.
            assert not log.room
            assert log.flush()
            self.acknowledged = log.durable_lsn
        assert log.durable_lsn == log.last_lsn == len(self.appended)

    def check(self) -> None:
        """What comes back is a prefix of what was appended, with all that was acknowledged."""
        with self.disk.open() as log:
            found = payloads(log.records())
            assert found == self.appended[: len(found)]
            assert len(found) >= self.acknowledged
            # And the log is as good as new.
            more = append_frames(log, start=len(found) + 1, frames=FRAMES)
        assert self.disk.replay() == found + more


def start(seed: int = 11) -> tuple[Workload, FakeFileSystem]:
    disk, file_system = fake_disk()
    file_system.random = Random(seed)
    return Workload(disk), file_system


def calls_of_a_good_run(*, runs: int = 1) -> list[Call]:
    workload, file_system = start()
    for _ in range(runs):
        workload.run()
    return file_system.calls


CALLS = calls_of_a_good_run(runs=2)
FIRST_RUN = len(calls_of_a_good_run())


def test_the_workload_meets_every_kind_of_call() -> None:
    kinds = {"create", "write", "fdatasync", "fsync", "fsync_directory", "fallocate", "rename"}
    assert {call.operation for call in CALLS} == kinds | {"ftruncate"}
    assert sum(call.operation == "rename" for call in CALLS) > 5


def run_to_the_fault(workload: Workload) -> BaseException | None:
    """Run twice, so that opening what is there is met as well; return what stopped it."""
    try:
        workload.run()
        workload.run()
    except (LogFailed, OSError, SimulatedCrash) as error:
        return error
    return None


@pytest.mark.parametrize("keep", ["none", "all", "random"])
@pytest.mark.parametrize("moment", ["before", "during", "after"])
def test_a_power_loss_at_any_call_loses_nothing_acknowledged(
    moment: Moment, keep: Literal["none", "all", "random"]
) -> None:
    for call in CALLS:
        workload, file_system = start(call.number)
        file_system.crash_at(call.number, moment)
        assert isinstance(run_to_the_fault(workload), SimulatedCrash), call
        file_system.crash(keep)
        workload.check()


@pytest.mark.parametrize("moment", ["before", "during", "after"])
def test_a_kill_at_any_call_loses_nothing_acknowledged_not_even_if_power_is_lost_later(
    moment: Moment,
) -> None:
    for call, more in itertools.product(CALLS, (False, True)):
        workload, file_system = start(call.number)
        file_system.crash_at(call.number, moment)
        assert isinstance(run_to_the_fault(workload), SimulatedCrash), call
        file_system.kill()
        log = workload.disk.open()
        # Whoever replays this may act on it.
        workload.acknowledged = log.durable_lsn
        assert payloads(log.records()) == workload.appended[: log.durable_lsn]
        del workload.appended[log.durable_lsn :]
        if more:
            # One more frame: the segment it goes to may have a name that was never synced.
            workload.appended += append_frames(log, start=log.last_lsn + 1, frames=1)
            workload.acknowledged = log.durable_lsn
        log.abandon()
        file_system.crash("none")
        workload.check()


def test_the_last_write_torn_at_any_byte_loses_nothing_acknowledged() -> None:
    for call in [call for call in CALLS[:FIRST_RUN] if call.operation == "write"][-12:]:
        for torn in range(0, 160, 3):
            workload, file_system = start()
            file_system.crash_at(call.number, "after")
            run_to_the_fault(workload)
            file_system.crash(torn=torn)
            workload.check()


@pytest.mark.parametrize("lost", ["process", "power"])
def test_a_failed_sync_acknowledges_nothing_and_is_not_tried_again(lost: str) -> None:
    for call in CALLS:
        if call.operation not in SYNCS:
            continue
        workload, file_system = start()
        file_system.fail_at(call.number, errno.EIO)
        error = run_to_the_fault(workload)
        assert isinstance(error, LogFailed | OSError), call
        if call.number > 10:  # Behind the making of the log.
            assert isinstance(error, LogFailed), call
        # Nothing was synced or written behind it.
        later = [each.operation for each in file_system.calls[call.number :]]
        assert not set(later) & {"write", "rename", *SYNCS}, call
        if lost == "process":
            file_system.kill()
            log = workload.disk.open()
            workload.acknowledged = log.durable_lsn
            log.abandon()
        file_system.crash("none")
        workload.check()


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("written", [0, 13])
def test_any_other_call_that_fails_once_is_survived(error: int, written: int) -> None:
    opening = 0
    for call in CALLS:
        if call.operation in SYNCS:
            continue
        workload, file_system = start()
        file_system.fail_at(call.number, error, written=written)
        stopped = run_to_the_fault(workload)
        if stopped is not None:
            # Only an opening may say so to its caller, who tries again.
            assert isinstance(stopped, OSError), call
            opening += 1
        file_system.crash("none")
        workload.check()
        assert not [text for text in workload.disk.warnings if "torn" in text], call
    assert 0 < opening < 12


def test_a_crash_while_recovering_from_a_crash_loses_nothing() -> None:
    torn = CALLS[FIRST_RUN - 12].number
    for number in range(1, 40):
        for moment in ("before", "during", "after"):
            workload, file_system = start(number)
            file_system.crash_at(torn, "during")
            run_to_the_fault(workload)
            file_system.crash("all")
            file_system.crash_at(len(file_system.calls) + number, moment)
            try:
                workload.disk.open().abandon()
            except SimulatedCrash:
                file_system.crash("random")
            else:
                file_system.kill()
            workload.check()


@given(seed=st.integers(0, 2**32), data=st.data())
def test_a_life_of_crashes_loses_nothing_acknowledged(seed: int, data: st.DataObject) -> None:
    """Crash after crash on the same disk, at random calls; what was not synced has random fates."""
    workload, file_system = start(seed)
    for _ in range(data.draw(st.integers(1, 6))):
        after = data.draw(st.integers(1, 150))
        file_system.crash_at(len(file_system.calls) + after, data.draw(moments))
        run_to_the_fault(workload)
        data.draw(st.sampled_from([file_system.crash, file_system.kill]))()
        with Survivors(workload) as survivors:
            workload.appended = survivors
            workload.acknowledged = len(survivors)
    workload.check()


moments: st.SearchStrategy[Moment] = st.sampled_from(["before", "during", "after"])


class Survivors:
    """Reopens the log of a workload; what is found is what everything later is measured by."""

    def __init__(self, workload: Workload) -> None:
        self._workload = workload
        self._log = workload.disk.open()

    def __enter__(self) -> list[bytes]:
        found = payloads(self._log.records())
        assert found == self._workload.appended[: len(found)]
        assert len(found) >= self._workload.acknowledged
        return found

    def __exit__(self, *_: object) -> None:
        self._log.abandon()


def test_a_reader_at_any_moment_sees_only_what_survives_a_power_loss() -> None:
    """Invariant 7, across rotations: a reader reads after each single call."""
    workload, file_system = start()
    seen: list[bytes] = []
    readers: list[Reader] = []

    def look(call: Call) -> None:
        if not readers:
            if not workload.acknowledged:
                return
            readers.append(Reader(workload.disk.directory, file_system=file_system))
        seen.extend(payloads(readers[0].read()))
        # It is in order, and the writer knows it to be durable, or is just about to.
        assert seen == workload.appended[: len(seen)]
        assert len(seen) >= workload.acknowledged - 2

    file_system.on_call = look
    workload.run()
    workload.run()
    file_system.on_call = None
    seen += payloads(readers[0].read())
    assert seen == workload.appended
    readers[0].close()


def test_what_a_reader_saw_is_there_after_a_power_loss_at_any_call() -> None:
    for call in CALLS:
        workload, file_system = start(call.number)
        file_system.crash_at(call.number, "during")
        run_to_the_fault(workload)
        seen: list[bytes] = []
        if file_system.files.keys() & set(workload.disk.segments()):
            with Reader(workload.disk.directory, file_system=file_system) as reader:
                seen = payloads(reader.read())
        file_system.crash("none")
        assert workload.disk.replay()[: len(seen)] == seen
