"""(p) Tasks and submits a second in a cluster with many jobs, against one without any."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

from titan.rpc.channel import open_aio_channel, open_channel
from titan.rpc.v1 import manager_pb2, manager_pb2_grpc
from tools.bench.calls import USER
from tools.bench.crowd import SIZES, USERS, WAITING_CPUS
from tools.bench.processes import ROOT, Cluster, cluster
from tools.bench.result import Curve, Result, alternate
from tools.bench.submits import CALLERS, CALLS, CALLS_QUICK, calls_per_second, submitter
from tools.bench.tasks import CPUS, TASKS, TASKS_QUICK, WARM_UP_TASKS, run_array

ENDED: Final = (0, 10_000, 100_000, 1_000_000)
ENDED_QUICK: Final = (500,)
WAITING: Final = 100_000
WAITING_QUICK: Final = 100
# None of them is forgotten, nor any that is added.
FORGET_OVER: Final = 2_000_000
CROWD: Final = (
    f"jobs that wait are of {USERS} users and {SIZES} sizes, each pair a class, before all others "
    f"in the queue, and need {WAITING_CPUS} cpus where the worker has {CPUS}; "
    f"the jobs of {CALLERS} callers need as many, and are cancelled between the rounds"
)


class _Rates(NamedTuple):
    """Of the rounds: with the crowd, without, and the ratios."""

    values: tuple[float, ...]
    floors: tuple[float, ...]
    ratios: tuple[float, ...]


def measure(directory: Path, *, rounds: int, quick: bool) -> list[Result]:
    """Two clusters side by side take turns. The smaller crowds are for the curve: one round."""
    sizes = ENDED_QUICK if quick else ENDED
    waiting = WAITING_QUICK if quick else WAITING
    tasks, calls = (TASKS_QUICK, CALLS_QUICK) if quick else (TASKS, CALLS)
    measures: dict[str, tuple[str, Callable[[Cluster], float]]] = {
        "tasks end to end": ("tasks/s", lambda here: _tasks_per_second(here, tasks)),
        "single submits": ("calls/s", lambda here: _submits_per_second(here, calls)),
    }
    found: dict[str, dict[int, _Rates]] = {what: {} for what in measures}
    empty = directory / "empty"
    empty.mkdir()
    with cluster(empty, cpus=CPUS, forget_over=FORGET_OVER) as without:
        for ended in sizes:
            crowded = directory / str(ended)
            crowded.mkdir()
            _write_crowd(crowded / "m", ended, waiting)
            with cluster(crowded, cpus=CPUS, forget_over=FORGET_OVER) as here:
                for what, (_, rate) in measures.items():
                    found[what][ended] = _compare(
                        here, without, rate, rounds if ended == sizes[-1] else 1
                    )
    curve = _curve(found, waiting)
    return [
        Result(
            part="p",
            what=f"{what} beside {sizes[-1]:,} ended and {waiting:,} waiting jobs",
            unit=unit,
            values=found[what][sizes[-1]].values,
            floor="the same in a cluster without any",
            floors=found[what][sizes[-1]].floors,
            ratios=found[what][sizes[-1]].ratios,
            must="≥ 0.9",
            details={
                f"ratio beside {ended:,} ended": median(each.ratios)
                for ended, each in found[what].items()
            },
            notes=(CROWD,) if curve is not None else (),
            curve=curve,
        )
        for (what, (unit, _)), curve in zip(measures.items(), (curve, None), strict=True)
    ]


def _compare(
    here: Cluster, without: Cluster, rate: Callable[[Cluster], float], rounds: int
) -> _Rates:
    for each in (here, without):
        with open_channel(each.address) as channel:
            run_array(each, manager_pb2_grpc.ManagerServiceStub(channel), WARM_UP_TASKS)
    return _Rates(*alternate(rounds, lambda: rate(here), lambda: rate(without)))


def _tasks_per_second(here: Cluster, tasks: int) -> float:
    with open_channel(here.address) as channel:
        return tasks / run_array(here, manager_pb2_grpc.ManagerServiceStub(channel), tasks)


def _submits_per_second(here: Cluster, calls: int) -> float:
    return asyncio.run(_submit(here, calls))


async def _submit(here: Cluster, calls: int) -> float:
    """Nothing of it starts; it is cancelled when the clock stands."""
    async with open_aio_channel(here.address) as channel:
        await channel.channel_ready()
        submit = submitter(channel, here, calls, cpus_milli=1000 * WAITING_CPUS)
        rate = await calls_per_second(submit, calls)
        stub: manager_pb2_grpc.ManagerServiceAsyncStub = manager_pb2_grpc.ManagerServiceStub(
            channel
        )
        request = manager_pb2.CancelJobRequest(filter=manager_pb2.JobFilter(user=USER))
        await stub.CancelJob(request, metadata=here.metadata)
        return rate


def _write_crowd(data: Path, ended: int, waiting: int) -> None:
    """In a process of its own, so that this one stays small."""
    command = [sys.executable, "-m", "tools.bench.crowd", str(data), str(ended), str(waiting)]
    subprocess.run(command, cwd=ROOT, check=True)


def _curve(found: dict[str, dict[int, _Rates]], waiting: int) -> Curve:
    return Curve(
        name="crowd",
        title=f"A cluster with jobs that ended and {waiting:,} that wait",
        x_label="ended jobs that the manager remembers (count)",
        y_label="rate ÷ rate of an empty cluster",
        series={
            what: [(ended, median(each.ratios)) for ended, each in rates.items()]
            for what, rates in found.items()
        },
        bound=0.9,
        bound_label="must reach",
        logarithmic=True,
    )
