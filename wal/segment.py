"""Reading one segment: its header, its frames in order, and what lies behind a frame that is not
sound.

It only reads and judges bytes; what a bad frame means is for the caller to say: an opening, a
replay and a reader that follows a live log each draw another conclusion.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import NamedTuple

from wal.directory import join, segment_name
from wal.errors import Damaged
from wal.filesystem import FileSystem, read_all
from wal.layout import (
    END_FRAME,
    FRAME_HEADER_BYTES,
    FRAME_MARKER,
    SEGMENT_HEADER_BYTES,
    Frame,
    SegmentHeader,
    decode_frame_header,
    decode_segment_header,
)

READ_BYTES_MIN = 64 << 10
READ_BYTES_MAX = 4 << 20
"""A follower that polls reads little; a replay grows its buffer by fours to a size where the system
call no longer counts."""


_ZEROS = bytes(READ_BYTES_MAX)


class Defect(NamedTuple):
    """Why a walk stopped at `offset`.

    `header_lsn` is the first LSN in the frame header there, if that is sound, or 0.
    """

    offset: int
    header_lsn: int
    expected: str
    found: str


class Segment:
    """An open segment and a cursor in it.

    `offset`, `lsn` (the next one) and `chain` always describe the same place, the start of the next
    frame.
    """

    def __init__(
        self,
        file_system: FileSystem,
        directory: str,
        first_lsn: int,
        *,
        write: bool = False,
    ) -> None:
        """Open a segment by its first LSN.

        Raises NotALog, NewerVersion, Damaged, FileNotFoundError.
        """
        self._file_system = file_system
        self.path = join(directory, segment_name(first_lsn))
        self.fd = file_system.open(self.path, write=write)
        try:
            data = self.read(SEGMENT_HEADER_BYTES, 0)
            self.header: SegmentHeader = decode_segment_header(data, self.path)
            if self.header.first_lsn != first_lsn:
                found = f"first LSN {self.header.first_lsn}"
                raise Damaged(self.path, 0, f"first LSN {first_lsn}", found)
        except BaseException:
            self.close()
            raise
        self.offset = SEGMENT_HEADER_BYTES
        self.lsn = first_lsn
        self.chain: int = self.header.chain
        self.ended: bool = False
        self.defect: Defect | None = None

    def close(self) -> None:
        """Close the file. Idempotent."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            self._file_system.close(fd)

    def size(self) -> int:
        """Return the size of the file in bytes."""
        return self._file_system.size(self.fd)

    def read(self, size: int, offset: int) -> bytes:
        """Read up to `size` bytes. Raises Damaged where the disk cannot read."""
        try:
            return read_all(self._file_system, self.fd, size, offset)
        except OSError as error:
            raise Damaged(self.path, offset, "readable bytes", str(error)) from error

    def frames(self) -> Iterator[Frame]:
        """Yield the sound frames of records; the cursor stands behind the one yielded.

        Stops with `ended` at the end frame or with `defect` at anything else. May be called again:
        it reads the same offset again.
        """
        salt = self.header.salt
        crc32 = zlib.crc32
        self.defect = None
        buffer, view, base, read_bytes = b"", memoryview(b""), self.offset, READ_BYTES_MIN
        while not self.ended:
            at = self.offset - base
            if at + FRAME_HEADER_BYTES > len(buffer):
                buffer, base, at = self.read(read_bytes, self.offset), self.offset, 0
                view = memoryview(buffer)
                read_bytes = min(4 * read_bytes, READ_BYTES_MAX)
                if len(buffer) < FRAME_HEADER_BYTES:
                    return self._stop(0, "a frame", "the end of the file")
            header = decode_frame_header(buffer, at, salt)
            if header is None:
                found = "zeros" if not any(buffer[at : at + FRAME_HEADER_BYTES]) else "other bytes"
                return self._stop(0, "a frame header", found)
            kind, body_bytes, first_lsn, count, body_crc = header
            if first_lsn != self.lsn:
                return self._stop(first_lsn, f"record {self.lsn}", f"record {first_lsn}")
            body = at + FRAME_HEADER_BYTES
            if body + body_bytes > len(buffer):
                want = max(read_bytes, FRAME_HEADER_BYTES + body_bytes)
                buffer, base, body = self.read(want, self.offset), self.offset, FRAME_HEADER_BYTES
                view = memoryview(buffer)
                if body + body_bytes > len(buffer):
                    found = f"{len(buffer) - body} bytes"
                    return self._stop(first_lsn, f"a body of {body_bytes} bytes", found)
            chain = crc32(view[body : body + body_bytes], self.chain)
            if chain != body_crc:
                return self._stop(first_lsn, f"chain CRC {body_crc:08x}", f"{chain:08x}")
            frame = Frame(self.offset, first_lsn, count, body_bytes, chain, buffer, body)
            self.offset += FRAME_HEADER_BYTES + body_bytes
            self.lsn += count
            self.chain = chain
            if kind == END_FRAME:
                self.ended = True
            else:
                yield frame

    def _stop(self, header_lsn: int, expected: str, found: str) -> None:
        self.defect = Defect(self.offset, header_lsn, expected, found)

    def rewind_to_start(self) -> None:
        """Put the cursor to the first frame."""
        self.offset = SEGMENT_HEADER_BYTES
        self.lsn = self.header.first_lsn
        self.chain = self.header.chain
        self.ended = False

    def rewind(self, frame: Frame, chain: int) -> None:
        """Put the cursor back to the start of a frame; `chain` is the one before it."""
        self.offset, self.lsn, self.chain = frame.offset, frame.first_lsn, chain
        self.ended = False

    def check_follows(self, previous: Segment) -> None:
        """Check that this one starts where `previous`, read to its end, stops. Raises Damaged."""
        if self.header.log_id != previous.header.log_id:
            expected = f"log id {previous.header.log_id.hex()}"
            raise Damaged(self.path, 0, expected, self.header.log_id.hex())
        if self.header.first_lsn != previous.lsn:
            found = f"record {self.header.first_lsn}"
            raise Damaged(self.path, 0, f"record {previous.lsn}", found)
        if self.header.chain != previous.chain:
            expected = f"chain CRC {previous.chain:08x}"
            raise Damaged(self.path, 0, expected, f"{self.header.chain:08x}")

    def damaged(self, defect: Defect) -> Damaged:
        """Return the error for a defect where there may be none."""
        return Damaged(self.path, defect.offset, defect.expected, defect.found)


class Rest(NamedTuple):
    """What lies behind a bad frame: a later sound header, if any, and the end of what is not
    zero."""

    later_offset: int | None
    end: int


def scan_rest(segment: Segment, offset: int) -> Rest:
    """Search for a frame header behind the bad one at `offset`. O(bytes to the end of the file).

    Only a header with a later LSN counts: a payload could hold a copy of frames of this very
    segment, salt and all. The bad frame's own header, if it is the sound part of it, has the next
    LSN and not a later one.
    """
    end = base = offset
    while chunk := segment.read(READ_BYTES_MAX, base):
        if (
            chunk == _ZEROS[: len(chunk)]
        ):  # Nearly always: the preallocated rest, at memcmp's speed.
            base += len(chunk)
            continue
        at = chunk.find(FRAME_MARKER)
        while 0 <= at <= len(chunk) - FRAME_HEADER_BYTES:
            header = decode_frame_header(chunk, at, segment.header.salt)
            if header is not None and header[2] > segment.lsn:
                return Rest(base + at, end)
            at = chunk.find(FRAME_MARKER, at + 1)
        used = len(chunk.rstrip(b"\0"))
        end = base + used if used else end
        if len(chunk) < READ_BYTES_MAX:
            break
        # The chunks overlap, so that a header that lies across two of them is seen.
        base += READ_BYTES_MAX - FRAME_HEADER_BYTES + 1
    return Rest(None, end)
