"""An append-only, checksummed, segmented log of opaque records. Start with README.md beside this
file.

Log is for the one process that writes; Reader for any number of others that follow. The package
knows nothing of what the records mean and needs nothing but the standard library.
"""

from wal.errors import (
    BacklogFull,
    Damaged,
    Locked,
    LogClosed,
    LogFailed,
    NewerVersion,
    NotALog,
    NotFlushed,
    PositionMismatch,
    RecordsGone,
    RecordTooLarge,
    WalError,
    WriteFailed,
)
from wal.filesystem import FileSystem, OsFileSystem
from wal.layout import FORMAT_VERSION, RECORD_BYTES_MAX
from wal.log import SEGMENT_BYTES, Log
from wal.reader import Reader
from wal.record import Position, Record

__all__ = [
    "FORMAT_VERSION",
    "RECORD_BYTES_MAX",
    "SEGMENT_BYTES",
    "BacklogFull",
    "Damaged",
    "FileSystem",
    "Locked",
    "Log",
    "LogClosed",
    "LogFailed",
    "NewerVersion",
    "NotALog",
    "NotFlushed",
    "OsFileSystem",
    "Position",
    "PositionMismatch",
    "Reader",
    "Record",
    "RecordTooLarge",
    "RecordsGone",
    "WalError",
    "WriteFailed",
]
