"""The machine stops inside each single call of a manager and its snapshotter.

A fixed load goes through rotations, snapshots and removals on a file system in memory.
At call N the power goes, for every N, before, during and after the call, and what was not
synced is lost: none of it, all, or a part. A manager that starts then must have every record
that was durable, and the state that they make.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random
from typing import Literal

import pytest

from tests.manager.logs import DAY_US, LogWriter
from tests.wal.fake_fs import FakeFileSystem, Moment, SimulatedCrash
from titan import events as ev
from titan.manager.kernel import Settings
from titan.manager.recovery import recover
from titan.manager.retention import Limits, Retention
from titan.state import ClusterState, check_invariants, digest
from wal import check_snapshot, find_snapshots

DIRECTORY = Path("/data/manager")
SEGMENT_BYTES = 1024
LIMITS = Limits(retain_us=DAY_US, spacing_bytes_min=1)
TURNS = 6


def live(writer: LogWriter) -> None:
    """Everything that a manager does to its files, several times over."""
    retention = Retention(DIRECTORY, LIMITS, file_system=writer.file_system)
    for turn in range(TURNS):
        writer.turn(jobs=2)
        if turn:
            writer.take_snapshot()
            writer.tidy(retention)
        writer.sleep_us(DAY_US)
    writer.reopen()
    writer.turn(jobs=1)


def write(disk: FakeFileSystem) -> LogWriter | None:
    """The load until the power goes; what had been written by then, None for nothing."""
    made: list[LogWriter] = []

    class Noted(LogWriter):
        def flush(self) -> None:
            if not made:
                made.append(self)
            super().flush()

    settings = Settings(forget_over=4)
    try:
        live(Noted(DIRECTORY, segment_bytes=SEGMENT_BYTES, file_system=disk, settings=settings))
    except SimulatedCrash:
        return made[0] if made else None
    raise AssertionError("the power did not go")


def count_calls() -> list[str]:
    """The operations of the whole load, in order."""
    disk = FakeFileSystem(Random(0))
    live(
        LogWriter(
            DIRECTORY,
            segment_bytes=SEGMENT_BYTES,
            file_system=disk,
            settings=Settings(forget_over=4),
        )
    )
    return [
        f"{call.operation} {Path(call.path).suffix or Path(call.path).name}" for call in disk.calls
    ]


CALLS = count_calls()


def test_the_load_goes_through_every_kind_of_call() -> None:
    kinds = Counter(CALLS)
    for kind, least in {
        "fdatasync .tmp": 15,  # frames; a file is known by the name that it was opened under
        "fsync .tmp": 9,  # segments and snapshots
        "rename .tmp": 9,
        "fsync_directory wal": 9,
        "fsync_directory snapshots": 9,
        "unlink .wal": 3,
        "unlink .snapshot": 2,
        "write durable": 15,
    }.items():
        assert kinds[kind] >= least, (kind, kinds)


def check(writer: LogWriter | None, disk: FakeFileSystem) -> None:
    """What must be there after the power is back."""
    snapshots = DIRECTORY / "snapshots"
    for lsn in find_snapshots(snapshots, file_system=disk):
        check_snapshot(snapshots, lsn, file_system=disk)
    found = recover(DIRECTORY, segment_bytes=SEGMENT_BYTES, file_system=disk)
    assert not found.unusable
    check_invariants(found.state)
    records = writer.rig.records if writer else []
    assert found.state.lsn >= (writer.durable if writer else 0), "invariant 1"
    whole = ClusterState()
    for lsn, payload in enumerate(records[: found.state.lsn], 1):
        whole.apply_record(lsn, *ev.decode_record(payload))
    assert digest(found.state) == digest(whole), "invariant 5"
    # And it goes on.
    found.log.append(ev.encode_record(found.state.time_us, [ev.WorkerHeartbeats(())]))
    assert found.log.flush()
    found.log.close()
    again = recover(DIRECTORY, segment_bytes=SEGMENT_BYTES, file_system=disk)
    assert again.state.lsn == found.state.lsn + 1
    again.log.close()


@pytest.mark.parametrize(
    ("moment", "kept"),
    [("before", "none"), ("during", "random"), ("after", "none"), ("after", "all")],
)
def test_the_power_goes_at_every_call(
    moment: Moment, kept: Literal["none", "all", "random"]
) -> None:
    for number in range(1, len(CALLS) + 1):
        disk = FakeFileSystem(Random(number))
        disk.crash_at(number, moment)
        writer = write(disk)
        disk.crash(kept)
        try:
            check(writer, disk)
        except BaseException as error:
            error.add_note(f"at call {number}: {CALLS[number - 1]}")
            raise


def test_the_process_is_killed_at_every_call() -> None:
    """kill -9: the page cache stays, synced or not."""
    for number in range(1, len(CALLS) + 1):
        disk = FakeFileSystem(Random(number))
        disk.crash_at(number, "during")
        writer = write(disk)
        disk.kill()
        check(writer, disk)
        # Then the power goes: what was taken up must have been made durable first.
        lsn = recover(DIRECTORY, segment_bytes=SEGMENT_BYTES, file_system=disk)
        lsn.log.abandon()
        disk.crash("none")
        again = recover(DIRECTORY, segment_bytes=SEGMENT_BYTES, file_system=disk)
        again.log.abandon()
        assert digest(again.state) == digest(lsn.state)
