"""A data directory with a long history of something of everything, and what it was at each LSN."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from random import Random

import wal
from tests.manager.kernel.story import tell
from titan import __version__
from titan import events as ev
from titan.manager.directory import write_description
from titan.snapshots import snapshot_directory
from titan.state.cluster import ClusterState
from titan.state.snapshot import encode_state

SEGMENT_BYTES = 16 << 10
RECORDS_PER_FRAME = 3


@cache
def records() -> tuple[bytes, ...]:
    """The records of the history."""
    return tuple(tell().records)


def time_of(lsn: int) -> int:
    """The time of a record."""
    return ev.decode_record(records()[lsn - 1])[0]


def states(payloads: tuple[bytes, ...] | None = None) -> Iterator[ClusterState]:
    """The same state after each record, by replay."""
    state = ClusterState()
    for lsn, payload in enumerate(payloads or records(), 1):
        state.apply_record(lsn, *ev.decode_record(payload))
        yield state


class History:
    """A log in a directory, to be appended to, with snapshots where a test wants them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.log = wal.Log.open(
            directory / "wal",
            lock_path=directory / "lock",
            segment_bytes=SEGMENT_BYTES,
            random_bytes=Random(3).randbytes,
        )
        write_description(directory, b"C" * 16)

    def append(self, payloads: tuple[bytes, ...]) -> None:
        """Adds records, a few to a frame, all durable."""
        for number, payload in enumerate(payloads, 1):
            self.log.append(payload)
            if number % RECORDS_PER_FRAME == 0 or number == len(payloads):
                assert self.log.flush()

    def take_snapshots(self, *lsns: int) -> None:
        """Snapshots at these LSNs."""
        for state in states():
            if state.lsn in lsns:
                with wal.Reader(self.directory / "wal") as reader:
                    reader.read(state.lsn)
                    wal.write_snapshot(
                        snapshot_directory(self.directory),
                        reader.position,
                        encode_state(state, __version__),
                    )

    def damage_snapshot(self, lsn: int) -> None:
        """A bit of it is another."""
        path = snapshot_directory(self.directory) / f"{lsn:020d}.snapshot"
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)

    def close(self) -> None:
        """Ends the log cleanly."""
        self.log.close()
