"""Plans as hypothesis draws them."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st

from tests.simulation.plan import (
    FAULTS_END_MS,
    GRACES_MS,
    TIME_LIMITS_MS,
    CancelPlan,
    DrainPlan,
    Fault,
    FaultPlan,
    JobPlan,
    Plan,
    WorkerPlan,
    fitted,
)
from tests.simulation.wishes import Change, ChangePlan, SchedulingPlan


def plans() -> st.SearchStrategy[Plan]:
    """Plans of any kind; they shrink towards few jobs, no faults and a good network."""
    cancels = st.builds(
        CancelPlan,
        after_ms=st.integers(0, 6_000),
        first=st.integers(0, 10),
        last=st.integers(10, 60),
        grace_ms=st.sampled_from((0, 500, 5_000)),
    )
    jobs = st.builds(
        JobPlan,
        submit_ms=st.integers(0, FAULTS_END_MS),
        tasks=st.integers(0, 40),
        cpus_milli=st.sampled_from((1_000, 500, 2_000)),
        gpus=st.sampled_from((0, 1)),
        priority=st.integers(0, 1),
        run_ms=st.lists(st.sampled_from((5, 20, 300, 10_000)), min_size=1, max_size=6).map(tuple),
        exit_codes=st.lists(st.integers(0, 1), min_size=1, max_size=3).map(tuple),
        ignores_sigterm=st.booleans(),
        is_launched=st.sampled_from((True, True, True, False)),
        cancel=st.none() | cancels,
        time_limit_ms=st.sampled_from((0, 0, *TIME_LIMITS_MS)),
        grace_ms=st.sampled_from(GRACES_MS),
        on=st.sampled_from((None, None, 0, 1, 2)),
        scheduling=st.builds(
            SchedulingPlan,
            is_held=st.booleans(),
            retries=st.integers(0, 2),
            is_exclusive=st.booleans(),
            is_preemptible=st.booleans(),
            begin_ms=st.sampled_from((0, 500)),
        )
        | st.just(SchedulingPlan(at_most_once=True)),
    )
    changes = st.builds(
        ChangePlan,
        at_ms=st.integers(0, FAULTS_END_MS),
        change=st.sampled_from(Change),
        job=st.integers(0, 5),
        for_ms=st.integers(0, 20_000),
        detail=st.integers(0, 40),
    )
    faults = st.builds(
        FaultPlan,
        at_ms=st.integers(0, FAULTS_END_MS),
        fault=st.sampled_from(Fault),
        worker=st.integers(0, 2),
        for_ms=st.integers(1, 20_000),
        detail=st.integers(0, 40),
    )
    drains = st.builds(
        DrainPlan,
        at_ms=st.integers(0, FAULTS_END_MS),
        worker=st.integers(0, 2),
        for_ms=st.integers(0, 20_000),
    )
    workers = st.builds(
        WorkerPlan,
        cpus_milli=st.sampled_from((1_000, 2_000, 4_000)),
        gpus=st.sampled_from((0, 2)),
        fetches=st.booleans(),
        is_unreachable=st.booleans(),
    )
    return st.builds(
        Plan,
        seed=st.integers(0, 1_000),
        workers=st.lists(workers, min_size=1, max_size=3).map(tuple),
        jobs=st.lists(jobs, min_size=1, max_size=6).map(tuple),
        faults=st.lists(faults, max_size=6).map(tuple),
        drains=st.lists(drains, max_size=3).map(tuple),
        changes=st.lists(changes, max_size=5).map(tuple),
        preempt=st.sampled_from(("off", "requeue", "suspend")),
        lost_percent=st.sampled_from((0, 1, 5, 15)),
        doubled_percent=st.sampled_from((0, 2, 10)),
        late_percent=st.sampled_from((0, 1, 5)),
        detach_ms=st.sampled_from((600_000, 5_000)),
    ).map(_with_fitted_jobs)


def _with_fitted_jobs(plan: Plan) -> Plan:
    jobs = (
        job if job.on is None else replace(job, on=job.on % len(plan.workers)) for job in plan.jobs
    )
    return replace(plan, jobs=tuple(fitted(job, plan.workers) for job in jobs))
