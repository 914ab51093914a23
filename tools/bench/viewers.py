"""(w) What it costs the manager when twenty people have its pages open.

`python -m tools.bench.viewers ADDRESS TOKEN COUNT` is the people: so many streams of live events,
which are read and thrown away, until stdin ends.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from titan import paths
from titan.rpc.channel import open_channel
from titan.rpc.v1 import manager_pb2_grpc
from tools.bench.fake_workers import fake_workers
from tools.bench.pipeline import CPUS, WORKERS
from tools.bench.processes import (
    ROOT,
    BenchError,
    Cluster,
    cluster,
    cpu_seconds,
    environment,
    running,
    wait_for,
)
from tools.bench.result import Result, alternate, ratios
from tools.bench.singles import run_jobs
from tools.bench.tasks import run_array

VIEWERS: Final = 20
JOBS: Final = 5_000
TASKS: Final = 50_000
QUICK: Final = 500
WARM_UP: Final = 1_000


class _Watched(NamedTuple):
    here: Cluster
    stub: manager_pb2_grpc.ManagerServiceStub


class _Round(NamedTuple):
    """Of one run: what the manager spent on a task, and how many there were in a second."""

    cpu_us: float
    rate: float


def measure(directory: Path, *, rounds: int, quick: bool) -> list[Result]:
    """Single jobs and an array on workers that run nothing, with viewers and without, by turns."""
    jobs, tasks = (QUICK, QUICK) if quick else (JOBS, TASKS)
    (directory / "with").mkdir()
    (directory / "without").mkdir()
    results: list[Result] = []
    with (
        _loaded(directory / "with", viewers=VIEWERS) as viewed,
        _loaded(directory / "without", viewers=0) as plain,
    ):
        results += _rows(
            f"{jobs:,} single jobs, {VIEWERS} viewers",
            rounds,
            lambda: _spent(viewed, jobs, lambda: run_jobs(viewed.here, jobs)),
            lambda: _spent(plain, jobs, lambda: run_jobs(plain.here, jobs)),
        )
        results += _rows(
            f"an array of {tasks:,} tasks, {VIEWERS} viewers",
            rounds,
            lambda: _spent(viewed, tasks, lambda: run_array(*viewed, tasks)),
            lambda: _spent(plain, tasks, lambda: run_array(*plain, tasks)),
        )
    return results


def _rows(
    what: str, rounds: int, viewed: Callable[[], _Round], plain: Callable[[], _Round]
) -> list[Result]:
    """What the manager spends is the cost; the rate shares the machine with pages and viewers."""
    found: dict[str, list[_Round]] = {"with": [], "without": []}

    def run(name: str, once: Callable[[], _Round]) -> float:
        found[name].append(once())
        return found[name][-1].cpu_us

    values, floors, cost = alternate(
        rounds, lambda: run("with", viewed), lambda: run("without", plain)
    )
    rates = tuple(each.rate for each in found["with"])
    without = tuple(each.rate for each in found["without"])
    return [
        Result(
            part="v", what=f"processor time of the manager, {what}", unit="µs/task",
            values=values, floor="without", floors=floors, ratios=cost, must="≤ 1.05",
        ),
        Result(
            part="v", what=f"{what}, {os.cpu_count()} cpus for them and all else", unit="tasks/s",
            values=rates, floor="without", floors=without, ratios=ratios(rates, without), must="",
        ),
    ]  # fmt: skip


def _spent(cluster_: _Watched, tasks: int, run: Callable[[], float]) -> _Round:
    before = cpu_seconds(cluster_.here.manager)
    seconds = run()
    return _Round((cpu_seconds(cluster_.here.manager) - before) * 1e6 / tasks, tasks / seconds)


@contextmanager
def _loaded(directory: Path, *, viewers: int) -> Iterator[_Watched]:
    with (
        cluster(directory, cpus=0) as here,
        fake_workers(directory, here, cpus=CPUS) as load,
        open_channel(here.address) as channel,
        _viewed(directory, here, viewers),
    ):
        load.grow(WORKERS)
        run_jobs(here, WARM_UP)
        yield _Watched(here, manager_pb2_grpc.ManagerServiceStub(channel))


@contextmanager
def _viewed(directory: Path, here: Cluster, viewers: int) -> Iterator[None]:
    """With so many who look at its pages."""
    if not viewers:
        yield
        return
    with running(directory, "web", here.address):
        tokens = directory / "state" / "titan" / "web"
        file = wait_for(lambda: next(tokens.glob("*.json"), None), "the pages")
        found = paths.read_json(file)
        assert found is not None
        address = found["url"].rpartition("/")[2]
        command = [sys.executable, "-m", "tools.bench.viewers", address, found["token"]]
        with subprocess.Popen(
            [*command, str(viewers)], cwd=ROOT, env=environment(directory),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        ) as people:  # fmt: skip
            assert people.stdin is not None
            assert people.stdout is not None
            if people.stdout.readline() != b"looking\n":
                raise BenchError("the viewers see nothing")
            yield
            people.stdin.close()


async def _look(address: str, token: str, count: int) -> None:
    streams = [asyncio.create_task(_read(address, token)) for _ in range(count)]
    loop = asyncio.get_running_loop()
    print("looking", flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    for each in streams:
        if each.done():
            raise BenchError("a stream has ended")
        each.cancel()


async def _read(address: str, token: str) -> None:
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        f"GET /api/v1/events HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\r\n"
        .encode()
    )  # fmt: skip
    while await reader.read(1 << 16):
        pass


if __name__ == "__main__":
    asyncio.run(_look(sys.argv[1], sys.argv[2], int(sys.argv[3])))
