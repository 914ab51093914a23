"""The states of a job's tasks, a byte for each, by their positions in its array.

What it costs follows from what is asked for and from how many tasks did not simply complete: of
those that did, a million records are looked through in some milliseconds.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Generator, Iterable, Iterator
from itertools import islice
from typing import Final

from titan.errors import InvalidJob
from titan.model import IndexRange, State
from titan.queries.requests import selector_of
from titan.queries.selection import select_job
from titan.rpc.v1 import manager_pb2, types_pb2
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
    states = yield from task_states(job, request.first, request.count or TASKS_MAX)
    return manager_pb2.ListTasksResponse(
        job_id=job.job_id,
        array=[types_pb2.IndexRange(start=a, stop=b, step=c) for a, b, c in job.array],
        total=job.tasks_total,
        first=request.first,
        states=states,
        lsn=state.lsn,
    )


def task_states(job: Job, first: int, count: int) -> Generator[None, None, bytes]:
    """The states of at most TASKS_MAX tasks behind the first so many, as bytes; in steps.

    Between them others may take turns. Of a job that goes on meanwhile some tasks may be told of
    as they were, and some as they are.
    """
    chosen = _Chosen(job.array or _PLAIN, first, min(count, TASKS_MAX))
    states = bytearray(chosen.count)
    waits = job.waits
    for tasks, state in (
        (job.pending, State.PENDING),
        (waits.tasks if waits is not None else None, State.PENDING),
        (job.cancelled, State.CANCELLED),
    ):
        if tasks is not None:
            yield from chosen.mark(states, tasks, state)
    for index, attempt in job.active.items():
        position = chosen.find(index)
        if position is not None:
            states[position] = attempt.state
    yield
    ends = yield from _other_ends(job, chosen)
    for position, end in ends.items():
        if states[position] == _ENDED:
            states[position] = end
    return bytes(states.replace(b"\0", bytes((State.COMPLETED,))))


def _other_ends(job: Job, chosen: _Chosen) -> Generator[None, None, dict[int, State]]:
    """By position how those ended that did not complete at once."""
    ends: dict[int, State] = {}
    _, _, _, _, failed, cancelled = job.counts
    waiting = len(job.cancelled) if job.cancelled is not None else 0
    if job.ended is None or failed + cancelled == waiting:
        return ends
    total = len(job.ended)
    for start in range(0, total, STEP_RECORDS):
        for index, state in job.ended.outcomes(start, min(start + STEP_RECORDS, total)):
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

    def mark(self, states: bytearray, tasks: IndexSet, state: State) -> Generator[None, None, None]:
        """Gives those of the tasks that are asked for this state, in steps."""
        for part, position in zip(self._parts, self._positions, strict=True):
            ranges = _within(tasks, part)
            while step := list(islice(ranges, STEP_RANGES)):
                for each in step:
                    _mark(states, position, part, each, state)
                yield


def _within(tasks: IndexSet, part: range) -> Iterator[range]:
    """The ranges of the set that may have something of it."""
    ranges = tasks.ranges
    at = max(bisect_right(ranges, part.start, key=_start) - 1, 0)
    while at < len(ranges) and ranges[at].start <= part[-1]:
        yield ranges[at]
        at += 1


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
