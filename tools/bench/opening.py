"""Opening a data directory, as a manager's start does: (e) the log alone, (f) a snapshot."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgpack

import wal
from titan import events as ev
from titan.manager.recovery import recover
from titan.snapshots import snapshot_directory, take_snapshot
from titan.state.cluster import ClusterState
from tools.bench.history import History, write_lives
from tools.bench.processes import BenchError, seconds_of
from tools.bench.result import Result, alternate

TASKS: Final = 1_000_000
TASKS_QUICK: Final = 2_000
# What a manager remembers by default.
ENDED: Final = 250_000
ENDED_QUICK: Final = 500
LIVE: Final = 20_000
LIVE_QUICK: Final = 100
LIVE_SECONDS: Final = 5e-6


def measure_log(directory: Path, *, rounds: int, quick: bool) -> list[Result]:
    """(e) Each in a process of its own."""
    tasks = TASKS_QUICK if quick else TASKS
    events = write_lives(directory / "wal", tasks, History(), singly=directory / "single")
    values, floors, ratios = alternate(
        rounds,
        lambda: seconds_of("opening", "recover", directory),
        lambda: seconds_of("opening", "scan", directory / "single"),
    )
    return [
        Result(
            part="e",
            what=f"opening the log of {tasks:,} tasks' life",
            unit="s",
            values=values,
            floor="reading and unpacking the same events, written one a record",
            floors=floors,
            ratios=ratios,
            must="≤ 5",
            details={"events": events, "log MB": _size(directory / "wal") / 1e6},
        )
    ]


def measure_snapshot(directory: Path, *, rounds: int, quick: bool) -> list[Result]:
    """(f) The bound: twice the unpacking of all, and 5 µs for each live job."""
    ended, live = (ENDED_QUICK, LIVE_QUICK) if quick else (ENDED, LIVE)
    state = _write_ended_and_live(directory, ended, live)
    live_seconds = LIVE_SECONDS * len(state.live_jobs)
    values, floors, ratios = alternate(
        rounds,
        lambda: seconds_of("opening", "recover", directory),
        lambda: 2 * seconds_of("opening", "unpack", directory) + live_seconds,
    )
    return [
        Result(
            part="f",
            what=f"opening a snapshot of {ended:,} ended and {len(state.live_jobs):,} live jobs",
            unit="s",
            values=values,
            floor="2 × reading and unpacking the snapshot + 5 µs × live jobs",
            floors=floors,
            ratios=ratios,
            must="≤ 1",
            details={"snapshot MB": _size(snapshot_directory(directory)) / 1e6},
        )
    ]


def _write_ended_and_live(directory: Path, ended: int, live: int) -> ClusterState:
    """A log whose end is a snapshot; returns the state."""
    history = History(arrays=False)
    with wal.Log.open(directory / "wal") as log:
        for lsn, record in enumerate(history.records(live_jobs_after=ended, live_jobs=live), 1):
            log.append(ev.encode_record(*record))
            if lsn % 10 == 0:
                log.flush()

    def fail(error: Exception) -> None:
        raise BenchError(str(error))

    if take_snapshot(directory, fail, left_free_bytes=0) is None:
        raise BenchError("no snapshot was taken")
    return history.state


def _recover(directory: Path) -> None:
    recover(directory).log.abandon()


def _scan(directory: Path) -> None:
    unpack = msgpack.unpackb
    with wal.Reader(directory) as reader:
        for _, payload in reader:
            unpack(payload, raw=False, strict_map_key=False)


def _unpack(directory: Path) -> list[Any]:
    """What is unpacked is kept, as an opening keeps it."""
    lsn = wal.find_snapshots(snapshot_directory(directory))[-1]
    with wal.open_snapshot(snapshot_directory(directory), lsn) as snapshot:
        return [msgpack.unpackb(block, use_list=False) for block in snapshot.blocks()]


def _size(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.iterdir())


def main(what: str, directory: str) -> int:
    """Prints the seconds that it takes."""
    works: dict[str, Callable[[Path], object]] = {
        "recover": _recover,
        "scan": _scan,
        "unpack": _unpack,
    }
    # As a start does.
    gc.disable()
    start = time.perf_counter()
    kept = works[what](Path(directory))
    print(time.perf_counter() - start)
    del kept
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
