"""Jobs that run at most once: what may have begun is never given out again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from tests.manager.builders import (
    SECOND_US,
    TIMEOUT_US,
    FakeHost,
    Rig,
    new_job,
    only,
    prove_short,
    report,
)
from titan import events as ev
from titan.errors import InvalidJob, Refused
from titan.manager.kernel import Settings
from titan.manager.kernel.commands import NewJob
from titan.manager.kernel.outbox import Batch, key_of
from titan.model import Held, Reason, ReportKind, State, StopMode, WorkerState
from titan.scheduling import Scheduling

LEASE_US = Settings().lease_us


def once(**fields: Any) -> NewJob:
    """A job whose tasks run at most once."""
    return new_job(scheduling=Scheduling(at_most_once=True), **fields)


def waiting() -> tuple[Rig, FakeHost, int]:
    """A worker, and such a job of one task that is not scheduled yet."""
    rig = Rig()
    host = rig.worker()
    (job_id,) = rig.submit(once())
    return rig, host, job_id


def sent() -> tuple[Rig, FakeHost, int, Batch]:
    """The same, with its task on the way to the worker."""
    rig, host, job_id = waiting()
    rig.schedule()
    batch = host.next_batch()
    assert batch is not None
    return rig, host, job_id, batch


def running(rig: Rig, host: FakeHost) -> int:
    """Such a job of one task that runs there."""
    (job_id,) = rig.submit(once())
    rig.start_here(host, job_id)
    return job_id


def check_lost(rig: Rig, events: Sequence[ev.Event], job_id: int, *sentences: str) -> None:
    """That its one task ended with its worker, for those reasons, and goes nowhere else."""
    (end,) = [each for each in only(events, ev.AttemptEnded) if each.job_id == job_id]
    assert (end.state, end.reason, end.task_state) == (
        State.FAILED, Reason.WORKER_LOST, State.FAILED,
    )  # fmt: skip
    assert all(each in end.detail for each in sentences), end.detail
    assert rig.task_state(job_id) is State.FAILED
    rig.worker(8)
    assert only(rig.schedule(), ev.TaskAssigned) == []


# Workers that are lost ----------------------------------------------------------------------


def test_what_ran_on_a_worker_that_fell_silent_has_failed_and_is_not_tried_again() -> None:
    rig = Rig()
    job_id = running(rig, rig.worker())
    check_lost(
        rig, rig.tick(TIMEOUT_US), job_id, "was not heard for 30 s", "it had begun and runs at most"
    )


def test_what_was_sent_to_it_may_have_begun() -> None:
    rig, host, job_id = waiting()
    rig.schedule()
    batch = host.next_batch()
    assert batch is not None, "nobody knows whether it arrives"
    check_lost(rig, rig.tick(TIMEOUT_US), job_id, "it may have begun and runs at most once")


def test_what_was_never_sent_to_it_goes_elsewhere() -> None:
    rig = Rig()
    rig.worker()
    (job_id,) = rig.submit(once())
    rig.schedule()
    (end,) = only(rig.tick(TIMEOUT_US), ev.AttemptEnded)
    assert (end.state, end.task_state) == (State.LOST, State.PENDING)
    other = rig.worker()
    rig.finish(other, job_id)
    assert rig.task_state(job_id) is State.COMPLETED


def test_what_was_sent_before_a_restart_of_the_manager_may_have_begun() -> None:
    rig, host, job_id = waiting()
    rig.schedule()
    assert host.next_batch() is not None
    rig.restart()
    check_lost(rig, rig.tick(TIMEOUT_US), job_id, "it may have begun")


def test_what_a_worker_says_that_it_never_got_is_sent_once_more() -> None:
    rig, host, job_id = waiting()
    rig.schedule()
    assert host.next_batch() is not None, "it is lost on its way, and its session with it"
    host.register()
    rig.finish(host, job_id)
    assert rig.task_state(job_id) is State.COMPLETED


def test_what_waits_at_a_worker_since_an_earlier_session_may_have_begun() -> None:
    rig, host, job_id, batch = sent()
    host.receive(batch._replace(slots={}))
    host.register()
    assert len(host.queued) == 1
    check_lost(rig, rig.tick(TIMEOUT_US), job_id, "it may have begun")


@pytest.mark.parametrize("sessions", [1, 2])
def test_what_a_registration_that_is_read_late_does_not_list_may_have_begun(sessions: int) -> None:
    rig = Rig()
    host = rig.worker()
    late = [host.register_command() for _ in range(sessions)]
    host.register()
    (job_id,) = rig.submit(once())
    rig.schedule()
    host.receive_all()
    assert len(host.running) == 1, "it runs, and its report does not come through"
    for command in late:
        rig.do(command)
    check_lost(rig, rig.tick(TIMEOUT_US), job_id, "it may have begun")


def test_what_came_back_from_an_earlier_session_was_not_sent_again_yet() -> None:
    rig, host, job_id, batch = sent()
    key = key_of(rig.state, batch.starts[0])
    host.register()
    host.report(report(1, key, ReportKind.RECALLED))
    rig.schedule()
    (end,) = only(rig.tick(TIMEOUT_US), ev.AttemptEnded)
    assert (end.job_id, end.attempt, end.task_state) == (job_id, 2, State.PENDING)


def test_a_new_host_instance_has_lost_what_was_sent_and_not_what_was_not() -> None:
    rig = Rig()
    host = rig.worker(2)
    (sent,) = rig.submit(once())
    rig.schedule()
    assert host.next_batch() is not None
    (late,) = rig.submit(once())
    rig.schedule()
    host.restart_host()
    host.register()
    assert rig.task_state(sent) is State.FAILED
    rig.finish(host, late)
    assert rig.task_state(late) is State.COMPLETED


def test_what_ran_and_is_not_held_any_more_has_failed() -> None:
    rig = Rig()
    host = rig.worker()
    job_id = running(rig, host)
    before = len(rig.records)
    host.heartbeat(Held((), host.dispatch_seq, host.report_seq))
    events = [each for record in rig.records[before:] for each in ev.decode_record(record)[1]]
    check_lost(rig, events, job_id, "knows nothing of it any more")


def test_what_a_worker_that_leaves_had_begun_has_failed() -> None:
    rig = Rig()
    host = rig.worker()
    job_id = running(rig, host)
    host.deregister()
    assert rig.task_state(job_id) is State.FAILED


def test_a_cancel_that_was_under_way_counts_before_the_loss() -> None:
    rig = Rig()
    job_id = running(rig, rig.worker())
    rig.cancel(job_id)
    rig.tick(TIMEOUT_US)
    assert rig.task_state(job_id) is State.CANCELLED


def test_after_a_restart_of_the_manager_nothing_is_lost_before_the_whole_timeout() -> None:
    rig = Rig()
    host = rig.worker()
    job_id = running(rig, host)
    rig.tick(TIMEOUT_US - SECOND_US)
    rig.restart()
    rig.tick(TIMEOUT_US - 1)
    assert rig.task_state(job_id) is State.RUNNING
    assert rig.state.get_worker(host.number).state is WorkerState.UNHEALTHY
    host.register()
    host.end(host.key_of(job_id))
    host.send_reports()
    assert rig.task_state(job_id) is State.COMPLETED


# Reports that come late ---------------------------------------------------------------------


@pytest.mark.parametrize("state", [State.COMPLETED, State.FAILED, State.CANCELLED])
def test_an_end_that_comes_after_the_loss_changes_nothing(state: State) -> None:
    rig = Rig()
    host = rig.worker()
    job_id = running(rig, host)
    rig.tick(TIMEOUT_US)
    host.end(host.key_of(job_id), state)
    host.register()
    host.send_reports()
    assert host.unacknowledged == []
    assert rig.task_state(job_id) is State.FAILED
    assert host.receive_all() == []


def test_what_still_runs_after_the_loss_is_stopped_on_contact() -> None:
    rig = Rig()
    host = rig.worker()
    job_id = running(rig, host)
    key = host.key_of(job_id)
    rig.tick(TIMEOUT_US)
    host.register()
    (batch,) = host.receive_all()
    assert [(each.key, each.mode) for each in batch.stops] == [(key, StopMode.CANCEL)]
    host.send_reports()
    assert rig.task_state(job_id) is State.FAILED


def test_a_start_that_is_told_after_the_loss_is_stopped() -> None:
    rig, host, job_id = waiting()
    rig.schedule()
    host.receive_all()
    key = host.key_of(job_id)
    rig.tick(TIMEOUT_US)
    host.clear()
    host.register()
    host.report(report(1, key, ReportKind.STARTED, start_us=rig.now_us))
    (batch,) = host.receive_all()
    assert [(each.key, each.mode) for each in batch.stops] == [(key, StopMode.CANCEL)]


# What is put back ---------------------------------------------------------------------------


def test_what_a_worker_hands_back_unstarted_runs_elsewhere() -> None:
    rig, host, job_id, batch = sent()
    key = key_of(rig.state, batch.starts[0])
    host.report(report(1, key, ReportKind.RECALLED))
    rig.finish(rig.worker(), job_id)
    assert rig.task_state(job_id) is State.COMPLETED


def test_what_a_worker_hands_back_before_it_leaves_runs_elsewhere() -> None:
    rig, host, job_id, batch = sent()
    host.report(report(1, key_of(rig.state, batch.starts[0]), ReportKind.RECALLED))
    host.deregister()
    rig.finish(rig.worker(), job_id)
    assert rig.task_state(job_id) is State.COMPLETED


@pytest.mark.parametrize("is_told", [True, False])
def test_what_is_sent_to_a_worker_that_leaves_is_known_not_to_have_come(is_told: bool) -> None:
    rig, host, job_id = waiting()
    rig.schedule()
    (batch,) = host.receive_all()
    host.clear()
    host.report(report(1, key_of(rig.state, batch.starts[0]), ReportKind.RECALLED))
    rig.schedule()
    assert host.next_batch() is not None, "it goes back at once, and is refused there"
    host.deregister(batch.dispatch_seq if is_told else None)
    assert rig.task_state(job_id) is (State.PENDING if is_told else State.FAILED)


def test_what_a_worker_that_leaves_had_from_an_earlier_batch_may_have_begun() -> None:
    rig, host, job_id, batch = sent()
    assert host.outbox is not None
    host.outbox.failed(batch, rig.state)
    again = host.next_batch()
    assert again is not None, "the answer was lost, and the worker refuses what comes again"
    host.deregister(batch.dispatch_seq)
    assert rig.task_state(job_id) is State.FAILED


def test_what_ran_and_was_stopped_by_nobodys_wish_ends_cancelled() -> None:
    rig = Rig()
    host = rig.worker()
    job_id = running(rig, host)
    host.end(host.key_of(job_id), State.CANCELLED, reason=Reason.CANCELLED)
    host.send_reports()
    assert rig.task_state(job_id) is State.CANCELLED


def test_what_runs_is_not_requeued_and_what_waits_for_its_worker_is() -> None:
    rig = Rig()
    host = rig.worker(2)
    job_id = running(rig, host)
    (waiting,) = rig.submit(once())
    rig.schedule()
    with pytest.raises(Refused, match=f"{job_id} has begun and runs at most once"):
        rig.requeue(waiting, job_id)
    rig.requeue(waiting)
    assert rig.state.get_job(waiting).active[0].recall_requested


def test_an_ended_one_is_not_submitted_again_unless_it_never_began() -> None:
    rig = Rig()
    host = rig.worker()
    job_id = running(rig, host)
    host.end(host.key_of(job_id), State.FAILED)
    host.send_reports()
    (never,) = rig.submit(once())
    rig.cancel(never)
    with pytest.raises(Refused, match="submit it as another job"):
        rig.requeue(job_id)
    assert rig.requeue(never).submitted_again == {never: 3}


def test_it_is_not_submitted_again_where_workers_are_lost_before_their_leases_are_over() -> None:
    rig = Rig()
    ids = rig.submit(once(), new_job())
    rig.cancel(*ids)
    rig.settings = Settings(heartbeat_timeout_us=25 * SECOND_US)
    rig.restart()
    with pytest.raises(Refused, match=r"timeout of 25\.25 s or more, and this manager's is 25 s"):
        rig.requeue(*ids)
    assert len(rig.state.jobs) == 2
    assert rig.requeue(ids[1]).submitted_again == {ids[1]: 3}


def test_an_ended_one_that_came_back_from_its_worker_or_was_never_sent_has_not_begun() -> None:
    rig = Rig()
    host = rig.worker(2)
    (recalled,) = rig.submit(once())
    rig.schedule()
    batch = host.next_batch()
    assert batch is not None
    host.report(report(1, key_of(rig.state, batch.starts[0]), ReportKind.RECALLED))
    host.deregister()
    other = rig.worker()
    (unsent,) = rig.submit(once(priority=9))
    rig.schedule()
    other.deregister()
    rig.cancel(recalled, unsent)
    assert rig.state.get_job(recalled).attempts_total == 1
    assert rig.state.get_job(unsent).attempts_total == 1
    assert rig.requeue(recalled, unsent).submitted_again == {recalled: 3, unsent: 4}


def test_an_ended_one_that_was_cancelled_and_lost_may_have_begun() -> None:
    rig, host, job_id = waiting()
    rig.schedule()
    assert host.next_batch() is not None
    rig.cancel(job_id)
    rig.tick(TIMEOUT_US)
    assert rig.task_state(job_id) is State.CANCELLED
    with pytest.raises(Refused, match=f"^{job_id} has begun"):
        rig.requeue(job_id)


def test_of_an_ended_array_only_the_tasks_that_are_meant_must_not_have_begun() -> None:
    rig = Rig()
    host = rig.worker(2)
    (job_id,) = rig.submit(once(array=[(0, 4)]))
    rig.start_here(host, job_id, 0)
    host.end(host.key_of(job_id, 0), State.FAILED)
    host.send_reports()
    rig.schedule()
    assert host.next_batch() is not None, "nobody knows whether tasks 1 and 2 begin"
    rig.tick(TIMEOUT_US)
    rig.cancel(job_id)
    assert list(rig.state.get_job(job_id).counts) == [0, 0, 0, 0, 3, 1]
    for index in range(3):
        with pytest.raises(Refused, match=rf"^1\.{index} has begun"):
            rig.requeue(job_id, indexes=[(index, 4)])
    assert rig.requeue(job_id, indexes=[(3, 4)]).submitted_again == {job_id: 2}


@pytest.mark.parametrize(("way", "is_stopped"), [("requeue", False), ("suspend", True)])
def test_a_higher_priority_suspends_it_and_never_puts_it_back(way: str, is_stopped: bool) -> None:
    rig = Rig()
    host = rig.worker()
    rig.set_policy(preempt=way)
    (job_id,) = rig.submit(new_job(scheduling=Scheduling(at_most_once=True, preemptible=True)))
    rig.start_here(host, job_id)
    rig.submit(new_job(priority=5))
    events = rig.schedule()
    assert only(events, ev.Preempted) == []
    assert bool(only(events, ev.AttemptSuspended)) == is_stopped


# What is asked for --------------------------------------------------------------------------


def test_it_is_never_sent_ahead() -> None:
    rig = Rig()
    host = rig.worker()
    prove_short(rig, host, scheduling=Scheduling(at_most_once=True))
    rig.submit(once(array=[(0, 4)]))
    assert [each.ahead for each in only(rig.schedule(), ev.TaskAssigned)] == [False]


def test_retries_are_refused() -> None:
    rig = Rig()
    job = new_job(scheduling=Scheduling(at_most_once=True, retries=1))
    with pytest.raises(InvalidJob, match="what runs at most once is not tried again"):
        rig.submit(job)


def test_it_is_refused_where_workers_are_lost_before_their_leases_are_over() -> None:
    needed_us = (LEASE_US + 5 * SECOND_US) * 101 // 100
    rig = Rig(settings=Settings(heartbeat_timeout_us=needed_us - 1))
    rig.worker()
    with pytest.raises(Refused, match=r"timeout of 25\.25 s or more, and this manager's is 25\.2"):
        rig.submit(new_job(), once())
    assert list(rig.state.jobs) == []
    rig.submit(new_job())
    Rig(settings=Settings(heartbeat_timeout_us=needed_us)).submit(once())
