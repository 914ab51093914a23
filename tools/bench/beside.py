"""(g) Appends a second while a snapshot is taken, against appends with nothing beside them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import wal
from titan import events as ev
from titan.snapshots import snapshot_directory
from tools.bench.history import History, write_lives
from tools.bench.opening import ENDED, ENDED_QUICK
from tools.bench.processes import ROOT, BenchError, seconds_of
from tools.bench.result import Result, alternate

# What a turn of a busy manager appends before anybody waits for it.
RECORDS_PER_FLUSH: Final = 20
ALONE_SECONDS: Final = 2.0
ALONE_SECONDS_QUICK: Final = 0.1
RECORD: Final = ev.encode_record(1 << 62, [ev.WorkerHeartbeats(tuple(range(1, 21)) * 2)])


def measure(directory: Path, *, rounds: int, quick: bool) -> list[Result]:
    """Both append into the same log: for as long as a snapshot of it takes, and a while alone."""
    write_lives(
        directory / "wal", ENDED_QUICK if quick else ENDED, History(arrays=False), singly=None
    )
    values, floors, ratios = alternate(
        rounds,
        lambda: seconds_of("beside", "with", directory),
        lambda: seconds_of(
            "beside", str(ALONE_SECONDS_QUICK if quick else ALONE_SECONDS), directory
        ),
    )
    return [
        Result(
            part="g",
            what="durable appends while a snapshot is taken",
            unit="records/s",
            values=values,
            floor="the same with nothing beside it",
            floors=floors,
            ratios=ratios,
            must="≥ 0.8",
        )
    ]


def _append(directory: Path, alone_seconds: float | None) -> float:
    """Records a second; None: while a snapshot is taken, which begins anew.

    The clock of the log stands.
    """
    for lsn in wal.find_snapshots(snapshot_directory(directory)):
        wal.remove_snapshot(snapshot_directory(directory), lsn)
    with wal.Log.open(directory / "wal") as log:
        log.start(_ignore, _ignore, _ignore)
        snapshotter = None
        if alone_seconds is None:
            arguments = (str(directory), "error", "text", "0", str(os.getpid()))
            command = [sys.executable, "-m", "titan.lookback.snapshotter", *arguments]
            snapshotter = subprocess.Popen(command, cwd=ROOT)
        count, start = 0, time.perf_counter()
        end = start + (alone_seconds or 0)
        while snapshotter.poll() is None if snapshotter else time.perf_counter() < end:
            for _ in range(RECORDS_PER_FLUSH):
                lsn = log.append(RECORD)
            count += RECORDS_PER_FLUSH
            log.wait_durable(lsn)
        seconds = time.perf_counter() - start
    if snapshotter is not None and snapshotter.returncode:
        raise BenchError(f"the snapshotter ended with {snapshotter.returncode}")
    return count / seconds


def _ignore(_: object) -> None:
    pass


def main(what: str, directory: str) -> int:
    """Prints the records a second, beside a snapshot or for so many seconds alone."""
    print(_append(Path(directory), None if what == "with" else float(what)))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
