"""Counts what happens, for metrics: how many of what, how long tasks waited and ran.

Only what happens from now on: what is replayed at a start was counted by the manager to which it
happened. What is, such as how many tasks wait, the state knows itself. Costs by events, never by
jobs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from titan import events as ev
from titan.metrics.histogram import LONG_SECONDS, Histogram
from titan.model import Reason, State
from titan.state.cluster import ClusterState
from titan.state.job import Job

_COMPLETED_AT: Final = State.COMPLETED - 1


class Tally:
    """Applies events to a state, and counts them. Each field rises and never falls."""

    def __init__(self, state: ClusterState) -> None:
        self._state = state
        # Those that had ended already; and what was forgotten since.
        self._tasks_before = tuple(state.task_counts)
        self._jobs_before = tuple(state.job_counts)
        self._tasks_forgotten = [0] * len(state.task_counts)
        self._jobs_forgotten = [0] * len(state.job_counts)
        self.jobs_submitted = 0
        self.tasks_submitted = 0
        self.assigned_slot = 0
        self.assigned_ahead = 0
        self.started = 0
        # By state and reason: tables by number, as in `state/job_events.py`.
        self._attempts_ended = [[0] * (max(Reason) + 1) for _ in range(max(State) + 1)]
        self.retries = 0
        self.recalls_requested = 0
        self.preemptions = 0
        self.adoptions = 0
        self.registrations = 0
        self.workers_lost = 0
        self.wait_seconds = Histogram(LONG_SECONDS)
        """From its job's submit to the start of a task's first attempt."""
        self.run_seconds = Histogram(LONG_SECONDS)
        """From the start of an attempt to its end."""

    @property
    def tasks_ended(self) -> tuple[int, int, int]:
        """How many are COMPLETED, FAILED and CANCELLED since the start."""
        return _ended(self._state.task_counts, self._tasks_before, self._tasks_forgotten)

    @property
    def jobs_ended(self) -> tuple[int, int, int]:
        """The same of jobs."""
        return _ended(self._state.job_counts, self._jobs_before, self._jobs_forgotten)

    @property
    def attempts_ended(self) -> Iterator[tuple[State, Reason, int]]:
        """How many ended so; where there was none, nothing."""
        for state, counts in enumerate(self._attempts_ended):
            for reason, count in enumerate(counts):
                if count:
                    yield State(state), Reason(reason), count

    def apply(self, event: ev.Event) -> None:
        """Lets it happen. Raises IllegalEvent as the state does."""
        count = _COUNTERS.get(type(event))
        if count is None:
            self._state.apply(event)
        else:
            count(self, event)

    def apply_submits(self, events: Sequence[ev.JobSubmitted]) -> None:
        """Lets them happen. Raises IllegalEvent as the state does."""
        counts = self._state.task_counts
        before = counts[0]
        self._state.apply_submits(events)
        self.jobs_submitted += len(events)
        self.tasks_submitted += counts[0] - before

    def _submitted(self, event: ev.JobSubmitted) -> None:
        self.apply_submits((event,))

    def _assigned(self, event: ev.TaskAssigned) -> None:
        self._state.apply(event)
        if event.ahead:
            self.assigned_ahead += 1
        else:
            self.assigned_slot += 1

    def _task_started(self, event: ev.TaskStarted) -> None:
        self._state.apply(event)
        self._note_start(self._state.live_jobs[event.job_id], event.attempt, event.start_us)

    def _attempt_ended(self, event: ev.AttemptEnded) -> None:
        # It may be the job's end, too, after which it is not at hand any more.
        job = self._state.live_jobs.get(event.job_id)
        tells_start = event.start_us > 0 and job is not None and _is_unstarted(job, event)
        self._state.apply(event)
        if tells_start and job is not None:
            self._note_start(job, event.attempt, event.start_us)
        self._attempts_ended[event.state][event.reason] += 1
        if event.start_us:
            # The clock of a worker may step back meanwhile.
            self.run_seconds.observe(max(event.end_us - event.start_us, 0) / 1e6)
        if event.charge == ev.CHARGE_RETRY:
            self.retries += 1

    def _recalled(self, event: ev.Recalled) -> None:
        self._state.apply(event)
        self._attempts_ended[State.RECALLED][Reason.NONE] += 1

    def _recall_requested(self, event: ev.RecallRequested) -> None:
        self._state.apply(event)
        self.recalls_requested += 1

    def _preempted(self, event: ev.Preempted) -> None:
        self._state.apply(event)
        self.preemptions += 1

    def _adopted(self, event: ev.Adopted) -> None:
        job = self._state.live_jobs.get(event.job_id)
        tells_start = job is not None and _is_unstarted(job, event)
        self._state.apply(event)
        self.adoptions += 1
        if tells_start and job is not None:
            self._note_start(job, event.attempt, event.start_us)

    def _registered(self, event: ev.WorkerRegistered) -> None:
        self._state.apply(event)
        self.registrations += 1

    def _worker_lost(self, event: ev.WorkerLost) -> None:
        self._state.apply(event)
        self.workers_lost += 1

    def _forgotten(self, event: ev.JobsForgotten) -> None:
        state = self._state
        tasks, jobs = tuple(state.task_counts), tuple(state.job_counts)
        state.apply(event)
        _add_fallen(self._tasks_forgotten, tasks, state.task_counts)
        _add_fallen(self._jobs_forgotten, jobs, state.job_counts)

    def _note_start(self, job: Job, number: int, start_us: int) -> None:
        self.started += 1
        if number == 1:
            self.wait_seconds.observe(max(start_us - job.submit_us, 0) / 1e6)


def _is_unstarted(job: Job, event: ev.AttemptEnded | ev.Adopted) -> bool:
    """Whether nobody knew yet that the attempt has started: one that was given up may have."""
    attempt = job.active.get(event.index)
    if attempt is not None and attempt.attempt == event.attempt:
        return attempt.state is State.SCHEDULED
    lost = job.ended.find(event.index, event.attempt) if job.ended else None
    return lost is not None and not lost.start_us


def _ended(
    now: Sequence[int], before: Sequence[int], forgotten: Sequence[int]
) -> tuple[int, int, int]:
    counts = zip(now, before, forgotten, strict=True)
    completed, failed, cancelled = [
        now + forgotten - before for now, before, forgotten in counts
    ][_COMPLETED_AT:]  # fmt: skip
    return completed, failed, cancelled


def _add_fallen(sums: list[int], before: Sequence[int], now: Sequence[int]) -> None:
    for place, (old, new) in enumerate(zip(before, now, strict=True)):
        sums[place] += old - new


_COUNTERS: Final[dict[type[Any], Callable[[Tally, Any], None]]] = {
    ev.JobSubmitted: Tally._submitted,
    ev.TaskAssigned: Tally._assigned,
    ev.TaskStarted: Tally._task_started,
    ev.AttemptEnded: Tally._attempt_ended,
    ev.RecallRequested: Tally._recall_requested,
    ev.Recalled: Tally._recalled,
    ev.Preempted: Tally._preempted,
    ev.Adopted: Tally._adopted,
    ev.WorkerRegistered: Tally._registered,
    ev.WorkerLost: Tally._worker_lost,
    ev.JobsForgotten: Tally._forgotten,
}
