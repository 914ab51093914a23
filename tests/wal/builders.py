"""What the tests of the log have in common: disks, logs with known records, and what is in them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from random import Random

from tests.wal.fake_fs import FakeFileSystem
from wal import FileSystem, Lock, Log, Position, Reader, Record
from wal.directory import find_segments, join, segment_name

DIRECTORY = "/data/wal"
SEGMENT_BYTES = 512

LOSSES: list[Callable[[FakeFileSystem], None]] = [
    partial(FakeFileSystem.crash, keep="none"),
    partial(FakeFileSystem.crash, keep="all"),
    partial(FakeFileSystem.crash, keep="random"),
]
"""What a power loss may do to what was not synced."""


@dataclass
class Disk:
    """A place for a log, and how to open it there with a seed instead of chance."""

    file_system: FileSystem
    directory: str = DIRECTORY
    warnings: list[str] = field(default_factory=list)
    random: Random = field(default_factory=lambda: Random(7))
    segment_bytes: int = SEGMENT_BYTES

    def open(
        self,
        after: Position | None = None,
        *,
        known: Sequence[Position] = (),
        lock: Lock | None = None,
    ) -> Log:
        return Log.open(
            self.directory,
            file_system=self.file_system,
            segment_bytes=self.segment_bytes,
            on_warning=self.warnings.append,
            after=after,
            known=known,
            lock=lock,
            random_bytes=self.random.randbytes,
        )

    def reader(self, from_lsn: int | None = None, position: Position | None = None) -> Reader:
        return Reader(
            self.directory, file_system=self.file_system, from_lsn=from_lsn, position=position
        )

    def position_of(self, lsn: int) -> Position:
        """Return the position of a record as a reader has it that stops there."""
        with self.reader() as reader:
            reader.read(lsn - reader.position.lsn)
            assert reader.position.lsn == lsn
            return reader.position

    def segments(self) -> list[str]:
        """Return the paths of the segments in order."""
        firsts = find_segments(self.file_system, self.directory)
        return [join(self.directory, segment_name(first)) for first in firsts]

    def replay(self) -> list[bytes]:
        """Open, replay, let go as it is; return the payloads."""
        log = self.open()
        try:
            return payloads(log.records())
        finally:
            log.abandon()


def fake_disk(*, segment_bytes: int = SEGMENT_BYTES) -> tuple[Disk, FakeFileSystem]:
    file_system = FakeFileSystem(Random(11))
    return Disk(file_system, segment_bytes=segment_bytes), file_system


def payloads(records: Iterable[Record]) -> list[bytes]:
    """Return the payloads, after a check that the numbers count up by one."""
    records = list(records)
    if records:
        first = records[0].lsn
        assert [record.lsn for record in records] == list(range(first, first + len(records)))
    return [record.payload for record in records]


def payload(number: int) -> bytes:
    """A payload of its own for each number, of 20 to 79 bytes."""
    return b"record %06d " % number + bytes((number * 7 + i) % 251 for i in range(number * 13 % 60))


def append_frames(log: Log, *, start: int, frames: int, records: int = 2) -> list[bytes]:
    """Append so many frames of so many records, each flushed; return the payloads."""
    written = []
    for number in range(start, start + frames * records):
        written.append(payload(number))
        log.append(written[-1])
        if len(written) % records == 0:
            assert log.flush()
    return written


def written_log(
    disk: Disk, *, frames: int, records: int = 2, end: Callable[[Log], None] = Log.abandon
) -> list[bytes]:
    """Make a log with so many frames; return the payloads."""
    log = disk.open()
    written = append_frames(log, start=log.last_lsn + 1, frames=frames, records=records)
    end(log)
    return written


def has_room(log: Log) -> bool:
    """Ask afresh: a type checker takes a property for a value that stays."""
    return log.room
