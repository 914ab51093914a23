"""(s) Whole commands, from their start to their end, against what loading gRPC and click takes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

import grpc

from titan.rpc.channel import open_channel
from titan.rpc.v1 import manager_pb2_grpc
from tools.bench.calls import submit_request
from tools.bench.processes import BenchError, Cluster, cluster
from tools.bench.result import Result

RUNS: Final = 10
RUNS_QUICK: Final = 1
# What `titan queue` finds there at first.
JOBS: Final = 20

_FLOOR: Final = 'python -c "import grpc, click"'
_TITAN: Final = str(Path(sys.executable).with_name("titan"))
_COMMANDS: Final = {
    _FLOOR: (sys.executable, "-c", "import grpc, click"),
    "titan queue": (_TITAN, "queue"),
    "titan submit": (_TITAN, "submit", "true"),
}


class _Run(NamedTuple):
    wall_ms: float
    cpu_ms: float


def measure(directory: Path, *, rounds: int, quick: bool) -> list[Result]:
    """By turns, so often in a round, on a manager with some jobs and nothing to do."""
    with cluster(directory, cpus=0) as here:
        _submit_jobs(here)
        environ = {
            **os.environ,
            "TITAN_MANAGER": here.address,
            "TITAN_ACCESS": str(directory / "m" / "access.json"),
            # As installed: with bytecode, and all of it made at the first run.
            "PYTHONPYCACHEPREFIX": str(directory / "bytecode"),
        }
        environ.pop("PYTHONDONTWRITEBYTECODE", None)
        _round(1, environ)
        taken = [_round(RUNS_QUICK if quick else RUNS, environ) for _ in range(rounds)]
    return [_result(what, taken) for what in _COMMANDS if what is not _FLOOR]


def _result(what: str, taken: Sequence[Mapping[str, _Run]]) -> Result:
    cpu = [each[what].cpu_ms for each in taken]
    cpu_floor = [each[_FLOOR].cpu_ms for each in taken]
    return Result(
        part="s",
        what=f"{what}, a whole command",
        unit="ms",
        values=tuple(each[what].wall_ms for each in taken),
        floor=_FLOOR,
        floors=tuple(each[_FLOOR].wall_ms for each in taken),
        ratios=tuple(each[what].wall_ms / each[_FLOOR].wall_ms for each in taken),
        must="≤ 1.5",
        details={
            "cpu ms": median(cpu),
            "the floor's": median(cpu_floor),
            "ratio": median(a / b for a, b in zip(cpu, cpu_floor, strict=True)),
        },
    )


def _submit_jobs(here: Cluster) -> None:
    with open_channel(here.address) as channel:
        stub = manager_pb2_grpc.ManagerServiceStub(channel)
        try:
            for _ in range(JOBS):
                stub.SubmitJob(
                    submit_request(b"/bin/true", request_id=os.urandom(16)), metadata=here.metadata
                )
        except grpc.RpcError as error:
            raise BenchError(f"a submit failed: {error}") from error


def _round(runs: int, environ: Mapping[str, str]) -> dict[str, _Run]:
    """The medians of each."""
    taken: dict[str, list[_Run]] = {what: [] for what in _COMMANDS}
    for _ in range(runs):
        for what, words in _COMMANDS.items():
            taken[what].append(_run(words, environ))
    return {
        what: _Run(median(each.wall_ms for each in all_), median(each.cpu_ms for each in all_))
        for what, all_ in taken.items()
    }


def _run(words: Sequence[str], environ: Mapping[str, str]) -> _Run:
    start = time.perf_counter()
    process = subprocess.Popen(words, env=environ, stdout=subprocess.DEVNULL)
    # The processor time of just this child, which Popen's own wait does not tell.
    _, status, used = os.wait4(process.pid, 0)
    wall_ms = 1e3 * (time.perf_counter() - start)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise BenchError(f"{' '.join(words)} ended with {process.returncode}")
    return _Run(wall_ms, 1e3 * (used.ru_utime + used.ru_stime))
