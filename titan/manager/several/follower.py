"""Follows the log that another manager writes: into this one's own copy, and into its state."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from titan.errors import TitanError
from titan.state.replay import replay

if TYPE_CHECKING:
    import wal
    from titan.journal.confirmed import ConfirmedTail
    from titan.journal.rows import Row
    from titan.journal.tail import Tail
    from titan.manager.several.blocking import Blocking
    from titan.manager.several.own_copy import OwnCopy
    from titan.manager.several.standby_view import StandbyView

# What is read at a time waits in memory until it is applied.
READ_BYTES_MAX: Final = 16 << 20
# What comes at once while this one keeps up is less.
MANY_ROWS: Final = 256
MANY_BYTES: Final = 1 << 20


class NoRoomToFollow(TitanError):
    """This manager's disk takes no more; the text says where."""


class Follower:
    """One manager's place in the log. Used in the loop; what blocks is done in threads."""

    def __init__(
        self, tail: Tail | ConfirmedTail, own_copy: OwnCopy, view: StandbyView, blocking: Blocking
    ) -> None:
        """The copy and the state of the view stand at the same record.

        `blocking` is where what blocks is done.
        """
        self._blocking = blocking
        self._view = view
        self._own_copy = own_copy
        self._tail = tail
        self._position: wal.Position = own_copy.position
        self._end_lsn = self._position.lsn
        assert self._position.lsn == view.lsn

    @property
    def position(self) -> wal.Position:
        """What was followed up to, in both."""
        return self._position

    async def catch_up(self) -> None:
        """Returns when all is applied that was there when it began to look.

        Raises JournalUnavailable, NoRoomToFollow, wal.WalError (what is read does not go on from
        here), UnknownRecord, IllegalEvent.
        """
        while True:
            try:
                rows = await self._blocking.run(self._fetch)
            except NoRoomToFollow:
                self._view.note_end(self._end_lsn)
                raise
            if not rows:
                break
            # How far behind this one is, for as long as it takes.
            self._view.note_end(self._end_lsn)
            for row in rows:
                for records in row.records():
                    replay(records, self._view.state)
                self._view.advanced()
                # A row may be 16 MiB, and whoever asks meanwhile is to be answered.
                await asyncio.sleep(0)
        self._view.note_end(self._position.lsn)

    async def wait(self, seconds: float) -> None:
        """Until there may be something new, or so long. Raises JournalUnavailable."""
        await self._blocking.run(self._tail.wait, seconds)

    def close(self) -> None:
        """Nothing more is followed. Blocks.

        A session that is told of each row and does not listen would fill the server's queue.
        """
        self._tail.close()

    def _fetch(self) -> list[Row]:
        """What comes next, which is in the copy already when it is returned."""
        rows = self._tail.rows(self._position, bytes_max=READ_BYTES_MAX)
        if rows:
            size_bytes = sum(len(row.body) for row in rows)
            # A few rows are all that there is; of many, more may follow.
            is_all = len(rows) < MANY_ROWS and size_bytes < MANY_BYTES
            self._end_lsn = rows[-1].last_lsn if is_all else self._tail.end().lsn
        for number, row in enumerate(rows):
            if not self._own_copy.add(row):
                if not number:
                    raise NoRoomToFollow(f"no room for record {row.first_lsn} in the copy")
                rows = rows[:number]
                break
            self._position = self._own_copy.position
        return rows
