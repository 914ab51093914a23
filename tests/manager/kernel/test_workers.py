"""Workers: silence, coming back, new instances, clones, what they hold against what they should."""

from __future__ import annotations

from typing import Any

import pytest

from tests.manager.builders import (
    SECOND_US,
    START_US,
    TIMEOUT_US,
    FakeHost,
    Rig,
    check_refused,
    new_job,
    only,
    report,
    resources,
)
from titan import events as ev
from titan.errors import InvalidJob, NoRoom, Refused
from titan.manager.kernel import identity
from titan.manager.kernel.commands import DeregisterWorker, Heartbeat
from titan.model import (
    AttemptKey,
    Held,
    HeldAttempt,
    HeldState,
    Reason,
    ReportKind,
    Resources,
    State,
    Stop,
    StopMode,
    WorkerState,
)


def state_of(host: FakeHost) -> WorkerState:
    return host.rig.state.get_worker(host.number).state


def running(rig: Rig, host: FakeHost, **fields: Any) -> int:
    """A job of one task that runs there."""
    (job_id,) = rig.submit(new_job(**fields))
    rig.start_here(host, job_id)
    return job_id


def test_only_so_many_workers_ever_register_and_those_that_did_come_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(identity, "WORKERS_MAX", 2)
    rig = Rig()
    host, other = rig.worker(), rig.worker()
    with pytest.raises(NoRoom, match="2 workers have registered here"):
        rig.worker()
    host.register()
    assert len(rig.state.workers) == 2
    assert other.number in rig.state.workers


def test_only_so_many_workers_of_one_name_ever_register(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "WORKERS_OF_NAME_MAX", 2)
    rig = Rig()
    hosts = [FakeHost(rig, resources(1), name) for name in ("a", "a", "a", "b")]
    hosts[0].register()
    hosts[1].register()
    with pytest.raises(NoRoom, match="2 workers called a have registered here"):
        hosts[2].register()
    hosts[3].register()
    hosts[0].register()
    assert len(rig.state.workers) == 3


# Silence -----------------------------------------------------------------------------------


def test_a_silent_worker_is_unhealthy_at_half_the_timeout_and_disconnected_at_the_whole() -> None:
    rig = Rig()
    host = rig.worker()
    assert rig.tick(TIMEOUT_US // 2 - 1) == []
    assert rig.tick(1) == [ev.WorkerUnhealthy(1)]
    assert rig.tick(TIMEOUT_US // 2 - 1) == []
    assert rig.tick(1) == [ev.WorkerLost(1)]
    assert state_of(host) is WorkerState.DISCONNECTED
    assert rig.tick(10 * TIMEOUT_US) == []


def test_the_tasks_of_a_lost_worker_wait_again_as_attempt_2() -> None:
    rig = Rig()
    host = rig.worker(2)
    job_id = running(rig, host)
    (queued,) = rig.submit(new_job())
    rig.schedule()
    rig.tick(TIMEOUT_US // 2)
    lost = rig.tick(TIMEOUT_US // 2)
    assert [type(each) for each in lost] == [ev.AttemptEnded, ev.AttemptEnded, ev.WorkerLost]
    for event in only(lost, ev.AttemptEnded):
        assert (event.state, event.reason) == (State.LOST, Reason.WORKER_LOST)
        assert "30 s" in event.detail
    assert rig.task_state(job_id) is rig.task_state(queued) is State.PENDING
    assert rig.schedule() == [], "nothing goes to a worker that is gone"
    rig.worker(2)
    assert [(each.job_id, each.attempt, each.worker) for each in rig.schedule()] == [  # type: ignore[union-attr]
        (job_id, 2, 2), (queued, 2, 2),
    ]  # fmt: skip


def test_a_cancelled_task_of_a_lost_worker_ends_cancelled() -> None:
    rig = Rig()
    host = rig.worker()
    job_id = running(rig, host)
    rig.cancel(job_id)
    assert rig.task_state(job_id) is State.RUNNING
    rig.tick(TIMEOUT_US)
    assert rig.task_state(job_id) is State.CANCELLED


def test_an_unhealthy_worker_gets_no_new_tasks_until_it_is_heard() -> None:
    rig = Rig()
    host = rig.worker()
    rig.tick(TIMEOUT_US // 2)
    rig.submit(new_job())
    assert rig.schedule() == []
    host.heartbeat()
    assert state_of(host) is WorkerState.HEALTHY
    assert len(rig.schedule()) == 1


@pytest.mark.parametrize("how", ["heartbeat", "report"])
def test_whatever_a_worker_says_is_a_sign_of_life(how: str) -> None:
    rig = Rig()
    host = rig.worker()
    job_id = running(rig, host)
    for _ in range(4):
        rig.tick(TIMEOUT_US // 2 - 1)
        if how == "heartbeat":
            host.heartbeat()
        else:
            host.report(report(1, host.key_of(job_id), ReportKind.STARTED))
    assert state_of(host) is WorkerState.HEALTHY


def test_silence_counts_only_time_in_which_the_loop_turned() -> None:
    rig = Rig()
    host = rig.worker()
    rig.now_us += 10 * TIMEOUT_US
    assert rig.tick() == []
    assert state_of(host) is WorkerState.HEALTHY


def test_heartbeats_are_recorded_together_and_about_once_a_second() -> None:
    rig = Rig()
    one, other = rig.worker(), rig.worker()
    rig.tick(SECOND_US)
    other.heartbeat()
    one.heartbeat()
    assert rig.tick(0) == [ev.WorkerHeartbeats((1, 2))]
    one.heartbeat()
    assert rig.tick(SECOND_US - 1) == []
    assert rig.tick(1) == [ev.WorkerHeartbeats((1,))]
    assert rig.tick(SECOND_US) == []
    assert rig.state.get_worker(2).last_heard_us == START_US + SECOND_US


def test_after_a_restart_every_known_worker_has_a_full_timeout_to_call_in() -> None:
    rig = Rig()
    host = rig.worker()
    job_id = running(rig, host)
    rig.tick(TIMEOUT_US - 1)
    rig.restart()
    assert only(rig.tick(TIMEOUT_US - 1), ev.WorkerLost) == []
    assert rig.task_state(job_id) is State.RUNNING
    assert ev.WorkerLost(1) in rig.tick(1)
    assert rig.task_state(job_id) is State.PENDING


def test_after_a_restart_nothing_goes_to_a_worker_before_it_calls_in() -> None:
    rig = Rig()
    host = rig.worker()
    rig.restart()
    rig.submit(new_job())
    assert rig.schedule() == []
    check_refused(rig, Heartbeat(session=host.session, held=host.list_held()), Refused)
    host.register()
    assert len(rig.schedule()) == 1


def test_without_room_no_silence_is_recorded_but_the_end_of_a_worker_is() -> None:
    rig = Rig()
    host = rig.worker()
    job_id = running(rig, host)
    rig.kernel.room = False
    assert rig.tick(TIMEOUT_US // 2) == []
    host.heartbeat()
    assert rig.tick(SECOND_US) == []
    rig.tick(TIMEOUT_US)
    assert rig.task_state(job_id) is State.PENDING
    assert rig.schedule() == []


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


def host_key(rig: Rig, job_id: int) -> AttemptKey:
    return AttemptKey(rig.epoch, job_id, 0, 1)


def next_stops(host: FakeHost) -> list[Stop]:
    batch = host.next_batch()
    assert batch is not None
    return batch.stops


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


# Who is who --------------------------------------------------------------------------------


def test_the_clone_of_a_data_directory_gets_a_new_id_and_both_are_named() -> None:
    rig = Rig()
    original = rig.worker()
    clone = FakeHost(rig, resources(1), "clone")
    clone.worker_id = original.worker_id
    assert clone.register().warning == "", "so looks a host that was started anew"
    assert clone.number == original.number
    check_refused(rig, Heartbeat(session=original.session, held=original.list_held()), Refused)
    answer = original.register()
    assert original.number == 2
    assert answer.worker_id != clone.worker_id
    assert original.name in answer.warning
    assert clone.name in answer.warning
    for _ in range(3):
        rig.tick(SECOND_US)
        original.heartbeat()
        clone.heartbeat()
    assert original.register().warning == clone.register().warning == ""
    assert (original.number, clone.number) == (2, 1)


def test_a_host_that_comes_back_after_two_heartbeats_is_no_clone() -> None:
    rig = Rig()
    host = rig.worker()
    first = host.instance
    host.restart_host()
    host.register()
    rig.turned_us += 2 * rig.settings.heartbeat_interval_us + 1
    host.instance = first
    assert host.register().warning == ""
    assert host.number == 1


def test_a_first_call_that_comes_again_is_not_a_second_worker() -> None:
    rig = Rig()
    host = FakeHost(rig, resources(1), "new")
    first = host.register_command(session=rig.draw(), worker_id=b"")
    rig.do(first)
    # Its answer is lost on the way.
    host.worker_id = b""
    answer = host.register()
    assert (answer.worker, len(rig.state.workers)) == (1, 1)
    # And the first one once more, late.
    check_refused(rig, Heartbeat(session=first.session, held=host.list_held()), Refused)
    rig.do(first)
    assert len(rig.state.workers) == 1
    host.register()
    host.heartbeat()


def test_who_calls_first_with_anothers_instance_is_not_that_other() -> None:
    rig = Rig()
    host = rig.worker()
    job_id = running(rig, host)
    other = FakeHost(rig, resources(1), "other")
    other.instance = host.instance
    assert other.register().worker != host.number
    assert rig.state.get_worker(host.number).name == host.name
    assert rig.task_state(job_id) is State.RUNNING
    host.heartbeat()


def test_a_late_registration_of_a_dead_host_does_not_take_the_place_of_the_next() -> None:
    rig = Rig()
    host = rig.worker()
    # Its call waits in a socket; meanwhile it dies, and the next one is read first.
    late = host.register_command(session=rig.draw(), host_starts=2, instance=rig.draw())
    host.starts = 2
    host.restart_host()
    host.register()
    job_id = running(rig, host)
    check_refused(rig, late, Refused, match="a later task host")
    host.heartbeat()
    assert rig.task_state(job_id) is State.RUNNING
    assert host.register().warning == ""
    assert host.number == 1


def test_a_host_that_is_not_the_last_and_calls_again_is_a_copy_if_the_last_one_lives() -> None:
    rig = Rig()
    original = rig.worker()
    original.restart_host()
    original.register()
    clone = FakeHost(rig, resources(1), "clone")
    clone.worker_id = original.worker_id
    check_refused(rig, clone.register_command(), Refused, match="call again if this one lives")
    rig.turned_us += SECOND_US
    original.heartbeat()
    answer = clone.register()
    assert clone.number == 2
    assert "was a data directory copied? clone gets a new id" in answer.warning
    original.heartbeat()


def test_a_host_whose_starts_are_not_known_any_more_is_taken_when_it_calls_again() -> None:
    rig = Rig()
    host = rig.worker()
    host.starts = 7
    host.restart_host()
    host.register()
    # Its journal was lost with the machine's power.
    host.starts = 0
    host.restart_host()
    check_refused(rig, host.register_command(), Refused)
    rig.turned_us += SECOND_US
    assert host.register().warning == ""
    assert host.number == 1
    host.heartbeat()


def test_a_worker_of_another_cluster_is_refused_by_name_only_while_it_holds_attempts() -> None:
    rig = Rig()
    host = FakeHost(rig, resources(1), "stranger")
    foreign = b"f" * 16
    held = Held((HeldAttempt(host_key(rig, 1), HeldState.RUNNING, START_US),), 0, 0)
    command = host.register_command(cluster_id=foreign, held=held)
    error = check_refused(rig, command, Refused, match="stranger")
    assert foreign.hex() in str(error)
    host.register(cluster_id=foreign)
    assert host.number == 1


def test_a_worker_keeps_its_number_and_id_whatever_else_changes() -> None:
    rig = Rig()
    host = rig.worker()
    worker_id = host.worker_id
    assert len(worker_id) == 16
    rig.restart()
    host.capacity = resources(7, 1 << 30, gpu=1)
    host.name = "renamed"
    host.register()
    worker = rig.state.get_worker(1)
    assert (worker.name, worker.capacity, worker.worker_id) == ("renamed", host.capacity, worker_id)
    assert host.worker_id == worker_id


CAPACITIES = [
    Resources(0),
    Resources(-1000),
    Resources(1 << 62),
    Resources(1000, -1),
    Resources(1000, 1 << 61),
    Resources(1000, 0, (("gpu", -1),)),
    Resources(1000, 0, (("gpu", 1 << 41),)),
    Resources(1000, 0, (("", 1),)),
    Resources(1000, 0, (("cpus", 1),)),
]


@pytest.mark.parametrize("capacity", CAPACITIES, ids=str)
def test_a_worker_of_an_impossible_size_is_refused_invariant_10(capacity: Resources) -> None:
    rig = Rig()
    host = FakeHost(rig, capacity, "odd")
    check_refused(rig, host.register_command(), InvalidJob)


@pytest.mark.parametrize("fields", [{"name": ""}, {"name": "n" * 256}, {"instance": b""}], ids=str)
def test_a_worker_without_a_name_or_an_instance_is_refused(fields: dict[str, Any]) -> None:
    rig = Rig()
    host = FakeHost(rig, resources(1), "odd")
    check_refused(rig, host.register_command(**fields), InvalidJob)


# Leaving -----------------------------------------------------------------------------------


def test_a_worker_that_leaves_hands_back_what_it_has() -> None:
    rig = Rig()
    host, other = rig.worker(), rig.worker()
    job_id = running(rig, host)
    host.deregister()
    assert state_of(host) is WorkerState.DEREGISTERED
    assert rig.task_state(job_id) is State.PENDING
    rig.start_here(other, job_id)
    assert rig.tick(TIMEOUT_US // 4) == []
    check_refused(rig, DeregisterWorker(session=host.session), Refused)


def test_a_worker_that_left_comes_back_under_its_number() -> None:
    rig = Rig()
    host = rig.worker()
    host.deregister()
    assert rig.tick(10 * TIMEOUT_US) == []
    host.restart_host()
    host.register()
    assert host.number == 1
    assert state_of(host) is WorkerState.HEALTHY


def test_a_recall_is_told_again_to_whom_reconnects() -> None:
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
    rig.worker(1)
    rig.tick(200_000)
    key = host.key_of(array, 1)
    assert next_stops(host) == [Stop(key, StopMode.RECALL, 0)]
    host.register()
    assert next_stops(host) == [Stop(key, StopMode.RECALL, 0)]


# What a worker says of itself --------------------------------------------------------------


def fault_of(host: FakeHost) -> tuple[WorkerState, str]:
    worker = host.rig.state.get_worker(host.number)
    return worker.state, worker.fault


def say(host: FakeHost, fault: str) -> list[ev.Event]:
    """What its next heartbeat, which says that, leads to."""
    host.fault = fault
    before = len(host.rig.records)
    host.heartbeat()
    return [each for r in host.rig.records[before:] for each in ev.decode_record(r)[1]]


def test_a_worker_with_a_fault_gets_nothing_new_until_it_says_that_it_is_over() -> None:
    rig = Rig()
    host = rig.worker(2)
    job_id = running(rig, host)
    assert say(host, "disk") == [ev.WorkerUnhealthy(1, "disk")]
    assert say(host, "disk") == []
    (waiting,) = rig.submit(new_job())
    assert rig.schedule() == []
    host.end(host.key_of(job_id))
    host.send_reports()
    assert rig.task_state(job_id) is State.COMPLETED, "what runs there runs on"
    assert rig.schedule() == []
    assert say(host, "rain") == [ev.WorkerUnhealthy(1, "rain")]
    assert fault_of(host) == (WorkerState.UNHEALTHY, "rain")
    assert say(host, "") == [ev.WorkerHealthy(1)]
    assert fault_of(host) == (WorkerState.HEALTHY, "")
    assert [each.job_id for each in only(rig.schedule(), ev.TaskAssigned)] == [waiting]


def test_a_fault_and_silence_are_two_things() -> None:
    rig = Rig()
    host = rig.worker()
    rig.tick(TIMEOUT_US // 2)
    assert fault_of(host) == (WorkerState.UNHEALTHY, "")
    assert say(host, "disk") == [ev.WorkerUnhealthy(1, "disk")]
    assert only(rig.tick(TIMEOUT_US // 2), ev.WorkerUnhealthy) == []
    assert fault_of(host) == (WorkerState.UNHEALTHY, "disk"), "which it was already"
    assert rig.tick(TIMEOUT_US // 2)[-1] == ev.WorkerLost(1)
    assert fault_of(host) == (WorkerState.DISCONNECTED, "")


def test_a_registration_with_a_fault_brings_no_task() -> None:
    rig = Rig()
    host = FakeHost(rig, resources(1))
    host.fault = "disk"
    rig.submit(new_job())
    host.register()
    assert fault_of(host) == (WorkerState.UNHEALTHY, "disk")
    assert rig.schedule() == []
    rig.restart()
    host.fault = ""
    host.register()
    assert fault_of(host) == (WorkerState.HEALTHY, "")
    assert only(rig.schedule(), ev.TaskAssigned) != []


def test_a_fault_without_room_on_the_managers_disk_is_heard_when_there_is_some_again() -> None:
    rig = Rig()
    host = rig.worker()
    rig.kernel.room = False
    assert say(host, "disk") == []
    rig.kernel.room = True
    assert say(host, "disk") == [ev.WorkerUnhealthy(1, "disk")]
