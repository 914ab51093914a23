"""A day of steady load: the directory stops growing, memory does, and a start stays short."""

from __future__ import annotations

from pathlib import Path

from tests.manager.logs import LogWriter
from tests.wal.fake_fs import FakeFileSystem
from titan.manager.keeper import SnapshotPolicy
from titan.manager.kernel import Settings
from titan.manager.retention import Limits, Retention
from titan.state import digest

DIRECTORY = Path("/data/manager")
HOUR_US = 3600 * 1_000_000
MINUTE_US = HOUR_US // 60
SNAPSHOT_BYTES = 16 << 10


def test_24_hours_of_steady_load_keep_the_directory_bounded() -> None:
    disk = FakeFileSystem()
    writer = LogWriter(
        DIRECTORY,
        segment_bytes=8 << 10,
        file_system=disk,
        settings=Settings(forget_after_us=HOUR_US, heartbeat_timeout_us=24 * HOUR_US),
    )
    retention = Retention(
        DIRECTORY, Limits(retain_us=2 * HOUR_US, spacing_bytes_min=4096), file_system=disk
    )
    policy = SnapshotPolicy(bytes_since=SNAPSHOT_BYTES)
    sizes: list[int] = []
    last_lsn = last_bytes = snapshots = 0
    for minute in range(24 * 60):
        writer.turn(jobs=3)
        writer.sleep_us(MINUTE_US - 1_000_000)
        since = sum(map(len, writer.rig.records[last_lsn:]))
        if policy.is_due(
            bytes_since=since, records_since=writer.durable - last_lsn, last_bytes=last_bytes
        ):
            taken = writer.take_snapshot()
            assert taken is not None
            last_lsn, last_bytes = taken.lsn, taken.size_bytes
            snapshots += 1
            writer.tidy(retention)
        if minute % 60 == 59:
            sizes.append(disk.used)
            # What an hour's jobs take in memory, and no more.
            assert len(writer.state.jobs) <= 3 * 62
            assert len(writer.state.requests) == 0
    assert writer.state.next_job_id == 24 * 60 * 3 + 1
    assert snapshots > 20
    # Once the retained hours are full it grows no more.
    assert max(sizes[12:]) <= max(sizes[4:12]) * 1.1, sizes
    assert max(sizes) < sum(map(len, writer.rig.records)) / 2
    found = writer.reopen()
    assert digest(found.state) == digest(writer.state)
    assert found.tail_bytes <= max(SNAPSHOT_BYTES, last_bytes) * 1.1
