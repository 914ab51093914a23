"""`host.journal`: what a new task host must know when the one before it was killed.

Written, never synced: a crash of the machine ends the tasks too, and their ends that were
not reported are told as lost. Frames, of which the first is the header:

    +-------------+-------------+--------------------------------------+
    | length, u32 | CRC-32, u32 | msgpack [ticks since boot, code, …]  |
    +-------------+-------------+--------------------------------------+
        little-endian; the CRC is that of the payload

Reading stops at the first frame that is not whole: the host died while it wrote it.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgpack

from titan.model import AttemptKey
from titan.worker.host.records import (
    AcknowledgedRecord,
    ClusterRecord,
    DirectRecord,
    EndRecord,
    ForgottenRecord,
    IntentRecord,
    ProcessRecord,
    Record,
)
from titan.worker.protocol import report_of

FORMAT: Final = 1
NAME: Final = "host.journal"
# Where compaction is first thought of: about a thousand attempts.
COMPACT_BYTES_MIN: Final = 256 << 10

_FRAME: Final = struct.Struct("<II")
_PACKER: Final = msgpack.Packer()
_HEADER_CODE: Final = 0
# A code's meaning never changes, new fields go last.
_CODES: Final[dict[type[Record], int]] = {
    ClusterRecord: 1,
    IntentRecord: 2,
    ProcessRecord: 3,
    EndRecord: 4,
    ForgottenRecord: 5,
    AcknowledgedRecord: 6,
    DirectRecord: 7,
}


class JournalError(Exception):
    """The file is not a journal this version can read."""


class Header(NamedTuple):
    """Who wrote the journal."""

    format: int
    instance: bytes
    boot_id: str
    cgroups: tuple[tuple[str, int], ...] = ()
    """Where the groups of its tasks are: directory and version of each."""
    pid: int = 0
    """The host that writes it, by its number and start as /proc has them; 0: not known."""
    start_ticks: int = 0
    starts: int = 0
    """How many hosts were started in this directory, that one included."""


class Entry(NamedTuple):
    """A record and when it was written, in ticks since that boot."""

    ticks: int
    record: Record


class HostJournal:
    """The journal of this host, opened for writing. Not safe for two writers."""

    def __init__(self, path: Path) -> None:
        """Nothing is written before `rewrite`."""
        self._path = path
        self._descriptor = -1
        self._pending: list[bytes] = []
        self._size_bytes = 0
        self._compact_at_bytes = COMPACT_BYTES_MIN

    @property
    def wants_compaction(self) -> bool:
        """Most of it is probably over by now."""
        return self._size_bytes > self._compact_at_bytes

    def rewrite(self, header: Header, records: Iterable[Record], ticks: int) -> None:
        """Begin anew with these records, at once or not at all. Raises OSError."""
        frames = [_encode((ticks, _HEADER_CODE, *header))]
        frames += [encode_record(record, ticks) for record in records]
        content = b"".join(frames)
        temporary = self._path.with_name(self._path.name + ".new")
        descriptor = os.open(
            temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600
        )
        try:
            _write_all(descriptor, content)
            temporary.rename(self._path)
        except OSError:
            os.close(descriptor)
            raise
        self.close()
        self._descriptor = descriptor
        self._pending.clear()
        self._size_bytes = len(content)
        self._compact_at_bytes = max(COMPACT_BYTES_MIN, 4 * len(content))

    def append(self, record: Record, ticks: int) -> None:
        """Add a record; it is on file after `flush`."""
        self._pending.append(encode_record(record, ticks))

    def flush(self) -> None:
        """Write what was added. Raises OSError: then nothing of it is written, and it is kept."""
        if not self._pending:
            return
        content = b"".join(self._pending)
        try:
            _write_all(self._descriptor, content)
        except OSError:
            # A part of a frame would hide all that comes after it.
            os.ftruncate(self._descriptor, self._size_bytes)
            raise
        self._pending.clear()
        self._size_bytes += len(content)

    def postpone_compaction(self) -> None:
        """It could not be rewritten: not before it has grown as much again."""
        self._compact_at_bytes = 2 * self._size_bytes

    def close(self) -> None:
        """Close the file; what was not flushed is not written."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def read(path: Path) -> tuple[Header, list[Entry]] | None:
    """The journal, None when there is none. Raises JournalError, OSError."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    payloads = _payloads(content)
    try:
        _, code, *fields = next(payloads, (0, -1))
        if code != _HEADER_CODE:
            raise JournalError(f"{path} is no journal of a task host")
        if fields[0] != FORMAT:
            raise JournalError(f"{path} has format {fields[0]}, this version knows {FORMAT}")
        header = Header(*fields)
        return header, [Entry(ticks, _record(code, fields)) for ticks, code, *fields in payloads]
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise JournalError(f"{path} cannot be read: {error!r}") from error


def _payloads(content: bytes) -> Iterator[tuple[Any, ...]]:
    offset = 0
    while offset + _FRAME.size <= len(content):
        length, checksum = _FRAME.unpack_from(content, offset)
        offset += _FRAME.size
        payload = content[offset : offset + length]
        if len(payload) < length or zlib.crc32(payload) != checksum or not length:
            return
        offset += length
        yield msgpack.unpackb(payload, use_list=False)


def _record(code: int, fields: list[Any]) -> Record:
    kind = _KINDS[code]
    if kind is EndRecord:
        return EndRecord(report_of(fields[0]))
    if kind in (IntentRecord, ProcessRecord, ForgottenRecord, DirectRecord):
        fields[0] = AttemptKey._make(fields[0])
    return kind(*fields)


_KINDS: Final = {code: kind for kind, code in _CODES.items()}


def encode_record(record: Record, ticks: int) -> bytes:
    """The frame of a record."""
    return _encode((ticks, _CODES[type(record)], *record))


def _encode(value: tuple[Any, ...]) -> bytes:
    payload: bytes = _PACKER.pack(value)
    return _FRAME.pack(len(payload), zlib.crc32(payload)) + payload


def _write_all(descriptor: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]
