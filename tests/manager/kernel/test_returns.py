"""Workers that come and go rest before they get new tasks."""

from __future__ import annotations

from tests.manager.builders import SECOND_US, TIMEOUT_US, FakeHost, Rig, new_job
from titan.model import State, WorkerState

FAULT = "came back 4 times within 300 s, lost or started anew: it gets no new tasks for a while"


def restart(host: FakeHost) -> None:
    host.restart_host()
    host.register()


def lose(rig: Rig, host: FakeHost) -> None:
    rig.tick(TIMEOUT_US)
    assert state_of(rig, host) is WorkerState.DISCONNECTED
    host.register()


def state_of(rig: Rig, host: FakeHost) -> WorkerState:
    return rig.state.get_worker(host.number).state


def wait(rig: Rig, host: FakeHost, us: int) -> None:
    """So much time, in which it is heard."""
    while us > 0:
        rig.tick(min(us, SECOND_US))
        host.heartbeat()
        us -= SECOND_US


def test_the_fourth_return_within_five_minutes_makes_it_rest_for_a_timeout() -> None:
    rig = Rig()
    host = rig.worker()
    for _ in range(2):
        restart(host)
        lose(rig, host)
    assert rig.state.get_worker(host.number).fault == FAULT
    (job_id,) = rig.submit(new_job())
    rig.schedule()
    assert rig.task_state(job_id) is State.PENDING
    wait(rig, host, TIMEOUT_US - SECOND_US)
    assert state_of(rig, host) is WorkerState.UNHEALTHY
    wait(rig, host, SECOND_US)
    assert state_of(rig, host) is WorkerState.HEALTHY
    rig.schedule()
    assert rig.task_state(job_id) is State.SCHEDULED


def test_it_rests_longer_with_the_next_one_and_no_longer_than_two_timeouts() -> None:
    rig = Rig()
    host = rig.worker()
    for returns in range(1, 9):
        restart(host)
        assert (state_of(rig, host) is WorkerState.HEALTHY) == (returns <= 3)
    wait(rig, host, 2 * TIMEOUT_US - SECOND_US)
    assert state_of(rig, host) is WorkerState.UNHEALTHY
    wait(rig, host, SECOND_US)
    assert state_of(rig, host) is WorkerState.HEALTHY


def test_what_comes_back_now_and_then_does_not_rest() -> None:
    rig = Rig()
    host = rig.worker()
    for _ in range(8):
        restart(host)
        assert state_of(rig, host) is WorkerState.HEALTHY
        wait(rig, host, 4 * TIMEOUT_US)


def test_what_it_still_runs_goes_on_while_it_rests() -> None:
    rig = Rig()
    host = rig.worker()
    for _ in range(3):
        restart(host)
    (job_id,) = rig.submit(new_job())
    rig.start_here(host, job_id)
    # Cut off, and adopted when it is back.
    lose(rig, host)
    assert rig.state.get_worker(host.number).fault == FAULT
    assert rig.task_state(job_id) is State.RUNNING


def test_neither_an_agent_that_is_restarted_nor_a_farewell_counts() -> None:
    rig = Rig()
    host = rig.worker()
    for _ in range(8):
        host.register()
        host.deregister()
        host.restart_host()
        host.register()
    assert state_of(rig, host) is WorkerState.HEALTHY


def test_its_own_fault_is_shown_before_that() -> None:
    rig = Rig()
    host = rig.worker()
    host.fault = "the disk is nearly full"
    for _ in range(4):
        restart(host)
    assert rig.state.get_worker(host.number).fault == "the disk is nearly full"
    host.fault = ""
    host.heartbeat()
    assert rig.state.get_worker(host.number).fault == FAULT
