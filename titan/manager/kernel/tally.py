"""Counts what happens, for metrics: how many of what, how long tasks waited and ran.

Only what happens from now on: what is replayed at a start was counted by the manager to which it
happened. What is, such as how many tasks wait, the state knows itself. Costs by events, never by
jobs: a microsecond for a task, of the thirty that the manager takes for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import Final

from titan import events as ev
from titan.metrics.histogram import LONG_SECONDS, Histogram
from titan.model import Reason, State
from titan.state.attempts import Attempt
from titan.state.cluster import ClusterState
from titan.state.job import Job

_COMPLETED_AT: Final = State.COMPLETED - 1
_STATE_AND_REASON: Final = itemgetter(
    ev.AttemptEnded._fields.index("state"), ev.AttemptEnded._fields.index("reason")
)


class Tally:
    """Counts what happens to a state. Each number rises and never falls."""

    def __init__(self, state: ClusterState) -> None:
        self._state = state
        # Those that had ended already; and what was forgotten since.
        self._tasks_before = tuple(state.task_counts)
        self._jobs_before = tuple(state.job_counts)
        self._tasks_forgotten = [0] * len(state.task_counts)
        self._jobs_forgotten = [0] * len(state.job_counts)
        self._events: Counter[type[ev.Event]] = Counter()
        self._ends: Counter[tuple[int, int]] = Counter()
        # Of those that started since the last record.
        self._waits_us: list[int] = []
        self.tasks_submitted = 0
        self.retries = 0
        self.started = 0
        """Attempts."""
        self.wait_seconds = Histogram(LONG_SECONDS, per_unit=1_000_000)
        """From its job's submit to the first start of a task."""
        self.run_seconds = Histogram(LONG_SECONDS, per_unit=1_000_000)
        """From the start of an attempt to its end."""

    def count_of(self, kind: type[ev.Event]) -> int:
        """How many such events have happened."""
        return self._events[kind]

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
        for (state, reason), count in self._ends.items():
            yield State(state), Reason(reason), count
        if recalled := self._events[ev.Recalled]:
            yield State.RECALLED, Reason.NONE, recalled

    def note_start(self, job: Job, attempt: Attempt, start_us: int) -> None:
        """An attempt under way has started, and its job does not know it yet."""
        self.started += 1
        number = attempt.attempt
        # Those before it may have been recalled.
        if number == 1 or not (job.ended and job.ended.has_started_before(attempt.index, number)):
            self._waits_us.append(start_us - job.submit_us)

    def note_return(self, job: Job, index: int, number: int, start_us: int) -> None:
        """One that was given up with its worker is heard of, and its job does not know it yet.

        That it has started nobody may have known.
        """
        of_task = job.ended.of_index(index) if job.ended and start_us else []
        if any(each.attempt == number and not each.start_us for each in of_task):
            self.started += 1
            if not any(each.start_us for each in of_task):
                self._waits_us.append(start_us - job.submit_us)

    def note_forgotten(self, tasks_before: Sequence[int], jobs_before: Sequence[int]) -> None:
        """Jobs were forgotten, before which the state had these counts."""
        _add_fallen(self._tasks_forgotten, tasks_before, self._state.task_counts)
        _add_fallen(self._jobs_forgotten, jobs_before, self._state.job_counts)

    def note_record(self, events: Sequence[ev.Event]) -> None:
        """These have happened."""
        # In a few passes by C over a record, which has thousands of events when time is short.
        kinds = Counter(map(type, events))
        self._events.update(kinds)
        if kinds[ev.AttemptEnded]:
            ends = [each for each in events if type(each) is ev.AttemptEnded]
            self._ends.update(map(_STATE_AND_REASON, ends))
            self.run_seconds.gather([each.end_us - each.start_us for each in ends if each.start_us])
            self.retries += sum([each.charge == ev.CHARGE_RETRY for each in ends])
        if self._waits_us:
            self.wait_seconds.gather(self._waits_us)
            self._waits_us.clear()
        if kinds[ev.JobSubmitted]:
            arrays = [each.array for each in events if type(each) is ev.JobSubmitted]
            plain = arrays.count(())
            self.tasks_submitted += plain
            if plain < len(arrays):
                self.tasks_submitted += sum(len(span.indexes) for array in arrays for span in array)


def _ended(
    now: Sequence[int], before: Sequence[int], forgotten: Sequence[int]
) -> tuple[int, int, int]:
    counts = zip(now, before, forgotten, strict=True)
    completed, failed, cancelled = [now + gone - before for now, before, gone in counts][
        _COMPLETED_AT:
    ]
    return completed, failed, cancelled


def _add_fallen(sums: list[int], before: Sequence[int], now: Sequence[int]) -> None:
    for place, (old, new) in enumerate(zip(before, now, strict=True)):
        sums[place] += old - new
