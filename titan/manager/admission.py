"""Who of those that submit is let in, and when: a bounded number, in turns, and never after long.

gRPC takes every call that comes, and keeps it as long as its handler does. So there is a limit to
how many are inside (their message read, their record on its way to the disk) and to the bytes of
those. Others wait at the door, where their message is not read yet and stays with whoever sends
it; beyond a number of them, and beyond a time, a call is refused with Busy: nothing of it was
done, and it comes again later.

What workers say does not pass here, and finds the loop free by `pace.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from titan.errors import Busy
from titan.manager.pace import SMALL_BYTES, Line, Pace


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How many may be where."""

    # Some times what one flush of the log takes; with more each would only wait longer.
    calls_inside: int = 256
    # In bulk submits some three seconds of the loop. Whoever calls waits for ten.
    bytes_inside: int = 8 * 1024 * 1024
    # Messages that are coming in, each of up to 16 MiB.
    calls_reading: int = 64
    # Each takes some 30 KiB of gRPC.
    calls_waiting: int = 1_000
    # For the place, and then, once the message is read, for the turn. To wait for longer is up to
    # the caller, who may have something better to do.
    wait_seconds: float = 2.0


# What a message is taken for until it is read: for as large as those that came last, but not for so
# large that a few that are slow to send theirs keep everybody else out.
_GUESSES_INSIDE_MIN: Final = 16
_GUESS_BYTES_MIN: Final = 16 * 1024
_GUESS_BYTES_FIRST: Final = 128 * 1024

# What the next one is told: what its message is taken for, or that it has waited too long.
_Line = dict["asyncio.Future[int | None]", None]


class Admission:
    """A door. All of it runs in one loop."""

    def __init__(self, pace: Pace, bounds: Bounds | None = None) -> None:
        """`pace` is shared by all doors of a manager."""
        self.pace = pace
        self._bounds = bounds or Bounds()
        self.calls_inside = 0
        self.calls_reading = 0
        self.calls_waiting = 0
        self.bytes_inside = 0
        self._guess_bytes = _GUESS_BYTES_FIRST
        # By connection, the one whose turn it is first: those that wait, oldest first.
        self._lines: dict[str, _Line] = {}

    async def enter(self, peer: Callable[[], str]) -> Place:
        """Returns when a call over the connection that `peer` tells may come in. Raises Busy.

        Connections take turns: who makes one call does not wait for the thousand of another.
        """
        end = self.end_of_wait()
        if self.calls_waiting or not self._has_room:
            if self.calls_waiting >= self._bounds.calls_waiting:
                raise self.busy()
            guess_bytes = await self._wait(peer(), end)
        else:
            guess_bytes = self._let_in()
        return Place(self, guess_bytes, end)

    def end_of_wait(self) -> float:
        """Until when, by the loop's clock, one waits who begins to wait now."""
        return asyncio.get_running_loop().time() + self._bounds.wait_seconds

    def note_read(self, guess_bytes: int, size_bytes: int) -> None:
        """A message that was taken for so large has come, and is so large."""
        self.calls_reading -= 1
        self.bytes_inside += size_bytes - guess_bytes
        guess_bytes = max(_GUESS_BYTES_MIN, size_bytes, self._guess_bytes * 15 // 16)
        self._guess_bytes = min(guess_bytes, self._bounds.bytes_inside // _GUESSES_INSIDE_MIN)
        self._let_in_others()

    def note_left(self, size_bytes: int, *, was_read: bool) -> None:
        """A call has left."""
        self.calls_inside -= 1
        self.calls_reading -= not was_read
        self.bytes_inside -= size_bytes
        self._let_in_others()

    @property
    def _has_room(self) -> bool:
        # However large it is, the only one finds room.
        return not self.calls_inside or (
            self.calls_inside < self._bounds.calls_inside
            and self.calls_reading < self._bounds.calls_reading
            and self.bytes_inside + self._guess_bytes <= self._bounds.bytes_inside
        )

    def _let_in(self) -> int:
        self.calls_inside += 1
        self.calls_reading += 1
        self.bytes_inside += self._guess_bytes
        return self._guess_bytes

    def _let_in_others(self) -> None:
        while self._lines and self._has_room:
            peer, line = next(iter(self._lines.items()))
            del self._lines[peer]
            waiter = next(iter(line))
            del line[waiter]
            if line:
                # To the end of the round.
                self._lines[peer] = line
            self.calls_waiting -= 1
            if not waiter.done():
                waiter.set_result(self._let_in())

    async def _wait(self, peer: str, end: float) -> int:
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[int | None] = loop.create_future()
        self._lines.setdefault(peer, {})[waiter] = None
        self.calls_waiting += 1
        timer = loop.call_at(end, _give_up, waiter)
        try:
            guess_bytes = await waiter
        except asyncio.CancelledError:
            if not waiter.cancelled() and (guessed := waiter.result()) is not None:
                # It has gone in the moment that it was let in.
                self.note_left(guessed, was_read=False)
            raise
        finally:
            timer.cancel()
            line = self._lines.get(peer, {})
            if waiter in line:
                del line[waiter]
                self.calls_waiting -= 1
                if not line:
                    del self._lines[peer]
        if guess_bytes is None:
            raise self.busy()
        return guess_bytes

    def busy(self) -> Busy:
        """What one is told that is turned away."""
        inside, waiting = self.calls_inside, self.calls_waiting
        return Busy(
            f"the manager is busy with {inside} calls, and {waiting} more wait; "
            "nothing of this one was done, try again later"
        )


class Doors:
    """Those of a manager. What is decided behind either of them keeps to one pace."""

    def __init__(self, bounds: Bounds | None = None) -> None:
        """`bounds` are those of each."""
        pace = Pace()
        self.submits = Admission(pace, bounds)
        # Whoever wants to be rid of jobs does not stand in the line of those that bring them.
        self.changes = Admission(pace, bounds)


class Place:
    """A call that is inside, until it leaves."""

    def __init__(self, door: Admission, guess_bytes: int, end: float) -> None:
        self._door = door
        self._size_bytes = guess_bytes
        self._end = end
        self._was_read = False
        self._has_begun = False

    def note_read(self, size_bytes: int) -> None:
        """Its message has come."""
        guess_bytes, self._size_bytes, self._was_read = self._size_bytes, size_bytes, True
        # What a message takes over a slow line is no waiting: there is time for the turn as well.
        self._end = self._door.end_of_wait()
        self._door.note_read(guess_bytes, size_bytes)

    async def wait_turn(self) -> None:
        """Returns when the next step is to be taken, without another await.

        Raises Busy, but only before the first.
        """
        if self._has_begun:
            await self._door.pace.wait_turn(Line.BEGUN, None)
            return
        line = Line.SMALL if self._size_bytes <= SMALL_BYTES else Line.LARGE
        if not await self._door.pace.wait_turn(line, self._end):
            raise self._door.busy()
        self._has_begun = True

    def note_turn(self, seconds: float) -> None:
        """The step was taken and held the loop for so long."""
        self._door.pace.note(self._size_bytes <= SMALL_BYTES, seconds)

    def leave(self) -> None:
        """It has its answer, or is gone."""
        self._door.note_left(self._size_bytes, was_read=self._was_read)


def _give_up(waiter: asyncio.Future[int | None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
