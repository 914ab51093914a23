"""Slot and ahead: who may be sent ahead, and when it is asked back."""

from __future__ import annotations

import pytest

from tests.manager.builders import START_US, FakeHost, Rig, new_job, only, prove_short
from titan import events as ev
from titan.manager.kernel.outbox import key_of
from titan.model import Resources, State, Stop, StopMode
from titan.scheduler.passes import AHEAD_TASKS_MAX, ahead_depth

WAIT_US = 200_000


def ahead_rig(tasks: int = 4) -> tuple[Rig, FakeHost, int]:
    """One worker of one cpu, a class proved short, an array of it: 0 runs, the rest is ahead."""
    rig = Rig()
    host = rig.worker(1)
    prove_short(rig, host)
    (array,) = rig.submit(new_job(array=[(0, tasks)]))
    rig.start_here(host, array)
    return rig, host, array


def placed(events: list[ev.Event]) -> list[tuple[int, int, int, bool]]:
    return [(e.job_id, e.index, e.worker, e.ahead) for e in only(events, ev.TaskAssigned)]


def test_nothing_goes_ahead_of_a_class_that_has_not_proved_short() -> None:
    rig = Rig()
    host = rig.worker(1)
    prove_short(rig, host, 1)
    (array,) = rig.submit(new_job(array=[(0, 5)]))
    assert placed(rig.schedule()) == [(array, 0, 1, False)]


def test_a_class_proved_short_goes_ahead_as_far_as_its_window() -> None:
    rig = Rig()
    host = rig.worker(1)
    prove_short(rig, host)
    (array,) = rig.submit(new_job(array=[(0, 200)]))
    assert placed(rig.schedule()) == [(array, 0, 1, False)] + [
        (array, index, 1, True) for index in range(1, 129)
    ]
    assert rig.state.get_worker(1).free_cpus_milli == 0


@pytest.mark.parametrize(
    ("run_us", "depth"),
    [
        (0, AHEAD_TASKS_MAX),
        (100, 128),
        (1000, 128),
        (3_000, 100),
        (5_000, 60),
        (10_000, 30),
        (25_000, 12),
        (25_001, 0),
        (10**9, 0),
    ],
)
def test_the_depth_is_a_window_of_300_ms_of_work_for_tasks_of_up_to_25_ms(
    run_us: int, depth: int
) -> None:
    rig = Rig()
    rig.submit(new_job())
    job_class = rig.state.classes[1]
    job_class.learn_run(run_us)
    assert ahead_depth(job_class) == 0, "one sample proves nothing"
    job_class.learn_run(run_us)
    assert ahead_depth(job_class) == depth


def test_nothing_goes_ahead_where_one_of_the_class_stands_still_and_gave_its_cpus_away() -> None:
    rig = Rig()
    host = rig.worker(1)
    prove_short(rig, host)
    (standing,) = rig.submit(new_job())
    rig.start_here(host, standing)
    rig.suspend(standing)
    rig.schedule()
    host.receive_all()
    assert rig.state.get_worker(1).free_cpus_milli == 1000
    (array,) = rig.submit(new_job(array=[(0, 5)]))
    assert placed(rig.schedule()) == [(array, 0, 1, False)]
    assert rig.state.get_worker(1).free_cpus_milli == 0


def test_one_long_run_ends_it() -> None:
    rig = Rig()
    host = rig.worker(1)
    prove_short(rig, host, 5)
    (job_id,) = rig.submit(new_job())
    key = rig.start_here(host, job_id)
    rig.now_us += 5_000_000
    host.end(key)
    host.send_reports()
    rig.submit(new_job(array=[(0, 3)]))
    assert len(placed(rig.schedule())) == 1


def test_nothing_goes_ahead_where_no_slot_of_its_class_is() -> None:
    rig = Rig()
    host = rig.worker(1)
    prove_short(rig, host)
    (other,) = rig.submit(new_job(), user="grace")
    rig.start_here(host, other)
    rig.submit(new_job(array=[(0, 3)]))
    assert rig.schedule() == []


def test_nothing_goes_ahead_to_a_worker_that_an_earlier_class_waits_for() -> None:
    rig, _, array = ahead_rig(1)
    (first,) = rig.submit(new_job(priority=1))
    rig.submit(new_job(array=[(0, 5)]))
    assert rig.schedule() == []
    rig.cancel(first)
    rig.kernel.schedule_wanted = True
    assert {each[3] for each in placed(rig.schedule())} == {True}
    assert rig.task_state(array) is State.RUNNING


def test_what_is_left_is_shared_out_among_the_workers() -> None:
    rig = Rig()
    hosts = [rig.worker(1), rig.worker(1)]
    prove_short(rig, hosts[0], 1)
    prove_short(rig, hosts[1], 1)
    rig.submit(new_job(array=[(0, 12)]))
    rig.schedule()
    counts = [len(rig.state.get_worker(number).attempts) for number in (1, 2)]
    assert counts == [6, 6]


def test_an_ahead_attempt_is_asked_back_after_200_ms_when_another_worker_has_room() -> None:
    rig, host, array = ahead_rig(3)
    rig.worker(1)
    rig.schedule()
    assert only(rig.tick(WAIT_US - 1), ev.RecallRequested) == []
    assert only(rig.tick(1), ev.RecallRequested) == [ev.RecallRequested(array, 1, 1)]
    batch = host.next_batch()
    assert batch is not None
    assert batch.stops == [Stop(host.key_of(array, 1), StopMode.RECALL, 0)]
    assert rig.task_state(array, 1) is State.SCHEDULED, "a wish, no more"
    assert only(rig.tick(WAIT_US), ev.RecallRequested) == [], "it is asked once"
    host.receive(batch)
    host.send_reports()
    assert rig.task_state(array, 1) is State.PENDING
    assert placed(rig.schedule()) == [(array, 1, 2, False)]
    assert rig.state.get_job(array).active[1].attempt == 2


def test_an_ahead_attempt_is_left_alone_while_nobody_else_has_room() -> None:
    rig, _, _ = ahead_rig(3)
    other = rig.worker(1)
    (blocker,) = rig.submit(new_job(priority=5), user="grace")
    rig.start_here(other, blocker)
    assert only(rig.tick(10 * WAIT_US), ev.RecallRequested) == []


def test_room_on_a_worker_that_has_not_called_in_asks_nothing_back() -> None:
    rig, host, _ = ahead_rig(3)
    rig.worker(1)
    rig.restart()
    host.register()
    assert only(rig.tick(10 * WAIT_US), ev.RecallRequested) == []


def test_what_was_sent_ahead_before_a_restart_is_asked_back_after_it() -> None:
    rig, host, array = ahead_rig(3)
    other = rig.worker(1)
    rig.restart()
    host.register()
    other.register()
    assert only(rig.tick(WAIT_US), ev.RecallRequested) == [ev.RecallRequested(array, 1, 1)]


def test_room_on_an_unhealthy_worker_asks_nothing_back() -> None:
    rig, host, _ = ahead_rig(3)
    rig.worker(1)
    rig.tick(1)
    for _ in range(10):
        rig.turned_us += rig.settings.heartbeat_timeout_us // 10
        rig.now_us += 1
        host.heartbeat()
        rig.tick(1)
    assert only(rig.tick(WAIT_US), ev.RecallRequested) == []


def test_no_more_is_asked_back_than_there_is_room_for() -> None:
    rig, _, array = ahead_rig(6)
    rig.worker(2)
    recalls = only(rig.tick(WAIT_US), ev.RecallRequested)
    assert [each.index for each in recalls] == [1, 2]
    assert only(rig.tick(WAIT_US), ev.RecallRequested) == []
    assert rig.state.get_job(array).counts[1] == 5


def test_without_room_in_the_log_nothing_is_asked_back() -> None:
    rig, _, _ = ahead_rig(3)
    rig.worker(1)
    rig.kernel.room = False
    assert rig.tick(WAIT_US) == []


def test_an_ahead_attempt_that_starts_although_asked_back_runs_on() -> None:
    rig, host, array = ahead_rig(2)
    rig.worker(1)
    rig.tick(WAIT_US)
    host.end(host.key_of(array, 0))
    host.send_reports()
    assert rig.task_state(array, 1) is State.RUNNING
    host.receive_all()
    host.send_reports()
    assert rig.task_state(array, 1) is State.RUNNING
    host.end(host.key_of(array, 1))
    host.send_reports()
    assert rig.task_state(array, 1) is State.COMPLETED


def test_a_task_given_back_and_sent_ahead_again_waits_its_200_ms_anew() -> None:
    rig, host, array = ahead_rig(3)
    rig.worker(1)
    rig.tick(WAIT_US)
    assert rig.state.get_job(array).active[1].assigned_us <= rig.now_us - WAIT_US
    host.receive_all()
    host.send_reports()
    rig.schedule()
    assert rig.state.get_job(array).active[1].assigned_us == rig.now_us > START_US


def test_of_a_task_that_was_given_back_its_wait_is_counted_once_it_starts() -> None:
    rig, host, array = ahead_rig(3)
    other = rig.worker(1)
    rig.tick(WAIT_US)
    host.receive_all()
    host.send_reports()
    rig.schedule()
    other.receive_all()
    other.send_reports()
    (moved,) = other.running
    assert (moved.job_id, moved.attempt) == (array, 2)
    assert rig.kernel.tally is not None
    waits = rig.kernel.tally.wait_seconds.read()
    assert sum(waits.counts) == len(rig.ledger.started)
    assert waits.total >= WAIT_US / 1e6


def test_at_an_end_the_room_stays_taken_while_somebody_is_ahead_invariant_4() -> None:
    rig, host, array = ahead_rig(3)
    (other,) = rig.submit(new_job(), user="grace")
    for index in range(3):
        assert rig.state.get_worker(1).free_cpus_milli == 0
        assert rig.schedule() == []
        host.end(host.key_of(array, index))
        host.send_reports()
    assert placed(rig.schedule()) == [(other, 0, 1, False)]


@pytest.mark.parametrize("how", ["cancelled", "recalled"])
def test_a_slot_that_never_reached_the_worker_is_not_lost_for_those_ahead(how: str) -> None:
    """The host counts slots by what it was sent: who inherits such a one is told of it."""
    rig = Rig()
    host = rig.worker(2)
    prove_short(rig, host)
    (blocker,) = rig.submit(new_job(), user="grace")
    rig.start_here(host, blocker)
    (array,) = rig.submit(new_job(array=[(0, 2)]))
    rig.start_here(host, array)
    assert rig.state.get_job(array).active[1].ahead
    # Room for a second slot; the task that it is given to is cancelled before it is sent.
    (unlucky,) = rig.submit(new_job(priority=0))
    host.end(host.key_of(blocker))
    host.send_reports()
    assert placed(rig.schedule()) == [(unlucky, 0, 1, False)]
    if how == "cancelled":
        rig.cancel(unlucky)
    else:
        attempt = rig.state.get_job(unlucky).active[0]
        assert host.outbox is not None
        host.outbox.want_stop(Stop(key_of(rig.state, attempt), StopMode.RECALL, 0))
    host.receive_all()
    host.send_reports()
    assert not rig.state.get_job(array).active[1].ahead, "it has the slot now"
    host.receive_all()
    assert len(host.running) == 2, "and runs beside the first"
    host.send_reports()
    assert rig.task_state(array, 1) is State.RUNNING


def test_nothing_goes_ahead_to_a_worker_that_came_back_smaller() -> None:
    rig = Rig()
    host = rig.worker(2)
    prove_short(rig, host)
    (array,) = rig.submit(new_job(array=[(0, 400)]))
    rig.start_here(host, array)
    host.capacity = Resources(1000)
    rig.capacity_holds = False
    host.register()
    rig.schedule()
    for _ in range(400):
        rig.now_us += 1000
        host.end(host.running[0])
        host.send_reports()
        rig.schedule()
        host.receive_all()
        if rig.state.get_worker(1).free_cpus_milli >= 0:
            break
    # The slots passed on within what had been sent, and then one of them was given up.
    assert rig.state.get_worker(1).free_cpus_milli == 0
    assert rig.state.get_job(array).counts[0] > 0, "it was not only that nothing was left"
    rig.schedule()
    host.receive_all()
    assert len(host.running) == 1
