"""Other schedulers that pip can install, run as their users would: `python -m tools.bench.peers`.

They are optional: what is not installed is left out, and the rows say so. Each run has a process
and a directory of its own, which goes with that of the run.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

from tools.bench.processes import ROOT, BenchError

CPUS: Final = 2
# The first tasks of each start threads and open connections.
WARM_UP_TASKS: Final = 200
RUN_SECONDS_MAX: Final = 180.0
# HyperQueue's client looks whether a job has ended once a second; here it is asked again and
# again, which takes about a millisecond each time.
POLL_SECONDS: Final = 0.02


class Peer(NamedTuple):
    """A scheduler to compare with."""

    name: str
    module: str
    """What pip calls it, and Python."""
    how: str
    """What is measured of it."""

    @property
    def is_there(self) -> bool:
        """Whether it is installed."""
        return importlib.util.find_spec(self.module) is not None

    @property
    def title(self) -> str:
        """With its version, for the table."""
        return f"{self.name} {importlib.metadata.version(self.module)}: {self.how}"


HYPERQUEUE: Final = Peer(
    "HyperQueue",
    "hyperqueue",
    f"one job of as many tasks, server and a worker of {CPUS} cpus, output into files, no journal",
)
DASK: Final = Peer(
    "Dask",
    "distributed",
    f"no-op tasks, {CPUS} worker processes of a thread each, worker-saturation inf",
)


def why_absent(peer: Peer, *, quick: bool) -> tuple[str, ...]:
    """The note for rows without that peer; none when it is to be measured."""
    if quick:
        return (f"not compared with {peer.name}: a quick run is no comparison",)
    if not peer.is_there:
        return (f"not compared with {peer.name}: pip install '.[peers]' brings it",)
    return ()


def tasks_per_second(peer: Peer, directory: Path, tasks: int) -> float:
    """So many tasks, from the submit until its client knows that all have ended.

    Raises BenchError.
    """
    home = tempfile.mkdtemp(prefix=peer.module, dir=directory)
    log = Path(home) / "log"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "tools.bench.peers", peer.module, home, str(tasks)],
            cwd=ROOT, env=_environment(home), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=errors, start_new_session=True,
        )  # fmt: skip
    try:
        output, _ = process.communicate(timeout=RUN_SECONDS_MAX)
    except subprocess.TimeoutExpired as error:
        raise BenchError(f"{peer.name} took more than {RUN_SECONDS_MAX:g} s") from error
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if process.returncode:
        raise BenchError(f"{peer.name} failed: {log.read_text()[-2000:]}")
    # HyperQueue prints where it listens before that.
    return float(output.split()[-1])


def _environment(home: str) -> dict[str, str]:
    places = ("HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME",
              "DASK_CONFIG")  # fmt: skip
    return os.environ | dict.fromkeys(places, home)


class _Polled(Exception):
    """The answer is there, and need not be waited for any longer."""


def _run_hyperqueue(home: str, tasks: int) -> float:
    """Seconds."""
    hyperqueue = _load("hyperqueue")
    worker = _load("hyperqueue.cluster").WorkerConfig(cores=CPUS)
    with hyperqueue.LocalCluster(f"{home}/server", worker) as cluster:
        client = cluster.client()

        def run(count: int) -> float:
            folder = Path(home) / str(count)
            job = hyperqueue.Job(default_workdir=folder, max_fails=0)
            for _ in range(count):
                job.program(["/bin/true"])
            start = time.perf_counter()
            job_id = client.submit(job).id
            while not _has_ended(client, job_id):
                time.sleep(POLL_SECONDS)
            seconds = time.perf_counter() - start
            if sum(1 for _ in folder.iterdir()) != 2 * count:
                raise BenchError("not every task has its two files")
            return seconds

        run(min(WARM_UP_TASKS, tasks // 2))
        return run(tasks)


def _has_ended(client: Any, job_id: int) -> bool:
    seen: dict[int, dict[str, Any]] = {}

    def note(jobs: dict[int, dict[str, Any]]) -> None:
        seen.update(jobs)
        raise _Polled

    try:
        client.connection.wait_for_jobs((job_id,), note)
    except _Polled:
        if seen[job_id]["failed"]:
            raise BenchError("a task failed") from None
        return bool(seen[job_id]["completed"])
    return True


def _run_dask(home: str, tasks: int) -> float:
    """Seconds."""
    distributed = _load("distributed")
    _load("dask").config.set({"distributed.scheduler.worker-saturation": float("inf")})
    with (
        distributed.LocalCluster(
            n_workers=CPUS, threads_per_worker=1, dashboard_address=None, local_directory=home
        ) as cluster,
        distributed.Client(cluster) as client,
    ):

        def run(count: int) -> float:
            start = time.perf_counter()
            futures = client.map(_do_nothing, range(count), pure=False)
            distributed.wait(futures)
            return time.perf_counter() - start

        run(min(WARM_UP_TASKS, tasks // 2))
        return run(tasks)


def _load(module: str) -> Any:
    """Optional, and without types."""
    return importlib.import_module(module)


def _do_nothing(_: int) -> None:
    pass


_RUNS: Final[dict[str, Callable[[str, int], float]]] = {
    HYPERQUEUE.module: _run_hyperqueue,
    DASK.module: _run_dask,
}


def main(module: str, home: str, tasks: str) -> int:
    """Prints the tasks a second."""
    print(int(tasks) / _RUNS[module](home, int(tasks)))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
