"""(t) What becomes of heartbeats and memory while more is submitted than can be done.

200 clients submit as fast as they can, each over a connection of its own and with what the
product's client does when it is refused or not answered; 50 workers beat meanwhile. Then the
manager is killed, and its log has to tell that nobody was thought dead and to hold every job
that somebody was told of.

    python -m tools.bench.flood MANAGER CLIENTS SECONDS JOBS   some of the clients: prints JSON
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple, TypeAlias

import grpc
import psutil

import wal
from titan import events as ev
from titan.client import retry
from titan.client.connection import failure_of
from titan.errors import TitanError
from titan.manager.recovery import recover
from titan.rpc import access
from titan.rpc.channel import open_aio_channel
from titan.rpc.v1 import manager_pb2
from tools.bench.calls import distinct_jobs_request
from tools.bench.fake_workers import fake_workers, raise_file_limit
from tools.bench.processes import ROOT, BenchError, Cluster, cluster, environment
from tools.bench.result import Result, against, compared_rows

CLIENTS: Final = 200
CLIENTS_QUICK: Final = 20
# A process takes so many of them: as one they would be slower than the manager.
CLIENT_PROCESSES: Final = 2
WORKERS: Final = 50
WORKERS_QUICK: Final = 5
SECONDS: Final = 60.0
SECONDS_QUICK: Final = 3.0
JOBS_A_CALL: Final = (1, 10_000)
JOBS_A_CALL_QUICK: Final = (1, 200)
BOUND_MS: Final = 1_000.0
MEBIBYTE: Final = 1 << 20
# As titan/README.md states it: what a manager takes by itself, what the calls under way may take,
# and what each job that waits does.
MEMORY_BASE_BYTES: Final = 128 * MEBIBYTE
MEMORY_CALLS_BYTES: Final = 128 * MEBIBYTE
MEMORY_BYTES_EACH_JOB: Final = 1_024
SAMPLE_SECONDS: Final = 0.1
# As the product's client has it. After the flood each client's last call may still be tried.
PATIENCE_SECONDS: Final = retry.RETRY_FOR_SECONDS
# More than the workers have, so that every job stays.
CPUS_MILLI: Final = 64_000

# Generic for the type checker only.
BytesCall: TypeAlias = "grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]"


class _Flood(NamedTuple):
    """What one flood came to."""

    # Until the last answer.
    seconds: float
    calls: int
    jobs: int
    refusals: int
    failures: int
    given_up: int
    latencies_ms: list[float]
    beats_ms: list[float]
    kept: int
    memory_bytes: int
    cpu_seconds: float


def measure(directory: Path, *, rounds: int, quick: bool) -> list[Result]:
    """One flood of single jobs and one of many a call. Raises BenchError if it broke a promise."""
    del rounds
    raise_file_limit()
    results: list[Result] = []
    for jobs in JOBS_A_CALL_QUICK if quick else JOBS_A_CALL:
        here = directory / str(jobs)
        here.mkdir()
        results += _rows(_flood(here, jobs, quick=quick), jobs, quick=quick)
    return results


def _rows(found: _Flood, jobs: int, *, quick: bool) -> list[Result]:
    clients = CLIENTS_QUICK if quick else CLIENTS
    what = f"{clients} clients submit {jobs:,} a call"
    bound = MEMORY_BASE_BYTES + MEMORY_CALLS_BYTES + found.kept * MEMORY_BYTES_EACH_JOB
    beats = (_percentile(found.beats_ms, 0.99),)
    memory = (found.memory_bytes / MEBIBYTE,)
    details = {
        "beats": len(found.beats_ms),
        "median ms": median(found.beats_ms),
        "longest ms": max(found.beats_ms),
        "jobs/s": found.jobs / found.seconds,
        "calls": found.calls,
        "a call's median ms": median(found.latencies_ms),
        "its p99": _percentile(found.latencies_ms, 0.99),
        "refused": found.refusals,
        "without an answer": found.failures,
        "given up": found.given_up,
        "manager µs/call": found.cpu_seconds * 1e6 / found.calls,
    }
    return compared_rows(
        [("what it may take", "≤ 1", against(BOUND_MS, beats))],
        part="t", what=f"{what}: a heartbeat's p99", unit="ms", values=beats, details=details,
    ) + compared_rows(
        [("what it may take", "≤ 1", against(bound / MEBIBYTE, memory))],
        part="t", what=f"{what}: the manager's memory", unit="MiB", values=memory,
        details={"jobs": found.kept},
    )  # fmt: skip


def _flood(directory: Path, jobs: int, *, quick: bool) -> _Flood:
    seconds = SECONDS_QUICK if quick else SECONDS
    clients = CLIENTS_QUICK if quick else CLIENTS
    with cluster(directory, cpus=0) as here:
        with fake_workers(directory, here, cpus=1) as load:
            load.grow(WORKERS_QUICK if quick else WORKERS)
            load.take_beats_ms()
            with _memory_watched(here.manager) as most:
                before = here.cpu_seconds()["manager"]
                told = _submit(directory, here, clients, seconds, jobs)
                spent = here.cpu_seconds()["manager"] - before
            beats_ms = load.take_beats_ms()
        # As kill -9: whatever was acknowledged has to be there all the same.
        here.manager.kill()
    data = directory / "m"
    _check_workers(data)
    accepted = [range(first, first + count) for each in told for first, count in each["accepted"]]
    kept = _check_jobs(data, accepted)
    return _Flood(
        seconds=max(each["seconds"] for each in told),
        calls=len(accepted),
        jobs=sum(map(len, accepted)),
        refusals=sum(each["refusals"] for each in told),
        failures=sum(each["failures"] for each in told),
        given_up=sum(each["given_up"] for each in told),
        latencies_ms=[ms for each in told for ms in each["latencies_ms"]],
        beats_ms=beats_ms,
        kept=kept,
        memory_bytes=most[0],
        cpu_seconds=spent,
    )


def _submit(
    directory: Path, here: Cluster, clients: int, seconds: float, jobs: int
) -> list[dict[str, Any]]:
    """What each process of clients says of its calls. Raises BenchError."""
    share = clients // CLIENT_PROCESSES
    arguments = [here.address, str(share), str(seconds), str(jobs)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tools.bench.flood", *arguments], cwd=ROOT,
            env=environment(directory), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        )
        for _ in range(CLIENT_PROCESSES)
    ]  # fmt: skip
    try:
        said = [each.communicate(timeout=seconds + 2 * PATIENCE_SECONDS)[0] for each in processes]
    except subprocess.TimeoutExpired as error:
        raise BenchError("the clients did not come to an end") from error
    finally:
        for each in processes:
            each.kill()
            each.wait()
    if any(each.returncode for each in processes):
        raise BenchError("a process of clients failed")
    return [json.loads(each) for each in said]


@contextlib.contextmanager
def _memory_watched(process: psutil.Process) -> Iterator[list[int]]:
    """The resident set of the process at its largest, in bytes, when it is left."""
    most = [0]
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.wait(SAMPLE_SECONDS):
            most[0] = max(most[0], process.memory_info().rss)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield most
    finally:
        is_over.set()
        thread.join()


def _check_workers(data: Path) -> None:
    """Raises BenchError if the log tells of a worker that was thought dead, or nearly."""
    with wal.Reader(data / "wal") as reader:
        for record in reader:
            for event in ev.decode_record(record.payload)[1]:
                if isinstance(event, ev.WorkerUnhealthy | ev.WorkerLost):
                    raise BenchError(f"a worker that beat all the time was given up: {event}")


def _check_jobs(data: Path, accepted: Sequence[range]) -> int:
    """How many jobs there are in all.

    Raises BenchError if one that was acknowledged is lost, or was told of twice.
    """
    found = recover(data)
    try:
        counts = Counter(job_id for each in accepted for job_id in each)
        lost = [each for each in counts if each not in found.state.jobs]
        twice = [each for each, count in counts.items() if count > 1]
    finally:
        found.log.close()
    if lost or twice:
        raise BenchError(
            f"of {len(counts)} jobs {len(lost)} are lost, {len(twice)} were told twice"
        )
    return len(found.state.jobs)


def _percentile(values: Sequence[float], share: float) -> float:
    """The least of them that so large a share is not above."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


class _Client:
    """One of many that submit: what it was told."""

    def __init__(self, manager: str, request: bytes) -> None:
        """`request` is what each call submits, without its id."""
        self._address = manager
        self._metadata = access.metadata(access.find_token(manager))
        self._request = request
        self.accepted: list[tuple[int, int]] = []
        self.latencies_ms: list[float] = []
        self.refusals = self.failures = self.given_up = 0

    async def submit_until(self, end: float) -> None:
        """Submits one after the other until the monotonic clock shows `end`."""
        async with open_aio_channel(self._address) as channel:
            method: BytesCall = channel.unary_unary("/titan.v1.ManagerService/SubmitJob")
            while time.monotonic() < end:
                # Messages behind each other are one message.
                with_id = manager_pb2.SubmitJobRequest(request_id=os.urandom(16))
                request = self._request + with_id.SerializeToString()
                start = time.perf_counter()
                try:
                    message = await self._call(method, request)
                except TitanError:
                    self.given_up += 1
                    continue
                answer = manager_pb2.SubmitJobResponse.FromString(message)
                self.latencies_ms.append(1e3 * (time.perf_counter() - start))
                self.accepted.append((answer.job_ids[0], len(answer.job_ids)))

    async def _call(self, method: BytesCall, request: bytes) -> bytes:
        """The same request until it is answered, as the product's client does it.

        Raises TitanError where that gives up.
        """
        policy = retry.Policy(self._address, PATIENCE_SECONDS)
        repeats = retry.Repeats(policy, time.monotonic())
        while True:
            try:
                return await method(
                    request,
                    timeout=repeats.attempt_seconds(time.monotonic()),
                    metadata=self._metadata,
                )
            except grpc.aio.AioRpcError as error:
                failure = failure_of(error)
                is_refused = failure.status is grpc.StatusCode.RESOURCE_EXHAUSTED
                self.refusals += is_refused
                self.failures += not is_refused
                await asyncio.sleep(repeats.pause_after(failure, time.monotonic()))


def _request_of(jobs: int) -> bytes:
    """So many jobs, each with words of its own, that no worker can take."""
    request = distinct_jobs_request(0, jobs, request_id=b"")
    message = manager_pb2.SubmitJobRequest.FromString(request)
    for each in message.jobs:
        each.resources.cpus_milli = CPUS_MILLI
    return message.SerializeToString()


async def _run_clients(manager: str, count: int, seconds: float, jobs: int) -> dict[str, Any]:
    request = _request_of(jobs)
    clients = [_Client(manager, request) for _ in range(count)]
    start = time.monotonic()
    await asyncio.gather(*(each.submit_until(start + seconds) for each in clients))
    return {
        "seconds": time.monotonic() - start,
        "accepted": [pair for each in clients for pair in each.accepted],
        "latencies_ms": [ms for each in clients for ms in each.latencies_ms],
        "refusals": sum(each.refusals for each in clients),
        "failures": sum(each.failures for each in clients),
        "given_up": sum(each.given_up for each in clients),
    }


def main(manager: str, clients: str, seconds: str, jobs: str) -> int:
    """Some of the clients."""
    told = asyncio.run(_run_clients(manager, int(clients), float(seconds), int(jobs)))
    print(json.dumps(told))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
