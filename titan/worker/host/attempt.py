"""One attempt that waits or runs: its signals, its timers, and what ended it. Pure.

How it stands to others of its class is `bookkeeping.py`'s. Every method that changes something
returns what is to be done, in order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from titan import units
from titan.model import AttemptKey, Reason
from titan.worker.host.actions import (
    Action,
    DropLimit,
    Purpose,
    Resume,
    Signal,
    StartTimer,
    Suspend,
)
from titan.worker.host.records import ProcessRecord
from titan.worker.host.verdict import Doom
from titan.worker.messages import Environment, Launch
from titan.worker.signals import SIGKILL, SIGTERM


@dataclass(slots=True)
class Attempt:
    """Invariant: one that was told to end is not suspended, and never will be."""

    key: AttemptKey
    launch: Launch
    environment: Environment
    time_limit_ms: int
    """Of its run time, in which it was not suspended. 0: none."""
    is_started: bool = False
    """It was given to the shell to spawn: it counts as running."""
    process: ProcessRecord | None = None
    """None until the shell has answered."""
    start_us: int = 0
    is_cancelled: bool = False
    doom: Doom | None = None
    """What ended it, where that was not a cancel: the first of them, and what came first counts."""
    stop_signal: int = 0
    """The last signal it was sent, or will be sent as soon as it has a process."""
    is_suspended: bool = False
    """It stands still, or will as soon as it has a process."""

    def begin(self, process: ProcessRecord, now_us: int) -> list[Action]:
        """It has a process: what had to wait for that."""
        self.process = process
        self.start_us = now_us
        actions: list[Action] = []
        if self.stop_signal:
            actions.append(Signal(self.key, self.stop_signal))
        actions += self._limit_timers()
        if self.is_suspended:
            actions.append(Suspend(self.key))
        return actions

    def cancel(self, grace_ms: int, number: int) -> list[Action]:
        """Its user wants it to end."""
        self.is_cancelled = self.doom is None
        return self.terminate(grace_ms, number)

    def condemn(self, doom: Doom, grace_ms: int) -> list[Action]:
        """It has to end for that."""
        if self.doom is None and not self.is_cancelled:
            self.doom = doom
        return self.terminate(grace_ms)

    def terminate(self, grace_ms: int, number: int = SIGTERM) -> list[Action]:
        """That signal once, and a timer for the rest; SIGKILL when there is no grace."""
        if self.stop_signal == SIGKILL:
            return []
        actions: list[Action] = []
        if grace_ms <= 0:
            number = SIGKILL
        elif number != SIGKILL:
            actions.append(StartTimer(self.key, grace_ms, Purpose.GRACE))
            # Being asked again in another way is heard, the same question is not repeated.
            if self.stop_signal == number:
                return actions
        self.stop_signal = number
        if self.process is not None:
            actions.append(Signal(self.key, number))
        # It could not react while it stands still. The signal is there when it goes on.
        return actions + self.resume()

    def suspend(self) -> list[Action]:
        """Let it stand still, unless it was told to end."""
        if self.is_suspended or self.stop_signal:
            return []
        self.is_suspended = True
        return [] if self.process is None else [Suspend(self.key)]

    def resume(self) -> list[Action]:
        """Let it go on, if it stands still."""
        if not self.is_suspended:
            return []
        self.is_suspended = False
        return [] if self.process is None else [Resume(self.key)]

    def change_limit(self, time_limit_ms: int) -> list[Action]:
        """From now on it may run so long, counted from its start; 0: for ever."""
        if time_limit_ms == self.time_limit_ms:
            return []
        self.time_limit_ms = time_limit_ms
        if self.process is None:
            return []
        return self._limit_timers() or [DropLimit(self.key)]

    def timer_over(self, timer: StartTimer) -> list[Action]:
        """The time of that timer, which was started for it, has passed."""
        match timer.purpose:
            case Purpose.GRACE:
                return self.terminate(0)
            case Purpose.LIMIT | Purpose.WARNING:
                if timer not in self._limit_timers():
                    # Of a limit before this one; that of the new one is on its way.
                    return []
                if self.is_suspended:
                    # It was due when the attempt was about to stand still: once that goes on.
                    return [timer]
                return self._limit_near() if timer.purpose is Purpose.WARNING else self._limit()
            case _:
                assert_never(timer.purpose)

    def _limit(self) -> list[Action]:
        limit = units.format_duration(self.time_limit_ms / 1000)
        doom = Doom(Reason.TIMEOUT, f"ran into its time limit of {limit}")
        return self.condemn(doom, self.launch.grace_ms)

    def _limit_near(self) -> list[Action]:
        # One that was told to end need not be told that it will have to.
        return [] if self.stop_signal else [Signal(self.key, self.launch.end_signal)]

    def _limit_timers(self) -> list[Action]:
        if not self.time_limit_ms:
            return []
        timers: list[Action] = []
        if self.launch.end_signal:
            warn_ms = max(0, self.time_limit_ms - self.launch.end_signal_before_ms)
            timers.append(StartTimer(self.key, warn_ms, Purpose.WARNING))
        return [*timers, StartTimer(self.key, self.time_limit_ms, Purpose.LIMIT)]
