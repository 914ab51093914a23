"""Making a data directory the copy of a journal that a manager can start from.

What is there is gone on with where it is a part of the journal. Where it is not, the database is
not believed blindly: a copy that has more than that shows that the database has lost something.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from pathlib import Path
from typing import Final

import wal
from titan.journal.confirmed import confirm
from titan.journal.database import Database
from titan.journal.errors import JournalRefused
from titan.journal.mark import Mark, MarkUnreadable, read_mark, write_mark
from titan.journal.mirror import Mirror
from titan.journal.session import Session
from titan.journal.snapshot_files import fetch_snapshot
from titan.journal.snapshots import SnapshotTable
from titan.journal.tail import Tail
from titan.logs import LogLine
from titan.snapshots import snapshot_directory
from wal.directory import DURABLE_NAME
from wal.filesystem import OS_FILE_SYSTEM

_log = logging.getLogger("titan.journal")

FETCH_BYTES: Final = 16 << 20
TELL_SECONDS: Final = 5.0
# What a byte of the log costs a start, in bytes of a snapshot.
REPLAY_COST: Final = 4


class MirrorAhead(JournalRefused):
    """The copy has what the database has lost; the text says what, and both ways out."""


def prepare_mirror(
    database: Database, data_directory: Path, *, segment_bytes: int = wal.SEGMENT_BYTES
) -> None:
    """Brings the copy in a data directory up to the end that the journal has now.

    Begins it where there is none. One that is damaged, or behind what the database keeps, is begun
    anew with a warning. What is a start's to judge is left to it. Raises JournalUnavailable,
    JournalRefused (among them MirrorAhead), wal.NewerVersion, wal.LogFailed, OSError. O(bytes that
    are new).
    """
    session, snapshots = Session(database, "prepare"), SnapshotTable(database)
    try:
        _Preparing(database, session, snapshots, data_directory, segment_bytes).run()
    finally:
        session.close()
        snapshots.close()


class _Preparing:
    """One preparation. It holds the directory's lock whenever it writes."""

    def __init__(
        self,
        database: Database,
        session: Session,
        snapshots: SnapshotTable,
        data_directory: Path,
        segment_bytes: int,
    ) -> None:
        self._database = database
        self._session = session
        self._tail = tail = Tail(database, session)
        self._snapshots = snapshots
        self._root = data_directory
        self._log_directory = data_directory / "wal"
        self._segment_bytes = segment_bytes
        self._log_id = tail.end().log_id

    def run(self) -> None:
        self._root.mkdir(parents=True, exist_ok=True)
        is_known = self._check_whose()
        write_mark(self._root, Mark(self._log_id, str(self._database)))
        log = self._take_up(is_known=is_known)
        is_new = log is None
        if log is None:
            log = self._begin()
        try:
            begun = log.position
            fetched_bytes = self._fill(log)
            self._check_slots(log.position)
            self._fetch_snapshots(begun, log.position, None if is_new else fetched_bytes)
        finally:
            # All of it is durable; a start goes on in the same segment.
            log.abandon()

    def _check_whose(self) -> bool:
        """Whether the directory says that it is a copy of this journal. Raises JournalRefused."""
        try:
            mark = read_mark(self._root)
        except MarkUnreadable as error:
            raise JournalRefused(str(error)) from error
        found = mark.log_id if mark is not None else self._find_log_id()
        if found is not None and found != self._log_id:
            raise JournalRefused(
                f"{self._root} holds the log {found.hex()}, and the journal in {self._database} is "
                f"{self._log_id.hex()}: name another --data-dir"
            )
        return mark is not None

    def _find_log_id(self) -> bytes | None:
        """Whose log lies there; None: there is none. Raises JournalRefused."""
        try:
            with wal.Reader(self._log_directory) as reader:
                return reader.log_id
        except wal.NotALog:
            return None
        except wal.Damaged as error:
            raise JournalRefused(
                f"{self._root} holds a log that is damaged, and nothing says that it is a copy of "
                f"the journal in {self._database}: {error}; name another --data-dir"
            ) from error

    def _take_up(self, *, is_known: bool) -> wal.Log | None:
        """The log that is there, if it is a part of the journal; None: begin one.

        Raises JournalRefused, MirrorAhead.
        """
        try:
            log = self._open()
        except (wal.Damaged, wal.NotALog) as error:
            if not is_known:
                raise JournalRefused(
                    f"the log in {self._root} is damaged, and nothing says that it is a copy of "
                    f"the journal in {self._database}: {error}; name another --data-dir"
                ) from error
            aside = self._set_aside()
            _log.warning(
                LogLine(
                    "the copy of the journal is damaged and is fetched anew",
                    aside=aside,
                    detail=error,
                )
            )
            return None
        if log is None:
            return None
        try:
            self._check_place(log.position)
        except wal.RecordsGone as error:
            log.abandon()
            aside = self._set_aside()
            _log.warning(
                LogLine(
                    "the copy of the journal ends before what is kept of it, and is fetched anew",
                    lsn=log.position.lsn,
                    detail=error,
                    **({} if is_known else {"aside": aside}),
                )
            )
            if is_known:
                shutil.rmtree(aside)
            return None
        except BaseException:
            log.abandon()
            raise
        return log

    def _open(self) -> wal.Log | None:
        """None: there is none. Raises wal.Damaged, wal.NotALog, JournalRefused."""
        self._log_directory.mkdir(exist_ok=True)
        if not wal.list_segments(self._log_directory):
            if (self._log_directory / DURABLE_NAME).exists():
                raise wal.Damaged(str(self._log_directory), 0, "segments", "none")
            return None
        return self._open_log(self._newest_snapshot())

    def _open_log(self, after: wal.Position | None) -> wal.Log:
        return wal.Log.open(
            self._log_directory,
            lock=self._take_lock(),
            after=after,
            segment_bytes=self._segment_bytes,
            on_warning=lambda text: _log.warning("%s", text),
        )

    def _take_lock(self) -> wal.Lock:
        try:
            return wal.Lock(self._root / "lock")
        except wal.Locked as error:
            holder = f"process {error.pid}" if error.pid else "another process"
            raise JournalRefused(
                f"{self._root} is in use by {holder}: a manager runs on it"
            ) from error

    def _newest_snapshot(self) -> wal.Position | None:
        """The position of the newest one that can be read to its end, as a start will take it."""
        directory = snapshot_directory(self._root)
        for lsn in reversed(wal.find_snapshots(directory)):
            try:
                return wal.check_snapshot(directory, lsn)
            except (wal.Damaged, wal.NotALog, wal.NewerVersion) as error:
                _log.warning(LogLine("a snapshot of the copy cannot be used", detail=error))
        return None

    def _check_place(self, position: wal.Position) -> None:
        """Whether the journal leads on from there. Raises wal.RecordsGone, MirrorAhead."""
        end = self._tail.end()
        if position.lsn > end.lsn:
            raise MirrorAhead(
                f"the copy in {self._root} ends with record {position.lsn}, but the journal in "
                f"{self._database} with record {end.lsn}: the database has lost records that were "
                "acknowledged, as after a failover to a server that had not got them, or a restore "
                "of an older backup. Either bring back the database that has them, or put them "
                f"into this one while no manager runs: `titan journal copy {self._root} URL`. Or "
                f"give up the jobs in them: move {self._root} away, and others that are ahead"
            )
        try:
            self._tail.check_place(position)
        except wal.PositionMismatch as error:
            raise MirrorAhead(
                f"the copy in {self._root} ends with record {position.lsn} of another history than "
                f"the journal in {self._database} ({error}): the database has lost records that "
                "were acknowledged, and others were written in their place. Either bring back the "
                "database that has them, or give them up: look at them with `titan wal dump "
                f"{self._root}`, then move that directory away"
            ) from error

    def _set_aside(self) -> Path:
        """Moves log and snapshots to a directory of their own. Raises OSError."""
        lock = self._take_lock()
        try:
            number = 1
            while (aside := self._root / f"replaced-{number}").exists():
                number += 1
            aside.mkdir()
            for source in (self._log_directory, snapshot_directory(self._root)):
                if source.exists():
                    os.replace(source, aside / source.name)
            OS_FILE_SYSTEM.fsync_directory(str(self._root))
        finally:
            lock.release()
        return aside

    def _begin(self) -> wal.Log:
        """An empty log where the journal begins, or behind the oldest snapshot that leads into it.

        Raises JournalRefused.
        """
        position = self._find_beginning()
        after = position if position.lsn else None
        lock = self._take_lock()
        try:
            wal.begin(self._log_directory, position, segment_bytes=self._segment_bytes)
        finally:
            lock.release()
        _log.info(LogLine("a copy of the journal is begun", after_lsn=position.lsn))
        return self._open_log(after)

    def _find_beginning(self) -> wal.Position:
        first_lsn = self._tail.first_lsn()
        if first_lsn == 1:
            return wal.Position(self._log_id, 0, wal.first_chain(self._log_id))
        for position, _ in self._snapshots.list():
            if position.lsn >= first_lsn - 1 and self._fetch(position):
                return position
        raise JournalRefused(
            f"the journal in {self._database} begins with record {first_lsn}, and no snapshot in "
            "it that can be used leads there: copy the data directory of a manager that has one"
        )

    def _fill(self, log: wal.Log) -> int:
        """Adds all rows that there are by now; returns how many bytes. Raises JournalRefused."""
        mirror, end_lsn = Mirror(log), self._tail.end().lsn
        if mirror.position.lsn < end_lsn:
            # What could yet be lost is nothing to have a copy of: see `confirmed.py`.
            confirm(self._session)
        begun_lsn, told_at, fetched_bytes = mirror.position.lsn, time.monotonic(), 0
        while mirror.position.lsn < end_lsn:
            for row in self._tail.rows(mirror.position, FETCH_BYTES):
                if row.first_lsn > end_lsn:
                    break
                if not mirror.add(row):
                    free = shutil.disk_usage(self._root).free
                    raise JournalRefused(
                        f"there is no room in {self._root} for a copy of the journal: {free} "
                        f"bytes are free, and it is at record {row.first_lsn} of {end_lsn}"
                    )
                fetched_bytes += len(row.body)
            if time.monotonic() - told_at > TELL_SECONDS:
                told_at = time.monotonic()
                _log.info(LogLine("fetching the journal", lsn=mirror.position.lsn, of=end_lsn))
        if fetched_bytes:
            _log.info(
                LogLine(
                    "the journal was fetched",
                    records=mirror.position.lsn - begun_lsn,
                    bytes=fetched_bytes,
                    lsn=mirror.position.lsn,
                )
            )
        return fetched_bytes

    def _check_slots(self, end: wal.Position) -> None:
        """No reader may have read more than there is. Raises MirrorAhead, OSError."""
        slots = wal.read_slots(
            self._root / "readers", on_warning=lambda text: _log.warning("%s", text)
        )
        for name, position in slots:
            if position.lsn > end.lsn:
                raise MirrorAhead(
                    f"the reader {name} of {self._root} has read up to record {position.lsn}, but "
                    f"the journal in {self._database} ends with record {end.lsn}: the database has "
                    "lost records that were acknowledged. Either bring back the database that has "
                    f"them, or give them up: remove {self._root / 'readers'}, and what that reader "
                    "made of them"
                )

    def _fetch_snapshots(
        self, begun: wal.Position, end: wal.Position, fetched_bytes: int | None
    ) -> None:
        """Those that save a start more than they cost; all there are for a new copy, None."""
        there = wal.find_snapshots(snapshot_directory(self._root))
        wanted = [
            (position, size_bytes)
            for position, size_bytes in self._snapshots.list()
            if begun.lsn < position.lsn <= end.lsn and position.lsn not in there
        ]
        if fetched_bytes is None:
            for position, _ in wanted:
                self._fetch(position)
        elif wanted and fetched_bytes > wanted[-1][1] // REPLAY_COST:
            self._fetch(wanted[-1][0])

    def _fetch(self, position: wal.Position) -> bool:
        """Whether the snapshot is there, whole, and of this history; if not, a warning says why."""
        try:
            self._tail.check_place(position)
            fetch_snapshot(self._snapshots, snapshot_directory(self._root), position)
        except (
            KeyError, wal.Damaged, wal.NotALog, wal.NewerVersion, wal.PositionMismatch,
            wal.RecordsGone,
        ) as error:  # fmt: skip
            _log.warning(
                LogLine("a snapshot of the journal cannot be used", lsn=position.lsn, detail=error)
            )
            return False
        return True
