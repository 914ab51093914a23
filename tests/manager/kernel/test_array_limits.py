"""How many tasks of an array may be under way at once, and how many may fail."""

from __future__ import annotations

from tests.manager.builders import Rig, check_refused, new_job, only, submit
from titan import events as ev
from titan.errors import InvalidJob
from titan.model import State
from titan.scheduling import Scheduling


def test_no_more_tasks_of_an_array_are_under_way_than_its_limit() -> None:
    rig = Rig()
    host = rig.worker(8)
    rig.submit(new_job(array=[(0, 6)], scheduling=Scheduling(array_limit=2)))
    most = 0
    for _ in range(6):
        rig.schedule()
        host.receive_all()
        host.send_reports()
        pending, scheduled, running, *_ = rig.state.get_job(1).counts
        assert scheduled + running == min(2, pending + scheduled + running)
        most = max(most, running)
        if host.running:
            host.end(host.running[0])
            host.send_reports()
    assert most == 2
    assert list(rig.state.get_job(1).counts) == [0, 0, 0, 6, 0, 0]


def test_whoever_waits_for_its_limit_is_in_nobodys_way() -> None:
    rig = Rig()
    host = rig.worker(2)
    rig.submit(new_job(array=[(0, 3)], priority=5, scheduling=Scheduling(array_limit=1)))
    rig.submit(new_job())
    rig.start_here(host, 1, 0)
    assert rig.task_state(2) is State.RUNNING


def test_a_task_that_comes_back_makes_room_within_the_limit() -> None:
    rig = Rig()
    host = rig.worker(4)
    rig.submit(new_job(array=[(0, 3)], scheduling=Scheduling(array_limit=1)))
    rig.start_here(host, 1, 0)
    rig.requeue(1)
    host.receive_all()
    host.send_reports()
    rig.schedule()
    assert list(rig.state.get_job(1).counts) == [2, 1, 0, 0, 0, 0]


def test_once_more_tasks_failed_than_may_the_others_are_cancelled() -> None:
    rig = Rig()
    host = rig.worker(3)
    rig.submit(new_job(array=[(0, 9)], grace_ms=500, scheduling=Scheduling(max_fails=1)))
    rig.finish(host, 1, 0, State.FAILED)
    assert rig.state.get_job(1).counts[5] == 0
    host.end(host.key_of(1, 1), State.FAILED)
    host.send_reports()
    assert rig.state.overfailed == {1: None}
    assert only(rig.schedule(), ev.CancelRequested) == [ev.CancelRequested(1, (), 500)]
    host.receive_all()
    host.send_reports()
    job = rig.state.get_job(1)
    assert list(job.counts) == [0, 0, 0, 0, 2, 7]
    assert job.state is State.FAILED


def test_a_crash_between_the_last_failure_and_the_cancel_loses_nothing() -> None:
    for restarts in (1, 2):
        rig = Rig()
        host = rig.worker()
        rig.submit(new_job(array=[(0, 4)], scheduling=Scheduling(max_fails=0)))
        key = rig.start_here(host, 1, 0)
        host.end(key, State.FAILED)
        host.send_reports()
        for _ in range(restarts):
            rig.restart()
        rig.tick()
        assert list(rig.state.get_job(1).counts) == [0, 0, 0, 0, 1, 3]


def test_failures_that_are_tried_again_do_not_count() -> None:
    rig = Rig()
    host = rig.worker()
    rig.submit(new_job(array=[(0, 2)], scheduling=Scheduling(max_fails=0, retries=1)))
    rig.finish(host, 1, 0, State.FAILED)
    assert rig.state.get_job(1).counts[5] == 0
    rig.finish(host, 1, 1, State.COMPLETED)
    rig.tick(1_000_000)
    rig.finish(host, 1, 0, State.FAILED)
    assert list(rig.state.get_job(1).counts) == [0, 0, 0, 1, 1, 0]


def test_limits_are_for_arrays() -> None:
    rig = Rig()
    for scheduling in (Scheduling(array_limit=1), Scheduling(max_fails=0)):
        check_refused(rig, submit(new_job(scheduling=scheduling)), InvalidJob, match="for arrays")


def test_a_cancel_of_some_tasks_does_not_save_the_others_of_an_array_that_failed_too_often() -> (
    None
):
    rig = Rig()
    host = rig.worker()
    rig.submit(new_job(array=[(0, 4)], scheduling=Scheduling(max_fails=0)))
    key = rig.start_here(host, 1, 0)
    host.end(key, State.FAILED)
    host.send_reports()
    rig.cancel(1, indexes=[(3, 4)])
    rig.tick()
    assert list(rig.state.get_job(1).counts) == [0, 0, 0, 0, 1, 3]
