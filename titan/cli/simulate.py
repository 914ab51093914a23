"""`titan simulate`: a workload in virtual time through the real scheduler."""

from __future__ import annotations

import csv
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, TextIO

import click

from titan.cli.command import Command, Settings, say
from titan.cli.params import CPUS
from titan.cli.progress import count_on_bar
from titan.cli.text import print_json
from titan.errors import TitanError
from titan.scheduler.policies import DEFAULT_POLICY, POLICIES
from titan.scheduling import ORDERS
from titan.simulator.plot import SUFFIXES, check_can_plot
from titan.simulator.plot import plot as draw
from titan.simulator.series import compute_series
from titan.simulator.settings import kernel_settings
from titan.simulator.simulation import Schedule, Simulation
from titan.simulator.statistics import compute_statistics
from titan.simulator.swf import read_swf, with_exact_limits
from titan.traces.file import open_trace
from titan.traces.lines import format_seconds
from titan.units import format_age

_WORKERS_MAX: Final = 10_000


def _check_suffix(_: click.Context, __: click.Parameter, path: Path | None) -> Path | None:
    if path is not None and path.suffix.lower() not in SUFFIXES:
        raise click.BadParameter(f"the file's name has to end in {', '.join(SUFFIXES)}")
    return path


@click.command(
    cls=Command,
    takes=("json",),
    epilog="""\b
Examples:
  titan simulate --cpus 100 KTH-SP2-1996-2.1-cln.swf.gz
  titan simulate --cpus 64 --workers 4 --policy spread --json trace.swf | jq .wait_mean_seconds
  titan simulate --cpus 100 --schedule jobs.csv --plot cluster.png trace.swf
""",
)
@click.argument("trace", metavar="TRACE", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--cpus", type=CPUS, required=True, metavar="N", help="Cpus of each worker.")
@click.option(
    "--workers",
    type=click.IntRange(1, _WORKERS_MAX),
    default=1,
    show_default=True,
    metavar="W",
    help="Workers, all alike.",
)
@click.option(
    "--order",
    type=click.Choice(ORDERS),
    default=ORDERS[0],
    show_default=True,
    help="Who goes next.",
)
@click.option(
    "--policy",
    type=click.Choice(list(POLICIES)),
    default=DEFAULT_POLICY,
    show_default=True,
    help="Which worker gets a job.",
)
@click.option(
    "--estimates",
    type=click.Choice(("user", "exact")),
    default="user",
    show_default=True,
    help="Time limits: what the trace's users asked for, or how long the jobs really run.",
)
@click.option(
    "--users",
    type=click.Choice(("one", "trace")),
    default="one",
    show_default=True,
    help="Submit all jobs as one user, or as those of the trace.",
)
@click.option(
    "--schedule",
    type=click.Path(path_type=Path),
    metavar="FILE.csv",
    help="Write when each job was submitted, started and ended, in seconds.",
)
@click.option(
    "--plot",
    type=click.Path(path_type=Path),
    callback=_check_suffix,
    metavar="FILE.png",
    help="Draw utilisation and queue depth over time; .svg and .pdf work, too.",
)
@click.pass_obj
def simulate(
    settings: Settings, /, *, trace: Path, schedule: Path | None, plot: Path | None, **asked: Any
) -> int:
    """Run a workload through the scheduler in virtual time, and show what came of it.

    TRACE is in the Standard Workload Format (SWF), gzipped or not; - is stdin. The kernel and
    the scheduler are those of `titan manager`; only workers and time are made up.
    """
    # What can fail fails now, not after the simulation.
    if plot is not None:
        check_can_plot()
    with _created(schedule) as file:
        found, result = _simulate(trace, **asked)
        if file is not None:
            _write_schedule(file, result)
    if settings.json:
        print_json(found)
    else:
        _print(found)
    if plot is not None:
        title = f"{found['jobs']} jobs on {_cluster(found)}, order {found['order']}"
        draw(compute_series(result), found["cpus"] * found["workers"], title, plot)
    return 0


def _simulate(
    path: Path, *, cpus: int, workers: int, order: str, policy: str, estimates: str, users: str
) -> tuple[dict[str, Any], Schedule]:
    """Everything in numbers, as plain values. Raises TitanError, OSError."""
    with open_trace(path) as lines:
        jobs, odd = read_swf(lines, cpus_milli_max=cpus)
    for sentence in odd.sentences():
        say(sentence)
    if not jobs:
        raise TitanError(f"{path} has no job that could be simulated")
    if estimates == "exact":
        jobs = with_exact_limits(jobs)
    begin = time.monotonic()
    simulation = Simulation(
        jobs,
        workers=workers,
        cpus_milli=cpus,
        settings=kernel_settings(order=order, policy=policy),
        by_user=users == "trace",
    )
    with count_on_bar("simulating", len(jobs)) as progress:
        schedule = simulation.run(progress)
    real_seconds = time.monotonic() - begin
    statistics = compute_statistics(schedule, cpus * workers)
    return {
        "trace": str(path),
        "workers": workers,
        "cpus": cpus / 1000,
        "order": order,
        "policy": policy,
        "estimates": estimates,
        "users": users,
        **asdict(statistics),
        "odd_lines": {str(kind): count for kind, count in odd.counts.items()},
        "real_seconds": real_seconds,
        "jobs_per_second": len(jobs) / real_seconds,
        "simulated_seconds_per_second": statistics.makespan_seconds / real_seconds,
    }, schedule


@contextmanager
def _created(path: Path | None) -> Iterator[TextIO | None]:
    if path is None:
        yield None
        return
    with path.open("w", newline="", encoding="utf-8") as file:
        yield file


def _write_schedule(file: TextIO, schedule: Schedule) -> None:
    """A line for each job in the order of the submits; times count as in the trace."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(("job", "submit", "start", "end"))
    for job, start_us in zip(schedule.jobs, schedule.starts_us, strict=True):
        times_us = (job.submit_us, start_us, start_us + job.run_us)
        writer.writerow((job.number, *map(format_seconds, times_us)))


def _print(found: dict[str, Any]) -> None:
    waits = {name: found[f"wait_{name}_seconds"] for name in ("mean", "p95", "max")}
    for name, value in (
        ("jobs", str(found["jobs"])),
        ("cluster", _cluster(found)),
        ("scheduler", f"order {found['order']}, policy {found['policy']}"),
        ("estimates", found["estimates"]),
        ("utilisation", f"{100 * found['utilisation']:.2f} %"),
        *((f"wait, {name}", _duration(seconds)) for name, seconds in waits.items()),
        ("slowdown", f"{found['bounded_slowdown_mean']:.3f}, bounded by 10 s, mean"),
        ("makespan", _duration(found["makespan_seconds"])),
        (
            "simulated in",
            f"{found['real_seconds']:.2f} s: {found['jobs_per_second']:.0f} jobs/s, "
            f"{found['simulated_seconds_per_second']:.3g} times as fast as real time",
        ),
    ):
        print(f"{name + ':':<14}{value}")


def _cluster(found: dict[str, Any]) -> str:
    workers = found["workers"]
    return f"{workers} {'worker' if workers == 1 else 'workers'} of {found['cpus']:g} cpus"


def _duration(seconds: float) -> str:
    """In seconds, to compare it with others, and as people say it."""
    return f"{seconds:.3f} s ({format_age(seconds)})" if seconds >= 60 else f"{seconds:.3f} s"
