"""Workers that come and go: each time, what they ran has to run again, so they get less of it.

One that comes back again and again (lost and heard again, or its task host started anew) rests
before it is given new tasks, longer with each time. What it still runs is not touched. It is
UNHEALTHY meanwhile, with a fault that says why. Kubernetes restarts what crashes in a loop with
such a delay, too: https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#restart-policy.
"""

from __future__ import annotations

from collections import deque
from typing import Final

# All in heartbeat timeouts: from the fourth return within five minutes on it rests for half a
# minute, and for a minute from the next one on, with the default of 30 s.
WITHIN_TIMEOUTS: Final = 10
RETURNS_FREE: Final = 3
REST_TIMEOUTS_MAX: Final = 2


class Returns:
    """When workers came back lately, and which of them rest.

    Times are those in which the manager's loop turned, in microseconds. A manager that is started
    anew has not seen them come and go.
    """

    def __init__(self, timeout_us: int) -> None:
        """`timeout_us`: after how much silence a worker is lost."""
        self._timeout_us = timeout_us
        # By the worker's number.
        self._times_us: dict[int, deque[int]] = {}
        self._rest_until_us: dict[int, int] = {}

    def note(self, worker: int, turned_us: int) -> None:
        """It comes back now."""
        times = self._times_us.setdefault(worker, deque(maxlen=RETURNS_FREE + REST_TIMEOUTS_MAX))
        times.append(turned_us)
        while turned_us - times[0] > WITHIN_TIMEOUTS * self._timeout_us:
            times.popleft()
        rest_timeouts = len(times) - RETURNS_FREE
        if rest_timeouts > 0:
            self._rest_until_us[worker] = turned_us + rest_timeouts * self._timeout_us

    def fault(self, worker: int, turned_us: int) -> str:
        """Why it gets no new tasks for a while; empty: it may have some."""
        if worker not in self._rest_until_us:
            return ""
        if turned_us >= self._rest_until_us[worker]:
            del self._rest_until_us[worker]
            return ""
        within_seconds = WITHIN_TIMEOUTS * self._timeout_us / 1e6
        return (
            f"came back {len(self._times_us[worker])} times within {within_seconds:g} s, lost or "
            "started anew: it gets no new tasks for a while"
        )
