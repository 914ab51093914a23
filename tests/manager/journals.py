"""The journals that the shared suite runs over, and what it does to what they write to.

Each is taken up in a loop and let go in it. Another implementation comes under the suite by a
class as these, in `make_bench`.
"""

from __future__ import annotations

import asyncio
import errno
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

import psycopg

import wal
from tests.cluster import wait_until
from tests.manager.harness import DEADLINE_SECONDS, SlowDisk
from tests.postgresql import PostgreSQL
from titan.journal.appender import Appender
from titan.journal.database import Database
from titan.journal.lease import LeaseTable
from titan.journal.mirror import Mirror
from titan.journal.schema import SCHEMA
from titan.journal.tail import Tail
from titan.manager.journal import FileJournal, Journal
from titan.manager.several.own_copy import Copying, OwnCopy
from titan.manager.several.shared_journal import SharedJournal

# Small, so that a few records fill one and the next is wanted.
SEGMENT_BYTES: Final = 2048


class Bench(Protocol):
    """One journal at a time, on a store that outlives it."""

    def open(self) -> Journal:
        """Takes up what is stored; the journal is not started yet."""

    def close(self) -> None:
        """A clean stop of the journal: what was appended is stored. Nothing is held."""

    def hold(self) -> None:
        """What is appended from now on does not become durable."""

    def release(self) -> None:
        """What was held becomes durable, and what comes then at once."""

    def block_until_stored(self, lsn: int) -> None:
        """Returns when the record is stored. The loop does not turn meanwhile."""

    def take_room(self) -> None:
        """There is room for no more than some records, from now on."""

    def give_room(self) -> None:
        """There is room again."""

    def fail(self) -> None:
        """What was appended last and is held, and what follows, can never be made durable."""

    def stored(self) -> list[bytes]:
        """What whoever reads beside the manager finds by now: the payloads."""

    def let_go(self) -> None:
        """Ends whatever is left of the journal, as a crash would."""


class FakeBench:
    """The harness's journal of memory."""

    def __init__(self, _: Path) -> None:
        self.disk = SlowDisk()

    def open(self) -> SlowDisk:
        self.disk = SlowDisk(self.stored())
        return self.disk

    def close(self) -> None:
        self.disk.close()

    def hold(self) -> None:
        self.disk.held = True

    def release(self) -> None:
        self.disk.release()

    def block_until_stored(self, lsn: int) -> None:
        # It is durable when the loop says so, and not before.
        del lsn

    def take_room(self) -> None:
        self.disk.room = False

    def give_room(self) -> None:
        self.disk.room = True

    def fail(self) -> None:
        self.disk.fail(wal.LogFailed("/nowhere", "fdatasync", "it is to"))

    def stored(self) -> list[bytes]:
        return self.disk.records[: self.disk.durable_lsn]

    def let_go(self) -> None:
        pass


class FileBench:
    """The log of files, on a real disk whose calls can be held or refused."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory / "wal"
        self._file_system = _Disk()
        self._log: wal.Log | None = None

    def open(self) -> FileJournal:
        self._log = wal.Log.open(
            self._directory, file_system=self._file_system, segment_bytes=SEGMENT_BYTES
        )
        for _ in self._log.records():
            pass
        return FileJournal(self._directory, self._log)

    def close(self) -> None:
        assert self._log is not None
        self._log.close()

    def hold(self) -> None:
        self._file_system.syncs.clear()

    def release(self) -> None:
        self._file_system.syncs.set()

    def block_until_stored(self, lsn: int) -> None:
        assert self._log is not None
        assert self._log.wait_durable(lsn, DEADLINE_SECONDS)

    def take_room(self) -> None:
        self._file_system.is_full = True

    def give_room(self) -> None:
        self._file_system.is_full = False

    def fail(self) -> None:
        self._file_system.is_broken = True
        self.release()

    def stored(self) -> list[bytes]:
        with wal.Reader(self._directory, from_lsn=1) as reader:
            return [record.payload for record in reader]

    def let_go(self) -> None:
        self.release()
        if self._log is not None:
            self._log.abandon()


class SharedBench:
    """The log in a real PostgreSQL, and the manager's copy of it on such a disk."""

    def __init__(self, directory: Path, server: PostgreSQL) -> None:
        self._directory = directory / "wal"
        self._file_system = _Disk()
        self._url = server.make_database()
        self._database = Database(self._url)
        self._log_id = self._database.create()
        self._lease = LeaseTable(self._database)
        self._term = 0
        self._holder: psycopg.Connection[tuple[object, ...]] | None = None
        self._mirror: Mirror | None = None
        self._copying: Copying | None = None
        self._journal: SharedJournal | None = None

    def open(self) -> SharedJournal:
        term = self._lease.try_take("the test", "127.0.0.1:1", 3600)
        assert term is not None
        self._term = term
        tail = Tail(self._database)
        end = tail.end()
        tail.close()
        if not self._directory.exists():
            wal.begin(
                self._directory,
                wal.Position(self._log_id, 0, wal.first_chain(self._log_id)),
                segment_bytes=SEGMENT_BYTES,
            )
        self._mirror = Mirror(
            wal.Log.open(
                self._directory, file_system=self._file_system, segment_bytes=SEGMENT_BYTES
            )
        )
        assert self._mirror.position == end
        self._copying = Copying(OwnCopy(self._mirror), fail)
        appender = Appender(self._database, self._term, end)
        self._journal = SharedJournal(appender, self._copying, str(self._database))
        return self._journal

    def close(self) -> None:
        if self._mirror is None:
            return
        assert self._journal is not None
        assert self._copying is not None
        self._journal.close()
        self._lease.release(self._term)
        self._copying.stop(DEADLINE_SECONDS)
        self._mirror.close()
        self._mirror = None
        assert self._term is not None
        self._lease.release(self._term)

    def hold(self) -> None:
        # Whoever appends waits for the lease, as while another manager takes it.
        self._holder = psycopg.connect(self._url)
        self._holder.execute(f"SELECT FROM {SCHEMA}.lease FOR UPDATE")

    def release(self) -> None:
        if self._holder is not None:
            self._holder.close()
            self._holder = None

    def block_until_stored(self, lsn: int) -> None:
        wait_until(lambda: len(self.stored()) >= lsn)

    def take_room(self) -> None:
        self._file_system.is_full = True

    def give_room(self) -> None:
        self._file_system.is_full = False

    def fail(self) -> None:
        assert self._holder is not None
        # Another manager has taken the lease.
        self._holder.execute(f"UPDATE {SCHEMA}.lease SET term = term + 1")
        self._holder.commit()
        self.release()

    def stored(self) -> list[bytes]:
        tail = Tail(self._database)
        end = tail.end()
        tail.close()
        # The copy follows behind, and may be further by the time that it is looked at.
        if (mirror := self._mirror) is not None:
            wait_until(lambda: mirror.position.lsn >= end.lsn)
        with wal.Reader(self._directory, from_lsn=1) as reader:
            return [record.payload for record in reader]

    def let_go(self) -> None:
        self.release()
        if self._mirror is not None:
            assert self._journal is not None
            assert self._copying is not None
            self._journal.abandon()
            self._copying.stop(DEADLINE_SECONDS)
            self._mirror.abandon()
        self._lease.close()


def fail(error: BaseException) -> None:
    raise AssertionError(error)


class _Disk(wal.OsFileSystem):
    """Syncs wait until they may; no space is given to new segments while it is full."""

    def __init__(self) -> None:
        self.syncs = threading.Event()
        self.syncs.set()
        self.is_full = False
        self.is_broken = False

    def fdatasync(self, fd: int) -> None:
        assert self.syncs.wait(DEADLINE_SECONDS)
        if self.is_broken:
            raise OSError(errno.EIO, "it is to")
        super().fdatasync(fd)

    def fallocate(self, fd: int, size: int) -> None:
        if self.is_full:
            raise OSError(errno.ENOSPC, "it is full")
        super().fallocate(fd, size)


BENCHES: Final = ("fake", "file", "shared")


def make_bench(kind: str, directory: Path, find_server: Callable[[], PostgreSQL]) -> Bench:
    """A bench of that kind, with nothing stored; the server is asked for if it is needed."""
    if kind == "shared":
        return SharedBench(directory, find_server())
    return FakeBench(directory) if kind == "fake" else FileBench(directory)


class Failures:
    """Hears of a journal's failure, in any thread."""

    def __init__(self) -> None:
        self.errors: list[BaseException] = []
        self._loop = asyncio.get_running_loop()

    def __call__(self, error: BaseException) -> None:
        self._loop.call_soon_threadsafe(self.errors.append, error)
