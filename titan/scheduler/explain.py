"""Why a task waits, in a sentence."""

from __future__ import annotations

from collections.abc import Iterator

from titan.model import Resources, WorkerState
from titan.state.cluster import ClusterState
from titan.state.job import Job
from titan.state.worker import Worker


def explain_waiting(state: ClusterState, job: Job, known: dict[Resources, str]) -> str:
    """What a job with pending tasks waits for; empty when it has none. Costs a look at each worker.

    `known` holds what was found for a demand in the same state, so that a page of jobs
    that ask for the same costs one look.
    """
    if not len(job.pending):
        return ""
    if job.demand not in known:
        known[job.demand] = _explain(state, job.demand)
    return known[job.demand]


def _explain(state: ClusterState, demand: Resources) -> str:
    workers = [
        worker for worker in state.workers.values() if worker.state is not WorkerState.DEREGISTERED
    ]
    if not workers:
        return "there is no worker; start one with `titan worker`"
    large_enough = [worker for worker in workers if demand.fits_in(worker.capacity)]
    if not large_enough:
        lacks = "; ".join(_lacks(workers, demand)) or "none has all that it asks for at once"
        return f"no worker is large enough for it, even when empty: {lacks}"
    healthy = [worker for worker in large_enough if worker.state is WorkerState.HEALTHY]
    if not healthy:
        which = (
            f"worker {large_enough[0].name}, which could take it, is"
            if len(large_enough) == 1
            else f"the {len(large_enough)} workers that could take it are"
        )
        return f"{which} not healthy"
    if any(worker.has_room(demand) for worker in healthy):
        return "it is next to be placed"
    return f"room: 0 of {len(workers)} workers can take it now"


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
