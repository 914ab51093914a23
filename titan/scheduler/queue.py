"""The order of the queue: priority, highest first, then submission.

A pass looks at classes, not at tasks: where one task of a class finds no room none
does, so the rest of the class is skipped and later classes may use what it can't
(order `skip`).
"""

from __future__ import annotations

import heapq
from collections.abc import Container, Iterator, Sequence
from itertools import islice
from typing import Final, NamedTuple

from titan.scheduler.policies import Policy
from titan.state.cluster import ClusterState
from titan.state.job_class import JobClass
from titan.state.worker import Worker

# A worker is sent about so much work ahead of each slot, and no more tasks than that.
AHEAD_WINDOW_US: Final = 50_000
AHEAD_TASKS_MAX: Final = 64
# A class has proved short once so many of its tasks completed.
AHEAD_SAMPLES: Final = 2


class Placement(NamedTuple):
    """A task should go there."""

    job_id: int
    index: int  # type: ignore[assignment]  # hides tuple.index
    worker: int
    ahead: bool
    rule: int


def propose(state: ClusterState, policy: Policy, called_in: Container[int]) -> Iterator[Placement]:
    """Placements in the order of the queue, on workers that have called in, by number.

    The caller applies each to the state before it asks for the next.
    """
    healthy = [
        each for each in state.workers.values() if each.takes_tasks and each.number in called_in
    ]
    if not healthy:
        return
    named = _Named(healthy)
    heads = [_head(each) for each in state.classes.values() if each.pending_jobs]
    heapq.heapify(heads)
    # Workers for which an earlier class waits: nothing is sent ahead there, or its
    # slots would pass on for ever within the later class.
    awaited: set[int] = set()
    while heads:
        _, _, class_id = heapq.heappop(heads)
        job_class = state.classes[class_id]
        candidates = named.get(job_class.on) if job_class.on else healthy
        feasible = [each for each in candidates if job_class.demand.fits_in(each.capacity)]
        has_room = bool(feasible)
        while has_room and job_class.pending_jobs:
            if heads and heads[0] < _head(job_class):
                heapq.heappush(heads, _head(job_class))
                break
            choice = policy.choose(feasible, job_class.demand, state.round_robin)
            if choice is None:
                has_room = False
                break
            yield _placement(state, job_class, choice.worker, ahead=False, rule=choice.rule)
        if job_class.pending_jobs and not has_room:
            # One that came back smaller is to get less: a slot must not be passed on there.
            hosts = [
                each for each in feasible if each.number not in awaited and not each.is_overfull
            ]
            yield from _propose_ahead(state, job_class, hosts)
            if job_class.pending_jobs:
                awaited.update(each.number for each in feasible)


class _Named:
    """Workers by name and by id; made when the first class asks for a certain one."""

    def __init__(self, workers: Sequence[Worker]) -> None:
        self._workers = workers
        self._found: dict[str, list[Worker]] = {}

    def get(self, on: str) -> Sequence[Worker]:
        """Those that it means, in rising number; a name may be that of several."""
        if not self._found:
            for each in self._workers:
                for name in {each.name: None, each.worker_id.hex(): None}:
                    self._found.setdefault(name, []).append(each)
        return self._found.get(on, ())


def ahead_depth(job_class: JobClass) -> int:
    """How many tasks of the class may wait behind each slot; 0 unless they proved short."""
    if job_class.samples < AHEAD_SAMPLES or job_class.run_us > AHEAD_WINDOW_US // 2:
        return 0
    return min(AHEAD_WINDOW_US // max(job_class.run_us, 1), AHEAD_TASKS_MAX)


def _propose_ahead(
    state: ClusterState, job_class: JobClass, workers: Sequence[Worker]
) -> Iterator[Placement]:
    depth = ahead_depth(job_class)
    hosts = [each for each in workers if job_class.class_id in each.classes] if depth else []
    for position, worker in enumerate(hosts):
        here = worker.classes[job_class.class_id]
        # What is left is shared out, so that the last ones do not pile up on one worker.
        first_jobs = islice(job_class.pending_jobs, AHEAD_TASKS_MAX * here.slots * len(hosts))
        waiting = sum(state.get_job(job_id).counts[0] for job_id in first_jobs)
        share = -(-waiting // (len(hosts) - position))
        for _ in range(min(here.slots * depth - len(here.ahead), share)):
            yield _placement(state, job_class, worker, ahead=True, rule=0)


def _head(job_class: JobClass) -> tuple[int, int, int]:
    return (-job_class.priority, job_class.pending_jobs.peekitem(0)[0], job_class.class_id)


def _placement(
    state: ClusterState, job_class: JobClass, worker: Worker, *, ahead: bool, rule: int
) -> Placement:
    job_id = job_class.pending_jobs.peekitem(0)[0]
    index = state.get_job(job_id).pending.first()
    return Placement(job_id, index, worker.number, ahead, rule)
