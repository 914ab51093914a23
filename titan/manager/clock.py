"""The manager's time: it never steps, and it knows how long the loop did not turn."""

from __future__ import annotations

import time
from typing import Final

# A turn that comes later than that was no turn: the process was stopped, or the machine.
LATENESS_MAX_US: Final = 1_000_000
TRAFFIC_STEP_US: Final = 10_000
# Within the last 10 to 20 ms. One job by itself makes three or four calls in that time.
FLOOD_CALLS: Final = 12


class Clock:
    """Microseconds since the epoch, from the wall clock once and from the monotonic one since.

    A wall clock that is set back or forth while the manager runs changes nothing, and
    time in the log never goes back over a restart.
    """

    def __init__(self, *, not_before_us: int) -> None:
        self._start_us = max(not_before_us, time.time_ns() // 1000)
        self._monotonic_start_ns = time.monotonic_ns()

    def now_us(self) -> int:
        """Now."""
        return self._start_us + (time.monotonic_ns() - self._monotonic_start_ns) // 1000


class TurnClock:
    """Counts only time in which the loop turned: silence is measured in it.

    A manager that was stopped for a minute has not listened for a minute, so nobody
    was silent in it.
    """

    def __init__(self) -> None:
        self._late_us = 0
        self._start_us = time.monotonic_ns() // 1000
        self._due_us = self._start_us

    def turned_us(self) -> int:
        """Time as far as the loop turned, from 0, where the kernel begins to wait for workers.

        Calls may be decided between the end of a stall and the late turn that tells of it.
        """
        now = time.monotonic_ns() // 1000
        if now - self._due_us > LATENESS_MAX_US:
            now = self._due_us
        return now - self._start_us - self._late_us

    def note_turn(self, interval_us: int) -> bool:
        """The loop turned; the next turn is due in so long. False when this one came too late."""
        now = time.monotonic_ns() // 1000
        lateness = now - self._due_us
        is_late = lateness > LATENESS_MAX_US
        if is_late:
            self._late_us += lateness
        self._due_us = now + interval_us
        return not is_late


class Traffic:
    """How many calls came lately, in steps of 10 ms."""

    def __init__(self) -> None:
        self._step = 0
        self._here = 0
        self._before = 0

    def note(self, now_us: int) -> None:
        """A call came."""
        step = now_us // TRAFFIC_STEP_US
        if step != self._step:
            self._before = self._here if step == self._step + 1 else 0
            self._step, self._here = step, 0
        self._here += 1

    def is_flood(self) -> bool:
        """Whether calls come faster than one user's jobs make them: some 800 a second."""
        return self._here + self._before >= FLOOD_CALLS
