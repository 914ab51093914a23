"""What an inspection of a log tells: of each segment, and of the whole."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from wal.layout import Durable, SegmentHeader
from wal.record import Position


class Fault(NamedTuple):
    """Something that is wrong: a byte of a file, and the first record that is lost by it."""

    path: str
    offset: int
    lsn: int
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.path}: byte {self.offset}: expected {self.expected}, found {self.found}"


class Mark(NamedTuple):
    """The end of a frame: its last record, the chain CRC there, and where that is.

    `segment` is the first LSN of the segment, `offset` where in it the next frame begins.
    """

    lsn: int
    chain: int
    segment: int
    offset: int


@dataclass(slots=True, kw_only=True)
class SegmentReport:
    """What was found in a segment, up to `used_bytes`; there its fault is, if it has one.

    `next_lsn` and `chain` are those behind the last sound frame, or those with which it begins.
    """

    path: str
    first_lsn: int
    size_bytes: int
    header: SegmentHeader | None = None
    next_lsn: int = 0
    chain: int = 0
    used_bytes: int = 0
    content_bytes: int = 0
    """Behind this there are only zeros."""
    known_lsn: int = 0
    """The last record that anything in it speaks of, also behind its fault."""
    frames: int = 0
    is_ended: bool = False
    torn_bytes: int = 0
    """What lies behind the last frame of the log without ever having been acknowledged."""
    gap: Fault | None = None
    """Why it does not follow the segment before, though that is sound, or is not of this log."""
    fault: Fault | None = None
    """What stops the reading of it, at `used_bytes`."""

    @property
    def log_id(self) -> bytes:
        """The log that it says it belongs to; empty if its header cannot be read."""
        return self.header.log_id if self.header else b""

    @property
    def records(self) -> int:
        """How many sound records it has before its fault."""
        return self.next_lsn - self.first_lsn


@dataclass(slots=True, kw_only=True)
class LogReport:
    """What was found in a log."""

    directory: str
    log_id: bytes
    durable: Durable | None
    segments: list[SegmentReport] = field(default_factory=list)
    marks: dict[int, Mark] = field(default_factory=dict)
    """For each LSN that was asked for and found: the end of the frame that holds it."""
    durable_fault: Fault | None = None

    @property
    def faults(self) -> list[Fault]:
        """Everything that is wrong, in the order of the log."""
        found = [fault for each in self.segments for fault in (each.gap, each.fault)]
        return [fault for fault in (*found, self.durable_fault) if fault is not None]

    @property
    def first_lsn(self) -> int:
        """The first record that is kept."""
        return self.segments[0].first_lsn

    @property
    def next_lsn(self) -> int:
        """The record that comes next, behind all that can be read."""
        return max(segment.next_lsn for segment in self.segments)

    @property
    def known_lsn(self) -> int:
        """The last record that anything speaks of which is sure to be of this log."""
        own = [each.known_lsn for each in self.segments if each.log_id == self.log_id]
        durable = self.durable
        if durable is not None and self.log_id.startswith(durable.log_id_start):
            own.append(durable.lsn)
        return max(own, default=0)


def position_fault(log: LogReport, position: Position) -> str:
    """Say why a position is not one of this log, which was asked for its LSN; empty if it is."""
    lsn, first_lsn = position.lsn, log.first_lsn
    if position.log_id != log.log_id:
        return f"it belongs to the log {position.log_id.hex()}, this is {log.log_id.hex()}"
    if lsn < first_lsn - 1:
        return f"it names record {lsn}, and the log begins with {first_lsn}"
    if lsn >= log.next_lsn:
        return f"it names record {lsn}, and the log ends with {log.next_lsn - 1}"
    header, mark = log.segments[0].header, log.marks.get(lsn)
    if lsn == first_lsn - 1 and header is not None:
        chain = header.chain
    elif mark is not None:
        chain = mark.chain
    else:
        return ""  # Some other fault hides the place, and is told.
    return "" if chain == position.chain else f"it names another history at record {lsn}"
