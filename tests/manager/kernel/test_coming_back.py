"""Workers that come back: what they hold against what they should."""

from __future__ import annotations

import pytest

from tests.manager.builders import (
    START_US,
    TIMEOUT_US,
    FakeHost,
    Rig,
    check_refused,
    new_job,
    only,
    resources,
)
from tests.manager.kernel.scenes import host_key, next_stops, running
from titan import events as ev
from titan.errors import Refused
from titan.model import Held, HeldAttempt, HeldState, State, Stop, StopMode

# Coming back -------------------------------------------------------------------------------


def test_a_survivor_that_runs_is_adopted() -> None:
    rig = Rig()
    host = rig.worker()
    job_id = running(rig, host)
    rig.tick(TIMEOUT_US)
    host.register()
    assert {stop.mode for stop in next_stops(host)} == {StopMode.LIMIT, StopMode.RESUME}
    assert rig.task_state(job_id) is State.RUNNING
    assert rig.state.get_job(job_id).active[0].attempt == 1
    host.end(host.key_of(job_id))
    host.send_reports()
    assert rig.task_state(job_id) is State.COMPLETED


def test_a_survivor_that_ended_counts_when_its_task_still_waits() -> None:
    rig = Rig()
    host = rig.worker()
    job_id = running(rig, host)
    rig.tick(TIMEOUT_US)
    host.end(host.key_of(job_id))
    host.register()
    # It is not run a second time while the report is on its way.
    assert rig.schedule() == []
    assert rig.task_state(job_id) is State.RUNNING
    host.send_reports()
    assert rig.task_state(job_id) is State.COMPLETED
    assert rig.state.get_job(job_id).attempts_total == 1
    assert host.unacknowledged == []


@pytest.mark.parametrize("calls_in_by", ["register", "heartbeat"])
def test_an_end_that_counted_for_nothing_is_not_waited_for(calls_in_by: str) -> None:
    rig = Rig()
    host = rig.worker()
    job_id = running(rig, host)
    old = host.key_of(job_id)
    rig.tick(TIMEOUT_US)
    other = rig.worker()
    rig.start_here(other, job_id)
    host.end(old)
    host.register()
    # Superseded: it is only acknowledged, and the acknowledgement does not arrive.
    host.send_reports(answer_arrives=False)
    rig.tick(TIMEOUT_US // 2)
    host.heartbeat()
    rig.tick(TIMEOUT_US // 2)
    assert rig.task_state(job_id) is State.PENDING
    getattr(host, calls_in_by)()
    assert rig.task_state(job_id) is State.PENDING


def test_a_superseded_survivor_is_stopped_invariant_3() -> None:
    rig = Rig()
    host = rig.worker()
    job_id = running(rig, host)
    old = host.key_of(job_id)
    rig.tick(TIMEOUT_US)
    other = rig.worker()
    rig.start_here(other, job_id)
    host.register()
    (batch,) = host.receive_all()
    assert batch.stops == [Stop(old, StopMode.CANCEL, 0)]
    host.send_reports()
    assert host.held == {}
    assert rig.task_state(job_id) is State.RUNNING
    other.end(other.key_of(job_id))
    other.send_reports()
    assert rig.task_state(job_id) is State.COMPLETED


def test_a_survivor_that_only_waits_is_not_adopted_but_taken_back() -> None:
    rig = Rig()
    host = rig.worker()
    (job_id,) = rig.submit(new_job())
    rig.schedule()
    host.receive_all()
    rig.tick(TIMEOUT_US)
    key = host_key(rig, job_id)
    host.register(held=Held((HeldAttempt(key, HeldState.QUEUED, 0),), 0, 0))
    assert next_stops(host) == [Stop(key, StopMode.CANCEL, 0)]
    assert rig.task_state(job_id) is State.PENDING


def test_survivors_are_adopted_only_while_there_is_room_invariant_4() -> None:
    rig = Rig()
    host = rig.worker(2)
    jobs = [running(rig, host), running(rig, host)]
    rig.tick(TIMEOUT_US)
    host.capacity = resources(1)
    host.register()
    assert [rig.task_state(each) for each in jobs] == [State.RUNNING, State.PENDING]
    cancels = [stop for stop in next_stops(host) if stop.mode is StopMode.CANCEL]
    assert [stop.key.job_id for stop in cancels] == [jobs[1]]


def test_a_worker_that_reconnects_in_time_keeps_all_it_has() -> None:
    rig = Rig()
    host = rig.worker(2)
    job_id = running(rig, host)
    records = len(rig.records)
    host.register()
    (payload,) = rig.records[records:]
    assert [type(each) for each in ev.decode_record(payload)[1]] == [ev.WorkerRegistered]
    assert rig.task_state(job_id) is State.RUNNING
    assert host.receive_all() == []


def test_a_worker_that_reconnects_is_sent_again_what_it_never_got() -> None:
    rig = Rig()
    host = rig.worker(2)
    (job_id,) = rig.submit(new_job())
    rig.schedule()
    host.register()
    (batch,) = host.receive_all()
    assert [(each.job_id, each.attempt) for each in batch.starts] == [(job_id, 1)]


def test_a_worker_that_reconnects_without_what_ran_has_lost_it() -> None:
    rig = Rig()
    host = rig.worker(2)
    job_id = running(rig, host)
    host.held.clear()
    host.register()
    assert rig.task_state(job_id) is State.PENDING
    assert rig.state.get_job(job_id).next_attempt(0) == 2


def test_a_new_instance_has_lost_at_once_what_it_does_not_list() -> None:
    rig = Rig()
    host = rig.worker(3)
    runs = running(rig, host)
    (waits,) = rig.submit(new_job())
    rig.schedule()
    host.restart_host()
    records = len(rig.records)
    host.register()
    events = ev.decode_record(rig.records[records])[1]
    assert [type(each) for each in events] == [
        ev.AttemptEnded, ev.AttemptEnded, ev.WorkerRegistered,
    ]  # fmt: skip
    assert rig.task_state(runs) is rig.task_state(waits) is State.PENDING
    assert [each.attempt for each in only(rig.schedule(), ev.TaskAssigned)] == [2, 2]


def test_the_ends_that_a_new_instance_recovered_count() -> None:
    """A crashed host's successor lists what it found in the journal, and reports it."""
    rig = Rig()
    host = rig.worker()
    job_id = running(rig, host)
    key = host.key_of(job_id)
    host.instance = rig.draw()
    host.end(key)
    host.register()
    assert rig.task_state(job_id) is State.RUNNING
    host.send_reports()
    assert rig.task_state(job_id) is State.COMPLETED


def test_cancels_and_recalls_are_told_again_after_a_reconnection() -> None:
    rig = Rig()
    host = rig.worker(2)
    job_id = running(rig, host)
    rig.cancel(job_id, grace_ms=700)
    key = host.key_of(job_id)
    assert next_stops(host) == [Stop(key, StopMode.CANCEL, 700)]
    host.register()
    assert next_stops(host) == [Stop(key, StopMode.CANCEL, 700)]
    rig.restart()
    host.register()
    assert next_stops(host) == [Stop(key, StopMode.CANCEL, 700)]


def test_an_older_registration_is_refused() -> None:
    """It was sent before reports that have been applied, and took its time."""
    rig = Rig()
    host = rig.worker()
    job_id = running(rig, host)
    old = host.register_command()
    host.end(host.key_of(job_id))
    host.send_reports()
    check_refused(rig, old, Refused, match="older")
    host.register()


def test_reports_that_were_applied_are_not_applied_again_after_a_reconnection() -> None:
    rig = Rig()
    host = rig.worker()
    job_id = running(rig, host)
    host.end(host.key_of(job_id))
    host.send_reports(answer_arrives=False)
    host.register()
    assert rig.task_state(job_id) is State.COMPLETED
    lsn = rig.state.lsn
    host.send_reports()
    assert host.unacknowledged == []
    assert rig.state.lsn == lsn


# Heartbeats: the list of what is held ------------------------------------------------------


def sent(rig: Rig, host: FakeHost) -> int:
    """A job whose one start call was acknowledged and came to nothing."""
    (job_id,) = rig.submit(new_job())
    rig.schedule()
    batch = host.next_batch()
    assert batch is not None
    assert host.outbox is not None
    host.outbox.acknowledged(batch)
    host.dispatch_seq = batch.dispatch_seq
    return job_id


def test_what_was_sent_and_is_absent_is_sent_again() -> None:
    rig = Rig()
    host = rig.worker()
    job_id = sent(rig, host)
    host.heartbeat()
    (batch,) = host.receive_all()
    assert [each.job_id for each in batch.starts] == [job_id]
    host.send_reports()
    assert rig.task_state(job_id) is State.RUNNING


def test_absence_says_nothing_of_what_was_sent_later() -> None:
    rig = Rig()
    host = rig.worker()
    host.dispatch_seq = 0
    before = host.list_held()
    sent(rig, host)
    host.heartbeat(before)
    assert host.next_batch() is None


def test_absence_says_nothing_before_all_reports_up_to_the_list_came() -> None:
    rig = Rig()
    host = rig.worker()
    job_id = running(rig, host)
    host.end(host.key_of(job_id))
    host.heartbeat(Held((), host.dispatch_seq, host.report_seq))
    assert rig.task_state(job_id) is State.RUNNING
    host.send_reports()
    assert rig.task_state(job_id) is State.COMPLETED


def test_what_ran_and_is_absent_is_lost() -> None:
    rig = Rig()
    host = rig.worker()
    job_id = running(rig, host)
    host.held.clear()
    host.heartbeat()
    assert rig.task_state(job_id) is State.PENDING
    assert rig.state.get_job(job_id).next_attempt(0) == 2


def test_what_ran_over_a_reconnection_and_is_absent_then_is_lost() -> None:
    rig = Rig()
    host = rig.worker()
    job_id = running(rig, host)
    host.register()
    host.held.clear()
    host.heartbeat()
    assert rig.task_state(job_id) is State.PENDING


def test_what_waited_over_a_reconnection_and_is_absent_then_is_sent_again() -> None:
    rig = Rig()
    host = rig.worker(1)
    for _ in range(2):
        (job_id,) = rig.submit(new_job())
        rig.start_here(host, job_id)
        rig.now_us += 1000
        host.end(host.running[0])
        host.send_reports()
    (array,) = rig.submit(new_job(array=[(0, 2)]))
    rig.start_here(host, array, 0)
    assert rig.task_state(array, 1) is State.SCHEDULED
    host.register()
    assert host.receive_all() == []
    del host.held[host.key_of(array, 1)]
    host.heartbeat()
    (batch,) = host.receive_all()
    assert [each.index for each in batch.starts] == [1]


def test_what_is_absent_and_cancelled_is_not_sent_again_but_stopped() -> None:
    rig = Rig()
    host = rig.worker()
    job_id = sent(rig, host)
    rig.cancel(job_id, grace_ms=5)
    host.heartbeat()
    (batch,) = host.receive_all()
    assert batch.starts == []
    assert [each.key.job_id for each in batch.stops] == [job_id]
    host.send_reports()
    assert rig.task_state(job_id) is State.CANCELLED


def test_an_old_list_does_not_stop_what_ended_since() -> None:
    rig = Rig()
    host = rig.worker()
    job_id = running(rig, host)
    old = host.list_held()
    host.end(host.key_of(job_id))
    host.send_reports()
    host.heartbeat(old)
    assert host.next_batch() is None


def test_what_has_ended_and_runs_again_is_stopped_invariant_3() -> None:
    """A start was sent twice; the second came when the end had been acknowledged."""
    rig = Rig()
    host = rig.worker()
    (job_id,) = rig.submit(new_job())
    rig.schedule()
    first = host.next_batch()
    assert first is not None
    assert host.outbox is not None
    host.receive(first)
    host.outbox.failed(first, rig.state)
    second = host.next_batch()
    assert second is not None
    key = host.key_of(job_id)
    host.end(key)
    host.send_reports()
    host.receive_message(second.dispatch_seq, [(key, 1)], dict(second.slots), [])
    host.outbox.acknowledged(second)
    assert host.running == [key]
    host.send_reports()
    host.heartbeat()
    assert next_stops(host) == [Stop(key, StopMode.CANCEL, 0)]
    assert rig.task_state(job_id) is State.COMPLETED


def test_a_stray_in_a_list_is_stopped() -> None:
    rig = Rig()
    host = rig.worker()
    key = host_key(rig, 77)
    host.heartbeat(Held((HeldAttempt(key, HeldState.RUNNING, START_US),), 0, 0))
    assert next_stops(host) == [Stop(key, StopMode.CANCEL, 0)]
