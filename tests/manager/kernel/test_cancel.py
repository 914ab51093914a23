"""Cancels: what waits ends at once, what is under way is stopped; who is meant."""

from __future__ import annotations

import pytest

from tests.manager.builders import Rig, check_refused, new_job
from titan.errors import InvalidJob, NotFound, TitanError
from titan.manager.kernel.commands import CancelJobs, WhichJobs
from titan.model import IndexRange, State, Stop, StopMode
from titan.queries.selection import JobFilter, JobSelector


def cancel(
    *selectors: JobSelector, chosen: JobFilter | None = None, grace_ms: int = 0, signal: int = 15
) -> CancelJobs:
    return CancelJobs(
        which=WhichJobs(selectors=selectors, filter=chosen), grace_ms=grace_ms, signal=signal
    )


def span(start: int, stop: int, step: int = 1) -> tuple[IndexRange, ...]:
    return (IndexRange(start, stop, step),)


BAD: list[tuple[str, CancelJobs, type[TitanError], str]] = [
    ("nothing", cancel(), InvalidJob, "no job is named"),
    ("no such job", cancel(JobSelector(job_id=9)), NotFound, "no job 9"),
    ("one of two", cancel(JobSelector(job_id=1), JobSelector(job_id=9)), NotFound, "no job 9"),
    ("no such name", cancel(JobSelector(name="?")), NotFound, "no job of the name"),
    ("a name of two", cancel(JobSelector(name="twin")), InvalidJob, "2 jobs have the name"),
    ("nobody's last", cancel(JobSelector(last_of_user="eve")), NotFound, "eve"),
    ("no such task", cancel(JobSelector(job_id=2, indexes=span(10, 20))), NotFound, "2.10"),
    ("between steps", cancel(JobSelector(job_id=2, indexes=span(1, 2))), NotFound, "2.1"),
    ("a plain job's task 1", cancel(JobSelector(job_id=1, indexes=span(1, 2))), NotFound, "1.1"),
    ("no tasks", cancel(JobSelector(job_id=2, indexes=span(2, 2))), InvalidJob, "FROM-TO"),
    ("steps", cancel(JobSelector(job_id=2, indexes=span(0, 9, 2))), InvalidJob, "FROM-TO"),
    (
        "too many ranges",
        cancel(JobSelector(job_id=2, indexes=span(0, 1) * 1001)),
        InvalidJob,
        "1000",
    ),
    ("a grace below 0", cancel(JobSelector(job_id=1), grace_ms=-1), InvalidJob, "grace"),
    ("a long grace", cancel(JobSelector(job_id=1), grace_ms=86_400_001), InvalidJob, "grace"),
    ("a negative signal", cancel(JobSelector(job_id=1), signal=-1), InvalidJob, "no signal"),
    ("a signal too many", cancel(JobSelector(job_id=1), signal=65), InvalidJob, "1 to 64"),
]


@pytest.mark.parametrize(
    ("command", "error", "words"), [row[1:] for row in BAD], ids=[row[0] for row in BAD]
)
def test_a_cancel_of_what_is_not_there_changes_nothing_invariant_10(
    command: CancelJobs, error: type[TitanError], words: str
) -> None:
    rig = Rig()
    rig.submit(new_job(), new_job(array=[(0, 10, 2)]), new_job(name="twin"), new_job(name="twin"))
    assert words in str(check_refused(rig, command, error))


def test_waiting_tasks_end_at_once_and_the_job_with_them() -> None:
    rig = Rig()
    rig.submit(new_job(array=[(0, 1_000)]))
    answer = rig.cancel(1)
    assert answer.job_ids == [1]
    assert answer.already_ended == []
    assert rig.state.get_job(1).state is State.CANCELLED


def test_a_job_that_ended_is_answered_and_not_touched() -> None:
    rig = Rig()
    rig.submit(new_job(), new_job())
    rig.cancel(1)
    lsn = rig.state.lsn
    answer = rig.cancel(1)
    assert (answer.job_ids, answer.already_ended) == ([1], [1])
    assert rig.state.lsn == lsn
    answer = rig.cancel(1, 2)
    assert (answer.job_ids, answer.already_ended) == ([1, 2], [1])


def test_a_running_task_is_stopped_with_grace_and_holds_its_room_until_it_is_gone() -> None:
    rig = Rig()
    host = rig.worker()
    rig.submit(new_job(), new_job())
    key = rig.start_here(host, 1)
    rig.cancel(1, grace_ms=700)
    assert rig.task_state(1) is State.RUNNING
    assert rig.schedule() == []
    batch = host.next_batch()
    assert batch is not None
    assert batch.stops == [Stop(key, StopMode.CANCEL, 700)]
    host.receive(batch)
    host.send_reports()
    assert rig.task_state(1) is State.CANCELLED
    assert len(rig.schedule()) == 1


def test_a_signal_of_its_own_comes_to_the_worker_also_after_a_restart() -> None:
    rig = Rig()
    host = rig.worker()
    rig.submit(new_job())
    key = rig.start_here(host, 1)
    rig.cancel(1, grace_ms=700, signal=2)
    batch = host.next_batch()
    assert batch is not None
    assert batch.stops == [Stop(key, StopMode.CANCEL, 700, 2)]
    rig.restart()
    host.register()
    batch = host.next_batch()
    assert batch is not None
    assert batch.stops == [Stop(key, StopMode.CANCEL, 700, 2)]


def test_asking_again_changes_the_grace() -> None:
    rig = Rig()
    host = rig.worker()
    rig.submit(new_job())
    key = rig.start_here(host, 1)
    rig.cancel(1, grace_ms=700)
    rig.cancel(1, grace_ms=0)
    batch = host.next_batch()
    assert batch is not None
    assert batch.stops == [Stop(key, StopMode.CANCEL, 0)]


def test_a_start_that_was_not_sent_is_not_sent_any_more() -> None:
    rig = Rig()
    host = rig.worker()
    rig.submit(new_job())
    rig.schedule()
    rig.cancel(1)
    batches = host.receive_all()
    assert [each.starts for each in batches] == [[]]
    host.send_reports()
    assert rig.task_state(1) is State.CANCELLED
    assert rig.state.get_worker(1).free == rig.state.get_worker(1).capacity


def test_only_the_chosen_tasks_are_stopped() -> None:
    rig = Rig()
    host = rig.worker(3)
    rig.submit(new_job(array=[(0, 6)]))
    rig.start_here(host, 1)
    rig.cancel(1, indexes=[(1, 2), (4, 9)])
    batch = host.next_batch()
    assert batch is not None
    assert [stop.key.index for stop in batch.stops] == [1]
    states = [rig.task_state(1, index) for index in range(6)]
    assert states == [State.RUNNING] * 3 + [State.PENDING, State.CANCELLED, State.CANCELLED]


def test_a_later_cancel_of_other_tasks_does_not_stop_the_earlier_ones_again() -> None:
    rig = Rig()
    host = rig.worker(3)
    rig.submit(new_job(array=[(0, 3)]))
    rig.start_here(host, 1)
    stopped = []
    for index in (0, 1):
        rig.cancel(1, indexes=[(index, index + 1)])
        batch = host.next_batch()
        assert batch is not None
        assert host.outbox is not None
        host.outbox.acknowledged(batch)
        stopped.append([stop.key.index for stop in batch.stops])
    assert stopped == [[0], [1]]


def test_jobs_are_named_by_number_by_name_and_as_the_last_of_a_user() -> None:
    rig = Rig()
    rig.submit(new_job(name="a"), new_job(name="b"), user="ada")
    rig.submit(new_job(name="c"), user="grace")
    command = cancel(JobSelector(name="a"), JobSelector(last_of_user="ada"), JobSelector(job_id=3))
    assert rig.do(command).job_ids == [1, 2, 3]
    assert rig.state.job_counts == [0, 0, 0, 0, 0, 3]


def test_a_job_named_twice_is_cancelled_once() -> None:
    rig = Rig()
    rig.submit(new_job())
    lsn = rig.state.lsn
    assert rig.cancel(1, 1).job_ids == [1, 1]
    assert rig.state.lsn == lsn + 1


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        (JobFilter(user="ada"), [1, 2]),
        (JobFilter(name="x"), [1, 3]),
        (JobFilter(user="grace", name="x"), [3]),
        (JobFilter(states=(State.RUNNING,)), [1]),
        (JobFilter(states=(State.PENDING, State.SCHEDULED)), [2, 3]),
        (JobFilter(), [1, 2, 3]),
        (JobFilter(all=True), [1, 2, 3, 4]),
        (JobFilter(states=(State.CANCELLED,)), [4]),
        (JobFilter(user="eve"), []),
    ],
)
def test_a_filter_means_the_live_jobs_that_match_all_of_it(
    chosen: JobFilter, expected: list[int]
) -> None:
    rig = Rig()
    host = rig.worker()
    rig.submit(new_job(name="x"), user="ada")
    rig.start_here(host, 1)
    rig.submit(new_job(name="y"), user="ada")
    rig.submit(new_job(name="x"), user="grace")
    rig.submit(new_job(name="z"), user="grace")
    rig.cancel(4)
    answer = rig.cancel(filter=chosen)
    assert answer.job_ids == expected
    assert answer.already_ended == [each for each in expected if each == 4]
