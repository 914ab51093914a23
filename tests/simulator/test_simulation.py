"""The engine: the real kernel from instant to instant, against the reference."""

from __future__ import annotations

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.simulator.builders import simulate, starts_of, trace_job, trace_jobs
from tests.simulator.reference import Work, start_times
from titan.scheduler.policies import POLICIES
from titan.scheduling import ORDERS
from titan.simulator.settings import kernel_settings
from titan.simulator.simulation import Simulation
from titan.state import check_invariants

CPUS = 8
SETTINGS = kernel_settings(order="skip", policy="bin-packing")


@st.composite
def workloads(draw: st.DrawFn) -> list[Work]:
    """Few different times, so that much falls into the same second."""
    gaps = draw(st.lists(st.sampled_from((0, 0, 1, 2, 5)), min_size=1, max_size=40))
    return [
        Work(
            submit, run, max(run, draw(st.sampled_from((1, 4, 8, 20)))), draw(st.integers(1, CPUS))
        )
        for submit in accumulate(gaps)
        for run in (draw(st.sampled_from((0, 1, 3, 4, 8))),)
    ]


@pytest.mark.parametrize("order", ORDERS)
@given(works=workloads())
def test_every_job_starts_when_the_reference_says(order: str, works: list[Work]) -> None:
    found = simulate(trace_jobs(works), cpus=CPUS, order=order)
    assert starts_of(found) == start_times(works, CPUS, order)


@pytest.mark.parametrize("order", ORDERS)
@given(works=workloads())
def test_the_same_with_exact_limits(order: str, works: list[Work]) -> None:
    exact = [each._replace(estimate=each.run) for each in works]
    found = simulate(trace_jobs(exact), cpus=CPUS, order=order)
    assert starts_of(found) == start_times(exact, CPUS, order)


@pytest.mark.parametrize("policy", POLICIES)
@given(works=workloads())
def test_several_workers_hold_no_more_than_they_have(policy: str, works: list[Work]) -> None:
    simulation = Simulation(
        trace_jobs(works),
        workers=3,
        cpus_milli=CPUS * 1000,
        settings=kernel_settings(order=ORDERS[0], policy=policy),
    )
    found = simulation.run(lambda _: check_invariants(simulation.kernel.state))
    for work, start in zip(works, starts_of(found), strict=True):
        assert start >= work.submit
        running = [
            each.cpus
            for each, other in zip(works, starts_of(found), strict=True)
            if other <= start < other + each.run
        ]
        assert sum(running) <= 3 * CPUS


def test_jobs_go_where_there_is_room() -> None:
    jobs = [trace_job(0, 10, 3), trace_job(0, 20, 3), trace_job(0, 5, 2), trace_job(0, 5, 1)]
    assert starts_of(simulate(jobs, workers=2, cpus=4, order="skip")) == [0, 0, 10, 0]


def test_ends_come_before_submits_and_both_before_the_pass() -> None:
    # The second would take the room that the third waits for, did the pass not see both.
    jobs = [trace_job(0, 10, 4), trace_job(1, 1, 4), trace_job(10, 1, 4)]
    assert starts_of(simulate(jobs, cpus=4)) == [0, 10, 11]


def test_a_job_that_takes_no_time_ends_where_it_starts() -> None:
    jobs = [trace_job(3, 0, 4) for _ in range(5)] + [trace_job(3, 2, 4), trace_job(4, 0, 1)]
    assert starts_of(simulate(jobs, cpus=4)) == [3, 3, 3, 3, 3, 3, 5]


def test_time_goes_in_parts_of_a_second_where_the_trace_does() -> None:
    jobs = [trace_job(0.25, 0.5, 4), trace_job(0.5, 1.125, 4), trace_job(0.75, 1, 4)]
    assert starts_of(simulate(jobs, cpus=4)) == [0.25, 0.75, 1.875]


def test_parts_of_a_cpu_are_parts_of_a_worker() -> None:
    jobs = [trace_job(0, 10, 2), trace_job(0, 10, 2)]
    assert starts_of(simulate(jobs, cpus=3.9)) == [0, 10]
    assert starts_of(simulate(jobs, cpus=4)) == [0, 0]


@pytest.mark.parametrize("run", [0, 1])
def test_more_jobs_at_once_than_a_request_a_pass_or_a_batch_takes(run: int) -> None:
    count = 20_001
    jobs = [trace_job(1, run) for _ in range(count)]
    starts = starts_of(simulate(jobs, cpus=15_000))
    assert starts == [1] * 15_000 + [1 + run] * 5_001


def test_nobody_falls_silent_in_years_without_a_job() -> None:
    year = 365 * 86_400
    jobs = [trace_job(0, 5 * year), trace_job(9 * year, 1), trace_job(100 * year, 1)]
    assert starts_of(simulate(jobs, cpus=1)) == [0, 9 * year, 100 * year]


def test_what_ended_is_forgotten() -> None:
    jobs = [trace_job(number, 2, 1 + number % 4) for number in range(5_000)]
    simulation = Simulation(jobs, workers=1, cpus_milli=8_000, settings=SETTINGS)
    remembered = []

    def look(_: int) -> None:
        remembered.append(len(simulation.kernel.state.jobs))
        assert simulation.kernel.events_count == 0
        assert not simulation.kernel.changed_jobs

    simulation.run(look)
    assert max(remembered) < 1_100
    assert len(simulation.kernel.state.classes) <= 4
    check_invariants(simulation.kernel.state)


def test_progress_counts_every_job_once() -> None:
    told: list[int] = []
    jobs = [trace_job(0, 1), trace_job(0, 2), trace_job(5, 0)]
    Simulation(jobs, workers=1, cpus_milli=4_000, settings=SETTINGS).run(told.append)
    assert told == [0, 1, 2, 3]


def test_the_kernel_is_given_limits_and_users() -> None:
    jobs = [
        trace_job(0, 5, limit=60)._replace(user=7),
        trace_job(0, 0, limit=0)._replace(user=8),
        trace_job(0, 1, limit=1.0001),
    ]

    def submitted(*, by_user: bool) -> list[tuple[str, int]]:
        simulation = Simulation(
            jobs, workers=1, cpus_milli=4_000, settings=SETTINGS, by_user=by_user
        )
        simulation.run()
        known = simulation.kernel.state.jobs.values()
        return [(job.user, job.time_limit_ms) for job in known]

    # No limit at all is something else than one of no time.
    assert submitted(by_user=True) == [("user-7", 60_000), ("user-8", 1), ("user", 1_001)]
    assert submitted(by_user=False) == [("user", 60_000), ("user", 1), ("user", 1_001)]
