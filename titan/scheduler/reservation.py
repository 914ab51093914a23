"""When the head of the queue starts at the latest on each worker, kept from pass to pass.

A pass looks only at the workers that changed since the one before, while the head is the same.
"""

from __future__ import annotations

from collections.abc import Container
from typing import NamedTuple

from sortedcontainers import SortedList

from titan.scheduler.backfill import NEVER, earliest_start_us
from titan.scheduler.constraints import could_take
from titan.scheduler.fleet import Fleet
from titan.state.cluster import ClusterState
from titan.state.job_class import JobClass
from titan.state.worker import Worker


class Reservation(NamedTuple):
    """The head starts there then, at the latest."""

    worker: Worker
    start_us: int


class Starts:
    """The earliest starts of one class at a time."""

    def __init__(self, state: ClusterState, fleet: Fleet) -> None:
        self._state = state
        self._fleet = fleet
        self._class_id = 0
        # By worker, those that are known; and (start, number).
        self._starts: dict[int, int] = {}
        self._sorted: SortedList[tuple[int, int]] = SortedList()

    def earliest(
        self, job_class: JobClass, now_us: int, kept: Container[int]
    ) -> Reservation | None:
        """Of all workers that are not `kept` for others; the lowest number; None: never."""
        changed = self._fleet.take_limited_changes()
        if job_class.class_id != self._class_id or job_class.affinities:
            self._class_id = job_class.class_id
            self._starts.clear()
            self._sorted.clear()
            changed = self._fleet.limited
        for number in changed:
            self._note(number, job_class, now_us)
        best: tuple[int, int] | None = None
        for start_us, number in self._sorted:
            if best is not None and start_us > max(best[0], now_us):
                break
            if number not in kept:
                # What should have ended ends now, wherever it is.
                found = (max(start_us, now_us), number)
                best = found if best is None else min(best, found)
        return Reservation(self._state.get_worker(best[1]), best[0]) if best is not None else None

    def _note(self, number: int, job_class: JobClass, now_us: int) -> None:
        before = self._starts.pop(number, None)
        if before is not None:
            self._sorted.remove((before, number))
        if number not in self._fleet.limited:
            return
        worker = self._state.get_worker(number)
        if not could_take(worker, job_class, self._state.live_jobs):
            return
        start_us = earliest_start_us(worker, job_class, now_us)
        if start_us < NEVER:
            self._starts[number] = start_us
            self._sorted.add((start_us, number))
