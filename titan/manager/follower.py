"""Follows the log that another manager writes: into this one's own copy, and into its state."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from titan.errors import TitanError
from titan.logs import LogLine
from titan.state.replay import replay

if TYPE_CHECKING:
    import wal
    from titan.journal.confirmed import ConfirmedTail
    from titan.journal.rows import Row
    from titan.manager.blocking import Blocking
    from titan.manager.own_copy import OwnCopy
    from titan.manager.standby_view import StandbyView

_log = logging.getLogger("titan.standby")

# What is read at a time waits in memory until it is applied.
READ_BYTES_MAX: Final = 16 << 20
ROOM_SECONDS: Final = 1.0


class NoRoomToFollow(TitanError):
    """This manager's disk takes no more; the text says where."""


class Follower:
    """One manager's place in the log. Used in the loop; what blocks is done in threads."""

    def __init__(
        self, tail: ConfirmedTail, own_copy: OwnCopy, view: StandbyView, blocking: Blocking
    ) -> None:
        """The copy and the state of the view stand at the same record.

        `blocking` is where what blocks is done.
        """
        self._blocking = blocking
        self._view = view
        self._own_copy = own_copy
        self._tail = tail
        self._position: wal.Position = own_copy.position
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
        while rows := await self._blocking.run(self._fetch):
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

    def _fetch(self) -> list[Row]:
        """What comes next, which is in the copy already when it is returned."""
        rows = self._tail.rows(self._position, bytes_max=READ_BYTES_MAX)
        for number, row in enumerate(rows):
            if not self._own_copy.add(row):
                if not number:
                    raise NoRoomToFollow(f"no room for record {row.first_lsn} in the copy")
                rows = rows[:number]
                break
            self._position = self._own_copy.position
        return rows


async def keep_following(follower: Follower, seconds: float) -> None:
    """Catches up, then waits for news for so long at most; what is over by itself is waited for.

    Raises what `Follower.catch_up` does, but for what is over by itself.
    """
    try:
        await follower.catch_up()
    except NoRoomToFollow as error:
        _log.error(LogLine("this standby falls behind", detail=error))
        await asyncio.sleep(ROOM_SECONDS)
        return
    await follower.wait(seconds)
