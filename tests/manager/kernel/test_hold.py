"""Holds: nothing of a job starts until it is released."""

from __future__ import annotations

from tests.manager.builders import Rig, check_refused, new_job, only, prove_short
from titan import events as ev
from titan.errors import InvalidJob, NoRoom, NotFound
from titan.manager.kernel.commands import (
    HoldJobs,
    RequeueJobs,
    SetPolicy,
    SuspendJobs,
    UpdateJobs,
    WhichJobs,
)
from titan.model import State, StopMode
from titan.queries.selection import JobSelector
from titan.scheduling import Scheduling


def test_a_held_job_waits_until_it_is_released_and_others_go_on() -> None:
    rig = Rig()
    host = rig.worker()
    rig.submit(new_job(priority=5), new_job())
    assert rig.hold(1).job_ids == [1]
    rig.finish(host, 2)
    assert rig.task_state(1) is State.PENDING
    for _ in range(2):
        rig.restart()
        host.register()
        rig.schedule()
        assert rig.task_state(1) is State.PENDING
    rig.release(1)
    rig.finish(host, 1)
    assert rig.task_state(1) is State.COMPLETED


def test_a_job_may_be_submitted_held() -> None:
    rig = Rig()
    host = rig.worker()
    rig.submit(new_job(scheduling=Scheduling(held=True)))
    rig.schedule()
    assert rig.task_state(1) is State.PENDING
    rig.release(1)
    rig.start_here(host, 1)


def test_what_has_not_started_comes_back_and_what_runs_runs_on() -> None:
    rig = Rig()
    host = rig.worker(2)
    prove_short(rig, host, cpus=1)
    rig.submit(new_job(array=[(0, 4)]))
    rig.schedule()
    states = [(each.state, each.ahead) for each in rig.state.get_job(3).active.values()]
    assert states == [(State.SCHEDULED, False)] * 2 + [(State.SCHEDULED, True)] * 2
    host.receive(host.next_batch())  # type: ignore[arg-type]
    host.send_reports(1)
    rig.hold(3)
    assert list(rig.state.get_job(3).counts) == [0, 3, 1, 0, 0, 0]
    assert sum(each.recall_requested for each in rig.state.get_job(3).active.values()) == 3
    host.outbox.failed(host.outbox._under_way, rig.state)  # type: ignore[union-attr, arg-type]
    host.receive_all()
    host.send_reports()
    rig.schedule()
    # One of those had started: it runs on.
    assert list(rig.state.get_job(3).counts) == [2, 0, 2, 0, 0, 0]


def test_a_release_before_the_recall_is_answered_changes_nothing_of_that() -> None:
    rig = Rig()
    host = rig.worker()
    rig.submit(new_job())
    rig.schedule()
    rig.hold(1)
    rig.release(1)
    assert [[stop.mode for stop in each.stops] for each in host.receive_all()] == [
        [StopMode.RECALL]
    ]
    host.send_reports()
    rig.start_here(host, 1)
    assert rig.state.get_job(1).active[0].attempt == 2


def test_holding_twice_and_releasing_what_is_not_held_writes_nothing() -> None:
    rig = Rig()
    rig.submit(new_job())
    rig.release(1)
    rig.hold(1)
    count = len(rig.records)
    rig.hold(1)
    assert len(rig.records) == count
    rig.release(1)
    rig.release(1)
    assert len(rig.records) == count + 1
    assert only(ev.decode_record(rig.records[-1])[1], ev.JobReleased) == [ev.JobReleased(1, "ada")]


def test_of_ended_jobs_it_is_said_and_unknown_ones_and_single_tasks_are_refused() -> None:
    rig = Rig()
    host = rig.worker()
    rig.submit(new_job(), new_job(array=[(0, 3)]))
    rig.finish(host, 1)
    answer = rig.hold(1, 2)
    assert (answer.job_ids, answer.already_ended) == ([1, 2], [1])
    check_refused(rig, HoldJobs(which=rig.which(9), releases=False), NotFound)
    check_refused(rig, HoldJobs(which=WhichJobs(), releases=False), InvalidJob, match="no job")
    one = rig.which(2, indexes=[(1, 2)])
    check_refused(rig, HoldJobs(which=one, releases=True), InvalidJob, match="whole jobs")


def test_a_held_job_can_be_cancelled() -> None:
    rig = Rig()
    rig.submit(new_job())
    rig.hold(1)
    rig.cancel(1)
    assert rig.task_state(1) is State.CANCELLED


def test_without_room_in_the_log_jobs_can_be_cancelled_and_nothing_else() -> None:
    rig = Rig()
    rig.worker()
    rig.submit(new_job(), new_job())
    rig.kernel.room = False
    which = WhichJobs(selectors=(JobSelector(job_id=1),), user="ada")
    for command in (
        HoldJobs(which=which, releases=False),
        SuspendJobs(which=which, resumes=False),
        UpdateJobs(which=which, priority=3, time_limit_ms=None),
        RequeueJobs(which=which, grace_ms=0, request_id=b"", content=b""),
        SetPolicy(user="ada", order="fcfs"),
    ):
        check_refused(rig, command, NoRoom, match="disk is full")
    rig.cancel(1)
    assert rig.task_state(1) is State.CANCELLED
