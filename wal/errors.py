"""Everything the log can refuse, one class for each decision a caller can take.

The classes carry data, so that a caller can build its own sentence (or name its own tool) without
parsing ours. Errors of reading or opening files that say nothing about the log itself (no
permission, not a directory) pass through as OSError.
"""

from __future__ import annotations


class WalError(Exception):
    """Base of all errors raised by this package."""


class NotALog(WalError):
    """What was found is not a log (or what else `kind` names) at all: most likely the wrong path
    was given."""

    def __init__(self, path: str, found: str, kind: str = "a log") -> None:
        super().__init__(f"{path}: not {kind}: {found}")
        self.path = path
        self.found = found


class NewerVersion(WalError):
    """The log was written by a newer version of this package: upgrade the program."""

    def __init__(self, path: str, found: int, expected: int) -> None:
        super().__init__(
            f"{path}: format version {found} is newer than {expected}, the newest known here"
        )
        self.path = path
        self.found = found
        self.expected = expected


class Damaged(WalError):
    """Acknowledged bytes are missing or changed. Nothing was modified; a person has to decide."""

    def __init__(self, path: str, offset: int, expected: str, found: str) -> None:
        super().__init__(f"{path}: damaged at byte {offset}: expected {expected}, found {found}")
        self.path = path
        self.offset = offset
        self.expected = expected
        self.found = found


class Locked(WalError):
    """Another process has the log open for writing; `pid` is 0 when it did not say who it is."""

    def __init__(self, path: str, pid: int) -> None:
        holder = f"process {pid}" if pid else "another process"
        super().__init__(f"{path}: {holder} holds the lock")
        self.path = path
        self.pid = pid


class LogClosed(WalError):
    """The log was closed or abandoned before this call."""

    def __init__(self, path: str) -> None:
        super().__init__(f"{path}: the log is closed")
        self.path = path


class LogFailed(WalError):
    """The disk failed in a way that must not be retried: stop the process.

    After a failed fsync the kernel may have dropped the very pages it could not write, and a second
    fsync would report success (fsync(2); Rebello et al., "Can Applications Recover from fsync
    Failures?", ATC 2020).
    """

    def __init__(self, path: str, operation: str, reason: str) -> None:
        super().__init__(f"{path}: {operation} failed, nothing more can be made durable: {reason}")
        self.path = path
        self.operation = operation
        self.reason = reason


class WriteFailed(WalError):
    """A write was refused (disk full, transient error). The records are kept and tried again."""

    def __init__(self, path: str, operation: str, reason: str) -> None:
        super().__init__(f"{path}: {operation} failed: {reason}")
        self.path = path
        self.operation = operation
        self.reason = reason


class NotFlushed(WalError):
    """The log was closed while the disk refused writes: records after `durable_lsn` are lost."""

    def __init__(self, path: str, durable_lsn: int, last_lsn: int) -> None:
        super().__init__(f"{path}: closed with records {durable_lsn + 1} to {last_lsn} unwritten")
        self.path = path
        self.durable_lsn = durable_lsn
        self.last_lsn = last_lsn


class RecordTooLarge(WalError, ValueError):
    """The payload is larger than a record may be."""

    def __init__(self, size_bytes: int, size_bytes_max: int) -> None:
        super().__init__(f"a record of {size_bytes} bytes is over the limit of {size_bytes_max}")
        self.size_bytes = size_bytes
        self.size_bytes_max = size_bytes_max


class BacklogFull(WalError):
    """Too many bytes wait for a disk that does not take them; the record was not accepted."""

    def __init__(self, backlog_bytes: int, backlog_bytes_max: int) -> None:
        super().__init__(
            f"{backlog_bytes} bytes wait to be written, the limit is {backlog_bytes_max}"
        )
        self.backlog_bytes = backlog_bytes
        self.backlog_bytes_max = backlog_bytes_max


class PositionMismatch(WalError):
    """A stored position belongs to another log, or to a history this log does not have: rebuild."""

    def __init__(self, path: str, expected: str, found: str) -> None:
        super().__init__(f"{path}: cannot resume: expected {expected}, found {found}")
        self.path = path
        self.expected = expected
        self.found = found


class RecordsGone(WalError):
    """The records asked for are older than the oldest kept segment."""

    def __init__(self, path: str, lsn: int, first_lsn: int) -> None:
        super().__init__(f"{path}: record {lsn} is gone, the oldest kept is {first_lsn}")
        self.path = path
        self.lsn = lsn
        self.first_lsn = first_lsn
