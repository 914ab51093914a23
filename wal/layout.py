"""The bytes on disk: segment header, frame, end frame, the `durable` file, and the header of files
that name a position. Pure: no files, no state.

All integers are little-endian. CRCs are CRC-32 as in zlib. Bytes in, values or errors out.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import accumulate, pairwise
from typing import NamedTuple, cast

from wal.errors import Damaged, NewerVersion, NotALog, RecordTooLarge
from wal.record import Position, Record

FORMAT_VERSION = 1

RECORD_BYTES_MAX = 16 << 20
"""A record is an atomic unit that readers hold in memory; 16 MiB is the largest message of the
users of this log."""

FRAME_BODY_BYTES_MAX = 32 << 20
"""A frame is written, read, checked and (when torn) put aside as a whole. Half a default segment: a
rotation never wastes more than half of one, replay never holds more than this, and the first waiter
of a flush does not wait for much more than its own record."""

# Segment header, 64 bytes. Its size, magic, version and CRC stay where they are in all later
# versions, so that "newer" can be told from "damaged".
#
#   0        8       12                      28        36     40     44             60     64
#   +--------+-------+-----------------------+---------+------+------+--------------+------+
#   | magic  |version| log id                |first LSN|chain | salt | zeros        | CRC  |
#   +--------+-------+-----------------------+---------+------+------+--------------+------+
#
#   chain: the chain CRC at the end of the segment before.
#   salt: random, seeds the CRC of each frame header in this file.
#   CRC: of bytes 0 to 60.
_SEGMENT = struct.Struct("<8sI16sQII16xI")
SEGMENT_HEADER_BYTES = 64
assert _SEGMENT.size == SEGMENT_HEADER_BYTES

MAGIC = b"\x93WALSEG\n"
"""The first byte is not ASCII and the last one is a newline: text mode transfers break it (as PNG's
signature does)."""

# Frame: a header of 28 bytes, then the body.
#
#   0        3      4       8           16      20         24           28
#   +--------+------+-------+-----------+-------+----------+------------+--------------------+
#   | marker | kind | body  | first LSN | count | body CRC | header CRC | count x 4 bytes:   | ...
#   |        |      | bytes |           |       | (chain)  |            | payload lengths    |
#   +--------+------+-------+-----------+-------+----------+------------+--------------------+
#   ... and then the payloads, end to end.
#
#   kind: "R" records; "E" end of the segment (count 0, no body, the LSN that comes next).
#   body CRC: crc32(body, seed = body CRC of the frame before): the chain.
#   header CRC: crc32(bytes 0 to 24, seed = salt).
#   The marker makes a header quick to search for. Zeros are never a valid frame.
_FRAME = struct.Struct("<4sIQIII")
FRAME_HEADER_BYTES = 28
assert _FRAME.size == FRAME_HEADER_BYTES

_FRAME_CHECKED_BYTES = 24
FRAME_MARKER = b"\xf5WF"
RECORDS_FRAME = FRAME_MARKER + b"R"
END_FRAME = FRAME_MARKER + b"E"

# The file `durable`, 24 bytes.
#
#   0           8                16      20     24
#   +-----------+----------------+-------+------+
#   | LSN       | log id, first  | chain | CRC  |      CRC: of bytes 0 to 20.
#   |           | 8 bytes        |       |      |
#   +-----------+----------------+-------+------+
_DURABLE = struct.Struct("<Q8sII")
DURABLE_BYTES = 24
assert _DURABLE.size == DURABLE_BYTES

# Position header, 64 bytes: how a file begins that says how far somebody is in a log. Each kind of
# file has its own magic. As with segments, all but the middle keeps its place in later versions.
#
#   0        8       12                      28        36     40                    60     64
#   +--------+-------+-----------------------+---------+------+---------------------+------+
#   | magic  |version| log id                | LSN     |chain | zeros               | CRC  |
#   +--------+-------+-----------------------+---------+------+---------------------+------+
#
#   CRC: of bytes 0 to 60.
_POSITION = struct.Struct("<8sI16sQI20xI")
POSITION_HEADER_BYTES = 64
assert _POSITION.size == POSITION_HEADER_BYTES == SEGMENT_HEADER_BYTES

_HEADER_CHECKED_BYTES = 60

_crc32 = zlib.crc32
_new_record = partial(tuple.__new__, Record)  # half the cost of Record(...), and map() stays in C

_RECORDS_AT_ONCE = 1024


class SegmentHeader(NamedTuple):
    """What a segment says about itself."""

    log_id: bytes
    first_lsn: int
    chain: int
    salt: int


class Durable(NamedTuple):
    """What the `durable` file says: everything up to `lsn`, with this chain CRC, was synced."""

    lsn: int
    log_id_start: bytes
    chain: int


class Frame(NamedTuple):
    """A checked frame of records inside a buffer; `body` is where in the buffer its body starts."""

    offset: int
    first_lsn: int
    record_count: int
    body_bytes: int
    chain: int
    buffer: bytes
    body: int

    @property
    def size_bytes(self) -> int:
        return FRAME_HEADER_BYTES + self.body_bytes

    @property
    def raw(self) -> bytes:
        """The frame's bytes, header and all."""
        return self.buffer[self.body - FRAME_HEADER_BYTES : self.body + self.body_bytes]


def first_chain(log_id: bytes) -> int:
    """Return the chain CRC before the first record: two logs differ from the start."""
    return _crc32(log_id)


def encode_segment_header(header: SegmentHeader) -> bytes:
    """Return the 64 bytes that open a segment."""
    head = _SEGMENT.pack(MAGIC, FORMAT_VERSION, *header, 0)[:-4]
    return head + _crc32(head).to_bytes(4, "little")


def decode_segment_header(data: bytes, path: str) -> SegmentHeader:
    """Check and read a segment header.

    Raises NotALog (wrong magic), NewerVersion, Damaged. `path` is for the message.
    """
    _check_header(data, path, MAGIC, FORMAT_VERSION, "a log")
    _, _, log_id, first_lsn, chain, salt, _ = _SEGMENT.unpack_from(data)
    return SegmentHeader(log_id, first_lsn, chain, salt)


def encode_position_header(magic: bytes, version: int, position: Position) -> bytes:
    """Return the 64 bytes that open a file of a position."""
    head = _POSITION.pack(magic, version, *position, 0)[:-4]
    return head + _crc32(head).to_bytes(4, "little")


def decode_position_header(
    data: bytes, path: str, magic: bytes, newest: int, kind: str
) -> tuple[Position, int]:
    """Check and read a position header; return the position and the header's CRC.

    Raises as `decode_segment_header` does. `newest` is the newest version known, `kind` what the
    file should be, for the message.
    """
    _check_header(data, path, magic, newest, kind)
    _, _, log_id, lsn, chain, crc = _POSITION.unpack_from(data)
    return Position(log_id, lsn, chain), crc


def _check_header(data: bytes, path: str, magic: bytes, newest: int, kind: str) -> None:
    """Check the parts that all headers share, in all versions."""
    if len(data) < SEGMENT_HEADER_BYTES:
        if magic.startswith(data[:8]):
            raise Damaged(path, 0, "a header of 64 bytes", f"{len(data)} bytes")
        raise NotALog(path, f"it is {len(data)} bytes long and starts with {data[:8]!r}", kind)
    crc = int.from_bytes(data[_HEADER_CHECKED_BYTES:SEGMENT_HEADER_BYTES], "little")
    # With the magic taken as read, so that a flipped bit in it is damage and a foreign file is not.
    right = _crc32(magic + data[8:_HEADER_CHECKED_BYTES]) == crc
    if data[:8] != magic:
        if right:
            raise Damaged(path, 0, f"magic {magic!r}", repr(data[:8]))
        raise NotALog(path, f"it starts with {data[:8]!r}", kind)
    if not right:
        found = _crc32(data[:_HEADER_CHECKED_BYTES])
        raise Damaged(path, 0, f"header CRC {crc:08x}", f"{found:08x}")
    version = int.from_bytes(data[8:12], "little")
    if version > newest:
        raise NewerVersion(path, version, newest)


def pack_records(payloads: Sequence[bytes], chain: int) -> tuple[bytes, int]:
    """Return the body of a frame of these records, and the chain CRC after it.

    `chain` is the one before. The body is the same in every copy of a log, whatever else is around
    it. O(bytes).
    """
    body = b"".join((struct.pack(f"<{len(payloads)}I", *map(len, payloads)), *payloads))
    return body, _crc32(body, chain)


def unpack_records(
    first_lsn: int, record_count: int, body: bytes, path: str
) -> Iterator[list[Record]]:
    """Split the body of a frame into its records, a thousand at a time.

    Raises Damaged where it is not the body of so many records; `path` is for the message.
    """
    if not 0 < 4 * record_count <= len(body):
        raise Damaged(path, 0, f"the lengths of {record_count} records", f"{len(body)} bytes")
    return frame_records(Frame(0, first_lsn, record_count, len(body), 0, body, 0), path)


def check_body(record_count: int, body: bytes) -> None:
    """Raise unless it is what a reader can take apart again into so many records.

    ValueError: it is not, or larger than a frame's body; RecordTooLarge: of a record in it.
    """
    if not 0 < 4 * record_count <= len(body) <= FRAME_BODY_BYTES_MAX:
        raise ValueError(f"{len(body)} bytes are not the body of a frame of {record_count} records")
    lengths = struct.unpack_from(f"<{record_count}I", body)
    if 4 * record_count + sum(lengths) != len(body):
        raise ValueError(f"{record_count} records of {sum(lengths)} bytes in a body of {len(body)}")
    if max(lengths) > RECORD_BYTES_MAX:
        raise RecordTooLarge(max(lengths), RECORD_BYTES_MAX)


def encode_frame(first_lsn: int, record_count: int, body: bytes, chain: int, salt: int) -> bytes:
    """Return the bytes of a frame of records. `chain` is the one after it."""
    head = (RECORDS_FRAME, len(body), first_lsn, record_count, chain)
    return _frame_header(head, salt) + body


def encode_end(next_lsn: int, chain: int, salt: int) -> bytes:
    """Return the frame that ends a segment; the chain stays as it is."""
    return _frame_header((END_FRAME, 0, next_lsn, 0, chain), salt)


def _frame_header(fields: tuple[bytes, int, int, int, int], salt: int) -> bytes:
    head = _FRAME.pack(*fields, 0)[:_FRAME_CHECKED_BYTES]
    return head + _crc32(head, salt).to_bytes(4, "little")


def decode_frame_header(data: bytes, at: int, salt: int) -> tuple[bytes, int, int, int, int] | None:
    """Return kind, body bytes, first LSN, count and body CRC of the frame header at `at`, or None.

    The caller makes sure that 28 bytes are there.
    """
    kind, body_bytes, first_lsn, count, chain, crc = _FRAME.unpack_from(data, at)
    if _crc32(data[at : at + _FRAME_CHECKED_BYTES], salt) != crc:
        return None
    if kind == RECORDS_FRAME:
        sound = count > 0 and 4 * count <= body_bytes
    else:
        sound = kind == END_FRAME and count == 0 and body_bytes == 0
    return (kind, body_bytes, first_lsn, count, chain) if sound else None


def frame_records(frame: Frame, path: str, skip: int = 0) -> Iterator[list[Record]]:
    """Split a checked frame into its records, without the first `skip`, a thousand at a time.

    O(records), with the least work for each. In lists of bounded length, so that a replay which
    drops each record at once does not keep a million of them alive for the garbage collector.
    """
    buffer, count = frame.buffer, frame.record_count
    start = frame.body + 4 * count
    lengths = struct.unpack_from(f"<{count}I", buffer, frame.body)
    ends = list(accumulate(lengths, initial=start))
    if ends[-1] != frame.body + frame.body_bytes:
        found = f"lengths that sum up to {ends[-1] - start}"
        raise Damaged(path, frame.offset, f"{frame.body_bytes - 4 * count} bytes of records", found)
    if count == 1 and not skip:  # What a log under light load consists of.
        yield cast("list[Record]", [_new_record((frame.first_lsn, buffer[start : ends[1]]))])
        return
    for index in range(skip, count, _RECORDS_AT_ONCE):
        some = ends[index : index + _RECORDS_AT_ONCE + 1]
        payloads = [buffer[begin:end] for begin, end in pairwise(some)]
        lsns = range(frame.first_lsn + index, frame.first_lsn + index + len(payloads))
        yield cast("list[Record]", list(map(_new_record, zip(lsns, payloads, strict=True))))


def encode_durable(lsn: int, log_id: bytes, chain: int) -> bytes:
    """Return the content of the `durable` file."""
    head = _DURABLE.pack(lsn, log_id[:8], chain, 0)[:-4]
    return head + _crc32(head).to_bytes(4, "little")


def decode_durable(data: bytes) -> Durable | None:
    """Read the `durable` file; None if it is not whole: it is never synced, so that proves
    nothing."""
    if len(data) != DURABLE_BYTES:
        return None
    lsn, log_id_start, chain, crc = _DURABLE.unpack(data)
    return Durable(lsn, log_id_start, chain) if _crc32(data[:-4]) == crc else None
