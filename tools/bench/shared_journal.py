"""(x) Parts a and b with the log in PostgreSQL on the same machine, against one on files."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from titan.journal.database import create
from titan.rpc.channel import open_aio_channel, open_channel
from titan.rpc.v1 import manager_pb2_grpc
from tools.bench.postgresql import PostgreSQL, postgresql
from tools.bench.processes import Cluster, cluster
from tools.bench.result import Result, alternate
from tools.bench.submits import CALLS, CALLS_QUICK, calls_per_second, submitter
from tools.bench.tasks import CPUS, TASKS, TASKS_QUICK, WARM_UP_TASKS, run_array

FLOOR: Final = "the same by a manager with its log on files"


class _Two(NamedTuple):
    """Two managers that differ in where their log is."""

    shared: Cluster
    on_files: Cluster
    database: PostgreSQL

    def cpu_seconds(self) -> tuple[float, ...]:
        """What was used for the log in the database, there, and for the one on files."""
        return (
            self.shared.cpu_seconds()["manager"],
            self.database.cpu_seconds(),
            self.on_files.cpu_seconds()["manager"],
        )


def measure(directory: Path, *, rounds: int, quick: bool) -> list[Result]:
    """Both, by turns; one of the managers has nothing to do meanwhile."""
    return [
        _measure_tasks(directory / "tasks", rounds, TASKS_QUICK if quick else TASKS),
        _measure_submits(directory / "submits", rounds, CALLS_QUICK if quick else CALLS),
    ]


def _measure_tasks(directory: Path, rounds: int, tasks: int) -> Result:
    with _two(directory, cpus=CPUS) as two, ExitStack() as stack:

        def rate_of(here: Cluster) -> Callable[[], float]:
            channel = stack.enter_context(open_channel(here.address))
            stub = manager_pb2_grpc.ManagerServiceStub(channel)
            run_array(here, stub, min(WARM_UP_TASKS, tasks))
            return lambda: tasks / run_array(here, stub, tasks)

        return _compare(
            two, rounds, rate_of(two.shared), rate_of(two.on_files), "tasks end to end", "task",
            tasks,
        )  # fmt: skip


def _measure_submits(directory: Path, rounds: int, calls: int) -> Result:
    def rate_of(here: Cluster) -> Callable[[], float]:
        asyncio.run(_submits_per_second(here, calls // 10))
        return lambda: asyncio.run(_submits_per_second(here, calls))

    with _two(directory, cpus=0) as two:
        return _compare(
            two, rounds, rate_of(two.shared), rate_of(two.on_files), "single submits", "call", calls
        )


async def _submits_per_second(here: Cluster, calls: int) -> float:
    async with open_aio_channel(here.address) as channel:
        return await calls_per_second(submitter(channel, here, calls), calls)


@contextmanager
def _two(directory: Path, *, cpus: int) -> Iterator[_Two]:
    """Both, each with a worker of so many cpus or none, and the database of the one."""
    for name in ("shared", "files"):
        (directory / name).mkdir(parents=True)
    # Beside what the benchmarks write, on the same disk.
    with postgresql(directory.parents[2]) as database:
        create(database.url)
        with (
            cluster(directory / "shared", cpus=cpus, options=(database.url,)) as shared,
            cluster(directory / "files", cpus=cpus) as on_files,
        ):
            yield _Two(shared, on_files, database)


def _compare(
    two: _Two,
    rounds: int,
    measure: Callable[[], float],
    floor: Callable[[], float],
    what: str,
    one: str,
    count: int,
) -> Result:
    before = two.cpu_seconds()
    values, floors, ratios = alternate(rounds, measure, floor)
    shared, database, on_files = (
        (after - then) * 1e6 / count
        for after, then in zip(two.cpu_seconds(), before, strict=True)
    )  # fmt: skip
    return Result(
        part="x",
        what=f"{what}, the log in PostgreSQL",
        unit=f"{one}s/s",
        values=values,
        floor=FLOOR,
        floors=floors,
        ratios=ratios,
        must="≥ 0.7",
        details={
            f"manager µs/{one}": shared / rounds,
            "PostgreSQL": database / rounds,
            "manager on files": on_files / (rounds + 1),
        },
    )
