"""Places for so many at once, in which nobody can sit for all the others."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Final

# What part of the places one caller may have at most, as long as that is one.
_PART: Final = 4

_Line = dict["asyncio.Future[None]", None]


class Places:
    """All of it runs in one loop.

    A caller may have a quarter of them, and those that wait take turns by caller: who makes one
    call does not wait for the thousand of another.
    """

    def __init__(self, count: int) -> None:
        self._free = count
        self._most = max(count // _PART, 1)
        self._taken: Counter[str] = Counter()
        # By caller, the one whose turn it is first: those that wait, oldest first.
        self._lines: dict[str, _Line] = {}

    async def take(self, who: str) -> None:
        """Returns when there is a place for that caller, who has to `leave` it."""
        if self._free and self._taken[who] < self._most and who not in self._lines:
            self._seat(who)
            return
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lines.setdefault(who, {})[waiting] = None
        try:
            await waiting
        except asyncio.CancelledError:
            if waiting.cancelled():
                self._forget(who, waiting)
            else:
                # It had been seated, and is gone.
                self.leave(who)
            raise

    def leave(self, who: str) -> None:
        """Gives a place back, to whose turn it is."""
        self._free += 1
        self._taken[who] -= 1
        if not self._taken[who]:
            # Else it would have all that ever came.
            del self._taken[who]
        for each in [*self._lines] if self._lines else ():
            if not self._free:
                return
            if self._taken[each] < self._most:
                self._seat_next(each)

    def _seat(self, who: str) -> None:
        self._free -= 1
        self._taken[who] += 1

    def _seat_next(self, who: str) -> None:
        line = self._lines.pop(who)
        while line:
            waiting = next(iter(line))
            del line[waiting]
            # Some may have gone, and not have been told yet.
            if not waiting.done():
                waiting.set_result(None)
                self._seat(who)
                break
        if line:
            # Its next turn comes after all the others'.
            self._lines[who] = line

    def _forget(self, who: str, waiting: asyncio.Future[None]) -> None:
        line = self._lines.get(who, {})
        line.pop(waiting, None)
        if not line:
            self._lines.pop(who, None)
