"""Titan, a distributed job scheduler that never loses a job.

    import titan

    with titan.Client() as client:
        job = client.submit(["python", "train.py"], cpus=2, memory="4GiB")
        print(job.wait()["state"])

Importing it loads neither gRPC nor anything else that takes time: each name below is
loaded when it is first used.

It settles two things that gRPC reads from the environment when it is imported itself, by
whichever module is the first: no fork handlers (no process that has gRPC forks without exec,
and they cost a lock at every spawn), and no log lines of its own on users' terminals.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from titan.errors import (
    AccessDenied,
    Busy,
    InvalidJob,
    ManagerUnreachable,
    NoRoom,
    NotFound,
    OutOfRange,
    OutputUnavailable,
    PermissionDenied,
    Refused,
    TitanError,
)

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

# For type checkers, which do not run __getattr__ below.
if TYPE_CHECKING:
    from titan.client.aio import AsyncClient as AsyncClient
    from titan.client.aio import AsyncJob as AsyncJob
    from titan.client.dependencies import After as After
    from titan.client.flow import read_flow as read_flow
    from titan.client.jobspec import JobSpec as JobSpec
    from titan.client.output import OutputChunk as OutputChunk
    from titan.client.sync import Client as Client
    from titan.client.sync import Job as Job
    from titan.client.views import JobsChanged as JobsChanged

_PLACES = {
    "After": "titan.client.dependencies",
    "AsyncClient": "titan.client.aio",
    "AsyncJob": "titan.client.aio",
    "Client": "titan.client.sync",
    "Job": "titan.client.sync",
    "JobSpec": "titan.client.jobspec",
    "JobsChanged": "titan.client.views",
    "OutputChunk": "titan.client.output",
    "read_flow": "titan.client.flow",
}

__all__ = [
    "AccessDenied",
    "After",
    "AsyncClient",
    "AsyncJob",
    "Busy",
    "Client",
    "InvalidJob",
    "Job",
    "JobSpec",
    "JobsChanged",
    "ManagerUnreachable",
    "NoRoom",
    "NotFound",
    "OutOfRange",
    "OutputChunk",
    "OutputUnavailable",
    "PermissionDenied",
    "Refused",
    "TitanError",
    "read_flow",
]


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        value = getattr(import_module(_PLACES[name]), name)
    elif name == "__version__":
        value = import_module("importlib.metadata").version("titan-scheduler")
    else:
        raise AttributeError(f"module 'titan' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
