"""What is kept from pass to pass to make the next one cheap."""

from __future__ import annotations

from collections.abc import Container

from titan.scheduler.class_queue import ClassQueue
from titan.scheduler.fleet import Fleet
from titan.scheduler.reservation import Starts
from titan.scheduler.search import Search
from titan.state.cluster import ClusterState


class Scheduler:
    """What is kept from pass to pass to make the next one cheap; all of it follows from the state.

    `called_in` are the workers that can be given tasks, by number.
    """

    def __init__(self, state: ClusterState, called_in: Container[int]) -> None:
        self.state = state
        self._called_in = called_in
        self.fleet = Fleet(state, called_in)
        self.queue = ClassQueue(state)
        self.search = Search(state, self.fleet)
        self.starts = Starts(state, self.fleet)

    def refresh(self) -> None:
        """Takes up all that changed since the last pass."""
        self.fleet.refresh()
        self.queue.refresh()

    def has_called_in(self, number: int) -> bool:
        """Whether that worker can be given tasks, as far as its calls tell."""
        return number in self._called_in
