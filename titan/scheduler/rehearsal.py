"""A pass up to one place in the queue that places nothing: who is in the way of a task there.

What a pass would keep for whom can't be seen in the state alone: the reservation of the head is
made anew in each. A rehearsal makes it as the pass does. Where something before that place could
start at once the next pass may decide otherwise; then it is only about to be known.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import islice
from typing import Final

from titan.scheduler.backfill import Closed, Guarded
from titan.scheduler.filters import Claims, Kind, Reason
from titan.scheduler.passes import Pass
from titan.scheduler.policies import Choice
from titan.scheduler.rules import Rules
from titan.scheduler.scheduler import Scheduler
from titan.state.job import Job
from titan.state.job_class import JobClass

# So many jobs are asked how many tasks they have; of further ones each is taken for one task.
COUNTED_JOBS_MAX: Final = 50_000


class Rehearsal(Pass):
    """Stops before a job, as one of a class."""

    def __init__(
        self, scheduler: Scheduler, rules: Rules, now_us: int, job_class: JobClass, job_id: int
    ) -> None:
        """The scheduler has to be fresh. Costs by the classes that go before."""
        super().__init__(scheduler, rules, now_us)
        self._queue = scheduler.queue
        self._job_class = job_class
        self._job_id = job_id
        self.head: Job | None = None
        """The first before it that waits for room, where there is one."""
        if len(self._fleet):
            self._walk()

    def find(self, job: Job | None) -> Choice | None:
        """Where a task of the job would start now, and by which rule."""
        if not len(self._fleet):
            return None
        place = self._line.place_for(self._job_class, self._job_id)
        excluded = self._excluded(place, self._job_class, self._job_id)
        return self._search.find(self._job_class, self._rules.policy, excluded, job)

    def claims(self) -> Claims:
        """The workers where it may not start, since it would be in somebody's way."""
        place = self._line.place_for(self._job_class, self._job_id)
        excluded = self._excluded(place, self._job_class, self._job_id)
        return {number: self._claim(number, self._guards[number]) for number in excluded}

    def count_tasks_ahead(self) -> int:
        """The tasks that may start and go before it; beyond COUNTED_JOBS_MAX jobs at least."""
        own = self._line.place_for(self._job_class, self._job_id)
        live = self._state.jobs.live
        left, tasks = COUNTED_JOBS_MAX, 0
        for each in self._queue.places():
            job_class = self._state.classes[each.class_id]
            place = self._line.place_of(job_class)
            if place[:3] > own[:3]:
                continue
            jobs = job_class.pending_jobs
            count = len(jobs) if place[:3] < own[:3] else jobs.bisect_left(self._job_id)
            counted = min(count, left)
            tasks += sum(live[job_id].pending.count for job_id in islice(jobs, counted))
            tasks += count - counted
            left -= counted
        return tasks

    def _walk(self) -> None:
        line = self._line
        _exhaust(self._take_up_holds())
        self._find_standing()
        while (taken := line.take()) is not None:
            place, job_class = taken
            if line.place_for(self._job_class, self._job_id) <= place:
                break
            _exhaust(self._resume_before(place))
            if self._is_over_limit(job_class):
                continue
            job = self._state.jobs.live[place.job_id]
            excluded = self._excluded(place, job_class, job.job_id)
            if self._search.find(job_class, self._rules.policy, excluded, job) is None:
                self._note_waiting(job_class, job)
            if self.head is not None and self._rules.order == "fcfs":
                break
        _exhaust(self._resume_before(line.place_for(self._job_class, self._job_id)))

    def _note_waiting(self, job_class: JobClass, job: Job) -> None:
        """A class before it finds no room: it is the head, if it is the first such one."""
        if self.head is not None or not self._search.could_run(job_class):
            return
        self.head = job
        if self._rules.order in ("easy", "easy-sjbf"):
            _exhaust(self._reserve(self._line.place_of(job_class), job_class, job))
        if self._rules.order == "easy-sjbf":
            self._line.put_shortest_first()

    def _claim(self, number: int, guarded: Guarded) -> Reason:
        if guarded.job_id:
            hold = self._state.holds.get(number)
            job_id = hold.job_id if hold is not None else guarded.place.job_id
            return Reason(Kind.KEPT, str(job_id))
        kind = Kind.STANDS_STILL if isinstance(guarded.guard, Closed) else Kind.DELAYS
        return Reason(kind, str(guarded.place.job_id))


def _exhaust(proposals: Iterable[object]) -> None:
    """Lets it note what it notes; nothing that it proposes is done."""
    deque(proposals, maxlen=0)
