"""The classes with tasks that may start, in the order of the queue: priority, then submission.

Kept sorted over passes: `refresh` takes up the classes that changed and costs by these. A class
stands where its first job does.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from sortedcontainers import SortedList

from titan.state.cluster import ClusterState
from titan.state.job_class import JobClass

# Behind every time limit.
NO_LIMIT: Final = 1 << 62


class Place(NamedTuple):
    """Where a class stands in the queue: the lowest goes first."""

    negated_priority: int
    limit_ms: int
    """Its time limit, where the shortest go first; else 0."""
    user_cpus_milli: int
    """What its user has already; 0 where users are not weighed."""
    job_id: int
    class_id: int


class ClassQueue:
    """The classes of one state."""

    def __init__(self, state: ClusterState) -> None:
        self._state = state
        self._places: dict[int, Place] = {}
        self._sorted: SortedList[Place] = SortedList()
        for class_id in state.classes:
            state.touched_classes[class_id] = None

    def __len__(self) -> int:
        return len(self._sorted)

    def refresh(self) -> None:
        """Takes up what changed."""
        touched = self._state.touched_classes
        for class_id in touched:
            job_class = self._state.classes.get(class_id)
            place = _place_of(job_class) if job_class and job_class.pending_jobs else None
            before = self._places.get(class_id)
            if place == before:
                continue
            if before is not None:
                self._sorted.remove(before)
                del self._places[class_id]
            if place is not None:
                self._sorted.add(place)
                self._places[class_id] = place
        touched.clear()

    def places(self) -> Iterator[Place]:
        """In order; not to be used any more once something was refreshed."""
        return iter(self._sorted)

    def before(self, place: Place) -> Iterator[Place]:
        """Those that stand before that place."""
        found: Iterator[Place] = self._sorted.irange(None, place, (True, False))
        return found

    def firsts(self, priorities_max: int) -> list[Place]:
        """The first place of each priority, of so many at most: O(log n) for each of them."""
        found: list[Place] = []
        place = next(iter(self._sorted), None)
        while place is not None and len(found) < priorities_max:
            found.append(place)
            behind = Place(place.negated_priority + 1, -1, 0, 0, 0)
            place = next(self._sorted.irange(behind), None)
        return found


class Line:
    """The queue during one pass: classes are taken from it, and put back further behind."""

    def __init__(self, state: ClusterState, queue: ClassQueue, *, fair_share: bool) -> None:
        self._state = state
        self._fair_share = fair_share
        self._shortest_first = False
        self._rest = iter(self._weighed(queue)) if fair_share else queue.places()
        self._next = next(self._rest, None)
        # Those that were put back.
        self._again: list[Place] = []

    def take(
        self, passes_over: Callable[[JobClass], bool] | None = None
    ) -> tuple[Place, JobClass] | None:
        """The class that goes next and is not to be passed over, None when there is none."""
        classes, touched = self._state.classes, self._state.touched_classes
        while True:
            if self._again and (self._next is None or self._again[0] < self._next):
                place = heapq.heappop(self._again)
            elif self._next is not None:
                place = self._next
                self._next = next(self._rest, None)
            else:
                return None
            job_class = classes.get(place[-1])
            if job_class is None or not job_class.pending_jobs:
                continue
            if passes_over is not None and passes_over(job_class):
                continue
            if place[-1] not in touched and not self._fair_share:
                return place, job_class
            now = self.place_of(job_class)
            if now == place:
                return place, job_class
            # It moved while others were placed; backwards only.
            heapq.heappush(self._again, now)

    def put_back(self, job_class: JobClass) -> None:
        """It goes on where its next job stands."""
        heapq.heappush(self._again, self.place_of(job_class))

    def place_of(self, job_class: JobClass) -> Place:
        """Where the class stands now."""
        return self.place_for(job_class, job_class.pending_jobs.peekitem(0)[0])

    def place_for(self, job_class: JobClass, job_id: int) -> Place:
        """Where a job of the class stands, or would if it came."""
        place = Place(-job_class.priority, 0, 0, job_id, job_class.class_id)
        if self._fair_share:
            cpus = self._state.usage.user_cpus_milli.get(job_class.user, 0)
            place = place._replace(user_cpus_milli=cpus)
        if self._shortest_first:
            place = place._replace(limit_ms=job_class.limit_ms or NO_LIMIT)
        return place

    def is_next(self, place: Place) -> bool:
        """Whether nobody goes before that place."""
        return not (
            (self._again and self._again[0] < place)
            or (self._next is not None and self._next < place)
        )

    def put_shortest_first(self) -> None:
        """From now on the shortest time limits go first within a priority."""
        rest = []
        while (taken := self.take()) is not None:
            rest.append(taken[1])
        self._shortest_first = True
        self._again = [self.place_of(job_class) for job_class in rest]
        heapq.heapify(self._again)

    def _weighed(self, queue: ClassQueue) -> list[Place]:
        cpus = self._state.usage.user_cpus_milli
        classes = self._state.classes
        return sorted(
            place._replace(user_cpus_milli=cpus.get(classes[place.class_id].user, 0))
            for place in queue.places()
        )


def _place_of(job_class: JobClass) -> Place:
    return Place(
        -job_class.priority, 0, 0, job_class.pending_jobs.peekitem(0)[0], job_class.class_id
    )
