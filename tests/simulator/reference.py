"""One machine and a queue, in the most obvious way: what the engine is compared with.

Whole seconds. In each second something happens in, first the ends, then the submits, then one
pass over the queue; another one follows as long as something that started there ends at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple


class Work(NamedTuple):
    """A job: what it asks for, and how long it really runs."""

    submit: int
    run: int
    estimate: int
    cpus: int


class Machine:
    """What runs: the number of each job and when it ends, by its estimate and really."""

    def __init__(self, jobs: Sequence[Work], cpus: int) -> None:
        self.jobs = jobs
        self.free = cpus
        self.running: dict[int, tuple[int, int]] = {}
        self.starts: dict[int, int] = {}

    def start(self, number: int, now: int) -> None:
        job = self.jobs[number]
        assert number not in self.starts
        self.free -= job.cpus
        assert self.free >= 0
        self.starts[number] = now
        self.running[number] = (now + job.estimate, now + job.run)

    def end_those_due(self, now: int) -> None:
        for number in [each for each, (_, end) in self.running.items() if end <= now]:
            del self.running[number]
            self.free += self.jobs[number].cpus


Pass = Callable[[Machine, list[int], int], None]


def pass_fcfs(machine: Machine, queue: list[int], now: int) -> None:
    """Strictly in the order of the queue: behind what waits all waits."""
    while queue and machine.jobs[queue[0]].cpus <= machine.free:
        machine.start(queue.pop(0), now)


def pass_skip(machine: Machine, queue: list[int], now: int) -> None:
    """Whatever fits starts."""
    for number in list(queue):
        if machine.jobs[number].cpus <= machine.free:
            queue.remove(number)
            machine.start(number, now)


def pass_easy(machine: Machine, queue: list[int], now: int) -> None:
    """EASY backfill: whatever fits starts if the first that waits is not held up by it.

    Lifka, "The ANL/IBM SP scheduling system", 1995: by the estimates the first can start at
    its shadow time; `extra` cpus are left then.
    """
    pass_fcfs(machine, queue, now)
    if not queue:
        return
    shadow, extra = _reserve(machine, queue[0])
    for number in queue[1:]:
        job = machine.jobs[number]
        if job.cpus > machine.free:
            continue
        ends_in_time = now + job.estimate <= shadow
        if ends_in_time or job.cpus <= extra:
            queue.remove(number)
            machine.start(number, now)
            if not ends_in_time:
                extra -= job.cpus


def pass_easy_sjbf(machine: Machine, queue: list[int], now: int) -> None:
    """The same, but the shortest by its estimate is the next to be tried behind the first."""
    pass_fcfs(machine, queue, now)
    rest = sorted(queue[1:], key=lambda number: (machine.jobs[number].estimate, number))
    sorted_queue = queue[:1] + rest
    pass_easy(machine, sorted_queue, now)
    queue[:] = [number for number in queue if number not in machine.starts]


def _reserve(machine: Machine, head: int) -> tuple[int, int]:
    """When the job can start by the estimates of what runs, and how many cpus are left then."""
    ends = sorted((end, machine.jobs[number].cpus) for number, (end, _) in machine.running.items())
    free = machine.free
    shadow = 0
    for place, (end, cpus) in enumerate(ends):
        free += cpus
        is_last_of_instant = place + 1 == len(ends) or ends[place + 1][0] != end
        if free >= machine.jobs[head].cpus and is_last_of_instant:
            shadow = end
            break
    return shadow, free - machine.jobs[head].cpus


PASSES: Final[dict[str, Pass]] = {
    "fcfs": pass_fcfs,
    "skip": pass_skip,
    "easy": pass_easy,
    "easy-sjbf": pass_easy_sjbf,
}


def start_times(jobs: Sequence[Work], cpus: int, order: str) -> list[int]:
    """When each job starts. They are given in the order of their submits."""
    machine = Machine(jobs, cpus)
    queue: list[int] = []
    submitted = 0
    while submitted < len(jobs) or machine.running:
        instants = [end for _, end in machine.running.values()]
        if submitted < len(jobs):
            instants.append(jobs[submitted].submit)
        now = min(instants)
        machine.end_those_due(now)
        while submitted < len(jobs) and jobs[submitted].submit == now:
            queue.append(submitted)
            submitted += 1
        PASSES[order](machine, queue, now)
    assert not queue
    return [machine.starts[number] for number in range(len(jobs))]
