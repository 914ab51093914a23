"""(m) Single jobs a second, end to end, submitted by one client with many calls under way."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Final

import grpc
import grpc.aio

from titan.rpc.channel import open_aio_channel
from titan.rpc.v1 import manager_pb2, manager_pb2_grpc, types_pb2
from tools.bench.calls import has_ended
from tools.bench.processes import BenchError, Cluster, cluster
from tools.bench.result import Result, alternate_with, compared_rows
from tools.bench.submits import CALLERS, calls_per_second, submitter
from tools.bench.tasks import (
    CPUS,
    FLOOR,
    TASKS,
    TASKS_QUICK,
    WARM_UP_TASKS,
    WATCH_SECONDS_MAX,
    bare_rate,
    costs,
)

WATCH: Final = "seen by one watch of them all, which begins when the last is submitted"


def measure(directory: Path, *, rounds: int, quick: bool) -> list[Result]:
    """Jobs of /bin/true, from the first submit to the last end that the client sees."""
    jobs = TASKS_QUICK if quick else TASKS
    with cluster(directory, cpus=CPUS) as here:
        run_jobs(here, min(WARM_UP_TASKS, jobs))
        before = here.cpu_seconds()
        values, (bare,) = alternate_with(
            rounds, lambda: jobs / run_jobs(here, jobs), [lambda: bare_rate(jobs)]
        )
        details = costs(here, before, rounds * jobs)
    return compared_rows(
        [(FLOOR, "≥ 0.5", bare)], part="m",
        what=f"single jobs end to end, {CALLERS} submits under way", unit="jobs/s",
        values=values, details=details, notes=(WATCH,),
    )  # fmt: skip


def run_jobs(here: Cluster, jobs: int) -> float:
    """Seconds. Raises BenchError when not all of them completed."""
    return asyncio.run(_submit_and_wait(here, jobs))


async def _submit_and_wait(here: Cluster, jobs: int) -> float:
    async with open_aio_channel(here.address) as channel:
        await channel.channel_ready()
        submit = submitter(channel, here, jobs)
        open_ids: set[int] = set()

        async def submit_one(number: int) -> None:
            open_ids.add(await submit(number))

        start = time.perf_counter()
        await calls_per_second(submit_one, jobs)
        await _wait_all(channel, here, open_ids)
        return time.perf_counter() - start


async def _wait_all(channel: grpc.aio.Channel, here: Cluster, open_ids: set[int]) -> None:
    """Until none of these is open any more."""
    stub: manager_pb2_grpc.ManagerServiceAsyncStub = manager_pb2_grpc.ManagerServiceStub(channel)
    request = manager_pb2.WatchJobsRequest(job_ids=open_ids)
    watch = stub.WatchJobs(request, metadata=here.metadata, timeout=WATCH_SECONDS_MAX)
    try:
        async for answer in watch:
            for job in answer.jobs:
                if has_ended(job):
                    if job.state != types_pb2.COMPLETED:
                        raise BenchError(f"job {job.job_id} did not complete: {job.detail}")
                    open_ids.discard(job.job_id)
            if not open_ids:
                return
    except grpc.aio.AioRpcError as error:
        raise BenchError(f"the watch ended: {error}") from error
    finally:
        watch.cancel()
    raise BenchError("the watch ended before the jobs")
