"""The lease under which attempts run that are to run at most once. Pure.

The manager ends such an attempt once it has not heard its worker for the heartbeat timeout, and
nothing of it may run then, or begin later. So the agent tells when the manager has answered it,
and the host gives up what it has once that was too long ago, whoever else is alive. Times are on
CLOCK_BOOTTIME, which is never set and goes on while the machine sleeps (clock_gettime(2)). After
Gray and Cheriton, "Leases: an efficient fault-tolerant mechanism", SOSP 1989.
"""

from __future__ import annotations

from typing import Final

from titan.model import AttemptKey, Reason
from titan.worker.host.verdict import Doom

OVER: Final = Doom(
    Reason.WORKER_LOST,
    "the manager did not answer its worker for too long, and what runs at most once must not run "
    "on then",
)


class Lease:
    """Until when it lasts, and the attempts under it, which wait or run."""

    def __init__(self) -> None:
        self.is_valid = False
        """As of the last look at the clock."""
        # In the order in which they came; the values say nothing.
        self.attempts: dict[AttemptKey, None] = {}
        self._until_us = 0

    @property
    def due_us(self) -> int | None:
        """When something has to be given up, None while nothing has."""
        return self._until_us if self.is_valid and self.attempts else None

    def renew(self, until_us: int, now_us: int) -> None:
        """It lasts until then, or longer. What was under it when it ran out is given up before."""
        self._until_us = max(self._until_us, until_us)
        self.is_valid = now_us < self._until_us

    def runs_out(self, now_us: int) -> bool:
        """Whether it was valid at the last look and is not now."""
        if not self.is_valid or now_us < self._until_us:
            return False
        self.is_valid = False
        return True
