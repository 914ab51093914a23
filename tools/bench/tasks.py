"""(a, l) Tasks a second, end to end, against a bare loop of posix_spawn and wait, and a peer.

(l) is (a) with a memory limit on each task.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Final

import grpc

from titan.rpc.channel import open_channel
from titan.rpc.v1 import manager_pb2, manager_pb2_grpc, types_pb2
from tools.bench import peers
from tools.bench.calls import has_ended, submit_request
from tools.bench.processes import BenchError, Cluster, cluster, output_of
from tools.bench.result import Result, alternate_with, compared_rows

CPUS: Final = 2
TASKS: Final = 5_000
TASKS_QUICK: Final = 40
MEMORY_BYTES: Final = 64 << 20
TOO_MUCH_BYTES: Final = 256 << 20
# The first tasks of a cluster make directories, grow buffers and show that they are short.
WARM_UP_TASKS: Final = 100
# An array that takes longer does not end at all.
WATCH_SECONDS_MAX: Final = 180.0
FLOOR: Final = f"posix_spawn of /bin/true and wait, {CPUS} at once"


def measure(directory: Path, *, rounds: int, quick: bool) -> list[Result]:
    """An array of /bin/true, from its submit to the last end that a watching client sees."""
    tasks = TASKS_QUICK if quick else TASKS
    others = [lambda: bare_rate(tasks)]
    peer = peers.HYPERQUEUE
    notes = peers.why_absent(peer, quick=quick)
    if not notes:
        others.append(lambda: peers.tasks_per_second(peer, directory, tasks))
    with cluster(directory, cpus=CPUS) as here, open_channel(here.address) as channel:
        stub = manager_pb2_grpc.ManagerServiceStub(channel)
        run_array(here, stub, min(WARM_UP_TASKS, tasks))
        before = here.cpu_seconds()
        values, compared = alternate_with(
            rounds, lambda: tasks / run_array(here, stub, tasks), others
        )
        details = costs(here, before, rounds * tasks)
    rows = [(FLOOR, "≥ 0.7", compared[0])]
    rows += [(peer.title, "≥ 4", each) for each in compared[1:]]
    return compared_rows(
        rows, part="a", what="tasks end to end", unit="tasks/s", values=values, details=details,
        notes=notes,
    )  # fmt: skip


def measure_limited(directory: Path, *, rounds: int, quick: bool) -> list[Result]:
    """(l) Each task may use 64 MiB; first it is seen that one which takes more is ended."""
    tasks = TASKS_QUICK if quick else TASKS
    with cluster(directory, cpus=CPUS) as here, open_channel(here.address) as channel:
        stub = manager_pb2_grpc.ManagerServiceStub(channel)
        limits = _check_limits(here, stub)
        run_array(here, stub, min(WARM_UP_TASKS, tasks), memory_bytes=MEMORY_BYTES)
        before = here.cpu_seconds()
        values, (bare,) = alternate_with(
            rounds,
            lambda: tasks / run_array(here, stub, tasks, memory_bytes=MEMORY_BYTES),
            [lambda: bare_rate(tasks)],
        )
        details = costs(here, before, rounds * tasks)
    return compared_rows(
        [(FLOOR, "≥ 0.55", bare)], part="l",
        what=f"tasks end to end, each with --memory {MEMORY_BYTES >> 20}MiB", unit="tasks/s",
        values=values, details=details, notes=(limits,),
    )  # fmt: skip


def bare_rate(tasks: int) -> float:
    """The floor: /bin/true so often without Titan, a second."""
    return tasks / output_of("spawn", str(tasks), str(CPUS))


def costs(here: Cluster, before: dict[str, float], tasks: int) -> dict[str, float]:
    """Microseconds of a processor that each process has used for a task since then."""
    after = here.cpu_seconds()
    return {f"{name} µs/task": (after[name] - before[name]) * 1e6 / tasks for name in after}


def run_array(
    here: Cluster, stub: manager_pb2_grpc.ManagerServiceStub, tasks: int, *, memory_bytes: int = 0
) -> float:
    """Seconds. Raises BenchError when not all of them completed."""
    request = submit_request(
        b"/bin/true", request_id=os.urandom(16), tasks=tasks, memory_bytes=memory_bytes
    )
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


def _check_limits(here: Cluster, stub: manager_pb2_grpc.ManagerServiceStub) -> str:
    """How the worker keeps limits. Raises BenchError when it does not."""
    program = f"len(b'x' * {TOO_MUCH_BYTES})"
    request = submit_request(
        os.fsencode(sys.executable), b"-c", program.encode(),
        request_id=os.urandom(16), memory_bytes=MEMORY_BYTES,
    )  # fmt: skip
    job_id = stub.SubmitJob(request, metadata=here.metadata).job_ids[0]
    job = wait_ended(stub, job_id, here.metadata)
    (worker,) = stub.ListWorkers(manager_pb2.ListWorkersRequest(), metadata=here.metadata).workers
    if job.reason != types_pb2.REASON_OOM:
        raise BenchError(
            f"no limits are in force ({worker.limits}): a task that took {TOO_MUCH_BYTES >> 20} "
            f"MiB ended as {types_pb2.State.Name(job.state)}: {job.detail}"
        )
    return f"limits are kept by {worker.limits}; a task over its limit was ended"
