"""The states of a job's tasks, a byte for each, by their positions in its array.

What it costs follows from what is asked for and from how many tasks did not simply complete: of
those that did, a million records are looked through in some milliseconds.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Generator, Iterable
from typing import Final

from titan.errors import InvalidJob
from titan.model import IndexRange, State
from titan.queries.requests import selector_of
from titan.queries.selection import select_job
from titan.rpc.v1 import manager_pb2, types_pb2
from titan.state.attempts import AttemptLog
from titan.state.cluster import ClusterState
from titan.state.index_set import IndexSet
from titan.state.job import Job, task_end

TASKS_MAX: Final = 1_000_000
# So many are looked at in a step, some milliseconds.
STEP_RECORDS: Final = 50_000
STEP_RANGES: Final = 10_000
# Until it is known how: in place of a state.
_ENDED: Final = 0
_PLAIN: Final = (IndexRange(0, 1),)


def list_tasks(
    state: ClusterState, request: manager_pb2.ListTasksRequest
) -> Generator[None, None, manager_pb2.ListTasksResponse]:
    """The states of a job's tasks, in steps. Raises NotFound, InvalidJob at the first one."""
    selector = selector_of(request.job)
    if selector.indexes:
        raise InvalidJob("the states of tasks are asked for by position: name the job alone")
    if request.first < 0 or request.count < 0:
        raise InvalidJob("how many tasks are left out, and how many are told, is 0 or more")
    job = select_job(state, selector)
    lsn = state.lsn
    states = yield from task_states(job, request.first, request.count or TASKS_MAX)
    return manager_pb2.ListTasksResponse(
        job_id=job.job_id,
        array=[types_pb2.IndexRange(start=a, stop=b, step=c) for a, b, c in job.array],
        total=job.tasks_total,
        first=request.first,
        states=states,
        lsn=lsn,
    )


def task_states(job: Job, first: int, count: int) -> Generator[None, None, bytes]:
    """The states of at most TASKS_MAX tasks behind the first so many, as bytes; in steps.

    All of them as they are at the first step, though between steps others may take turns.
    """
    chosen = _Chosen(job.array or _PLAIN, first, min(count, TASKS_MAX))
    states = bytearray(chosen.count)
    waits, ended = job.waits, job.ended
    # What may change meanwhile is taken at once: a task that went from one to another while they
    # are looked through would be in none of them, and so told to have completed.
    marked = [
        (chosen.cut(tasks), state)
        for tasks, state in (
            (job.pending, State.PENDING),
            (waits.tasks if waits is not None else None, State.PENDING),
            (job.cancelled, State.CANCELLED),
        )
        if tasks is not None
    ]
    active = [(index, attempt.state) for index, attempt in job.active.items()]
    records = _records_of_interest(job)
    for parts, state in marked:
        yield from chosen.mark(states, parts, state)
    for index, state in active:
        position = chosen.find(index)
        if position is not None:
            states[position] = state
    yield
    if ended is not None and records:
        ends = yield from _other_ends(ended, records, chosen)
        for position, end in ends.items():
            if states[position] == _ENDED:
                states[position] = end
    return bytes(states.replace(b"\0", bytes((State.COMPLETED,))))


def _records_of_interest(job: Job) -> int:
    """How many records of ended attempts are to be looked through: none where all completed."""
    _, _, _, _, failed, cancelled = job.counts
    waiting = len(job.cancelled) if job.cancelled is not None else 0
    return len(job.ended) if job.ended is not None and failed + cancelled != waiting else 0


def _other_ends(
    ended: AttemptLog, total: int, chosen: _Chosen
) -> Generator[None, None, dict[int, State]]:
    """By position how those ended that did not complete at once."""
    ends: dict[int, State] = {}
    for start in range(0, total, STEP_RECORDS):
        for index, state in ended.outcomes(start, min(start + STEP_RECORDS, total)):
            position = chosen.find(index)
            if position is not None:
                ends[position] = task_end(state)
        yield
    return ends


class _Chosen:
    """Tasks of a job, by their positions among those that are asked for."""

    def __init__(self, array: Iterable[IndexRange], first: int, count: int) -> None:
        self._parts: list[range] = []
        # Where each part begins.
        self._positions: list[int] = []
        self.count = 0
        for whole in array:
            part = whole.indexes[min(first, len(whole.indexes)) :][: count - self.count]
            first = max(first - len(whole.indexes), 0)
            if part:
                self._parts.append(part)
                self._positions.append(self.count)
                self.count += len(part)
        self._starts = [part.start for part in self._parts]

    def find(self, index: int) -> int | None:
        """The position of a task, None for one that is not asked for."""
        at = bisect_right(self._starts, index) - 1
        if at < 0 or index not in self._parts[at]:
            return None
        part = self._parts[at]
        return self._positions[at] + (index - part.start) // part.step

    def cut(self, tasks: IndexSet) -> list[list[range]]:
        """For each part the ranges of the set that may have something of it, as they are now."""
        return [_within(tasks.ranges, part) for part in self._parts]

    def mark(
        self, states: bytearray, ranges_of_parts: list[list[range]], state: State
    ) -> Generator[None, None, None]:
        """Gives those of the tasks that are asked for this state, in steps."""
        for part, position, ranges in zip(
            self._parts, self._positions, ranges_of_parts, strict=True
        ):
            for start in range(0, len(ranges), STEP_RANGES):
                for each in ranges[start : start + STEP_RANGES]:
                    _mark(states, position, part, each, state)
                yield


def _within(ranges: list[range], part: range) -> list[range]:
    """Those of the rising ranges that may have something of the part."""
    low = max(bisect_right(ranges, part.start, key=_start) - 1, 0)
    return ranges[low : bisect_right(ranges, part[-1], key=_start)]


def _start(each: range) -> int:
    return each.start


def _mark(states: bytearray, position: int, part: range, tasks: range, state: State) -> None:
    """Those tasks that are in the part, which begins at that position."""
    if tasks.step % part.step == 0 and (tasks.start - part.start) % part.step == 0:
        step = tasks.step // part.step
        low = (tasks.start - part.start) // part.step
        # What lies before the part.
        if low < 0:
            low += -(low // step) * step
        high = min((tasks[-1] - part.start) // part.step + 1, len(part))
        count = len(range(low, high, step))
        if count:
            states[position + low : position + high : step] = bytes((state,)) * count
        return
    for index in tasks:
        if index in part:
            states[position + (index - part.start) // part.step] = state
