"""Why a task waits, in a sentence."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from titan.model import Resources, WorkerState
from titan.state.cluster import ClusterState
from titan.state.job import Job
from titan.state.worker import Worker

# So many workers' own words are told of one job.
FAULTS_MAX: Final = 2


Explained = dict[tuple[Resources, str], str]
"""What was found for a demand, and for the worker that was asked for with it."""


def explain_waiting(state: ClusterState, job: Job, known: Explained) -> str:
    """What a job with pending tasks waits for; empty when it has none. Costs a look at each worker.

    `known` holds what was found in the same state, so that a page of jobs that ask for the
    same costs one look.
    """
    if not job.counts[0]:
        return ""
    key = (job.demand, job.on)
    if key not in known:
        workers = [
            worker
            for worker in state.workers.values()
            if worker.state is not WorkerState.DEREGISTERED and worker.may_run(job.job_class)
        ]
        known[key] = _explain_on(state, job, workers) if job.on else _explain(workers, job.demand)
    return known[key]


def _explain_on(state: ClusterState, job: Job, workers: list[Worker]) -> str:
    """The same as in a cluster of that worker alone."""
    if workers:
        return f"only on {workers[0].name}: {_explain(workers, job.demand)}"
    gone = [worker.name for worker in state.workers.values() if worker.may_run(job.job_class)]
    if gone:
        return f"only on {gone[0]}: that worker took its leave; it waits until it is back"
    return f"only on {job.on}: no worker has that name any more"


def _explain(workers: list[Worker], demand: Resources) -> str:
    if not workers:
        return "there is no worker; start one with `titan worker`"
    large_enough = [worker for worker in workers if demand.fits_in(worker.capacity)]
    if not large_enough:
        lacks = "; ".join(_lacks(workers, demand)) or "none has all that it asks for at once"
        return f"no worker is large enough for it, even when empty: {lacks}"
    taking = [worker for worker in large_enough if worker.takes_tasks]
    if not taking:
        return _nobody_takes(large_enough)
    if any(worker.has_room(demand) for worker in taking):
        return "it is next to be placed"
    sentence = f"room: 0 of {len(workers)} workers can take it now"
    # The silent ones may be gone for good, and what they had free with them.
    kept = [
        worker
        for worker in large_enough
        if worker.has_room(demand) and (worker.fault or _only_drains(worker))
    ]
    if len(kept) == 1:
        return f"{sentence}; {kept[0].name} with room is {_why_not(kept[0])}"
    return f"{sentence}; {len(kept)} with room are draining or not healthy" if kept else sentence


def drain_text(worker: Worker) -> str:
    """That a worker is draining, for whom and why; empty when it is not."""
    if worker.drain is not None:
        whom = f" for {worker.drain.user}" if worker.drain.user else ""
        return f"draining{whom}" + (f": {worker.drain.reason}" if worker.drain.reason else "")
    return "draining: it stops once nothing is left there" if worker.is_stopping else ""


def _nobody_takes(workers: list[Worker]) -> str:
    """Why none of the workers that are large enough gets tasks."""
    drained = [worker for worker in workers if _only_drains(worker)]
    if len(workers) == 1:
        return f"worker {workers[0].name}, which could take it, is {_why_not(workers[0])}"
    if not drained:
        faults = [f"; {worker.name}: {worker.fault}" for worker in workers if worker.fault]
        return f"the {len(workers)} workers that could take it are not healthy" + "".join(
            faults[:FAULTS_MAX]
        )
    if len(drained) == len(workers):
        return f"the {len(workers)} workers that could take it are draining"
    return (
        f"of the {len(workers)} workers that could take it {len(drained)} "
        f"{'is' if len(drained) == 1 else 'are'} draining, the others are not healthy"
    )


def _why_not(worker: Worker) -> str:
    """What a worker is that gets no tasks."""
    if _only_drains(worker):
        return drain_text(worker)
    if worker.state is WorkerState.DISCONNECTED:
        return "not healthy: it is DISCONNECTED"
    return f"not healthy: {worker.fault}" if worker.fault else "not healthy"


def _only_drains(worker: Worker) -> bool:
    return worker.state is WorkerState.HEALTHY and worker.is_draining


def _lacks(workers: list[Worker], demand: Resources) -> Iterator[str]:
    most_cpus = max(worker.capacity.cpus_milli for worker in workers)
    if demand.cpus_milli > most_cpus:
        yield f"it needs {demand.cpus_milli / 1000:g} cpus, the largest has {most_cpus / 1000:g}"
    most_memory = max(worker.capacity.memory_bytes for worker in workers)
    if demand.memory_bytes > most_memory:
        needs, has = demand.memory_bytes / (1 << 30), most_memory / (1 << 30)
        yield f"it needs {needs:.3g} GiB of memory, the largest has {has:.3g} GiB"
    for name, count in demand.named:
        most = max(dict(worker.capacity.named).get(name, 0) for worker in workers)
        if count > most:
            yield f"it needs {name}={count}, the most is {name}={most}"
