"""(w) What it costs the manager that its metrics are scraped, and how long a scrape takes."""

from __future__ import annotations

import os
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median
from threading import Event, Thread
from typing import Final

from tools.bench.crowd import write_crowd
from tools.bench.pipeline import TASKS, TASKS_QUICK, Loaded, loaded
from tools.bench.processes import cluster, wait_for
from tools.bench.result import Result, against, alternate, compared_rows
from tools.bench.tasks import run_array
from tools.chaos.processes import free_ports

SCRAPE_SECONDS: Final = 1.0
SCRAPES: Final = 20
ENDED: Final = 1_000_000
WAITING: Final = 100_000
CROWD_QUICK: Final = (500, 100)
# Everything that ended stays, as in part p.
FORGET_OVER: Final = 2_000_000
SCRAPE_BOUND: Final = 0.05


def measure(directory: Path, *, rounds: int, quick: bool) -> list[Result]:
    """Both; the one who scrapes is a thread of this process."""
    crowd = CROWD_QUICK if quick else (ENDED, WAITING)
    return [
        *_measure_cost(directory, rounds, TASKS_QUICK if quick else TASKS),
        *_measure_scrape(directory, rounds, *crowd),
    ]


def _measure_cost(directory: Path, rounds: int, tasks: int) -> list[Result]:
    (directory / "with").mkdir()
    (directory / "without").mkdir()
    address = _free_address()
    with (
        loaded(directory / "with", address) as scraped,
        loaded(directory / "without") as left_alone,
        _scraping(address),
    ):
        before = _cpu_seconds(scraped, left_alone)
        values, floors, ratios = alternate(
            rounds,
            lambda: tasks / run_array(*scraped, tasks),
            lambda: tasks / run_array(*left_alone, tasks),
        )
        spent = [
            after - then
            for after, then in zip(_cpu_seconds(scraped, left_alone), before, strict=True)
        ]
    return [
        Result(
            part="w",
            what=f"part n with a scrape each second, {os.cpu_count()} cpus for all of it",
            unit="tasks/s",
            values=values,
            floor="without",
            floors=floors,
            ratios=ratios,
            must="≥ 0.98",
            details={
                "manager µs/task": spent[0] * 1e6 / (rounds * tasks),
                "without": spent[1] * 1e6 / ((rounds + 1) * tasks),
            },
        )
    ]


def _measure_scrape(directory: Path, rounds: int, ended: int, waiting: int) -> list[Result]:
    crowded = directory / "crowded"
    crowded.mkdir()
    write_crowd(crowded / "m", ended, waiting)
    address = _free_address()
    with cluster(crowded, cpus=0, forget_over=FORGET_OVER, options=(address,)):
        wait_for(lambda: _scrape(address) or None, "a scrape")
        values = tuple(
            median(_scrape(address) for _ in range(SCRAPES)) for _ in range(rounds)
        )  # fmt: skip
    return compared_rows(
        [(f"{SCRAPE_BOUND * 1e3:g} ms", "≤ 1", against(SCRAPE_BOUND, values))],
        part="w", what=f"a scrape beside {ended:,} ended and {waiting:,} waiting jobs", unit="s",
        values=values,
    )  # fmt: skip


def _cpu_seconds(*each: Loaded) -> list[float]:
    return [here.cpu_seconds()["manager"] for here, _ in each]


def _scrape(address: str) -> float:
    """The seconds that it takes; raises OSError."""
    begun = time.perf_counter()
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
        answer.read()
    return time.perf_counter() - begun


@contextmanager
def _scraping(address: str) -> Iterator[None]:
    stop = Event()

    def scrape() -> None:
        while not stop.wait(SCRAPE_SECONDS):
            # One that is not answered in time is none; Prometheus asks again, too.
            with suppress(OSError):
                _scrape(address)

    thread = Thread(target=scrape)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _free_address() -> str:
    (port,) = free_ports(1)
    return f"127.0.0.1:{port}"
