"""(i) A question about an hour ago, on the log of a busy day: the first time, and again."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

import wal
from titan import events as ev
from titan.client.sync import Client
from titan.manager.directory import write_description
from titan.manager.keeper import SnapshotPolicy
from titan.manager.retention import Limits, Retention
from titan.snapshots import take_snapshot
from tools.bench.history import RECORDS_PER_FLUSH, History
from tools.bench.processes import BenchError, cluster
from tools.bench.result import Result

DAY_US: Final = 24 * 3600 * 1_000_000
TASKS: Final = 1_000_000
TASKS_QUICK: Final = 3_000
# What a history's turn ends, about; a day is so many turns.
TASKS_PER_TURN: Final = 37


def measure(directory: Path, *, rounds: int, quick: bool) -> list[Result]:
    """Through a manager and its lookback process, as `titan --at` asks."""
    tasks = TASKS_QUICK if quick else TASKS
    data = directory / "m"
    end_us, records = _write_day(data, tasks)
    firsts: list[float] = []
    again: list[float] = []
    for number in range(rounds):
        # A new manager has no process yet that knows anything.
        access = data / "access.json"
        # It tells where the manager is, and the one before was elsewhere.
        access.unlink(missing_ok=True)
        with (
            cluster(directory, cpus=0) as here,
            Client(here.address, access_file=access) as client,
        ):
            client.stats()
            moment = end_us / 1e6 - 3600 - number
            firsts.append(_seconds(client, moment))
            again.append(_seconds(client, moment))
    details = {"tasks": tasks, "records": records, "log MB": _megabytes(data / "wal"),
               "snapshots": len(wal.find_snapshots(data / "snapshots")),
               "snapshots MB": _megabytes(data / "snapshots")}  # fmt: skip
    return [
        _result("an hour ago, asked first", firsts, 2.0, details),
        _result("the same again", again, 0.2, {}),
    ]


def _result(what: str, values: list[float], bound: float, details: dict[str, float]) -> Result:
    return Result(
        part="i",
        what=what,
        unit="s",
        values=tuple(values),
        floor="what it may take: 2 s, and 0.2 s again",
        floors=(bound,),
        ratios=tuple(value / bound for value in values),
        must="≤ 1",
        details=details,
    )


def _seconds(client: Client, moment: float) -> float:
    start = time.perf_counter()
    client.queue(at=moment)
    return time.perf_counter() - start


def _write_day(data: Path, tasks: int) -> tuple[int, int]:
    """A day's log with the snapshots that a manager would have kept; when it ends."""
    # Retention goes by the clock: a day of years ago would be gone.
    start_us = time.time_ns() // 1000 - DAY_US
    history = History(turn_us=DAY_US * TASKS_PER_TURN // tasks, start_us=start_us)
    retention, policy = Retention(data, Limits()), SnapshotPolicy()
    since_bytes = since_records = last_bytes = 0
    data.mkdir()
    paths = data / "wal"
    with wal.Log.open(paths) as log:
        ended = lsn = 0
        for time_us, events in history.records():
            payload = ev.encode_record(time_us, events)
            lsn = log.append(payload)
            since_bytes, since_records = since_bytes + len(payload), since_records + 1
            ended += sum(isinstance(event, ev.AttemptEnded) for event in events)
            if lsn % RECORDS_PER_FLUSH == 0:
                log.flush()
            if policy.is_due(
                bytes_since=since_bytes, records_since=since_records, last_bytes=last_bytes
            ):
                log.flush()
                taken = take_snapshot(data, _fail, left_free_bytes=0)
                assert taken is not None
                since_bytes, since_records, last_bytes = 0, 0, taken.size_bytes
                retention.tidy(
                    now_us=time_us, end_lsn=lsn, last_segment_bytes=log.last_segment_bytes
                )
            if ended >= tasks:
                break
    write_description(data, history.state.cluster_id)
    return history.state.time_us, lsn


def _fail(error: Exception) -> None:
    raise BenchError(str(error))


def _megabytes(directory: Path) -> float:
    # As the disk has it: the segment in use is preallocated.
    return sum(path.stat().st_size for path in directory.glob("*")) / 1e6
