"""(q) Many jobs in one call, each durable when it is answered; and one job of very many tasks."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final, TypeAlias

import grpc

from titan.rpc.channel import open_channel
from titan.rpc.v1 import manager_pb2, manager_pb2_grpc
from tools.bench.calls import distinct_jobs_request, submit_request
from tools.bench.processes import BenchError, cluster
from tools.bench.result import Result, against, compared_rows

JOBS: Final = 10_000
JOBS_QUICK: Final = 100
CALLS: Final = 3
ARRAY_TASKS: Final = 1_000_000
ARRAY_TASKS_QUICK: Final = 1_000
BOUND_PER_SECOND: Final = 100_000.0
BOUND_MS: Final = 20.0

# Generic for the type checker only.
BytesCall: TypeAlias = "grpc.UnaryUnaryMultiCallable[bytes, bytes]"


def measure(directory: Path, *, rounds: int, quick: bool) -> list[Result]:
    """No workers. What is sent is made before the clock starts."""
    jobs = JOBS_QUICK if quick else JOBS
    tasks = ARRAY_TASKS_QUICK if quick else ARRAY_TASKS
    with cluster(directory, cpus=0) as here, open_channel(here.address) as channel:
        stub = manager_pb2_grpc.ManagerServiceStub(channel)
        call: BytesCall = channel.unary_unary("/titan.v1.ManagerService/SubmitJob")
        numbers = iter(range(0, (rounds + 1) * CALLS * jobs, jobs))

        def bulk() -> float:
            requests = [
                distinct_jobs_request(next(numbers), jobs, request_id=os.urandom(16))
                for _ in range(CALLS)
            ]
            start = time.perf_counter()
            for request in requests:
                answer = manager_pb2.SubmitJobResponse.FromString(
                    call(request, metadata=here.metadata)
                )
                if len(answer.job_ids) != jobs:
                    raise BenchError(f"{len(answer.job_ids)} of {jobs} jobs were accepted")
            return CALLS * jobs / (time.perf_counter() - start)

        def array() -> float:
            request = submit_request(b"/bin/true", request_id=os.urandom(16), tasks=tasks)
            start = time.perf_counter()
            stub.SubmitJob(request, metadata=here.metadata)
            return 1e3 * (time.perf_counter() - start)

        bulk()
        before = here.cpu_seconds()["manager"]
        rates = tuple(bulk() for _ in range(rounds))
        spent = here.cpu_seconds()["manager"] - before
        array()
        times = tuple(array() for _ in range(rounds))
    rows = compared_rows(
        [("what it has to reach", "≥ 1", against(BOUND_PER_SECOND, rates))],
        part="q",
        what=f"{jobs:,} different jobs a call",
        unit="jobs/s",
        values=rates,
        details={"manager µs/job": spent * 1e6 / (rounds * CALLS * jobs)},
    )
    return rows + compared_rows(
        [("what it may take", "≤ 1", against(BOUND_MS, times))],
        part="q",
        what=f"an array of {tasks:,} tasks",
        unit="ms",
        values=times,
    )
