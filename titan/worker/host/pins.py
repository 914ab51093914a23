"""Which task has which cpus for itself. Pure but for the question which ones there are."""

from __future__ import annotations

import os

from titan.model import AttemptKey


class Pins:
    """Hands out whole cpus; those that are not pinned run everywhere, on pinned ones, too."""

    def __init__(self, cpus: frozenset[int] | None = None) -> None:
        """`cpus`: those there are; None: those that this process may use."""
        self._tasks_on = dict.fromkeys(sorted(cpus or os.sched_getaffinity(0)), 0)
        self._cpus: dict[AttemptKey, tuple[int, ...]] = {}

    def take(self, key: AttemptKey, count: int) -> None:
        """It gets those with the fewest tasks on them, the lowest first; at most all there are.

        A worker may declare more cpus than it has: then they are shared evenly.
        """
        by_load = sorted(self._tasks_on, key=lambda cpu: (self._tasks_on[cpu], cpu))
        taken = tuple(by_load[:count])
        for cpu in taken:
            self._tasks_on[cpu] += 1
        self._cpus[key] = taken

    def find(self, key: AttemptKey) -> tuple[int, ...]:
        """Those that it has."""
        return self._cpus.get(key, ())

    def give_back(self, key: AttemptKey) -> None:
        """It has ended, or never had any."""
        for cpu in self._cpus.pop(key, ()):
            self._tasks_on[cpu] -= 1
