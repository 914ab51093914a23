"""What goes into a log and where in it one stands."""

from __future__ import annotations

from typing import NamedTuple


class Record(NamedTuple):
    """One payload and its number. Numbers count up from 1 without gaps and are never reused."""

    lsn: int
    payload: bytes


class Position(NamedTuple):
    """A place in one history of one log: everything up to and including record `lsn`.

    `chain` is the chain CRC at the end of the frame that holds the record (of the whole history up
    to there), so that a log restored from a backup and written on differs from the one that was
    read, though log id and LSN agree.
    """

    log_id: bytes
    lsn: int
    chain: int


class PackedFrame(NamedTuple):
    """What was flushed at once, as its bytes are in every copy of the log."""

    first_lsn: int
    record_count: int
    body: bytes
    """The records, as `pack_records` packs them."""
    chain: int
    """The chain CRC after it."""

    @property
    def last_lsn(self) -> int:
        return self.first_lsn + self.record_count - 1


class Flush(NamedTuple):
    """What one flush was, for whoever counts them."""

    records: int
    size_bytes: int
    """Of the frame, with its header."""
    sync_seconds: float
    """How long the disk took to say that it is durable."""
