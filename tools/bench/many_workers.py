"""(o) What it costs the manager that many idle workers say every three seconds that they live."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import linear_regression, median
from typing import Final

from tools.bench.fake_workers import Load, fake_workers, raise_file_limit
from tools.bench.processes import Cluster, cluster
from tools.bench.result import Curve, Result

WORKERS: Final = (100, 300, 1_000, 3_000)
WORKERS_QUICK: Final = (5, 10, 20)
BOUNDED_WORKERS: Final = 1_000
BOUNDED_WORKERS_QUICK: Final = 10
FAR_WORKERS: Final = 10_000
BOUND_PERCENT: Final = 15.0
# As the manager tells its workers. Each window is a whole number of them.
INTERVAL_SECONDS: Final = 3.0
WINDOW_SECONDS: Final = 2 * INTERVAL_SECONDS
WINDOW_SECONDS_QUICK: Final = 0.3
# Above it the process of the workers may be late with its heartbeats.
LOAD_PERCENT_MAX: Final = 85.0
# Connections of a process for each worker, and its other files.
FILES_BESIDE: Final = 200


def measure(directory: Path, *, rounds: int, quick: bool) -> list[Result]:
    """A cluster that grows, in one process for all workers; at each size so many windows."""
    wanted = WORKERS_QUICK if quick else WORKERS
    files = raise_file_limit()
    sizes = [size for size in wanted if size + FILES_BESIDE <= files]
    notes = [
        f"{size:,} workers are left out: a process may open {files:,} files here (ulimit -Hn)"
        for size in wanted
        if size not in sizes
    ]
    seconds = WINDOW_SECONDS_QUICK if quick else WINDOW_SECONDS
    shares: dict[int, list[float]] = {}
    loads: dict[int, float] = {}
    with (
        cluster(directory, cpus=0) as here,
        fake_workers(directory, here, cpus=1) as load,
    ):
        for size in sizes:
            load.grow(size)
            # The last to come have beaten once, and what their coming took is over.
            time.sleep(seconds)
            windows = [_window(here, load, seconds) for _ in range(rounds)]
            shares[size] = [manager for manager, _ in windows]
            loads[size] = median(each for _, each in windows)
            load.check()
    notes += [
        f"with {size:,} workers their own process is at its limit: {share:.0f} % of a core"
        for size, share in loads.items()
        if share > LOAD_PERCENT_MAX
    ]
    return _results(shares, loads, notes, BOUNDED_WORKERS_QUICK if quick else BOUNDED_WORKERS)


def _window(here: Cluster, load: Load, seconds: float) -> tuple[float, float]:
    """Percent of a core that the manager and the process of the workers use for so long."""
    parts: tuple[Callable[[], float], ...] = (
        lambda: here.cpu_seconds()["manager"],
        load.cpu_seconds,
    )
    start = time.perf_counter()
    before = [each() for each in parts]
    time.sleep(seconds)
    after = [each() for each in parts]
    passed = time.perf_counter() - start
    manager, workers = (100 * (b - a) / passed for a, b in zip(before, after, strict=True))
    return manager, workers


def _results(
    shares: dict[int, list[float]], loads: dict[int, float], notes: Sequence[str], bounded: int
) -> list[Result]:
    medians = {size: median(each) for size, each in shares.items()}
    slope, intercept = linear_regression(list(medians), list(medians.values()))
    far = intercept + slope * FAR_WORKERS
    details = {f"{size:,} workers %": each for size, each in medians.items()}
    details |= {f"their own process with {size:,} %": each for size, each in loads.items()}
    # A worker's part of a percent of a core, and that over what it beats a second.
    beat_us = slope / 100 * INTERVAL_SECONDS * 1e6
    curve = Curve(
        name="heartbeats",
        title=f"Idle workers, a heartbeat every {INTERVAL_SECONDS:g} s",
        x_label="workers (count)",
        y_label="processor time (% of a core)",
        series={
            "the manager, median": list(medians.items()),
            "the process of all workers": list(loads.items()),
        },
        line=[(0, intercept), (FAR_WORKERS, far)],
        line_label=f"fitted: {beat_us:.0f} µs a heartbeat, {far:.0f} % at {FAR_WORKERS:,}",
        bound=BOUND_PERCENT,
        bound_label=f"must keep to with {bounded:,} workers",
    )
    return [
        Result(
            part="o",
            what=f"manager with {bounded:,} idle workers",
            unit="% of a core",
            values=tuple(shares[bounded]),
            floor=f"{BOUND_PERCENT:g} % of a core",
            floors=(BOUND_PERCENT,),
            ratios=tuple(value / BOUND_PERCENT for value in shares[bounded]),
            must="≤ 1",
            details=details,
            notes=notes,
            curve=curve,
        ),
        Result(
            part="o",
            what=f"manager with {FAR_WORKERS:,}, by a line through {', '.join(map(str, medians))}",
            unit="% of a core",
            values=(far,),
            floor="a whole core",
            floors=(100.0,),
            ratios=(far / 100,),
            must="",
            details={"fitted µs/heartbeat": beat_us},
        ),
    ]
