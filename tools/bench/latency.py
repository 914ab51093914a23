"""(c) How long one job takes on an idle cluster, against one call plus one spawn and wait."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median, quantiles
from typing import Final, TypeAlias

import grpc

from titan.rpc.channel import open_channel
from titan.rpc.v1 import manager_pb2, manager_pb2_grpc, types_pb2
from tools.bench.calls import has_ended, submit_request
from tools.bench.processes import BenchError, Cluster, cluster, empty_server, output_of
from tools.bench.result import Result, ratios
from tools.bench.server import EMPTY_METHOD, EMPTY_SERVICE

JOBS: Final = 500
JOBS_QUICK: Final = 5
# A job that runs that long is seen running; one of /bin/true may have ended before.
RUN_SECONDS: Final = b"0.02"
# A job that takes longer does not end at all.
WATCH_SECONDS_MAX: Final = 90.0

# Generic for the type checker only.
EmptyCall: TypeAlias = "grpc.UnaryUnaryMultiCallable[bytes, bytes]"


def measure(directory: Path, *, rounds: int, quick: bool) -> list[Result]:
    """One job after another: submit it, watch it, see it run or end."""
    jobs = JOBS_QUICK if quick else JOBS
    with ExitStack() as stack:
        here = stack.enter_context(cluster(directory, cpus=2))
        empty = stack.enter_context(empty_server(directory))
        stub = manager_pb2_grpc.ManagerServiceStub(stack.enter_context(open_channel(here.address)))
        call: EmptyCall = stack.enter_context(open_channel(empty)).unary_unary(
            f"/{EMPTY_SERVICE}/{EMPTY_METHOD}"
        )
        client = _Client(stub, here)
        client.times(jobs // 5 + 1, b"/bin/true", until=has_ended)
        _call_seconds(call, jobs)
        calls = [_call_seconds(call, jobs)]
        spawns = [output_of("spawn", str(jobs), "1") / jobs]
        starts: list[list[float]] = []
        ends: list[list[float]] = []
        for _ in range(rounds):
            starts.append(client.times(jobs, b"/bin/sleep", RUN_SECONDS, until=_has_started))
            ends.append(client.times(jobs, b"/bin/true", until=has_ended))
            calls.append(_call_seconds(call, jobs))
            spawns.append(output_of("spawn", str(jobs), "1") / jobs)
    floors = [1e3 * (a + b) for a, b in zip(calls, spawns, strict=True)]
    parts = {"one call ms": 1e3 * median(calls), "one spawn and wait ms": 1e3 * median(spawns)}
    return [
        *_results("submit to running", starts, floors, ("", ""), {}),
        *_results("submit to ended", ends, floors, ("≤ 3.5", "≤ 3"), parts),
    ]


def _results(
    what: str,
    times: Sequence[Sequence[float]],
    floors: Sequence[float],
    musts: tuple[str, str],
    details: dict[str, float],
) -> Iterator[Result]:
    """A row of medians, and one of the 99th percentiles, which stand beside the medians."""
    medians = tuple(1e3 * median(each) for each in times)
    slowest = tuple(1e3 * quantiles(each, n=100, method="inclusive")[98] for each in times)
    yield Result(
        part="c",
        what=f"{what}, median",
        unit="ms",
        values=medians,
        floor="one empty unary call + one posix_spawn of /bin/true and wait",
        floors=tuple(floors),
        ratios=ratios(medians, floors),
        must=musts[0],
        details=details,
    )
    yield Result(
        part="c",
        what=f"{what}, p99",
        unit="ms",
        values=slowest,
        floor="the median of the same jobs",
        floors=medians,
        ratios=tuple(value / each for value, each in zip(slowest, medians, strict=True)),
        must=musts[1],
    )


class _Client:
    """Submits a job and watches it, as `titan run` does."""

    def __init__(self, stub: manager_pb2_grpc.ManagerServiceStub, here: Cluster) -> None:
        self._stub = stub
        self._metadata = here.metadata

    def times(
        self, jobs: int, *command: bytes, until: Callable[[manager_pb2.Job], bool]
    ) -> list[float]:
        """Seconds from each submit until the job is seen so. One after the other has ended."""
        return [self._time(command, until) for _ in range(jobs)]

    def _time(self, command: tuple[bytes, ...], until: Callable[[manager_pb2.Job], bool]) -> float:
        request = submit_request(*command, request_id=os.urandom(16))
        start = time.perf_counter()
        job_id = self._stub.SubmitJob(request, metadata=self._metadata).job_ids[0]
        watch = self._stub.WatchJobs(
            manager_pb2.WatchJobsRequest(job_ids=[job_id]),
            metadata=self._metadata,
            timeout=WATCH_SECONDS_MAX,
        )
        seen = 0.0
        try:
            for answer in watch:
                for job in answer.jobs:
                    if not seen and until(job):
                        seen = time.perf_counter() - start
                    if has_ended(job):
                        return seen
        except grpc.RpcError as error:
            raise BenchError(f"the watch ended: {error}") from error
        finally:
            watch.cancel()
        raise BenchError("the watch ended before the job")


def _has_started(job: manager_pb2.Job) -> bool:
    return job.state == types_pb2.RUNNING or has_ended(job)


def _call_seconds(call: EmptyCall, count: int) -> float:
    """The median of so many calls, in seconds."""
    times = []
    for _ in range(count):
        start = time.perf_counter()
        call(b"")
        times.append(time.perf_counter() - start)
    return median(times)
