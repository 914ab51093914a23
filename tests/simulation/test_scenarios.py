"""Named runs: a few situations each in the smallest cluster that gets into them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.simulation.cluster import Outcome, run
from tests.simulation.plan import CancelPlan, Fault, FaultPlan, JobPlan, Plan, WorkerPlan
from tests.simulation.wishes import AfterPlan, Change, ChangePlan, SchedulingPlan
from titan.scheduling import DependencyCondition


def job(
    *run_ms: int, submit_ms: int = 1_000, tasks: int = 0, cancel: CancelPlan | None = None
) -> JobPlan:
    """A job of one cpu whose tasks end well."""
    return JobPlan(
        submit_ms=submit_ms, tasks=tasks, cpus_milli=1_000, gpus=0, priority=0, run_ms=run_ms,
        exit_codes=(0,), cancel=cancel,
    )  # fmt: skip


def limited(run_ms: int, **limit: int) -> JobPlan:
    """A job of one task with a time limit, which does not listen to SIGTERM."""
    # mypy takes the numbers for every field of a plan.
    return replace(job(run_ms), ignores_sigterm=True, **limit)  # type: ignore[arg-type]


def wishing(plain: JobPlan, scheduling: SchedulingPlan, priority: int = 0) -> JobPlan:
    """The job with wishes when and where it is to run."""
    return replace(plain, scheduling=scheduling, priority=priority)


def change(kind: Change, at_ms: int, for_ms: int = 0) -> ChangePlan:
    """A change of the first job."""
    return ChangePlan(at_ms=at_ms, change=kind, job=0, for_ms=for_ms, detail=0)


def fault(kind: Fault, at_ms: int, for_ms: int, detail: int = 0) -> FaultPlan:
    """A fault that strikes the first worker, if it strikes one."""
    return FaultPlan(at_ms=at_ms, fault=kind, worker=0, for_ms=for_ms, detail=detail)


def plan(jobs: list[JobPlan], faults: list[FaultPlan], *, workers: int = 1, seed: int = 1) -> Plan:
    """So many workers of one cpu and a good network."""
    return Plan(
        seed=seed,
        workers=(WorkerPlan(cpus_milli=1_000, gpus=0),) * workers,
        jobs=tuple(jobs),
        faults=tuple(faults),
    )


# The manager gives a worker up after 10 s. The first job goes to the first worker to come.
SCENARIOS: dict[str, Plan] = {
    "two attempts run until the superseded one is heard of": plan(
        [job(150_000), job(150_000, submit_ms=30_000)],
        [fault(Fault.CUT, 5_000, 20_000)],
        workers=2,
    ),
    "a worker comes back with what was given up": plan(
        [job(40_000)], [fault(Fault.CUT, 5_000, 15_000)]
    ),
    "what was given up has ended meanwhile": plan([job(12_000)], [fault(Fault.CUT, 5_000, 15_000)]),
    "tasks end while no agent is there": plan(
        [job(300, tasks=3)], [fault(Fault.AGENT_KILLED, 1_100, 3_000)]
    ),
    "a host dies with ends that nobody was told": plan(
        [job(300)],
        [fault(Fault.CUT, 1_100, 1_500), fault(Fault.WORKER_KILLED, 2_000, 1_000)],
    ),
    "a host dies and its task runs on": plan(
        [job(30_000)], [fault(Fault.WORKER_KILLED, 2_000, 500)]
    ),
    "a cancel meets a worker that is away": plan(
        [job(60_000, cancel=CancelPlan(after_ms=5_000, first=0, last=0, grace_ms=0))],
        [fault(Fault.CUT, 5_000, 20_000)],
    ),
    "the manager is away for longer than a worker may be": plan(
        [job(30_000)], [fault(Fault.MANAGER_KILLED, 5_000, 20_000)]
    ),
    "a task runs into its time limit while nobody is there but its host": plan(
        [limited(150_000, time_limit_ms=8_000, grace_ms=500, warn_before_ms=3_000)],
        [fault(Fault.MANAGER_KILLED, 4_000, 30_000), fault(Fault.AGENT_KILLED, 4_500, 20_000)],
    ),
    "a task is suspended for longer than its time limit": replace(
        plan([limited(20_000, time_limit_ms=30_000)], []),
        changes=(change(Change.SUSPEND, 5_000, for_ms=60_000),),
    ),
    "a task is suspended while its worker is away": replace(
        plan([job(20_000)], [fault(Fault.CUT, 4_000, 5_000)]),
        changes=(change(Change.SUSPEND, 5_000, for_ms=20_000),),
    ),
    "a job makes room for one of higher priority by standing still": replace(
        plan(
            [
                wishing(job(10_000), SchedulingPlan(is_preemptible=True)),
                wishing(job(2_000, submit_ms=4_000), SchedulingPlan(), priority=5),
            ],
            [fault(Fault.MANAGER_KILLED, 5_000, 100)],
        ),
        preempt="suspend",
    ),
    "a job makes room for one of higher priority by waiting again": replace(
        plan(
            [
                wishing(job(10_000), SchedulingPlan(is_preemptible=True)),
                wishing(job(2_000, submit_ms=4_000), SchedulingPlan(), priority=5),
            ],
            [fault(Fault.MANAGER_KILLED, 5_000, 100)],
        ),
        preempt="requeue",
    ),
    "a job that waits for one that fails is cancelled": plan(
        [
            replace(wishing(job(300), SchedulingPlan(retries=2)), exit_codes=(1,), submit_ms=1_000),
            wishing(
                job(300, submit_ms=1_500),
                SchedulingPlan(
                    after=(AfterPlan(job=0, condition=DependencyCondition.OK, is_same_index=False),)
                ),
            ),
        ],
        [fault(Fault.MANAGER_KILLED, 2_000, 500)],
    ),
    "a worker is cut off for long under what runs at most once": plan(
        [wishing(job(40_000), SchedulingPlan(at_most_once=True))],
        [fault(Fault.CUT, 5_000, 15_000)],
        workers=2,
    ),
    "a worker is cut off for a lease under what runs at most once": plan(
        [wishing(job(40_000), SchedulingPlan(at_most_once=True))],
        [fault(Fault.CUT, 5_000, 5_000)],
        workers=2,
    ),
    "power fails while records are flushed": plan(
        [job(10, tasks=40)],
        [fault(Fault.MANAGER_DIES_IN_CALL, 1_000 + 200 * i, 0, detail=i) for i in range(8)],
    ),
    "batches come late and twice": replace(
        plan([job(5, 300, tasks=40), job(20, tasks=40)], [], workers=2),
        doubled_percent=30,
        late_percent=10,
    ),
    "batches come later than those that repeat them": replace(
        plan([job(5, 300, 2_000, tasks=30)] * 2, [], workers=3, seed=0), late_percent=30
    ),
}


def counts(name: str) -> dict[str, int]:
    """How often each kind of thing happens in it."""
    outcome: Outcome = run(SCENARIOS[name])
    return outcome.counts


@pytest.mark.parametrize("name", SCENARIOS)
def test_what_must_hold_holds_when(name: str) -> None:
    counts(name)


def test_a_superseded_attempt_is_stopped_on_contact_and_its_task_ends_once() -> None:
    found = counts("two attempts run until the superseded one is heard of")
    assert (found["two attempts at once"], found["killed"]) == (1, 1)
    assert found["task COMPLETED"] == 2


def test_a_worker_that_comes_back_goes_on_with_what_nobody_else_runs() -> None:
    found = counts("a worker comes back with what was given up")
    assert (found["lost in silence"], found["adopted"], found["assigned"]) == (1, 1, 1)


def test_the_end_of_an_attempt_that_was_given_up_counts() -> None:
    found = counts("what was given up has ended meanwhile")
    assert (found["lost in silence"], found["adopted"], found["assigned"]) == (1, 1, 1)


def test_the_ends_that_no_agent_saw_are_reported_by_the_next_one() -> None:
    found = counts("tasks end while no agent is there")
    assert (found["assigned"], found["task COMPLETED"]) == (3, 3)


def test_the_ends_that_a_dead_host_wrote_down_are_reported_by_the_next_one() -> None:
    found = counts("a host dies with ends that nobody was told")
    assert (found["ends recovered"], found["assigned"], found["task COMPLETED"]) == (1, 1, 1)


def test_what_a_dead_host_left_running_is_ended_before_it_runs_again() -> None:
    found = counts("a host dies and its task runs on")
    assert (found["leftover killed"], found["assigned"]) == (1, 2)


def test_a_cancelled_task_whose_worker_is_given_up_ends_as_cancelled() -> None:
    assert counts("a cancel meets a worker that is away")["task CANCELLED"] == 1


def test_a_time_limit_is_kept_and_its_end_told_to_those_who_come_back() -> None:
    found = counts("a task runs into its time limit while nobody is there but its host")
    assert (found["warned of its time limit"], found["killed"]) == (1, 1)
    assert (found["task timed out"], found["assigned"]) == (1, 1)


@pytest.mark.parametrize("time", ["long", "a lease"])
def test_what_runs_at_most_once_is_killed_where_it_is_cut_off_and_has_failed(time: str) -> None:
    found = counts(f"a worker is cut off for {time} under what runs at most once")
    assert (found["assigned"], found["killed"], found["task FAILED"]) == (1, 1, 1)
    assert found.get("WorkerLost", 0) == (time == "long")


def test_a_time_limit_stands_still_with_its_task() -> None:
    found = counts("a task is suspended for longer than its time limit")
    assert (found["stopped"], found["went on"], found["task COMPLETED"]) == (1, 1, 1)


def test_a_suspension_reaches_a_worker_that_was_away() -> None:
    found = counts("a task is suspended while its worker is away")
    assert (found["stopped"], found["went on"], found["assigned"]) == (1, 1, 1)


def test_what_is_preempted_runs_on_where_it_stood_still() -> None:
    found = counts("a job makes room for one of higher priority by standing still")
    assert (found["AttemptSuspended for another"], found["went on"], found["assigned"]) == (1, 1, 2)


def test_what_is_preempted_runs_again() -> None:
    found = counts("a job makes room for one of higher priority by waiting again")
    assert (found["Preempted for another"], found["assigned"]) == (1, 3)
    assert found["task COMPLETED"] == 2


def test_a_job_is_tried_again_as_often_as_it_may_and_takes_those_behind_it_along() -> None:
    found = counts("a job that waits for one that fails is cancelled")
    assert (found["tried again"], found["assigned"]) == (2, 3)
    assert (found["task FAILED"], found["task CANCELLED"]) == (1, 1)


def test_after_a_restart_every_worker_has_the_whole_timeout_to_call_in() -> None:
    found = counts("the manager is away for longer than a worker may be")
    assert "WorkerLost" not in found
    assert found["assigned"] == 1
