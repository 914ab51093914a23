"""Keeps the log in the database small, and tells the others that this manager is there.

The manager that leads brings its snapshots into the database, so that another one can begin there
whose own copy is not there or too old. What it does not keep itself any more (`retention.py`), the
database need not keep either.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Final

import wal
from titan.errors import TitanError
from titan.journal.errors import JournalUnavailable
from titan.journal.members import Member, MemberTable
from titan.journal.retention import RetentionTable
from titan.journal.snapshot_files import snapshot_bytes
from titan.journal.snapshots import SnapshotTable
from titan.journal.tail import Tail
from titan.logs import LogLine
from titan.manager.several.blocking import Blocking
from titan.snapshots import snapshot_directory

if TYPE_CHECKING:
    from titan.journal.database import Database
    from titan.manager.leadership import Leadership
    from titan.state import ClusterState

_log = logging.getLogger("titan.upkeep")

SEEN_SECONDS: Final = 2.0
"""How often a manager says that it is there."""
GONE_SECONDS: Final = 3 * SEEN_SECONDS
"""One that did not say so for that long is not there any more."""
TIDY_SECONDS: Final = 10.0
# One that was not there for so long is not listed any more.
FORGET_SECONDS: Final = 7 * 24 * 3600.0
# Should the newest be damaged, the one before is not.
SNAPSHOTS_MIN: Final = 2


class Upkeep:
    """One manager's part of it, in a thread of its own that nobody waits for."""

    def __init__(
        self,
        data_directory: Path,
        database: Database,
        leadership: Leadership,
        address: str,
        state: ClusterState,
    ) -> None:
        """`address` is the name of this manager among the others."""
        self._log_directory = data_directory / "wal"
        self._snapshots = snapshot_directory(data_directory)
        self._database = database
        self._leadership = leadership
        self._address = address
        self._state = state
        self._members = MemberTable(database)
        self._stored = SnapshotTable(database)
        self._rows = RetentionTable(database)
        self._blocking = Blocking("journal-upkeep")
        self._told = ""
        self.others: list[Member] = []
        """The other managers that are there, as of the last look."""

    async def run(self) -> None:
        """Looks again and again until it is cancelled."""
        loop = asyncio.get_running_loop()
        tidied = loop.time()
        try:
            while True:
                try:
                    await self._blocking.run(self._look_round)
                    if loop.time() - tidied >= TIDY_SECONDS and self._leadership.leads():
                        tidied = loop.time()
                        await self._blocking.run(self._tidy)
                        self._told = ""
                except JournalUnavailable as error:
                    _log.debug("not looked after the journal: %s", error)
                # Too much is kept meanwhile, which is no reason to stop, nor to give up for ever.
                except Exception as error:  # noqa: BLE001
                    self._tell(error)
                await asyncio.sleep(SEEN_SECONDS)
        finally:
            self._blocking.stop()

    def close(self) -> None:
        """Ends the connections, while nothing is looked after any more. Blocks."""
        for each in (self._members, self._stored, self._rows):
            each.close()

    def _tell(self, error: Exception) -> None:
        """Once, and not at each look."""
        if str(error) != self._told:
            self._told = str(error)
            is_known = isinstance(error, TitanError | wal.WalError | OSError)
            _log.warning("could not look after the journal: %s", error, exc_info=not is_known)

    def _look_round(self) -> None:
        """Says that this one is there, and who else is. Raises JournalUnavailable."""
        self._members.seen(self._address, self._state.lsn)
        self.others = [
            each
            for each in self._members.list()
            if each.address != self._address and each.seconds_ago <= GONE_SECONDS
        ]

    def _tidy(self) -> None:
        """Raises JournalUnavailable, wal.WalError, OSError."""
        own = wal.find_snapshots(self._snapshots)
        stored = [position.lsn for position, _ in self._stored.list()]
        if own and own[-1] > max(stored, default=0):
            self._put(own[-1])
            stored.append(own[-1])
        first_lsn = wal.list_segments(self._log_directory)[0].first_lsn
        # Where a manager without a copy begins: rows go on from there.
        begin = max((lsn for lsn in stored if lsn + 1 <= first_lsn), default=0)
        keep = {begin, *sorted(stored)[-SNAPSHOTS_MIN:], *own}
        for lsn in stored:
            if lsn not in keep:
                self._stored.remove(lsn)
        if begin:
            self._rows.remove_before(begin + 1)
        for member in self._members.list():
            if member.seconds_ago > FORGET_SECONDS:
                self._members.remove(member.address)

    def _put(self, lsn: int) -> None:
        """Brings that snapshot into the database: others are to begin there."""
        # Read to its end first.
        position = wal.check_snapshot(self._snapshots, lsn)
        # A database that has lost records, as after a failover, is told of no state with them;
        # this manager may not have heard of that yet.
        tail = Tail(self._database)
        try:
            tail.check_place(position)
        finally:
            tail.close()
        self._stored.put(position, snapshot_bytes(self._snapshots, lsn))
        _log.debug(LogLine("a snapshot is in the journal", lsn=lsn))
