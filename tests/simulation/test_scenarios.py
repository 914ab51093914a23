"""Named runs: a few situations each in the smallest cluster that gets into them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cache

import pytest

from tests.simulation.cluster import run
from tests.simulation.plan import CancelPlan, DrainPlan, Fault, FaultPlan, JobPlan, Plan, WorkerPlan
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
    "a host dies before it tells that a task has started": plan(
        [job(3_000)], [fault(Fault.HOST_KILLED, 900, 3_000, detail=3)], seed=2
    ),
    "a job of the same priority finds no room": replace(
        plan(
            [
                wishing(job(10_000), SchedulingPlan(is_preemptible=True)),
                job(2_000, submit_ms=4_000),
            ],
            [],
        ),
        preempt="requeue",
    ),
    "a cancel meets a worker that is away": plan(
        [job(60_000, cancel=CancelPlan(after_ms=5_000, first=0, last=0, grace_ms=0))],
        [fault(Fault.CUT, 5_000, 20_000)],
    ),
    "the manager is away for longer than a worker may be": plan(
        [job(30_000)], [fault(Fault.MANAGER_KILLED, 5_000, 20_000)]
    ),
    "what waits ahead goes where there is room": plan(
        [
            replace(job(1_500), on=1),
            job(*[5] * 20, 3_000, *[5] * 19, submit_ms=1_100, tasks=40),
        ],
        [],
        workers=2,
        seed=2,
    ),
    "a worker with tasks ahead drains": replace(
        plan([job(10, 10, 10, 10, 10, 3_000, tasks=40)], [], workers=2),
        drains=(DrainPlan(at_ms=3_000, worker=0, for_ms=15_000),),
    ),
    "a task that runs is cancelled": plan(
        [job(150_000, cancel=CancelPlan(after_ms=5_000, first=0, last=0, grace_ms=500))], []
    ),
    "only answers are lost": plan([job(30_000)], [fault(Fault.CUT_TO_WORKER, 5_000, 20_000)]),
    "only requests are lost": plan([job(30_000)], [fault(Fault.CUT_TO_MANAGER, 5_000, 20_000)]),
    "all workers are cut off": plan(
        [job(30_000, tasks=4)], [fault(Fault.CUT_ALL, 5_000, 13_000)], workers=5
    ),
    "a task host dies again and again": plan(
        [job(1_000, tasks=20)], [fault(Fault.HOST_KILLED, 2_000 * i, 0) for i in range(1, 6)]
    ),
    "a dead host's registration comes after that of the next": replace(
        plan(
            [job(5, 300, 2_000, tasks=30)] * 2,
            [fault(Fault.HOST_KILLED, 2_000 + 4_000 * i, 0) for i in range(6)],
            workers=2,
            seed=26,
        ),
        late_percent=30,
    ),
    "users are cut off": plan(
        [job(300, submit_ms=3_000, cancel=CancelPlan(after_ms=0, first=0, last=0, grace_ms=0))],
        [fault(Fault.CUT_CLIENTS, 1_000, 15_000, detail=2)],
    ),
    "the manager stands still for longer than a worker may be silent": plan(
        [job(30_000)], [fault(Fault.MANAGER_STALLS, 5_000, 20_000)], workers=2
    ),
    "the manager's machine is suspended for longer than a worker may be silent": plan(
        [job(30_000)], [fault(Fault.MANAGER_SLEEPS, 5_000, 20_000)], workers=2
    ),
    "a worker's machine is suspended with a task that has a time limit": plan(
        [limited(150_000, time_limit_ms=8_000, warn_before_ms=3_000)],
        [fault(Fault.WORKER_SLEEPS, 5_000, 20_000)],
    ),
    "an agent stands still for longer than it may be silent": plan(
        [job(8_000)], [fault(Fault.AGENT_STALLS, 5_000, 20_000)]
    ),
    "a host stands still while its task ends": plan(
        [job(8_000)], [fault(Fault.HOST_STALLS, 5_000, 13_000)]
    ),
    "wall clocks are set by hours again and again": plan(
        [limited(150_000, time_limit_ms=20_000, warn_before_ms=3_000), job(300, tasks=5)],
        [
            fault(kind, 500 + 1_500 * i, 0)
            for i in range(12)
            for kind in (Fault.CLOCK_SET, Fault.MANAGER_CLOCK_SET)
        ]
        + [fault(Fault.MANAGER_KILLED, 7_000, 100), fault(Fault.MANAGER_KILLED, 14_000, 100)],
    ),
    "the disk is slow": plan(
        [job(300, tasks=5)],
        [fault(Fault.DISK_SLOW, 0, 20_000)],
    ),
    "a sync fails, and power later": plan(
        [job(300, tasks=12)],
        [
            each
            for at_ms in range(1_000, 15_000, 700)
            for each in (
                fault(Fault.SYNC_FAILS, at_ms, 0),
                fault(Fault.MANAGER_POWER_LOST, at_ms + 500, 0),
            )
        ],
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
        plan([job(5, 300, 2_000, tasks=30)] * 2, [], workers=3, seed=4), late_percent=30
    ),
}


@cache
def counts(name: str) -> Counter[str]:
    """How often each kind of thing happens in it."""
    return Counter(run(SCENARIOS[name]).counts)


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


def test_a_task_whose_host_died_before_it_told_of_the_start_is_ended_and_runs_again() -> None:
    found = counts("a host dies before it tells that a task has started")
    assert (found["leftover killed"], found["assigned"], found["task COMPLETED"]) == (1, 2, 1)


def test_nobody_makes_room_for_a_job_of_the_same_priority() -> None:
    found = counts("a job of the same priority finds no room")
    assert (found["Preempted for another"], found["assigned"]) == (0, 2)


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


def test_what_waits_ahead_is_recalled_for_a_worker_with_room() -> None:
    found = counts("what waits ahead goes where there is room")
    assert found["recalled"]
    assert found["task COMPLETED"] == 41


def test_a_worker_that_drains_gives_back_what_waits_there() -> None:
    found = counts("a worker with tasks ahead drains")
    assert found["recalled"]
    assert found["task COMPLETED"] == 40


def test_a_task_that_is_cancelled_is_stopped() -> None:
    found = counts("a task that runs is cancelled")
    assert (found["terminated"], found["task CANCELLED"]) == (1, 1)


def test_a_worker_that_is_heard_is_kept_whatever_it_is_told() -> None:
    found = counts("only answers are lost")
    assert "WorkerLost" not in found
    assert found["answer lost in a cut"]
    assert found["assigned"] == 1


def test_a_worker_that_hears_nothing_but_is_not_heard_is_given_up() -> None:
    found = counts("only requests are lost")
    assert found["request lost in a cut"]
    assert (found["lost in silence"], found["adopted"], found["assigned"]) == (1, 1, 1)


def test_many_workers_that_fall_silent_at_once_are_held_back() -> None:
    found = counts("all workers are cut off")
    assert found["WorkerUnhealthy held back"] == 5
    assert "WorkerLost" not in found
    assert found["assigned"] == 4


def test_a_worker_that_comes_and_goes_rests_and_its_tasks_are_run_all_the_same() -> None:
    found = counts("a task host dies again and again")
    assert found["WorkerUnhealthy to rest"]
    assert found["task COMPLETED"] == 20


def test_users_who_were_cut_off_are_answered_later_and_once() -> None:
    found = counts("users are cut off")
    assert found["submit sent again"] >= 2
    assert found["task CANCELLED"] + found["task COMPLETED"] == 1


@pytest.mark.parametrize("how", ["the manager stands still", "the manager's machine is suspended"])
def test_nobody_is_lost_while_the_manager_does_not_listen(how: str) -> None:
    found = counts(f"{how} for longer than a worker may be silent")
    assert "WorkerLost" not in found
    assert (found["assigned"], found["task COMPLETED"]) == (1, 1)


def test_a_time_limit_does_not_count_while_the_machine_is_suspended() -> None:
    found = counts("a worker's machine is suspended with a task that has a time limit")
    assert (found["machine woke"], found["lost in silence"], found["adopted"]) == (1, 1, 1)
    assert (found["task timed out"], found["assigned"]) == (1, 1)


def test_what_ended_beside_an_agent_that_stood_still_is_not_run_again() -> None:
    found = counts("an agent stands still for longer than it may be silent")
    assert (found["lost in silence"], found["assigned"], found["task COMPLETED"]) == (1, 1, 1)


def test_a_host_that_stood_still_tells_of_the_end_when_it_goes_on() -> None:
    found = counts("a host stands still while its task ends")
    assert "WorkerLost" not in found
    assert (found["assigned"], found["task COMPLETED"]) == (1, 1)


def test_wall_clocks_change_nothing_but_times_shown() -> None:
    name = "wall clocks are set by hours again and again"
    quiet = replace(
        SCENARIOS[name],
        faults=tuple(each for each in SCENARIOS[name].faults if each.fault is Fault.MANAGER_KILLED),
    )
    found, expected = counts(name), Counter(run(quiet).counts)
    for kind in ("assigned", "task COMPLETED", "task timed out", "WorkerLost", "lost in silence"):
        assert found[kind] == expected[kind], kind


def test_a_slow_disk_delays_everything_and_loses_nothing() -> None:
    found = counts("the disk is slow")
    assert found["slow flush"]
    assert found["task COMPLETED"] == 5


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
