"""Suspending and resuming: cpus for others meanwhile, memory kept, and wishes that get lost."""

from __future__ import annotations

from tests.manager.builders import GIB, FakeHost, Rig, new_job, prove_short
from titan.manager.kernel.commands import DrainWorkers
from titan.model import State, StopMode


def wishes(host: FakeHost) -> list[StopMode]:
    """What the worker is told of attempts now."""
    return [stop.mode for batch in host.receive_all() for stop in batch.stops]


def test_cpus_of_a_suspended_task_are_free_for_others_and_its_memory_is_not() -> None:
    rig = Rig()
    host = rig.worker(2, 4 * GIB)
    rig.submit(new_job(cpus=2, memory_bytes=3 * GIB))
    key = rig.start_here(host, 1)
    rig.submit(new_job(memory_bytes=2 * GIB), new_job(memory_bytes=GIB))
    assert rig.suspend(1).job_ids == [1]
    assert wishes(host) == [StopMode.SUSPEND]
    assert list(host.standing) == [key]
    assert rig.task_state(1) is State.RUNNING
    rig.start_here(host, 3)
    assert rig.task_state(2) is State.PENDING
    assert rig.state.usage.user_cpus_milli == {"ada": 1000}


def test_a_resumed_task_runs_on_once_its_cpus_are_free() -> None:
    rig = Rig()
    host = rig.worker()
    rig.submit(new_job())
    rig.start_here(host, 1)
    rig.suspend(1)
    rig.submit(new_job(), new_job())
    rig.start_here(host, 2)
    rig.resume(1)
    rig.schedule()
    assert wishes(host) == []
    assert rig.state.get_job(1).active[0].suspended
    # Who stands still goes before who came later.
    rig.finish(host, 2)
    assert wishes(host) == [StopMode.RESUME]
    assert not host.standing
    assert rig.task_state(3) is State.PENDING


def test_a_start_that_is_told_after_the_suspend_is_suspended() -> None:
    rig = Rig()
    host = rig.worker()
    rig.submit(new_job())
    rig.schedule()
    batch = host.next_batch()
    assert batch is not None
    host.receive(batch)
    rig.suspend(1)
    assert rig.state.get_job(1).active[0].recall_requested
    host.send_reports()
    attempt = rig.state.get_job(1).active[0]
    assert attempt.state is State.RUNNING
    assert attempt.suspended
    assert host.outbox is not None
    host.outbox.acknowledged(batch)
    assert sorted(wishes(host)) == [StopMode.RECALL, StopMode.SUSPEND]
    assert list(host.standing) == [host.key_of(1)]


def test_the_cpus_of_a_start_that_is_suspended_as_it_is_told_go_to_others_at_once() -> None:
    rig = Rig()
    host = rig.worker()
    rig.submit(new_job())
    rig.schedule()
    batch = host.next_batch()
    assert batch is not None
    host.receive(batch)
    rig.suspend(1)
    rig.submit(new_job())
    rig.schedule()
    host.send_reports()
    assert rig.state.get_job(1).active[0].suspended
    assert rig.kernel.schedule_wanted
    rig.schedule()
    assert rig.task_state(2) is State.SCHEDULED


def test_what_has_not_started_comes_back_and_waits_for_the_resume() -> None:
    rig = Rig()
    host = rig.worker()
    rig.submit(new_job(array=[(0, 2)]))
    rig.schedule()
    rig.suspend(1)
    assert wishes(host) == [StopMode.RECALL]
    host.send_reports()
    rig.schedule()
    assert list(rig.state.get_job(1).counts) == [2, 0, 0, 0, 0, 0]
    rig.resume(1)
    rig.start_here(host, 1, 0)


def test_a_suspended_task_that_is_cancelled_ends_and_leaves_nothing() -> None:
    rig = Rig()
    host = rig.worker(1, GIB)
    rig.submit(new_job(memory_bytes=GIB))
    rig.start_here(host, 1)
    rig.suspend(1)
    rig.submit(new_job())
    rig.start_here(host, 2)
    rig.cancel(1)
    host.receive_all()
    host.send_reports()
    assert rig.task_state(1) is State.CANCELLED
    worker = rig.state.get_worker(host.number)
    assert worker.free == worker.capacity._replace(cpus_milli=0)


def test_a_new_manager_repeats_that_it_stands_still_or_goes_on() -> None:
    rig = Rig()
    host = rig.worker()
    rig.submit(new_job())
    rig.start_here(host, 1)
    rig.suspend(1)
    for _ in range(2):
        rig.restart()
        host.register()
        assert wishes(host) == [StopMode.SUSPEND]
    rig.resume(1)
    rig.schedule()
    rig.restart()
    host.register()
    assert wishes(host) == [StopMode.RESUME]
    assert not host.standing


def test_a_lost_wish_goes_again_unless_the_other_one_came_meanwhile() -> None:
    rig = Rig()
    host = rig.worker()
    rig.submit(new_job())
    rig.start_here(host, 1)
    rig.suspend(1)
    assert host.outbox is not None
    batch = host.next_batch()
    assert batch is not None
    host.outbox.failed(batch, rig.state)
    again = host.next_batch()
    assert again is not None
    assert [each.mode for each in again.stops] == [StopMode.SUSPEND]
    rig.resume(1)
    rig.schedule()
    host.outbox.failed(again, rig.state)
    assert wishes(host) == [StopMode.RESUME]


def test_a_lost_worker_that_comes_back_with_a_task_of_a_suspended_job_stops_it_still() -> None:
    rig = Rig()
    host = rig.worker()
    rig.submit(new_job())
    key = rig.start_here(host, 1)
    rig.tick(rig.settings.heartbeat_timeout_us)
    assert rig.task_state(1) is State.PENDING
    rig.suspend(1)
    host.register()
    assert rig.task_state(1) is State.RUNNING
    assert wishes(host) == [StopMode.LIMIT, StopMode.SUSPEND]
    assert list(host.standing) == [key]


def test_a_task_that_is_taken_back_runs_on_with_its_limit_whatever_was_wished_before() -> None:
    rig = Rig()
    host = rig.worker()
    rig.submit(new_job(time_limit_ms=1000))
    key = rig.start_here(host, 1)
    rig.suspend(1)
    assert wishes(host) == [StopMode.SUSPEND]
    rig.tick(rig.settings.heartbeat_timeout_us)
    assert rig.task_state(1) is State.PENDING
    rig.resume(1)
    rig.update(1, limit=9000)
    host.register()
    assert rig.task_state(1) is State.RUNNING
    # The manager dies before the worker hears of it.
    rig.restart()
    host.register()
    assert sorted(wishes(host)) == [StopMode.RESUME, StopMode.LIMIT]
    assert not host.standing
    assert host.limits == {key: 9000}


def test_nobody_waits_ahead_of_what_stands_still_and_gets_cpus_that_others_have() -> None:
    """At the end of the suspended one its slot would pass on, with cpus promised to another."""
    rig = Rig()
    host = rig.worker()
    prove_short(rig, host)
    rig.submit(new_job())
    rig.start_here(host, 3)
    rig.submit(new_job())
    rig.schedule()
    assert rig.state.get_job(4).active[0].ahead
    rig.suspend(3)
    worker = rig.state.get_worker(host.number)
    assert rig.state.get_job(4).active[0].recall_requested
    assert worker.free.cpus_milli == 0, "they are kept until the other one is back"
    host.receive_all()
    host.send_reports()
    assert worker.free.cpus_milli == 1000
    rig.start_here(host, 4)
    rig.cancel(3)
    host.receive_all()
    host.send_reports()
    assert worker.free.cpus_milli == 0


def test_its_time_limit_stands_still_with_it() -> None:
    rig = Rig()
    host = rig.worker()
    rig.submit(new_job(time_limit_ms=10_000, grace_ms=0))
    rig.start_here(host, 1)
    attempt = rig.state.get_job(1).active[0]
    end_us = attempt.limit_end_us
    rig.suspend(1)
    rig.tick(5_000_000)
    rig.resume(1)
    rig.schedule()
    assert attempt.limit_end_us == end_us + 5_000_000


def test_suspending_twice_and_resuming_what_runs_writes_nothing() -> None:
    rig = Rig()
    host = rig.worker()
    rig.submit(new_job())
    rig.start_here(host, 1)
    count = len(rig.records)
    rig.resume(1)
    assert len(rig.records) == count
    rig.suspend(1)
    rig.suspend(1)
    assert len(rig.records) == count + 1


def test_a_suspended_job_that_is_held_or_drained_around_stays_where_it_is() -> None:
    rig = Rig()
    host = rig.worker()
    rig.submit(new_job())
    rig.start_here(host, 1)
    rig.suspend(1)
    rig.hold(1)
    rig.do(DrainWorkers(workers=(host.name,), drains=True, reason="", user="root"))
    assert rig.task_state(1) is State.RUNNING
    rig.do(DrainWorkers(workers=(host.name,), drains=False, reason="", user="root"))
    rig.resume(1)
    rig.schedule()
    assert not rig.state.get_job(1).active[0].suspended, "it had started: the hold is not for it"


def test_a_task_that_was_recalled_too_late_is_suspended_and_resumed_like_any_other() -> None:
    rig = Rig()
    host = rig.worker()
    rig.submit(new_job())
    rig.schedule()
    batch = host.next_batch()
    assert batch is not None
    host.receive(batch)
    rig.suspend(1)
    host.send_reports()
    assert host.outbox is not None
    host.outbox.acknowledged(batch)
    wishes(host)
    for _ in range(2):
        rig.resume(1)
        rig.schedule()
        assert wishes(host) == [StopMode.RESUME]
        assert not host.standing
        rig.suspend(1)
        assert wishes(host) == [StopMode.SUSPEND]
    rig.restart()
    host.register()
    assert wishes(host) == [StopMode.SUSPEND]


def test_a_start_that_is_told_after_suspend_and_cancel_is_not_made_to_stand_still() -> None:
    rig = Rig()
    host = rig.worker()
    rig.submit(new_job())
    rig.schedule()
    batch = host.next_batch()
    assert batch is not None
    host.receive(batch)
    rig.suspend(1)
    rig.cancel(1)
    host.send_reports()
    assert not rig.state.get_job(1).active[0].suspended
    assert host.outbox is not None
    host.outbox.acknowledged(batch)
    assert wishes(host) == [StopMode.CANCEL]


def test_cpus_that_a_late_suspend_frees_go_to_others_at_once() -> None:
    rig = Rig()
    host = rig.worker()
    rig.submit(new_job(), new_job())
    rig.schedule()
    batch = host.next_batch()
    assert batch is not None
    host.receive(batch)
    rig.suspend(1)
    rig.schedule()
    host.send_reports()
    rig.schedule()
    assert rig.task_state(2) is State.SCHEDULED
