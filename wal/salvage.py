"""What can still be read of a segment behind a bad frame.

The marker and the salted CRC make a frame header easy to find again, and its chain CRC proves the
frame behind it; what cannot be known is whether anything is missing in between.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterator
from contextlib import suppress
from typing import NamedTuple

from wal.directory import join, segment_name
from wal.errors import Damaged
from wal.filesystem import OS_FILE_SYSTEM, FileSystem
from wal.layout import (
    FRAME_HEADER_BYTES,
    FRAME_MARKER,
    RECORDS_FRAME,
    SEGMENT_HEADER_BYTES,
    Frame,
    SegmentHeader,
    decode_frame_header,
    frame_records,
)
from wal.record import Position, Record
from wal.report import Mark, SegmentReport
from wal.segment import READ_BYTES_MAX, Segment


def salvage(
    report: SegmentReport, *, file_system: FileSystem = OS_FILE_SYSTEM
) -> Iterator[list[Record]]:
    """Yield what can still be read behind a segment's fault, in order of record numbers.

    Only to be shown to people: that nothing is missing in between is not known, and a record whose
    frame follows a lost one is checked by its header alone. O(bytes).
    """
    if report.header is None or report.fault is None or report.fault.offset == 0:
        return  # Its records were met by the inspection, or it cannot be read at all.
    directory = report.path.rpartition("/")[0]
    segment = Segment(file_system, directory, report.first_lsn)
    try:
        found = find_frame(segment, report.fault.offset, report.next_lsn)
        # The chain is known when it is only the body, or only the numbers, that are wrong.
        chain = report.chain if found and found[0] == report.fault.offset else None
        while found is not None:
            at, (kind, body_bytes, first_lsn, count, body_crc) = found
            if kind != RECORDS_FRAME:
                return
            body = segment.read(body_bytes, at + FRAME_HEADER_BYTES)
            if len(body) == body_bytes and (chain is None or zlib.crc32(body, chain) == body_crc):
                frame = Frame(at, first_lsn, count, body_bytes, body_crc, body, 0)
                with suppress(Damaged):
                    yield from list(frame_records(frame, report.path))
            chain = body_crc
            found = find_frame(segment, at + FRAME_HEADER_BYTES + body_bytes, first_lsn + count)
    except Damaged:
        return  # The disk reads no further.
    finally:
        segment.close()


class Rest(NamedTuple):
    """Frames behind a fault that go on from a known position, as a segment of their own."""

    segment: SegmentReport
    offset: int
    """Where they begin in the old one."""
    marks: dict[int, Mark]
    """For each LSN that was asked for and found: the end of the frame that holds it."""


def read_on(
    report: SegmentReport,
    position: Position,
    marks: Collection[int] = (),
    *,
    file_system: FileSystem = OS_FILE_SYSTEM,
) -> Rest | None:
    """Walk on behind a position that lies behind a segment's fault, if a frame begins there.

    All that is found is chained to the position, so nothing is missing. O(bytes).
    """
    if report.header is None or report.fault is None or position.lsn + 1 < report.next_lsn:
        return None
    directory = report.path.rpartition("/")[0]
    first_lsn = position.lsn + 1
    found = SegmentReport(
        path=join(directory, segment_name(first_lsn)),
        first_lsn=first_lsn,
        size_bytes=0,
        header=SegmentHeader(position.log_id, first_lsn, position.chain, report.header.salt),
        next_lsn=first_lsn,
        chain=position.chain,
    )
    ends: dict[int, Mark] = {}
    segment = Segment(file_system, directory, report.first_lsn)
    try:
        place = find_frame(segment, report.used_bytes, first_lsn)
        if place is None or place[1][2] != first_lsn:
            return None
        begin = segment.offset = place[0]
        segment.lsn, segment.chain = first_lsn, position.chain
        shift = SEGMENT_HEADER_BYTES - begin
        for frame in segment.frames():
            end = Mark(segment.lsn - 1, frame.chain, first_lsn, segment.offset + shift)
            held = range(frame.first_lsn, segment.lsn)
            ends |= {lsn: end for lsn in marks if lsn in held}
            found.next_lsn, found.chain = segment.lsn, frame.chain
            found.frames += 1
        found.is_ended = segment.ended
        found.used_bytes = segment.offset + shift
    except Damaged:
        return None
    finally:
        segment.close()
    found.size_bytes = found.content_bytes = found.used_bytes
    found.known_lsn = found.next_lsn - 1
    return Rest(found, begin, ends)


def find_frame(
    segment: Segment, offset: int, lsn: int
) -> tuple[int, tuple[bytes, int, int, int, int]] | None:
    """Search for the next sound frame header with this LSN or a later one, and decode it."""
    base = offset
    while len(chunk := segment.read(READ_BYTES_MAX, base)) >= FRAME_HEADER_BYTES:
        at = chunk.find(FRAME_MARKER)
        while 0 <= at <= len(chunk) - FRAME_HEADER_BYTES:
            header = decode_frame_header(chunk, at, segment.header.salt)
            if header is not None and header[2] >= lsn:
                return base + at, header
            at = chunk.find(FRAME_MARKER, at + 1)
        # The chunks overlap, so that a header that lies across two of them is seen.
        base += len(chunk) - FRAME_HEADER_BYTES + 1
    return None
