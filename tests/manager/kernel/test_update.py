"""Another priority or time limit for jobs that wait or run."""

from __future__ import annotations

from tests.manager.builders import FakeHost, Rig, check_refused, new_job
from titan.errors import InvalidJob
from titan.manager.kernel import Settings
from titan.manager.kernel.commands import UpdateJobs
from titan.model import AttemptKey, State, StopMode
from titan.state.job_class import JobClass


def class_of(rig: Rig, job_id: int) -> JobClass:
    return rig.state.get_job(job_id).job_class


def limits(host: FakeHost) -> list[tuple[AttemptKey, int]]:
    """The time limits that the worker is told now."""
    return [
        (stop.key, stop.time_limit_ms)
        for batch in host.receive_all()
        for stop in batch.stops
        if stop.mode is StopMode.LIMIT
    ]


def test_a_priority_moves_a_job_in_the_queue() -> None:
    rig = Rig()
    host = rig.worker()
    rig.submit(new_job(), new_job(), new_job())
    rig.update(3, priority=1)
    rig.update(1, priority=-1)
    for job_id in (3, 2, 1):
        rig.finish(host, job_id)


def test_running_and_sent_tasks_get_the_new_time_limit() -> None:
    rig = Rig()
    host = rig.worker(2)
    rig.submit(new_job(array=[(0, 2)], time_limit_ms=1000, grace_ms=100))
    key = rig.start_here(host, 1, 0)
    rig.update(1, limit=5000)
    assert sorted(limits(host)) == [(key, 5000), (host.key_of(1, 1), 5000)]
    attempts = rig.state.get_job(1).active.values()
    assert [each.limit_ms for each in attempts] == [5100, 5100]
    rig.update(1, limit=0)
    assert [each.limit_ms for each in attempts] == [0, 0]
    assert rig.state.get_worker(host.number).limited == 0
    assert dict(limits(host)) == {key: 0, host.key_of(1, 1): 0}


def test_a_priority_alone_tells_the_worker_nothing() -> None:
    rig = Rig()
    host = rig.worker()
    rig.submit(new_job(time_limit_ms=1000))
    rig.start_here(host, 1)
    rig.update(1, priority=3)
    assert host.receive_all() == []


def test_a_limit_that_did_not_arrive_is_told_again_after_a_restart_also_one_changed_back() -> None:
    rig = Rig()
    host = rig.worker(2)
    rig.submit(new_job(time_limit_ms=1000))
    key = rig.start_here(host, 1)
    rig.update(1, limit=5000)
    assert limits(host) == [(key, 5000)]
    rig.update(1, limit=1000)
    for _ in range(2):
        rig.restart()
        host.register()
        assert limits(host) == [(key, 1000)], "the worker knows 5000"


def test_what_waits_on_its_worker_is_told_its_limit_again_too() -> None:
    rig = Rig()
    host = rig.worker()
    rig.submit(new_job(time_limit_ms=1000))
    rig.schedule()
    batch = host.next_batch()
    assert batch is not None
    host.receive(batch)
    host.unacknowledged.clear()
    host.report_seq = 0
    host.held[host.key_of(1)][0] = 0
    rig.update(1, limit=5000)
    rig.restart()
    host.register()
    assert limits(host) == [(host.key_of(1), 5000)]


def test_classes_are_kept_while_jobs_or_attempts_are_of_them_and_counted_back_again() -> None:
    rig = Rig()
    host = rig.worker(2)
    rig.submit(new_job(array=[(0, 3)]))
    rig.start_here(host, 1, 0)
    before = class_of(rig, 1)
    assert (before.jobs, before.strays) == (1, 0)
    rig.update(1, priority=2)
    after = class_of(rig, 1)
    assert after is not before
    assert [(each.jobs, each.strays) for each in (before, after)] == [(0, 2), (1, 0)]
    assert list(after.pending_jobs) == [1]
    assert not before.pending_jobs
    rig.update(1, priority=0)
    assert class_of(rig, 1) is before
    assert (before.jobs, before.strays) == (1, 0)
    assert after.class_id not in rig.state.classes
    rig.update(1, priority=7, limit=60_000)
    for index in (0, 1):
        host.end(host.key_of(1, index))
    host.send_reports()
    assert before.class_id not in rig.state.classes
    rig.restart()
    host.register()
    rig.finish(host, 1, 2)
    assert rig.state.get_job(1).state is State.COMPLETED


def test_a_class_that_only_forgotten_jobs_had_is_forgotten() -> None:
    rig = Rig(settings=Settings(forget_after_us=0))
    host = rig.worker()
    rig.submit(new_job())
    rig.start_here(host, 1)
    rig.update(1, priority=4)
    host.end(host.key_of(1))
    host.send_reports()
    rig.tick(1_000_000)
    assert not rig.state.classes
    assert not rig.state.class_ids


def test_nothing_to_change_and_values_out_of_range_are_refused() -> None:
    rig = Rig()
    rig.submit(new_job(time_limit_ms=90_000, end_signal=10, end_signal_before_ms=60_000), new_job())
    which = rig.which(1, 2)
    for priority, limit_ms, match in [
        (None, None, "nothing is to be changed"),
        (10**10, None, "priority is out of range"),
        (None, -1, "time limit must lie"),
        (None, 60_000, "job 1 is to be signalled 60 s"),
    ]:
        command = UpdateJobs(which=which, priority=priority, time_limit_ms=limit_ms)
        check_refused(rig, command, InvalidJob, match=match)
    count = len(rig.records)
    rig.update(2, priority=0, limit=0)
    assert len(rig.records) == count, "all is as it was"
