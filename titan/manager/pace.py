"""When the loop may decide what users ask, so that it comes by for everybody else in between.

A submit of ten thousand jobs holds the loop for some tenths of a second, and a dozen of them that
are ready at once would hold it for seconds if they went one right after the other. So those that
decide take turns, and after so much work there is a rest in which nothing of the kind is decided:
heartbeats and reports that came meanwhile are heard and answered.
"""

from __future__ import annotations

import asyncio
from enum import Enum, auto
from typing import Final

# Turns hold the loop for so long at most, or one of them alone does, until the next rest.
WORK_SECONDS: Final = 0.05
# What takes less than that does not count: the loop comes by between two of them by itself.
TRIFLE_SECONDS: Final = 0.001
# To be heard a call takes some turns of the loop, and in between some of gRPC's threads beside it:
# a rest is so many looks around, each so long after the last.
LOOKS: Final = 4
LOOK_SECONDS: Final = 0.001
# Where the machine is busy with others the threads take longer, as does a look. One that comes so
# late does not count; but no rest is longer than that part of the work before it.
LATE_SECONDS: Final = 0.002
REST_SHARE: Final = 0.25
# What is larger waits in a line of its own: what takes a moment does not have to wait for all of
# that.
SMALL_BYTES: Final = 64 * 1024


class Line(Enum):
    """Where one waits for his turn."""

    SMALL = auto()
    # What took a turn already goes on before others begin.
    BEGUN = auto()
    LARGE = auto()


class Pace:
    """The lines, and whose turn it is. All of it runs in one loop."""

    def __init__(self) -> None:
        self._lines: dict[Line, dict[asyncio.Future[bool], None]] = {each: {} for each in Line}
        # Somebody was told that it is his turn, and has not come yet.
        self._is_given = False
        self._is_resting = False
        self._worked_seconds = 0.0
        # What small ones took since the last other one.
        self._small_seconds = 0.0

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return sum(map(len, self._lines.values()))

    async def wait_turn(self, line: Line, end: float | None) -> bool:
        """Whether it is the caller's turn: to work without another await, and to `note` it.

        False once the loop's clock shows `end`. Each waits for those before it in its line.
        """
        if not (self._is_resting or self._is_given or self.waiting):
            return True
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[bool] = loop.create_future()
        self._lines[line][turn] = None
        timer = None if end is None else loop.call_at(end, _give_up, turn)
        try:
            return await turn
        except asyncio.CancelledError:
            if not turn.cancelled() and turn.result():
                # Whoever called has gone in the moment that it was his turn.
                self._give_next()
            raise
        finally:
            if timer is not None:
                timer.cancel()
            self._lines[line].pop(turn, None)

    def note(self, is_small: bool, seconds: float) -> None:
        """A turn is over that took so long."""
        self._small_seconds = self._small_seconds + seconds if is_small else 0.0
        self._is_given = False
        if seconds >= TRIFLE_SECONDS:
            self._worked_seconds += seconds
        if self._worked_seconds < WORK_SECONDS:
            self._give_next()
        elif not self._is_resting:
            self._is_resting = True
            loop = asyncio.get_running_loop()
            longest = max(self._worked_seconds * REST_SHARE, LOOKS * LOOK_SECONDS)
            self._look_around(LOOKS, loop.time() + longest)

    def _look_around(self, looks: int, end: float) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + LOOK_SECONDS

        def look() -> None:
            now = loop.time()
            left = looks - (now - due <= LATE_SECONDS)
            if left and now < end:
                self._look_around(left, end)
                return
            self._is_resting = False
            self._worked_seconds = 0.0
            self._give_next()

        loop.call_at(due, look)

    def _give_next(self) -> None:
        self._is_given = False
        while (line := self._next_line()) and not self._is_given:
            turn = next(iter(line))
            del line[turn]
            if not turn.done():
                turn.set_result(True)
                self._is_given = True

    def _next_line(self) -> dict[asyncio.Future[bool], None]:
        """Small ones go first, but another one between as much of them as lies between rests."""
        small, begun, large = self._lines.values()
        others = begun or large
        return small if small and (self._small_seconds < WORK_SECONDS or not others) else others


def _give_up(turn: asyncio.Future[bool]) -> None:
    if not turn.done():
        turn.set_result(False)
