"""Builders for tests of the simulator: lines of a trace, and jobs of it."""

from __future__ import annotations

from typing import Final

from tests.simulator.reference import Work
from titan.scheduling import ORDERS
from titan.simulator.settings import kernel_settings
from titan.simulator.simulation import Schedule, Simulation
from titan.simulator.swf import TraceJob

SECOND_US: Final = 1_000_000


def swf_line(
    number: object = 1,
    submit: object = 0,
    run: object = 10,
    *,
    allocated: object = 1,
    requested: object = -1,
    estimate: object = -1,
    status: object = 1,
    user: object = -1,
) -> str:
    """A line of all 18 columns."""
    return (
        f"{number} {submit} -1 {run} {allocated} -1 -1 {requested} {estimate} -1 {status} {user} "
        "-1 -1 -1 -1 -1 -1"
    )


def trace_job(
    submit: float, run: float, cpus: int = 1, *, limit: float | None = None, number: int = 0
) -> TraceJob:
    """Of seconds."""
    submit_us, run_us, limit_us = (
        round(each * SECOND_US) for each in (submit, run, run if limit is None else limit)
    )
    return TraceJob(number, submit_us, run_us, limit_us, cpus, -1)


def trace_jobs(works: list[Work]) -> list[TraceJob]:
    return [trace_job(each.submit, each.run, each.cpus, limit=each.estimate) for each in works]


def simulate(
    jobs: list[TraceJob],
    *,
    workers: int = 1,
    cpus: float = 4,
    order: str = ORDERS[0],
    policy: str = "round-robin-then-bin-packing",
) -> Schedule:
    simulation = Simulation(
        jobs,
        workers=workers,
        cpus_milli=round(cpus * 1000),
        settings=kernel_settings(order=order, policy=policy),
    )
    return simulation.run()


def starts_of(schedule: Schedule) -> list[float]:
    """In seconds."""
    return [start_us / SECOND_US for start_us in schedule.starts_us]
