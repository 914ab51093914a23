"""(d) Replay of a log, against reading and unpacking the same bytes and doing nothing."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgpack

import wal
from titan.state.cluster import ClusterState
from titan.state.replay import replay
from tools.bench.history import write_history
from tools.bench.processes import seconds_of
from tools.bench.result import Result, alternate

EVENTS: Final = 1_000_000
EVENTS_QUICK: Final = 2_000


def measure(directory: Path, *, rounds: int, quick: bool, events: int = 0) -> list[Result]:
    """Each in a process of its own, as at a manager's start. `events` 0: as many as ever."""
    log = directory / "wal"
    written = write_history(log, events or (EVENTS_QUICK if quick else EVENTS))
    values, floors, ratios = alternate(
        rounds,
        lambda: written / seconds_of("replay", "replay", log),
        lambda: written / seconds_of("replay", "scan", log),
    )
    size = sum(path.stat().st_size for path in log.glob("*.wal"))
    return [
        Result(
            part="d",
            what=f"replay of {written:,} events",
            unit="events/s",
            values=values,
            floor="reading the same log and unpacking its msgpack",
            floors=floors,
            ratios=ratios,
            must="",
            details={"log MB": size / 1e6, "bytes/event": size / written},
        )
    ]


def scan(log: wal.Log) -> None:
    """The floor."""
    for _, payload in log.records():
        msgpack.unpackb(payload, raw=False, strict_map_key=False)


def replay_all(log: wal.Log) -> None:
    """The measure."""
    replay(log.records(), ClusterState())


def main(what: str, directory: str) -> int:
    """Prints the seconds that one of them takes, without the check that opening a log makes."""
    works: dict[str, Callable[[wal.Log], None]] = {"scan": scan, "replay": replay_all}
    with wal.Log.open(directory) as log:
        start = time.perf_counter()
        works[what](log)
        print(time.perf_counter() - start)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
