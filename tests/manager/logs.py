"""A kernel that writes a real log, turn by turn, with a clock that only the test moves.

What the manager does around it (recovery, snapshots, tidying) is the real code, called
in this process, on any file system.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import wal
from tests.manager.builders import FakeHost, Rig, new_job, resources
from titan import events as ev
from titan.manager.kernel import Settings
from titan.manager.recovery import Recovered, recover
from titan.manager.retention import Plan, Retention
from titan.snapshots import SnapshotUnusable, Taken, take_snapshot
from titan.state.cluster import ClusterState
from wal import FileSystem
from wal.filesystem import OS_FILE_SYSTEM

DAY_US: Final = 24 * 3600 * 1_000_000


class LogWriter:
    """One manager after the other on one data directory."""

    def __init__(
        self,
        directory: Path,
        *,
        segment_bytes: int,
        file_system: FileSystem = OS_FILE_SYSTEM,
        settings: Settings | None = None,
    ) -> None:
        self.directory = directory
        self.segment_bytes = segment_bytes
        self.file_system = file_system
        self.rig = Rig(checks=False, settings=settings)
        self.host = FakeHost(self.rig, resources(4), "w1")
        # How far the rig's records were appended, and how far they are durable.
        self.appended = 0
        self.durable = 0
        file_system.make_directory(str(directory))
        self._log = self._recover().log
        self.host.register()
        self.flush()

    @property
    def state(self) -> ClusterState:
        """The live state."""
        return self.rig.state

    @property
    def now_us(self) -> int:
        """The manager's time."""
        return self.rig.now_us

    def turn(self, jobs: int = 3) -> None:
        """Jobs are submitted, run and end."""
        self.rig.submit(*[new_job(command=(b"true", b"x" * 50))] * jobs)
        for _ in range(2):
            self.rig.schedule()
            self.host.receive_all()
            self.host.send_reports()
            for key in self.host.running:
                self.host.end(key)
            self.host.send_reports()
        self.host.heartbeat()
        self.rig.tick(1_000_000)
        self.flush()

    def sleep_us(self, time_us: int) -> None:
        """Time passes in which nothing happens."""
        self.rig.now_us += time_us

    def flush(self) -> None:
        """What the kernel decided becomes durable, a frame each few records."""
        for payload in self.rig.records[self.appended :]:
            self._log.append(payload)
            self.appended += 1
            if self.appended % 3 == 0:
                self._flush()
        self._flush()

    def take_snapshot(self, unusable: int = 0) -> Taken | None:
        """As the snapshotter does it; so many before it are expected to be unusable."""
        passed_over: list[SnapshotUnusable] = []
        taken = take_snapshot(
            self.directory, passed_over.append, left_free_bytes=0, file_system=self.file_system
        )
        assert len(passed_over) == unusable, passed_over
        return taken

    def tidy(self, retention: Retention) -> Plan:
        """As the keeper does it."""
        return retention.tidy(
            now_us=self.now_us,
            end_lsn=self._log.durable_lsn,
            last_segment_bytes=self._log.last_segment_bytes,
        )

    def reopen(self) -> Recovered:
        """A clean stop, and another manager on the same files."""
        self._log.close()
        found = self._recover()
        self._log = found.log
        return found

    def close(self) -> None:
        """A clean stop."""
        self._log.close()

    def journal_position(self) -> wal.Position:
        """Where the log ends."""
        self._log.close()
        with wal.Reader(self.directory / "wal", file_system=self.file_system) as reader:
            list(reader)
            position = reader.position
        self._log = self._recover().log
        return position

    def apply(self, state: ClusterState, record: wal.Record) -> None:
        """One record of the log, to any state."""
        state.apply_record(record.lsn, *ev.decode_record(record.payload))

    def _recover(self) -> Recovered:
        return recover(
            self.directory, segment_bytes=self.segment_bytes, file_system=self.file_system
        )

    def _flush(self) -> None:
        self._log.flush()
        self.durable = self.appended
