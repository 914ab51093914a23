"""Workers: silence, leaving, and what they say of themselves."""

from __future__ import annotations

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
from tests.manager.kernel.scenes import next_stops, running
from titan import events as ev
from titan.errors import Refused
from titan.manager.kernel.commands import DeregisterWorker, Heartbeat
from titan.model import Reason, ReportKind, State, Stop, StopMode, WorkerState


def state_of(host: FakeHost) -> WorkerState:
    return host.rig.state.get_worker(host.number).state


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
