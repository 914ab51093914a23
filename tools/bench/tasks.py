"""(a) Tasks a second, end to end, against a bare loop of posix_spawn and wait."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

import grpc

from titan.rpc.channel import open_channel
from titan.rpc.v1 import manager_pb2, manager_pb2_grpc
from tools.bench.calls import has_ended, submit_request
from tools.bench.processes import BenchError, Cluster, cluster, output_of
from tools.bench.result import Result, alternate

CPUS: Final = 2
TASKS: Final = 5_000
TASKS_QUICK: Final = 40
# The first tasks of a cluster make directories, grow buffers and show that they are short.
WARM_UP_TASKS: Final = 100
# An array that takes longer does not end at all.
WATCH_SECONDS_MAX: Final = 180.0


def measure(directory: Path, *, rounds: int, quick: bool) -> list[Result]:
    """An array of /bin/true, from its submit to the last end that a watching client sees."""
    tasks = TASKS_QUICK if quick else TASKS
    with cluster(directory, cpus=CPUS) as here, open_channel(here.address) as channel:
        stub = manager_pb2_grpc.ManagerServiceStub(channel)
        _run_array(here, stub, min(WARM_UP_TASKS, tasks))
        before = here.cpu_seconds()
        values, floors, ratios = alternate(
            rounds,
            lambda: tasks / _run_array(here, stub, tasks),
            lambda: tasks / output_of("spawn", str(tasks), str(CPUS)),
        )
        after = here.cpu_seconds()
    costs = {
        f"{name} µs/task": (after[name] - before[name]) * 1e6 / (rounds * tasks) for name in after
    }
    return [
        Result(
            part="a",
            what="tasks end to end",
            unit="tasks/s",
            values=values,
            floor=f"posix_spawn of /bin/true and wait, {CPUS} at once",
            floors=floors,
            ratios=ratios,
            must="≥ 0.3",
            goal="≥ 0.7",
            details=costs,
        )
    ]


def _run_array(here: Cluster, stub: manager_pb2_grpc.ManagerServiceStub, tasks: int) -> float:
    """Seconds. Raises BenchError when not all of them completed."""
    request = submit_request(b"/bin/true", request_id=os.urandom(16), tasks=tasks)
    start = time.perf_counter()
    job_id = stub.SubmitJob(request, metadata=here.metadata).job_ids[0]
    job = wait_ended(stub, job_id, here.metadata)
    seconds = time.perf_counter() - start
    if job.tasks.completed != tasks:
        raise BenchError(f"{job.tasks.completed} of {tasks} tasks completed: {job.detail}")
    return seconds


def wait_ended(
    stub: manager_pb2_grpc.ManagerServiceStub, job_id: int, metadata: tuple[tuple[str, str], ...]
) -> manager_pb2.Job:
    """The job once it has ended. Raises BenchError when the watch ends before it."""
    request = manager_pb2.WatchJobsRequest(job_ids=[job_id])
    watch = stub.WatchJobs(request, metadata=metadata, timeout=WATCH_SECONDS_MAX)
    try:
        for answer in watch:
            for job in answer.jobs:
                if has_ended(job):
                    return job
    except grpc.RpcError as error:
        raise BenchError(f"the watch ended: {error}") from error
    finally:
        watch.cancel()
    raise BenchError("the watch ended before the job")
