"""What really ran, and how tasks ended, as the witness keeps it."""

from __future__ import annotations

from dataclasses import dataclass

from titan.model import State


@dataclass(slots=True)
class Execution:
    """A process that really ran."""

    worker: str
    start_us: int
    end_us: int = 0
    # When it was stopped, if it is, and for how long it was before.
    stopped_at_us: int | None = None
    stood_us: int = 0
    is_warned: bool = False
    # Its host never stood still.
    is_kept_in_time: bool = True
    # Its host or machine stood still, so that nobody could end it when its lease was over.
    may_outlive_its_lease: bool = False
    is_alive: bool = True
    # Its host was killed, and nobody has looked after it yet.
    is_orphan: bool = False
    exit_code: int | None = None
    signal: int | None = None
    # Its end is in a host's journal, and no reboot took it away.
    end_is_kept: bool = False

    def ran_us(self, now_us: int) -> int:
        """How long it ran, in which it was not stopped."""
        until_us = now_us if self.stopped_at_us is None else self.stopped_at_us
        return until_us - self.start_us - self.stood_us


@dataclass(slots=True, frozen=True)
class TaskEnd:
    """How a task ended, and in which record."""

    lsn: int
    state: State
    attempt: int
