"""Drains: what runs runs on, what waits comes back, nothing new goes there, whoever restarts."""

from __future__ import annotations

from typing import Any

import pytest

from tests.manager.builders import (
    SECOND_US,
    TIMEOUT_US,
    FakeHost,
    Rig,
    check_refused,
    new_job,
    only,
    prove_short,
    resources,
)
from titan import events as ev
from titan.errors import InvalidJob, NotFound, Refused
from titan.manager.kernel.commands import DrainWorkers
from titan.model import State, WorkerState
from titan.queries.worker_selection import select_worker
from titan.state.worker import Drain, Worker


def drain(*workers: str, reason: str = "new kernel", user: str = "root") -> DrainWorkers:
    return DrainWorkers(workers=workers, drains=True, reason=reason, user=user)


def undrain(*workers: str) -> DrainWorkers:
    return DrainWorkers(workers=workers, drains=False, reason="", user="root")


def happened(rig: Rig, command: Any) -> list[ev.Event]:
    """What one command led to."""
    before = len(rig.records)
    rig.do(command)
    return [event for payload in rig.records[before:] for event in ev.decode_record(payload)[1]]


def worker_of(host: FakeHost) -> Worker:
    return host.rig.state.get_worker(host.number)


def states(rig: Rig, job_id: int, count: int) -> list[State]:
    return [rig.task_state(job_id, index) for index in range(count)]


def test_what_runs_runs_on_and_what_waits_goes_elsewhere() -> None:
    rig = Rig()
    one = rig.worker(2)
    (job_id,) = rig.submit(new_job(array=[(0, 3)]))
    rig.start_here(one, job_id, 0)
    rig.start_here(one, job_id, 1)
    (waiting,) = rig.submit(new_job())
    rig.now_us += SECOND_US
    one.end(one.key_of(job_id, 1))
    one.send_reports()
    rig.schedule()
    assert rig.task_state(job_id, 2) is State.SCHEDULED
    other = rig.worker(1)

    assert happened(rig, drain(one.name)) == [
        ev.WorkerDraining(one.number, "new kernel", "root", False),
        ev.RecallRequested(job_id, 2, 1),
    ]
    one.receive_all()
    one.send_reports()
    assert states(rig, job_id, 3) == [State.RUNNING, State.COMPLETED, State.PENDING]
    placed = only(rig.schedule(), ev.TaskAssigned)
    assert [(each.job_id, each.index, each.worker) for each in placed] == [
        (job_id, 2, other.number)
    ]
    assert rig.task_state(waiting) is State.PENDING, "there is room on the draining one alone"
    one.end(one.key_of(job_id, 0))
    one.send_reports()
    assert rig.schedule() == []
    assert not worker_of(one).attempts

    assert happened(rig, undrain(one.name)) == [ev.WorkerUndrained(one.number, "root", False)]
    assert [each.worker for each in only(rig.schedule(), ev.TaskAssigned)] == [one.number]


def test_what_waits_ahead_comes_back_with_the_slots_in_front_of_it() -> None:
    rig = Rig()
    host = rig.worker(1)
    prove_short(rig, host)
    (job_id,) = rig.submit(new_job(array=[(0, 20)]))
    rig.start_here(host, job_id, 0)
    ahead = [key.index for key in host.queued]
    assert len(ahead) > 5
    recalled = only(happened(rig, drain(host.name)), ev.RecallRequested)
    assert [each.index for each in recalled] == ahead
    host.receive_all()
    host.send_reports()
    assert states(rig, job_id, 20) == [State.RUNNING] + 19 * [State.PENDING]
    assert not host.queued


def test_a_drain_that_comes_before_the_batch_takes_the_task_back_all_the_same() -> None:
    rig = Rig()
    host = rig.worker(1)
    (job_id,) = rig.submit(new_job())
    rig.schedule()
    rig.do(drain(host.name))
    batches = host.receive_all()
    assert [each.starts for each in batches] == [[]]
    host.send_reports()
    assert rig.task_state(job_id) is State.PENDING
    assert rig.schedule() == []


def test_what_started_before_the_recall_came_runs_on() -> None:
    rig = Rig()
    host = rig.worker(1)
    (job_id,) = rig.submit(new_job())
    rig.schedule()
    host.receive_all()
    rig.do(drain(host.name))
    host.receive_all()
    host.send_reports()
    assert rig.task_state(job_id) is State.RUNNING
    host.end(host.key_of(job_id))
    host.send_reports()
    assert rig.task_state(job_id) is State.COMPLETED


@pytest.mark.parametrize("who", ["manager", "agent", "host", "lost", "left"])
def test_an_administrators_drain_outlives_every_restart(who: str) -> None:
    rig = Rig()
    host = rig.worker(2)
    (job_id,) = rig.submit(new_job())
    rig.start_here(host, job_id)
    rig.do(drain(host.name))
    if who == "manager":
        rig.restart()
    elif who == "host":
        host.restart_host()
    elif who == "lost":
        rig.tick(TIMEOUT_US)
        assert worker_of(host).state is WorkerState.DISCONNECTED
    elif who == "left":
        host.deregister()
        host.restart_host()
    host.register()
    assert worker_of(host).drain == Drain("new kernel", "root")
    rig.submit(new_job())
    assert only(rig.schedule(), ev.TaskAssigned) == []
    rig.do(undrain(host.name))
    assert only(rig.schedule(), ev.TaskAssigned) != []


def test_a_recall_that_a_restart_of_the_manager_overtook_goes_out_again() -> None:
    rig = Rig()
    host = rig.worker(1)
    (job_id,) = rig.submit(new_job())
    rig.schedule()
    rig.do(drain(host.name))
    rig.restart()
    host.register()
    host.receive_all()
    host.send_reports()
    assert rig.task_state(job_id) is State.PENDING


def test_what_a_crash_left_of_a_drain_is_made_up_for_at_the_registration() -> None:
    rig = Rig(checks=False)
    host = rig.worker(1)
    (job_id,) = rig.submit(new_job())
    rig.schedule()
    rig.kernel.emit(ev.WorkerDraining(host.number, "", "root", False))
    rig.settle()
    rig.restart()
    host.register()
    host.receive_all()
    host.send_reports()
    assert rig.state.get_job(job_id).find_task_state(0) is State.PENDING


def test_a_drain_again_changes_the_reason_and_no_more() -> None:
    rig = Rig()
    host = rig.worker(1)
    rig.do(drain(host.name))
    assert happened(rig, drain(host.name)) == []
    assert happened(rig, drain(host.name, reason="new disk")) == [
        ev.WorkerDraining(host.number, "new disk", "root", False)
    ]
    rig.do(undrain(host.name))
    assert happened(rig, undrain(host.name)) == []


def test_a_cancel_goes_on_as_a_cancel() -> None:
    rig = Rig()
    host = rig.worker(1)
    (job_id,) = rig.submit(new_job())
    rig.schedule()
    rig.cancel(job_id)
    assert only(happened(rig, drain(host.name)), ev.RecallRequested) == []
    host.receive_all()
    host.send_reports()
    assert rig.task_state(job_id) is State.CANCELLED


def test_without_room_on_the_disk_a_drain_is_decided() -> None:
    rig = Rig()
    host = rig.worker(1)
    rig.kernel.room = False
    assert happened(rig, drain(host.name)) != []


# The worker's own ---------------------------------------------------------------------------


def test_a_worker_that_is_to_end_drains_itself_until_it_comes_back() -> None:
    rig = Rig()
    host = rig.worker(2)
    (job_id,) = rig.submit(new_job())
    rig.start_here(host, job_id)
    rig.submit(new_job())
    rig.schedule()
    host.is_stopping = True
    before = len(rig.records)
    host.heartbeat()
    host.heartbeat()
    rig.tick()
    told = [each for r in rig.records[before:] for each in ev.decode_record(r)[1]]
    assert told[:2] == [
        ev.WorkerDraining(host.number, "", "", True),
        ev.RecallRequested(job_id + 1, 0, 1),
    ]
    assert only(told[2:], ev.WorkerDraining) == []
    rig.restart()
    host.register()
    assert worker_of(host).is_draining, "the manager's restart changes nothing"
    host.receive_all()
    host.end(host.key_of(job_id))
    host.send_reports()
    assert only(rig.schedule(), ev.TaskAssigned) == []
    host.deregister()
    host.is_stopping = False
    host.restart_host()
    host.register()
    assert not worker_of(host).is_draining
    assert [each.worker for each in only(rig.schedule(), ev.TaskAssigned)] == [host.number]


def test_a_stop_and_an_administrators_drain_are_two_things() -> None:
    rig = Rig()
    host = rig.worker(1)
    host.is_stopping = True
    host.heartbeat()
    rig.do(drain(host.name))
    host.is_stopping = False
    host.restart_host()
    host.register()
    assert worker_of(host).is_draining
    host.is_stopping = True
    host.heartbeat()
    rig.do(undrain(host.name))
    assert worker_of(host).is_draining, "it is about to end all the same"


# Who is meant -------------------------------------------------------------------------------


def test_of_several_workers_all_are_drained_or_none() -> None:
    rig = Rig()
    one, two = rig.worker(), rig.worker()
    check_refused(rig, drain(one.name, "nobody"), NotFound, match="no worker 'nobody'")
    assert rig.do(drain(two.name, one.name, two.name)) == [two.number, one.number]
    assert worker_of(one).is_draining


def test_an_unknown_worker_is_told_which_there_are() -> None:
    rig = Rig()
    check_refused(rig, drain("w1"), NotFound, match="no worker has registered")
    for number in range(12):
        FakeHost(rig, resources(), f"node{number:02}").register()
    check_refused(rig, drain("w1"), NotFound, match="there are node00, .*, node09 and 2 more$")


def test_a_name_of_two_workers_is_refused_with_their_ids() -> None:
    rig = Rig()
    one, two = FakeHost(rig, resources(), "twin"), FakeHost(rig, resources(), "twin")
    one.register()
    two.register()
    error = check_refused(rig, drain("twin"), Refused, match="2 workers have the name twin")
    assert one.worker_id.hex() in str(error)
    assert rig.do(drain(two.worker_id.hex())) == [two.number]
    assert rig.do(undrain(two.worker_id.hex().upper())) == [two.number]
    two.deregister()
    assert rig.do(drain("twin")) == [one.number]
    dashed = two.worker_id.hex()
    dashed = f"{dashed[:8]}-{dashed[8:]}"
    assert select_worker(rig.state, dashed).number == two.number, "known by its id"
    one.deregister()
    check_refused(rig, drain("twin"), NotFound)


@pytest.mark.parametrize(
    "command",
    [drain(), drain("w1", reason="x" * 301), drain("w1", user="u" * 256), drain(*["w1"] * 1001)],
    ids=["nobody", "a long reason", "a long user", "too many"],
)
def test_nonsense_is_refused(command: DrainWorkers) -> None:
    rig = Rig()
    rig.worker()
    check_refused(rig, command, InvalidJob)
