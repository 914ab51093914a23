"""Tasks that failed or were lost and are tried again: when, how often, where, at what cost."""

from __future__ import annotations

from typing import Any

import pytest

from tests.manager.builders import SECOND_US, TIMEOUT_US, FakeHost, Rig, new_job, only
from titan import events as ev
from titan.manager.kernel.retries import FIRST_DELAY_US, LONGEST_DELAY_US
from titan.model import Reason, State
from titan.scheduling import Scheduling


def retried(retries: int, *retry_on: int) -> Scheduling:
    return Scheduling(retries=retries, retry_on=retry_on)


def fail(rig: Rig, host: FakeHost, job_id: int, index: int = 0, **fields: Any) -> int:
    """Lets the task fail; how long it then waits, 0 when it ended."""
    key = rig.start_here(host, job_id, index)
    count = len(rig.records)
    host.end(key, State.FAILED, **fields)
    host.send_reports()
    (ended,) = [
        event
        for payload in rig.records[count:]
        for event in ev.decode_record(payload)[1]
        if isinstance(event, ev.AttemptEnded)
    ]
    assert (ended.not_before_us > 0) == (ended.task_state == State.PENDING)
    return ended.not_before_us - rig.state.time_us if ended.not_before_us else 0


def test_the_delay_doubles_up_to_the_longest_and_half_of_it_is_drawn() -> None:
    rig = Rig()
    host = rig.worker()
    rig.submit(new_job(scheduling=retried(12)))
    delays = []
    for retry in range(12):
        delay_us = fail(rig, host, 1)
        whole_us = min(FIRST_DELAY_US << retry, LONGEST_DELAY_US)
        assert whole_us // 2 <= delay_us <= whole_us
        delays.append(delay_us / whole_us)
        rig.tick(delay_us - 1)
        rig.schedule()
        assert rig.task_state(1) is State.PENDING, "its time has not come"
        rig.tick(1)
        # For the longer ones it was silent for too long.
        host.register()
    assert len(set(delays)) > 6, "something is drawn"
    assert fail(rig, host, 1) == 0
    assert rig.task_state(1) is State.FAILED


def test_the_draw_is_the_same_for_the_same_attempt_and_another_for_another() -> None:
    def delays() -> list[int]:
        rig = Rig()
        host = rig.worker(4)
        rig.submit(new_job(array=[(0, 4)], scheduling=retried(1)))
        return [fail(rig, host, 1, index) for index in range(4)]

    assert delays() == delays()
    assert len(set(delays())) == 4


@pytest.mark.parametrize(
    ("fields", "is_retried"),
    [
        ({"exit_code": 75}, True),
        ({"exit_code": 1}, False),
        ({"reason": Reason.SIGNAL, "exit_code": -1, "signal": 9}, False),
        ({"reason": Reason.TIMEOUT, "exit_code": 75}, False),
    ],
)
def test_with_exit_codes_only_these_are_tried_again(
    fields: dict[str, Any], is_retried: bool
) -> None:
    rig = Rig()
    host = rig.worker()
    rig.submit(new_job(scheduling=retried(1, 75, 76)))
    assert (fail(rig, host, 1, **fields) > 0) == is_retried
    assert rig.task_state(1) is (State.PENDING if is_retried else State.FAILED)


def test_without_exit_codes_whatever_fails_is_tried_again() -> None:
    rig = Rig()
    host = rig.worker()
    for reason in (Reason.EXIT, Reason.SIGNAL, Reason.TIMEOUT, Reason.OOM, Reason.LAUNCH_ERROR):
        (job_id,) = rig.submit(new_job(scheduling=retried(1)))
        assert fail(rig, host, job_id, reason=reason, exit_code=-1) > 0


def test_another_worker_is_preferred_and_the_same_one_taken_where_there_is_no_other() -> None:
    rig = Rig()
    first, second = rig.worker(), rig.worker()
    rig.submit(new_job(scheduling=retried(3)))
    rig.schedule()
    at = rig.state.get_job(1).active[0].worker
    hosts = {first.number: first, second.number: second}
    rig.tick(fail(rig, hosts[at], 1))
    rig.schedule()
    other = rig.state.get_job(1).active[0].worker
    assert other != at
    rig.tick(fail(rig, hosts[other], 1))
    hosts[at].deregister()
    rig.schedule()
    assert rig.state.get_job(1).active[0].worker == other


def test_ends_that_are_no_failures_cost_nothing() -> None:
    rig = Rig()
    host = rig.worker()
    rig.submit(new_job(scheduling=retried(1)))
    rig.start_here(host, 1)
    rig.requeue(1)
    host.receive_all()
    host.send_reports()
    rig.start_here(host, 1)
    host.restart_host()
    host.register()
    assert rig.task_state(1) is State.PENDING
    assert fail(rig, host, 1) > 0, "the one retry is still there"
    rig.tick(SECOND_US)
    assert fail(rig, host, 1) == 0


def test_the_fifth_loss_of_a_running_task_ends_it() -> None:
    rig = Rig()
    host = rig.worker()
    rig.submit(new_job(scheduling=retried(9)))
    for loss in range(5):
        assert rig.task_state(1) is State.PENDING, f"after {loss} losses"
        rig.start_here(host, 1)
        host.restart_host()
        host.register()
        host.wait_out_rest()
    job = rig.state.get_job(1)
    assert job.state is State.FAILED
    assert job.ended is not None
    assert (job.ended.last().state, job.ended.last().reason) == (State.FAILED, Reason.WORKER_LOST)
    assert "it was lost 5 times" in job.ended.detail(0, 5)


def test_losses_count_whichever_way_the_worker_goes_but_for_a_leave() -> None:
    rig = Rig()
    host = rig.worker()
    rig.submit(new_job())
    rig.start_here(host, 1)
    rig.tick(TIMEOUT_US)
    waits = rig.state.get_job(1).waits
    assert waits is not None
    assert waits.losses == {0: 1}
    for _ in range(6):
        host.restart_host()
        host.register()
        rig.start_here(host, 1)
        host.deregister()
    assert waits.losses == {0: 1}
    # What had not started can't have done the worker any harm.
    for _ in range(6):
        host.restart_host()
        host.register()
        host.wait_out_rest()
        rig.schedule()
    assert waits.losses == {0: 1}
    assert rig.task_state(1) is State.SCHEDULED


def test_a_loss_that_was_none_is_taken_back() -> None:
    rig = Rig()
    host = rig.worker()
    rig.submit(new_job())
    rig.start_here(host, 1)
    waits = None
    for _ in range(6):
        rig.tick(TIMEOUT_US)
        waits = rig.state.get_job(1).waits
        assert waits is not None
        assert waits.losses == {0: 1}
        assert rig.task_state(1) is State.PENDING
        # Silent and no more than that: its task ran on, and counts again.
        host.register()
        assert rig.task_state(1) is State.RUNNING
        assert waits.losses == {}
    host.restart_host()
    host.register()
    assert waits is not None
    assert waits.losses == {0: 1}
    # That of another attempt is not.
    host.wait_out_rest()
    rig.start_here(host, 1)
    rig.tick(TIMEOUT_US)
    assert waits.losses == {0: 2}
    host.register()
    assert waits.losses == {0: 1}


def test_an_adoption_of_an_earlier_version_takes_nothing_back() -> None:
    rig = Rig()
    host = rig.worker()
    rig.submit(new_job())
    key = rig.start_here(host, 1)
    rig.tick(TIMEOUT_US)
    rig.kernel.emit(ev.Adopted(1, 0, key.attempt, rig.now_us))
    waits = rig.state.get_job(1).waits
    assert waits is not None
    assert waits.losses == {0: 1}


def test_a_delay_survives_a_restart_and_a_snapshot() -> None:
    rig = Rig()
    host = rig.worker()
    rig.submit(new_job(scheduling=retried(1)))
    delay_us = fail(rig, host, 1)
    for _ in range(2):
        rig.restart()
        host.register()
    rig.tick(delay_us - 1)
    rig.schedule()
    assert rig.task_state(1) is State.PENDING
    assert only(rig.tick(1), ev.DelaysPassed) == [ev.DelaysPassed(rig.now_us)]
    rig.schedule()
    assert rig.task_state(1) is State.SCHEDULED


def test_a_lost_attempt_that_failed_after_all_leaves_its_task_to_the_next_try() -> None:
    rig = Rig()
    host = rig.worker()
    rig.submit(new_job(scheduling=retried(1)))
    key = rig.start_here(host, 1)
    rig.tick(TIMEOUT_US)
    assert rig.task_state(1) is State.PENDING
    host.end(key, State.FAILED)
    host.register()
    host.send_reports()
    assert rig.task_state(1) in (State.PENDING, State.RUNNING)
    assert not rig.state.get_job(1).has_ended
    without = Rig()
    host = without.worker()
    without.submit(new_job())
    key = without.start_here(host, 1)
    without.tick(TIMEOUT_US)
    host.end(key, State.FAILED)
    host.register()
    host.send_reports()
    assert without.task_state(1) is State.FAILED


def test_a_task_that_waits_for_its_retry_can_be_cancelled_and_held() -> None:
    rig = Rig()
    host = rig.worker()
    rig.submit(*[new_job(scheduling=retried(1))] * 2)
    delays = [fail(rig, host, job_id) for job_id in (1, 2)]
    rig.cancel(1)
    assert rig.task_state(1) is State.CANCELLED
    rig.hold(2)
    rig.tick(max(delays))
    rig.schedule()
    assert rig.task_state(2) is State.PENDING
    rig.release(2)
    rig.schedule()
    assert rig.task_state(2) is State.SCHEDULED
