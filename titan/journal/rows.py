"""A row of the journal: what one flush appended, with the bytes that a frame of the log has.

Bytes and numbers in, rows and records out; no database. See wal/README.md for the body of a frame.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import wal

# Where a wal.WalError of this package says that something is wrong.
PLACE: Final = "journal"


class Row(NamedTuple):
    """What one flush appended; `chain` is the chain CRC behind it, `body` that of a frame."""

    first_lsn: int
    last_lsn: int
    term: int
    chain: int
    body: bytes

    @property
    def record_count(self) -> int:
        """How many records it has."""
        return self.last_lsn - self.first_lsn + 1

    def packed(self) -> wal.PackedFrame:
        """The frame that it is in files."""
        return wal.PackedFrame(self.first_lsn, self.record_count, self.body, self.chain)

    def records(self) -> Iterator[list[wal.Record]]:
        """Its records, a thousand at a time. Raises wal.Damaged."""
        return wal.unpack_records(self.first_lsn, self.record_count, self.body, place_of(self))


def encode(first_lsn: int, payloads: Sequence[bytes], chain_before: int, term: int) -> Row:
    """The row of these records, of which there is at least one. O(bytes).

    A body has at most wal.FRAME_BODY_BYTES_MAX, or one record; that is the caller's to see to.
    """
    body, chain = wal.pack_records(payloads, chain_before)
    return Row(first_lsn, first_lsn + len(payloads) - 1, term, chain, body)


def check(row: Row, before: wal.Position) -> wal.Position:
    """The position behind a row that is to follow that one. Raises wal.Damaged. O(bytes)."""
    if row.first_lsn != before.lsn + 1:
        raise damaged(row, f"record {before.lsn + 1}", f"record {row.first_lsn}")
    count = row.record_count
    if not 0 < 4 * count <= len(row.body):
        raise damaged(row, f"records {row.first_lsn} to {row.last_lsn}", f"{len(row.body)} bytes")
    payload_bytes = sum(struct.unpack_from(f"<{count}I", row.body))
    if 4 * count + payload_bytes != len(row.body):
        found = f"lengths that sum up to {payload_bytes}"
        raise damaged(row, f"{len(row.body) - 4 * count} bytes of records", found)
    chain = zlib.crc32(row.body, before.chain)
    if chain != row.chain:
        raise damaged(row, f"chain CRC {row.chain:08x}", f"{chain:08x}")
    return wal.Position(before.log_id, row.last_lsn, chain)


def damaged(row: Row, expected: str, found: str) -> wal.Damaged:
    """The error for a row where that is not what it should be."""
    return wal.Damaged(place_of(row), 0, expected, found)


def place_of(row: Row) -> str:
    """What a row is called where the path of a file would stand."""
    return f"{PLACE}, row of record {row.first_lsn}"
