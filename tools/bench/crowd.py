"""A manager's data directory with many jobs: those that ended, and those that nobody can run.

What a large cluster's manager remembers, without the days that it takes to come to it. A kernel
writes the first events, and the rest are like them; the snapshot of the log's end is made by
replay, which refuses what could not have happened.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import wal
from titan import events as ev
from titan.manager.directory import write_description
from titan.manager.kernel import Kernel, Settings
from titan.model import Reason, State
from titan.snapshots import take_snapshot
from titan.state.cluster import ClusterState
from tools.bench.heartbeats import registration
from tools.bench.processes import BenchError

# A submit of so many is a record.
JOBS_PER_RECORD: Final = 100
RECORDS_PER_FLUSH: Final = 100
# It ran them all, one after the other, and left.
WORKER: Final = 1
# The jobs that wait are of so many users and sizes: each pair is a class of its own, which every
# pass of the scheduler comes by.
USERS: Final = 20
SIZES: Final = 5
# More than any worker of the benchmarks has: they never start, and no worker is kept for them.
WAITING_CPUS: Final = 64
# They ended within the last hour, so that age is no reason to forget them.
SPAN_US: Final = 3_600_000_000
ENVIRONMENT: Final = b"environment 0001"
REQUEST_ID_BYTES: Final = 16
_VARIABLES: Final = tuple((b"VARIABLE_%d" % number, b"value" * 8) for number in range(20))


def write_crowd(directory: Path, ended: int, waiting: int) -> None:
    """Writes so many jobs of each kind into a new one. Raises wal.WalError, BenchError."""
    kernel = Kernel(ClusterState(), Settings())
    directory.mkdir()
    with wal.Log.open(directory / "wal") as log:
        for lsn, record in enumerate(_records(kernel, ended, waiting)):
            log.append(ev.encode_record(*record))
            if lsn % RECORDS_PER_FLUSH == 0:
                log.flush()

    def fail(error: Exception) -> None:
        raise BenchError(str(error))

    if take_snapshot(directory, fail, left_free_bytes=0) is None:
        raise BenchError("no snapshot was taken")
    write_description(directory, kernel.state.cluster_id)


def _records(kernel: Kernel, ended: int, waiting: int) -> Iterator[tuple[int, list[ev.Event]]]:
    now_us = time.time_ns() // 1000 - SPAN_US
    step_us = SPAN_US * JOBS_PER_RECORD // (ended + waiting + 10 * JOBS_PER_RECORD)
    kernel.start(cluster_id=b"cluster id 0 1 2", epoch=1, version="0", now_us=now_us)
    kernel.decide(registration(WORKER), now_us, 0)
    kernel.emit(ev.EnvironmentStored(ENVIRONMENT, _VARIABLES, ()))
    while (record := kernel.take_record()) is not None:
        yield record
    for ids in _chunks(1, ended):
        now_us += step_us
        yield (
            now_us,
            [
                *(_submitted(each, "grace", cpus=1, gibibytes=0) for each in ids),
                _request("grace", ids),
            ],
        )
        yield now_us, [event for each in ids for event in _life(each, now_us)]
    yield now_us, [ev.WorkerDeregistered(WORKER)]
    for ids in _chunks(ended + 1, waiting):
        now_us += step_us
        user = f"user{ids.start // JOBS_PER_RECORD % USERS}"
        yield (
            now_us,
            [
                *(
                    _submitted(each, user, cpus=WAITING_CPUS, gibibytes=each % SIZES)
                    for each in ids
                ),
                _request(user, ids),
            ],
        )


def _chunks(first_id: int, jobs: int) -> Iterator[range]:
    end = first_id + jobs
    for start in range(first_id, end, JOBS_PER_RECORD):
        yield range(start, min(start + JOBS_PER_RECORD, end))


def _submitted(job_id: int, user: str, *, cpus: int, gibibytes: int) -> ev.Event:
    return ev.JobSubmitted(
        job_id, user, "step", (b"/usr/bin/python3", b"step.py", b"--input", b"part"),
        b"/srv/project", ENVIRONMENT, 1000 * cpus, gibibytes << 30, (), 0, (),
    )  # fmt: skip


def _request(user: str, ids: range) -> ev.Event:
    request_id = ids.start.to_bytes(REQUEST_ID_BYTES, "big")
    return ev.RequestAccepted(user, request_id, request_id, ids.start, len(ids))


def _life(job_id: int, now_us: int) -> Iterator[ev.Event]:
    yield ev.TaskAssigned(job_id, 0, 1, WORKER, False, 1, 1, 0)
    yield ev.AttemptEnded(
        job_id, 0, 1, State.COMPLETED, Reason.EXIT, 0, -1, now_us, now_us, 900, 300, 4 << 20, "",
        State.COMPLETED,
    )  # fmt: skip


def main(directory: str, ended: str, waiting: str) -> int:
    """Writes a directory."""
    # Nothing here is ever garbage.
    gc.disable()
    write_crowd(Path(directory), int(ended), int(waiting))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
