"""(n) Tasks a second through everything but processes: what the manager itself can do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from titan.rpc.channel import open_channel
from titan.rpc.v1 import manager_pb2_grpc
from tools.bench import peers
from tools.bench.fake_workers import fake_workers
from tools.bench.processes import Cluster, cluster
from tools.bench.result import Result, against, alternate_with, compared_rows
from tools.bench.tasks import run_array

WORKERS: Final = 4
CPUS: Final = 16
TASKS: Final = 50_000
TASKS_QUICK: Final = 500
WARM_UP_TASKS: Final = 2_000
# A peer's rate does not depend on it, and it takes a while for so many.
PEER_TASKS: Final = 5_000
BOUND: Final = 15_000.0
Loaded = tuple[Cluster, manager_pb2_grpc.ManagerServiceStub]


def measure(directory: Path, *, rounds: int, quick: bool) -> list[Result]:
    """An array, from its submit to the last end that a watching client sees, durable all."""
    tasks = TASKS_QUICK if quick else TASKS
    peer = peers.DASK
    notes = peers.why_absent(peer, quick=quick)
    others = [] if notes else [lambda: peers.tasks_per_second(peer, directory, PEER_TASKS)]
    with (
        cluster(directory, cpus=0) as here,
        fake_workers(directory, here, cpus=CPUS) as load,
        open_channel(here.address) as channel,
    ):
        load.grow(WORKERS)
        stub = manager_pb2_grpc.ManagerServiceStub(channel)
        run_array(here, stub, min(WARM_UP_TASKS, tasks))
        manager_before, load_before = here.cpu_seconds()["manager"], load.cpu_seconds()
        values, compared = alternate_with(
            rounds, lambda: tasks / run_array(here, stub, tasks), others
        )
        spent = {
            "manager µs/task": here.cpu_seconds()["manager"] - manager_before,
            "workers µs/task": load.cpu_seconds() - load_before,
        }
    rows = [(f"{BOUND:,.0f} tasks/s", "≥ 1", against(BOUND, values))]
    rows += [(peer.title, "≥ 4", each) for each in compared]
    return compared_rows(
        rows, part="n", what=f"tasks without processes, {WORKERS} workers of {CPUS} cpus",
        unit="tasks/s", values=values, notes=notes,
        details={name: each * 1e6 / (rounds * tasks) for name, each in spent.items()},
    )  # fmt: skip


@contextmanager
def loaded(directory: Path, *options: str) -> Iterator[Loaded]:
    """A manager with these options and such workers, warm; what `run_array` takes."""
    with (
        cluster(directory, cpus=0, options=options) as here,
        fake_workers(directory, here, cpus=CPUS) as load,
        open_channel(here.address) as channel,
    ):
        load.grow(WORKERS)
        stub = manager_pb2_grpc.ManagerServiceStub(channel)
        run_array(here, stub, TASKS_QUICK)
        yield here, stub
