"""(u) The history in SQL: how fast it is written and asked, and what it costs the manager."""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from threading import Event
from typing import Any, Final

from titan.cli.group import cli
from titan.history.database import (
    HistoryRefused,
    open_for_reading,
    open_for_writing,
    url_of,
)
from titan.history.projection import Batch
from titan.history.projector import Projector
from titan.history.questions import Questions, find_place
from titan.history.store import Place, Store
from tools.bench.history import write_history
from tools.bench.pipeline import TASKS, TASKS_QUICK, loaded
from tools.bench.processes import BenchError, Cluster, cluster, seconds_of, wait_for
from tools.bench.result import Result, against, alternate, compared_rows
from tools.bench.tasks import run_array
from wal import Position

EVENTS: Final = 1_000_000
EVENTS_QUICK: Final = 10_000
EVENTS_BOUND: Final = 20_000.0
JOBS: Final = 1_000_000
JOBS_QUICK: Final = 2_000
DAYS: Final = 30
DAY_SECONDS: Final = 86_400
ANSWER_BOUND: Final = 0.3
ROWS_AT_ONCE: Final = 20_000


def measure(directory: Path, *, rounds: int, quick: bool) -> list[Result]:
    """All three; the history is in SQLite."""
    return [
        *_measure_writing(directory, rounds, EVENTS_QUICK if quick else EVENTS),
        *_measure_reading(directory, rounds, JOBS_QUICK if quick else JOBS),
        *_measure_manager(directory, rounds, TASKS_QUICK if quick else TASKS),
    ]


def _measure_writing(directory: Path, rounds: int, events: int) -> list[Result]:
    data = directory / "log"
    data.mkdir()
    count = write_history(data / "wal", events)
    values = tuple(count / seconds_of("projection", "project", data) for _ in range(rounds))
    return compared_rows(
        [(f"{EVENTS_BOUND:,.0f} events/s", "≥ 1", against(EVENTS_BOUND, values))],
        part="u", what=f"{count:,} events into SQLite", unit="events/s", values=values,
    )  # fmt: skip


def _measure_reading(directory: Path, rounds: int, jobs: int) -> list[Result]:
    file = directory / "read.sqlite"
    _fill(file, jobs)
    results = []
    with _asked(directory / "asked", file) as here:
        access_file = str(here.directory / "m" / "access.json")
        remote = ("--manager", here.address, "--access", access_file)
        for how, where in (
            ("", ("--history", f"sqlite:///{file}")),
            (" through a manager", remote),
        ):
            for what, options in (
                ("the last day of", ()),
                ("totals by user of the last day of", ("--totals", "user")),
            ):
                asked = [*where, *options]
                # The first one loads what is loaded at a start, whatever is asked.
                _answer(asked)
                values = tuple(_answer(asked) for _ in range(rounds))
                results += compared_rows(
                    [(f"{ANSWER_BOUND} s", "≤ 1", against(ANSWER_BOUND, values))],
                    part="u", what=f"{what} {jobs:,} jobs in {DAYS}{how}, beyond the start-up",
                    unit="s", values=values,
                )  # fmt: skip
    return results


@contextmanager
def _asked(directory: Path, file: Path) -> Iterator[Cluster]:
    """A manager whose history has the rows of that file, too."""
    directory.mkdir()
    with cluster(directory, cpus=0, options=("history",)) as here:
        own = directory / "m" / "history.sqlite"
        engine = open_for_writing(url_of(f"sqlite:///{own}", directory))
        try:
            # What is written first follows the tables.
            wait_for(lambda: _is_begun(own) or None, "the history")
            with engine.connect() as connection:
                connection.exec_driver_sql("ROLLBACK")
                connection.exec_driver_sql(f"ATTACH '{file}' AS filled")
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                for table in ("jobs", "attempts"):
                    connection.exec_driver_sql(f"INSERT INTO {table} SELECT * FROM filled.{table}")
                connection.commit()
        finally:
            engine.dispose()
        yield here


def _is_begun(file: Path) -> bool:
    """Whether the history has its tables and a place in the log."""
    if not file.exists():
        return False
    engine = open_for_reading(url_of(f"sqlite:///{file}", file.parent))
    try:
        with Questions(engine).asked() as connection:
            return find_place(connection)[0] > 0
    except HistoryRefused:
        return False
    finally:
        engine.dispose()


def _measure_manager(directory: Path, rounds: int, tasks: int) -> list[Result]:
    (directory / "with").mkdir()
    (directory / "without").mkdir()
    with (
        loaded(directory / "with", "history") as with_history,
        loaded(directory / "without") as without,
    ):
        values, floors, ratios = alternate(
            rounds,
            lambda: tasks / run_array(*with_history, tasks),
            lambda: tasks / run_array(*without, tasks),
        )
    return [
        Result(
            part="u",
            what=f"part n with a history, {os.cpu_count()} cpus for manager, workers and that",
            unit="tasks/s",
            values=values,
            floor="without",
            floors=floors,
            ratios=ratios,
            must="≥ 0.9",
        )
    ]


def _answer(arguments: list[str]) -> float:
    """The seconds that the command takes in this process, its output included."""
    with redirect_stdout(io.StringIO()) as told, redirect_stderr(io.StringIO()):
        start = time.perf_counter()
        code = cli.main(["history", *arguments], standalone_mode=False)
        seconds = time.perf_counter() - start
    if code or not told.getvalue():
        raise BenchError(f"`titan history` ended with {code}")
    return seconds


def _fill(file: Path, jobs: int) -> None:
    """Jobs of one task each that ended within the last thirty days, evenly."""
    store = Store(open_for_writing(url_of(f"sqlite:///{file}", file.parent)))
    store.migrate()
    now, apart = time.time(), DAYS * DAY_SECONDS / jobs
    start = _place(0)
    store.write_anew(start, [])
    for first in range(0, jobs, ROWS_AT_ONCE):
        batch = Batch()
        for job_id in range(first + 1, min(first + ROWS_AT_ONCE, jobs) + 1):
            end_time = now - (jobs - job_id) * apart
            batch.jobs[job_id] = _job(job_id, end_time)
            batch.attempts[job_id, 0, 1] = _attempt(job_id, end_time)
        end = _place(first + ROWS_AT_ONCE)
        store.write(batch, start, end)
        start = end
    store.close()


def _place(lsn: int) -> Place:
    return Place(b"c" * 16, Position(b"l" * 16, lsn, 0), lsn)


def _job(job_id: int, end_time: float) -> dict[str, Any]:
    return {
        **_common(job_id, end_time),
        "command": '["/usr/bin/python3", "step.py", "--input", "part-1"]',
        "cwd": "/srv/project",
        "resources": "{}",
        "priority": 0,
        "time_limit_seconds": None,
        "array": None,
        "tasks": 1,
        "tasks_completed": int(job_id % 50 != 0),
        "tasks_failed": int(job_id % 50 == 0),
        "tasks_cancelled": 0,
        "attempts": 1,
        "submit_lsn": job_id,
    }


def _attempt(job_id: int, end_time: float) -> dict[str, Any]:
    path = f"/var/lib/titan/worker/output/{job_id}/0/0.1"
    return {
        **_common(job_id, end_time),
        "task_index": 0,
        "attempt": 1,
        "worker": f"worker{job_id % 100}",
        "detail": None,
        "wait_seconds": 10.0,
        "run_seconds": 60.0,
        "cpu_user_seconds": 50.0,
        "cpu_system_seconds": 1.0,
        "max_rss_bytes": 1 << 28,
        "stdout_path": path + ".out",
        "stderr_path": path + ".err",
        "lsn": job_id,
    }


def _common(job_id: int, end_time: float) -> dict[str, Any]:
    has_failed = job_id % 50 == 0
    return {
        "job_id": job_id,
        "name": f"step-{job_id % 1000}",
        "user_name": f"user{job_id % 40}",
        "cpus": 1.0,
        "memory_bytes": 1 << 30,
        "state": "FAILED" if has_failed else "COMPLETED",
        "reason": "EXIT",
        "exit_code": int(has_failed),
        "signal": None,
        "submit_time": end_time - 70,
        "start_time": end_time - 60,
        "end_time": end_time,
    }


def main(what: str, directory: Path) -> None:
    """Prints the seconds that a projection of the whole log takes."""
    assert what == "project"
    for file in directory.glob("history.sqlite*"):
        file.unlink()
    store = Store(open_for_writing(url_of("", directory)))
    start = time.perf_counter()
    Projector(directory, store, stop=Event()).run(until_end=True)
    print(time.perf_counter() - start)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
