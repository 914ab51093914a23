"""Requests that the benchmarks make. By the generated stubs: the client is not what is measured."""

from __future__ import annotations

from typing import Final

from titan.model import TASK_ENDS
from titan.rpc.v1 import manager_pb2, types_pb2

USER: Final = "bench"
# About what a login shell exports, so that an environment has its usual size.
_VARIABLES: Final = [
    types_pb2.Variable(name=b"VARIABLE_%d" % number, value=b"some value or other" * 2)
    for number in range(20)
]
_ENVIRONMENT: Final = types_pb2.Environment(
    exported=[types_pb2.Variable(name=b"PATH", value=b"/usr/local/bin:/usr/bin:/bin"), *_VARIABLES]
)


def submit_request(
    *command: bytes,
    request_id: bytes,
    tasks: int = 0,
    cpus_milli: int = 1000,
    memory_bytes: int = 0,
) -> manager_pb2.SubmitJobRequest:
    """One job; with `tasks` an array of so many."""
    array = [types_pb2.IndexRange(start=0, stop=tasks, step=1)] if tasks else []
    job = manager_pb2.JobSpec(
        name="bench",
        command=command,
        cwd=b"/",
        resources=types_pb2.Resources(cpus_milli=cpus_milli, memory_bytes=memory_bytes),
        array=array,
    )
    return manager_pb2.SubmitJobRequest(
        request_id=request_id, user=USER, environments=[_ENVIRONMENT], jobs=[job]
    )


def distinct_jobs_request(first: int, jobs: int, *, request_id: bytes) -> bytes:
    """So many jobs on the wire, each with a name and arguments of its own: first, first + 1, …"""
    request = manager_pb2.SubmitJobRequest(
        request_id=request_id,
        user="bench",
        environments=[_ENVIRONMENT],
        jobs=[
            manager_pb2.JobSpec(
                name=f"train-{number:07}",
                command=(
                    b"python", b"train.py", b"--epochs", b"10", b"--seed", b"%d" % number,
                    b"--output", b"runs/%07d" % number,
                ),
                cwd=b"/home/bench/project",
                resources=types_pb2.Resources(cpus_milli=1000, memory_bytes=1 << 30),
            )
            for number in range(first, first + jobs)
        ],
    )  # fmt: skip
    return request.SerializeToString()


def has_ended(job: manager_pb2.Job) -> bool:
    """Whether nothing changes any more."""
    return int(job.state) in TASK_ENDS
