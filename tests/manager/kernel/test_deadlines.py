"""Jobs that begin later, and jobs that have to end in time or not at all."""

from __future__ import annotations

import pytest

from tests.manager.builders import SECOND_US, START_US, TIMEOUT_US, FakeHost, Rig, new_job, only
from titan import events as ev
from titan.manager.kernel import settle
from titan.model import Reason, State, StopMode
from titan.scheduling import Scheduling

MINUTE_US = 60 * SECOND_US


def by(deadline_us: int) -> Scheduling:
    return Scheduling(deadline_us=START_US + deadline_us)


def pass_time(rig: Rig, host: FakeHost, for_us: int) -> None:
    """The worker is heard all the while."""
    while for_us > 0:
        step_us = min(for_us, TIMEOUT_US // 3)
        rig.tick(step_us)
        host.heartbeat()
        for_us -= step_us


def test_a_job_begins_no_earlier_than_asked() -> None:
    rig = Rig()
    host = rig.worker()
    rig.submit(new_job(scheduling=Scheduling(begin_us=START_US + SECOND_US)))
    rig.tick(SECOND_US - 1)
    rig.schedule()
    assert rig.task_state(1) is State.PENDING
    for _ in range(2):
        rig.restart()
        host.register()
    rig.tick(1)
    rig.schedule()
    assert rig.task_state(1) is State.SCHEDULED


def test_a_time_to_begin_that_has_passed_keeps_nobody() -> None:
    rig = Rig()
    host = rig.worker()
    rig.submit(new_job(scheduling=Scheduling(begin_us=START_US)))
    rig.start_here(host, 1)


def test_what_waits_at_the_deadline_ends_with_it() -> None:
    rig = Rig()
    rig.worker()
    rig.submit(new_job(cpus=9, array=[(0, 3)], scheduling=by(SECOND_US)))
    rig.tick(SECOND_US - 1)
    assert rig.state.get_job(1).state is State.PENDING
    assert only(rig.tick(1), ev.DeadlinePassed) == [ev.DeadlinePassed(1, True)]
    job = rig.state.get_job(1)
    assert list(job.counts) == [0, 0, 0, 0, 0, 3]
    assert job.cut_short == (Reason.DEADLINE, 0)
    assert not rig.state.deadlines


def test_what_runs_is_stopped_at_the_deadline() -> None:
    rig = Rig()
    host = rig.worker()
    rig.submit(new_job(grace_ms=700, scheduling=by(MINUTE_US)))
    key = rig.start_here(host, 1)
    pass_time(rig, host, MINUTE_US)
    (batch,) = host.receive_all()
    assert [(each.key, each.mode, each.grace_ms) for each in batch.stops] == [
        (key, StopMode.CANCEL, 700)
    ]
    host.send_reports()
    job = rig.state.get_job(1)
    assert job.state is State.CANCELLED
    assert job.ended is not None
    assert job.ended.last().reason == Reason.DEADLINE


def test_with_a_time_limit_a_task_cannot_start_too_late_to_end_in_time() -> None:
    rig = Rig()
    host = rig.worker()
    rig.submit(new_job(array=[(0, 3)], time_limit_ms=20_000, scheduling=by(MINUTE_US)))
    rig.start_here(host, 1, 0)
    pass_time(rig, host, MINUTE_US - 20 * SECOND_US - 1)
    assert list(rig.state.get_job(1).counts) == [2, 0, 1, 0, 0, 0]
    assert only(rig.tick(1), ev.DeadlinePassed) == [ev.DeadlinePassed(1, False)]
    assert list(rig.state.get_job(1).counts) == [0, 0, 1, 0, 0, 2]
    host.heartbeat()
    # What came back only now can't be in time either.
    host.restart_host()
    host.register()
    rig.schedule()
    assert list(rig.state.get_job(1).counts) == [0, 0, 0, 0, 0, 3]


def test_another_time_limit_moves_the_latest_start() -> None:
    rig = Rig()
    host = rig.worker()
    rig.submit(new_job(cpus=9, time_limit_ms=20_000, scheduling=by(MINUTE_US)))
    rig.update(1, limit=50_000)
    pass_time(rig, host, 10 * SECOND_US)
    assert rig.task_state(1) is State.CANCELLED


def test_a_deadline_that_a_restart_slept_through_is_kept_at_the_first_turn() -> None:
    rig = Rig()
    rig.submit(new_job(scheduling=by(SECOND_US)))
    rig.now_us += MINUTE_US
    rig.restart()
    rig.worker()
    rig.schedule()
    assert rig.task_state(1) is State.CANCELLED


def test_those_that_run_past_their_latest_start_keep_no_other_from_ending(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(settle, "DEADLINES_AT_ONCE_MAX", 2)
    rig = Rig()
    host = rig.worker(3)
    early = new_job(time_limit_ms=50_000, scheduling=by(MINUTE_US))
    rig.submit(early, early, early)
    for job_id in (1, 2, 3):
        rig.start_here(host, job_id)
    rig.submit(*[new_job(time_limit_ms=48_000, scheduling=by(MINUTE_US))] * 3)
    pass_time(rig, host, 12 * SECOND_US)
    rig.tick()
    assert rig.state.task_counts == [0, 0, 3, 0, 0, 3]
