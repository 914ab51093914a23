"""Requeues: what is under way waits again, what ended and did not complete is submitted again."""

from __future__ import annotations

import pytest

from tests.manager.builders import Rig, after, check_refused, new_job, only
from titan import events as ev
from titan.errors import InvalidJob, NoRoom, NotFound, Refused
from titan.manager.kernel import Settings, requeue
from titan.manager.kernel.commands import RequeueJobs, WhichJobs
from titan.model import IndexRange, Reason, State, StopMode
from titan.queries.selection import JobSelector
from titan.scheduling import Scheduling


def command(which: WhichJobs, grace_ms: int = 0) -> RequeueJobs:
    return RequeueJobs(which=which, grace_ms=grace_ms, request_id=b"", content=b"")


def ended_array(rig: Rig, *failed: int) -> None:
    """Job 1, an array of four that ended; these of its tasks failed."""
    host = rig.worker(4)
    rig.submit(new_job(array=[(0, 4)], priority=3, scheduling=Scheduling(retries=0, max_fails=9)))
    for index in range(4):
        rig.finish(host, 1, index, State.FAILED if index in failed else State.COMPLETED)


def test_a_running_task_is_stopped_and_waits_again() -> None:
    rig = Rig()
    host = rig.worker()
    rig.submit(new_job())
    key = rig.start_here(host, 1)
    assert rig.requeue(1, grace_ms=70).job_ids == [1]
    (batch,) = host.receive_all()
    assert [(each.key, each.mode, each.grace_ms) for each in batch.stops] == [
        (key, StopMode.CANCEL, 70)
    ]
    assert rig.task_state(1) is State.RUNNING
    host.send_reports()
    assert rig.task_state(1) is State.PENDING
    job = rig.state.get_job(1)
    assert job.ended is not None
    assert (job.ended.last().state, job.ended.last().reason) == (
        State.CANCELLED, Reason.PREEMPTED,
    )  # fmt: skip
    rig.start_here(host, 1)
    assert job.active[0].attempt == 2
    assert job.waits is None or not job.waits.retries_used


def test_what_would_be_submitted_again_is_refused_where_there_are_too_many_jobs() -> None:
    rig = Rig(settings=Settings(jobs_max=1))
    ended_array(rig, 2)
    rig.submit(new_job())
    check_refused(rig, command(WhichJobs(selectors=(JobSelector(job_id=1),), user="ada")), NoRoom)


def test_a_task_that_ends_by_itself_meanwhile_has_ended() -> None:
    rig = Rig()
    host = rig.worker()
    rig.submit(new_job())
    key = rig.start_here(host, 1)
    rig.requeue(1)
    host.end(key)
    host.receive_all()
    host.send_reports()
    assert rig.task_state(1) is State.COMPLETED


def test_what_has_not_started_is_recalled_and_what_waits_waits() -> None:
    rig = Rig()
    host = rig.worker(2)
    rig.submit(new_job(array=[(0, 4)]))
    rig.schedule()
    rig.requeue(1)
    (batch,) = host.receive_all()
    assert {each.mode for each in batch.stops} == {StopMode.RECALL}
    host.send_reports()
    assert list(rig.state.get_job(1).counts) == [4, 0, 0, 0, 0, 0]


def test_of_an_array_only_the_tasks_that_are_meant_come_back() -> None:
    rig = Rig()
    host = rig.worker(4)
    rig.submit(new_job(array=[(0, 4)]))
    rig.start_here(host, 1, 0)
    rig.requeue(1, indexes=[(1, 3)])
    host.receive_all()
    host.send_reports()
    assert list(rig.state.get_job(1).counts) == [2, 0, 2, 0, 0, 0]


def test_a_repeated_wish_and_one_after_a_cancel_write_nothing() -> None:
    rig = Rig()
    host = rig.worker()
    rig.submit(new_job())
    rig.start_here(host, 1)
    rig.requeue(1)
    count = len(rig.records)
    rig.requeue(1)
    assert len(rig.records) == count
    rig.cancel(1)
    rig.requeue(1)
    host.receive_all()
    host.send_reports()
    assert rig.task_state(1) is State.CANCELLED


def test_a_new_manager_repeats_the_stop() -> None:
    rig = Rig()
    host = rig.worker()
    rig.submit(new_job())
    key = rig.start_here(host, 1)
    rig.requeue(1, grace_ms=70)
    for _ in range(2):
        rig.restart()
        host.register()
    (batch,) = host.receive_all()
    assert [(each.key, each.grace_ms) for each in batch.stops] == [(key, 70)]


def test_what_is_left_of_an_ended_job_is_a_new_job() -> None:
    rig = Rig()
    ended_array(rig, 0, 1, 3)
    answer = rig.requeue(1)
    assert (answer.job_ids, answer.submitted_again) == ([2], {1: 2})
    new = rig.state.get_job(2)
    assert new.array == (IndexRange(0, 2), IndexRange(3, 4))
    assert new.job_class is rig.state.get_job(1).job_class
    assert new.scheduling == Scheduling(max_fails=9)
    assert rig.state.get_job(1).state is State.FAILED


def test_what_the_ended_job_waited_for_is_not_waited_for_again() -> None:
    rig = Rig()
    host = rig.worker()
    rig.submit(new_job(), new_job(after=(after(0, of_request=True),)))
    rig.finish(host, 1, 0, State.FAILED)
    assert rig.task_state(2) is State.CANCELLED
    rig.requeue(2)
    rig.schedule()
    assert rig.task_state(3) is State.SCHEDULED


def test_several_choices_of_one_ended_job_are_one_new_job() -> None:
    rig = Rig()
    ended_array(rig, 0, 1, 3)
    selectors = tuple(
        JobSelector(job_id=1, indexes=(IndexRange(index, index + 1),)) for index in (3, 1)
    )
    count = len(rig.records)
    answer = rig.do(command(WhichJobs(selectors=selectors, user="ada")))
    assert (answer.job_ids, answer.submitted_again) == ([2, 2], {1: 2})
    (payload,) = rig.records[count:]
    (submitted,) = only(ev.decode_record(payload)[1], ev.JobSubmitted)
    assert submitted.array == (IndexRange(1, 2), IndexRange(3, 4))


def test_live_and_ended_jobs_are_answered_in_the_order_of_the_request() -> None:
    rig = Rig()
    ended_array(rig, 2)
    rig.submit(new_job())
    answer = rig.requeue(2, 1)
    assert (answer.job_ids, answer.submitted_again) == ([2, 3], {1: 3})


def test_what_completed_is_refused_and_then_nothing_happens_at_all() -> None:
    rig = Rig()
    ended_array(rig, 2)
    host = rig.worker(9)
    rig.submit(new_job(cpus=8), new_job(cpus=9, priority=1))
    rig.finish(host, 3)
    rig.start_here(host, 2)
    for which in (
        rig.which(3),
        rig.which(2, 3),
        WhichJobs(selectors=(
            JobSelector(job_id=1, indexes=(IndexRange(2, 3),)),
            JobSelector(job_id=1, indexes=(IndexRange(1, 2),)),
        )),
    ):  # fmt: skip
        check_refused(rig, command(which), Refused, match="completed what is meant")
    check_refused(rig, command(rig.which(77)), NotFound)
    check_refused(rig, command(rig.which(2), grace_ms=-1), InvalidJob, match="grace")


def test_a_repeated_request_is_answered_as_before_and_submits_nothing() -> None:
    rig = Rig()
    ended_array(rig, 2)
    host = rig.worker(9)
    rig.submit(new_job(cpus=8))
    rig.start_here(host, 2)
    first = rig.requeue(2, 1, request_id=b"r" * 16, content=b"c")
    assert first.submitted_again == {1: 3}
    host.receive_all()
    host.send_reports()
    rig.finish(host, 2, 0, State.FAILED)
    rig.restart()
    count = len(rig.records)
    # Job 2 has ended since: the request had put it back and submitted nothing for it.
    assert rig.requeue(2, 1, request_id=b"r" * 16, content=b"c") == first
    assert len(rig.records) == count
    other = RequeueJobs(
        which=rig.which(1), grace_ms=0, request_id=b"r" * 16, content=b"something else"
    )
    check_refused(rig, other, InvalidJob, match="used for something else")


def test_without_room_in_the_log_nothing_is_submitted_again() -> None:
    rig = Rig()
    ended_array(rig, 2)
    rig.kernel.room = False
    check_refused(rig, command(rig.which(1)), NoRoom)


def test_more_than_fits_in_a_record_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requeue, "JOBS_PER_REQUEST_MAX", 1)
    rig = Rig()
    rig.submit(new_job(), new_job())
    rig.cancel(1, 2)
    check_refused(rig, command(rig.which(1, 2)), InvalidJob, match="choose fewer")
    assert rig.requeue(1).job_ids == [3]


def test_a_preempted_task_that_is_lost_or_recalled_waits_again_too() -> None:
    rig = Rig()
    host = rig.worker()
    rig.submit(new_job())
    rig.start_here(host, 1)
    rig.requeue(1)
    host.restart_host()
    host.register()
    assert rig.task_state(1) is State.PENDING
    rig.start_here(host, 1)


def test_what_is_left_of_an_array_has_to_fit_in_a_record(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig()
    host = rig.worker(400)
    rig.submit(new_job(array=[(0, 400)]))
    for index in range(0, 400, 9):
        rig.finish(host, 1, index)
    rig.cancel(1)
    host.receive_all()
    host.send_reports()
    assert rig.state.get_job(1).has_ended
    monkeypatch.setattr(requeue, "REQUEST_BYTES_MAX", 200)
    check_refused(rig, command(rig.which(1)), InvalidJob, match="fewer of their tasks")
    assert rig.requeue(1, indexes=[(0, 20)]).submitted_again == {1: 2}


def test_a_job_is_not_named_without_end() -> None:
    rig = Rig()
    rig.submit(new_job())
    which = WhichJobs(selectors=(JobSelector(job_id=1),) * 10_001, user="ada")
    check_refused(rig, command(which), InvalidJob, match="at most 10000 jobs")
