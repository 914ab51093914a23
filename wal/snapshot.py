"""Snapshots: what the owner of a log made of its records up to some position, in a file.

A snapshot is a sequence of opaque blocks. It is made beside the log, not in it: nothing here knows
what the blocks mean or looks at the log, and the log knows nothing of snapshots but the position
that its owner names at the next opening.
"""

from __future__ import annotations

import os
import re
import struct
import zlib
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self

from wal.directory import StrPath, join
from wal.errors import Damaged, LogFailed
from wal.filesystem import OS_FILE_SYSTEM, FileSystem, read_all, replace_file, sync_name_of
from wal.layout import POSITION_HEADER_BYTES, decode_position_header, encode_position_header
from wal.record import Position

SNAPSHOT_VERSION = 1

BLOCK_BYTES_MAX = 16 << 20
"""A block is held in memory as a whole, as a record is. Each costs two reads: make them large."""

# After a position header with this magic come blocks, and then the end block.
#
#   0        4      8                            0            4      8               16
#   +--------+------+----------- - -             +------------+------+---------------+
#   | length | CRC  | length bytes               | ff ff ff ff| CRC  | count of      |
#   |        |(chain)|                           |            |(chain)| blocks       |
#   +--------+------+----------- - -             +------------+------+---------------+
#
#   CRC: of the 4 bytes in front of it and of what is behind it in the block, seeded by the CRC of
#   the block before, the first one by the CRC of the header.
SNAPSHOT_MAGIC = b"\x93WALSNP\n"
_BLOCK = struct.Struct("<II")
_COUNT = struct.Struct("<Q")
_END = 0xFFFF_FFFF
_BLOCK_HEADER_BYTES = 8
assert _BLOCK.size == _COUNT.size == _BLOCK_HEADER_BYTES
assert BLOCK_BYTES_MAX < _END

_TEMPORARY_NAME = "snapshot.tmp"
"""One fixed name: a leftover of a crash is written over, and never takes space twice."""

_NAME = re.compile(r"[0-9]{20}\.snapshot")


def find_snapshots(directory: StrPath, *, file_system: FileSystem = OS_FILE_SYSTEM) -> list[int]:
    """Return the LSNs of the snapshots in a directory, ascending; none if it is absent.

    A file under such a name was written to its end; nothing more is known of it.
    """
    try:
        names = file_system.list_directory(os.fspath(directory))
    except FileNotFoundError:
        return []
    return sorted(int(name[:20]) for name in names if _NAME.fullmatch(name))


def write_snapshot(
    directory: StrPath,
    position: Position,
    blocks: Iterable[bytes],
    *,
    file_system: FileSystem = OS_FILE_SYSTEM,
) -> int:
    """Write the snapshot of a position, durably, and return its size in bytes.

    The blocks are taken one by one and not kept; each has at most 16 MiB (ValueError). One
    snapshot at a time for each directory, which is made if it is absent. After an error the old
    snapshots are as they were; a new one is there whole or not at all. Raises OSError, and what
    the blocks raise.
    """
    chunks = _encode(position, blocks)
    name = snapshot_name(position.lsn)
    return replace_file(file_system, os.fspath(directory), name, _TEMPORARY_NAME, chunks)


def sync_snapshots(directory: StrPath, *, file_system: FileSystem = OS_FILE_SYSTEM) -> None:
    """Make sure that the snapshots found here survive a power loss.

    To be called before segments are removed because of a snapshot that another process made and
    did not report as done: it may have ended between the renaming and the sync of the directory, or
    one before it between the making of the directory and the sync of its name.
    Raises LogFailed: to try again would prove nothing.
    """
    path = os.fspath(directory)
    try:
        sync_name_of(file_system, path)
        file_system.fsync_directory(path)
    except OSError as error:
        raise LogFailed(path, "fsync", str(error)) from error


def open_snapshot(
    directory: StrPath, lsn: int, *, file_system: FileSystem = OS_FILE_SYSTEM
) -> Snapshot:
    """Open the snapshot at an LSN and check its header.

    Raises NotALog (it is something else), NewerVersion, Damaged, FileNotFoundError, OSError.
    """
    return Snapshot(file_system, join(os.fspath(directory), snapshot_name(lsn)), lsn)


def check_snapshot(
    directory: StrPath, lsn: int, *, file_system: FileSystem = OS_FILE_SYSTEM
) -> Position:
    """Read a snapshot through and return its position. Raises as `open_snapshot`. O(bytes)."""
    with open_snapshot(directory, lsn, file_system=file_system) as snapshot:
        for _ in snapshot.blocks():
            pass
        return snapshot.position


def remove_snapshot(
    directory: StrPath, lsn: int, *, file_system: FileSystem = OS_FILE_SYSTEM
) -> None:
    """Remove a snapshot, after a sync of the directory, so that one which takes its place cannot be
    lost with it. It may come back after a power loss. Raises LogFailed (the sync failed), OSError.
    """
    sync_snapshots(directory, file_system=file_system)
    file_system.unlink(join(os.fspath(directory), snapshot_name(lsn)))


class Snapshot:
    """An open snapshot. Made by `open_snapshot`; also a context manager that closes it."""

    def __init__(self, file_system: FileSystem, path: str, lsn: int) -> None:
        """Use `open_snapshot`."""
        self._file_system = file_system
        self._fd: int | None = file_system.open(path)
        self.path = path
        try:
            self.size_bytes = file_system.size(self._fd)
            header = self._read(min(self.size_bytes, POSITION_HEADER_BYTES), 0)
            self.position, self._crc = decode_position_header(
                header, path, SNAPSHOT_MAGIC, SNAPSHOT_VERSION, "a snapshot"
            )
            if self.position.lsn != lsn:
                raise Damaged(path, 0, f"LSN {lsn}", f"LSN {self.position.lsn}")
        except BaseException:
            self.close()
            raise

    def blocks(self) -> Iterator[bytes]:
        """Iterate over the blocks from the first one on. Raises Damaged.

        Each is checked before it is handed out, and that they are all there when the iteration
        ends: whoever stops before knows a part of the state and must not use it.
        """
        offset, crc, count = POSITION_HEADER_BYTES, self._crc, 0
        while True:
            head = self._read(_BLOCK_HEADER_BYTES, offset)
            length, expected = _BLOCK.unpack(head)
            is_end = length == _END
            if length > BLOCK_BYTES_MAX and not is_end:
                raise Damaged(self.path, offset, "a block of 16 MiB at most", f"{length} bytes")
            body = self._read(_COUNT.size if is_end else length, offset + len(head))
            crc = zlib.crc32(body, zlib.crc32(head[:4], crc))
            if crc != expected:
                raise Damaged(self.path, offset, f"chain CRC {expected:08x}", f"{crc:08x}")
            if is_end:
                return self._check_end(offset, count, _COUNT.unpack(body)[0])
            yield body
            offset += len(head) + length
            count += 1

    def close(self) -> None:
        """Close the file. Idempotent."""
        fd, self._fd = self._fd, None
        if fd is not None:
            self._file_system.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _check_end(self, offset: int, count: int, expected: int) -> None:
        if count != expected:
            raise Damaged(self.path, offset, f"{expected} blocks", f"{count} blocks")
        end = offset + _BLOCK_HEADER_BYTES + _COUNT.size
        if end != self.size_bytes:
            found = f"{self.size_bytes - end} more bytes"
            raise Damaged(self.path, end, "the end of the file", found)

    def _read(self, size: int, offset: int) -> bytes:
        """Read so many bytes. Raises Damaged where they are not there, or the disk cannot read."""
        assert self._fd is not None
        try:
            data = read_all(self._file_system, self._fd, size, offset)
        except OSError as error:
            raise Damaged(self.path, offset, "readable bytes", str(error)) from error
        if len(data) < size:
            raise Damaged(self.path, offset, f"{size} bytes", f"{len(data)} bytes")
        return data


def first_block(start: bytes) -> bytes:
    """Return what is there of the first block in the first bytes of a snapshot's file, unchecked.

    For whoever has these bytes and not the file, as from another store.
    """
    begin = POSITION_HEADER_BYTES + _BLOCK_HEADER_BYTES
    length, _ = _BLOCK.unpack_from(start.ljust(begin, b"\0"), POSITION_HEADER_BYTES)
    return start[begin : begin + length]


def snapshot_name(lsn: int) -> str:
    """Return the file name of the snapshot at an LSN; names sort as LSNs do."""
    return f"{lsn:020d}.snapshot"


def _encode(position: Position, blocks: Iterable[bytes]) -> Iterator[bytes]:
    header = encode_position_header(SNAPSHOT_MAGIC, SNAPSHOT_VERSION, position)
    yield header
    crc, count = int.from_bytes(header[-4:], "little"), 0
    for block in blocks:
        if len(block) > BLOCK_BYTES_MAX:
            raise ValueError(f"a block of {len(block)} bytes is over {BLOCK_BYTES_MAX}")
        data, crc = _encode_block(len(block), block, crc)
        yield data
        count += 1
    yield _encode_block(_END, _COUNT.pack(count), crc)[0]


def _encode_block(length: int, body: bytes, crc: int) -> tuple[bytes, int]:
    crc = zlib.crc32(body, zlib.crc32(length.to_bytes(4, "little"), crc))
    return _BLOCK.pack(length, crc) + body, crc
