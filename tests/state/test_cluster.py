"""What single events make of the state."""

from collections.abc import Callable

import pytest

from tests.state.builders import T0, C, F, P, R, S, Story, X
from titan import events as ev
from titan.model import IndexRange, Resources, State
from titan.state import IllegalEvent, InvariantViolated, digest
from titan.state.invariants import check_capacity

# Jobs --------------------------------------------------------------------------------------


def test_a_plain_jobs_state_is_its_tasks() -> None:
    story = Story()
    story.worker()
    story.job()
    assert story.job_state(1) is P
    story.assign(1)
    assert story.job_state(1) is S
    story.start(1)
    assert story.job_state(1) is R
    story.lose(1, start_us=T0)
    assert story.job_state(1) is P
    story.assign(1, attempt=2)
    story.end(1, attempt=2, state=F)
    assert story.job_state(1) is F


def test_an_array_of_one_index_is_a_job_of_one_task() -> None:
    story = Story()
    story.worker()
    story.job((5, 6))
    story.assign(1, 5)
    story.start(1, 5)
    story.lose(1, 5, start_us=T0)
    assert story.job_state(1) is P


def test_an_array_runs_from_its_first_start_until_all_have_ended() -> None:
    story = Story()
    story.worker()
    story.job((0, 3))
    assert story.job_state(1) is P
    story.assign(1, 0)
    assert story.job_state(1) is S
    story.start(1, 0)
    assert story.job_state(1) is R
    story.end(1, 0)
    assert story.job_state(1) is R
    story.assign(1, 1)
    story.end(1, 1, F)
    assert story.job_state(1) is R
    story.assign(1, 2)
    story.end(1, 2)
    assert story.job_state(1) is F
    assert story.state.get_job(1).counts == [0, 0, 0, 2, 1, 0]


def test_an_array_whose_only_started_task_was_cancelled_still_runs() -> None:
    story = Story()
    story.worker()
    story.job((0, 3))
    story.assign(1, 0)
    story.start(1, 0)
    story.apply(ev.CancelRequested(1, (IndexRange(0, 1),), 0))
    story.end(1, 0, X)
    assert story.state.get_job(1).counts == [2, 0, 0, 0, 0, 1]
    assert story.job_state(1) is R


def test_an_array_whose_only_started_task_was_lost_still_runs() -> None:
    story = Story()
    story.worker()
    story.job((0, 3))
    story.assign(1, 0)
    story.start(1, 0)
    story.lose(1, 0, start_us=T0)
    assert story.state.get_job(1).counts == [3, 0, 0, 0, 0, 0]
    assert story.job_state(1) is R


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        ([C, C, C], C),
        ([C, X, C], X),
        ([X, X, X], X),
        ([C, F, C], F),
        ([F, X, C], F),
        ([X, F, X], F),
    ],
)
def test_an_array_that_ended_failed_if_any_did_else_was_cancelled_if_any_was(
    ends: list[State], expected: State
) -> None:
    story = Story()
    story.worker()
    story.job((0, 3))
    for index, end in enumerate(ends):
        if end is X:
            story.apply(ev.CancelRequested(1, (IndexRange(index, index + 1),), 0))
        else:
            story.assign(1, index)
            story.end(1, index, end)
    job = story.state.get_job(1)
    assert job.state is expected
    assert job.has_ended
    assert 1 not in story.state.live_jobs
    assert story.state.job_counts[expected - 1] == 1
    assert sum(story.state.job_counts) == 1


def test_the_failed_task_with_the_lowest_index_speaks_for_its_array() -> None:
    story = Story()
    story.worker()
    story.job((0, 4))
    for index, exit_code in ((3, 30), (1, 10), (2, 20)):
        story.assign(1, index)
        story.end(1, index, F, exit_code=exit_code)
    story.assign(1, 0)
    story.end(1, 0)
    job = story.state.get_job(1)
    assert job.lowest_failed == (1, 1)
    assert job.ended is not None
    record = job.ended.find(*job.lowest_failed)
    assert record is not None
    assert record.exit_code == 10


def test_a_cancel_ends_what_waits_and_only_marks_what_is_under_way() -> None:
    story = Story()
    story.worker()
    story.job((0, 10, 2))
    story.assign(1, 0)
    story.assign(1, 2)
    story.start(1, 2)
    story.apply(ev.CancelRequested(1, (), 500))
    job = story.state.get_job(1)
    assert [story.task_state(1, index) for index in (0, 2, 4, 6, 8)] == [S, R, X, X, X]
    assert story.task_state(1, 1) is None
    assert job.cancel_requested
    assert [each.cancel_grace_ms for each in job.active.values()] == [500, 500]
    story.end(1, 0, X)
    story.end(1, 2, State.LOST, becomes=X)
    assert job.state is X
    assert job.counts == [0, 0, 0, 0, 0, 5]


def test_a_cancel_of_some_tasks_leaves_the_others_and_the_job() -> None:
    story = Story()
    story.worker()
    story.job((0, 100))
    story.assign(1, 0)
    story.apply(ev.CancelRequested(1, (IndexRange(10, 20), IndexRange(0, 1)), 5))
    job = story.state.get_job(1)
    assert not job.cancel_requested
    assert job.counts == [89, 1, 0, 0, 0, 10]
    assert job.active[0].cancel_requested
    assert [story.task_state(1, index) for index in (9, 10, 19, 20)] == [P, X, X, P]


def test_a_job_knows_the_record_that_changed_it_last() -> None:
    story = Story()
    story.worker()
    story.job()
    job = story.state.get_job(1)
    assert job.changed_lsn == story.state.lsn
    changes: list[Callable[[], None]] = [
        lambda: story.assign(1),
        lambda: story.start(1),
        lambda: story.lose(1, start_us=T0),
        lambda: story.apply(ev.Adopted(1, 0, 1, T0)),
        lambda: story.apply(ev.CancelRequested(1, (), 0)),
        lambda: story.end(1, state=X),
    ]
    for change in changes:
        change()
        assert job.changed_lsn == story.state.lsn
    story.worker()
    assert job.changed_lsn == story.state.lsn - 1


def test_a_job_knows_its_first_start_and_its_last_end() -> None:
    story = Story()
    story.worker()
    story.job((0, 2))
    story.assign(1, 0)
    story.assign(1, 1)
    story.start(1, 1, start_us=T0 + 50)
    story.end(1, 0, start_us=T0 + 20, end_us=T0 + 90)
    story.end(1, 1, start_us=T0 + 50, end_us=T0 + 70)
    job = story.state.get_job(1)
    assert (job.start_us, job.end_us) == (T0 + 20, T0 + 90)


# Attempts ----------------------------------------------------------------------------------


def test_attempts_count_up_over_losses_recalls_and_adoptions() -> None:
    story = Story()
    story.worker()
    story.job()
    story.assign(1, attempt=1)
    story.apply(ev.Recalled(1, 0, 1))
    story.assign(1, attempt=2)
    story.start(1, attempt=2)
    story.lose(1, attempt=2, start_us=T0)
    story.assign(1, attempt=3)
    story.lose(1, attempt=3)
    story.apply(ev.Adopted(1, 0, 2, T0))
    assert story.state.get_job(1).active[0].attempt == 2
    assert story.task_state(1) is R
    story.lose(1, attempt=2, start_us=T0)
    with pytest.raises(IllegalEvent, match="count up"):
        story.assign(1, attempt=3)
    story.assign(1, attempt=4)
    story.end(1, attempt=4)
    job = story.state.get_job(1)
    assert job.ended is not None
    assert [(each.attempt, State(each.state)) for each in job.ended] == [
        (1, State.RECALLED), (3, State.LOST), (2, State.LOST), (4, C),
    ]  # fmt: skip
    assert job.attempts_total == 4
    assert job.attempts_made is None, "a task that ended needs no count of attempts"


def test_the_end_of_a_survivor_counts_and_tells_its_start() -> None:
    story = Story()
    story.worker()
    story.job()
    story.assign(1)
    story.lose(1)
    assert story.state.get_job(1).start_us == 0
    story.end(1, start_us=T0 + 5, end_us=T0 + 9)
    job = story.state.get_job(1)
    assert job.state is C
    assert job.start_us == T0 + 5, "it ran, so the job has a start"
    assert job.ended is not None
    assert [each.state for each in job.ended] == [C], "its loss is forgotten"


def test_an_adopted_attempt_takes_room_again() -> None:
    story = Story()
    story.worker()
    story.job(cpus_milli=3000)
    story.assign(1)
    story.start(1)
    story.lose(1, start_us=T0)
    assert story.state.get_worker(1).free_cpus_milli == 4000
    story.apply(ev.Adopted(1, 0, 1, T0))
    assert story.state.get_worker(1).free_cpus_milli == 1000
    story.end(1)
    assert story.state.get_worker(1).free_cpus_milli == 4000


def test_an_adopted_attempt_without_a_start_time_is_no_unstarted_one() -> None:
    story = Story()
    story.worker()
    story.job()
    story.assign(1)
    story.start(1)
    story.lose(1, start_us=T0)
    story.apply(ev.Adopted(1, 0, 1, 0))
    assert not story.state.get_worker(1).classes[1].unstarted


def test_a_run_time_is_never_learned_below_zero_or_from_what_never_started() -> None:
    story = Story()
    story.worker()
    story.job((0, 3))
    job_class = story.state.classes[1]
    story.assign(1, 0)
    story.end(1, 0, start_us=T0 + 500, end_us=T0)
    assert job_class.run_us == 0
    story.assign(1, 1)
    story.end(1, 1, start_us=0, end_us=T0)
    assert job_class.run_us < T0 // 2


def test_a_long_run_counts_at_once_and_short_ones_slowly() -> None:
    story = Story()
    story.worker()
    story.job((0, 3))
    job_class = story.state.classes[1]
    for index, (run_us, expected) in enumerate(((800, 800), (8000, 8000), (0, 7000))):
        story.assign(1, index)
        story.end(1, index, start_us=T0, end_us=T0 + run_us)
        assert job_class.run_us == expected
    assert job_class.samples == 3


# Workers, requests, environments -----------------------------------------------------------


def test_a_worker_that_comes_back_smaller_keeps_its_promises() -> None:
    story = Story()
    story.worker(4000)
    story.job((0, 3))
    for index in range(3):
        story.assign(1, index)
    story.worker(2000, 1, named=())
    worker = story.state.get_worker(1)
    assert worker.free == Resources(-1000, 1 << 34)
    assert worker.used == Resources(3000)
    assert not worker.has_room(Resources(1))
    with pytest.raises(InvariantViolated):
        check_capacity(story.state)
    story.end(1, 0)
    check_capacity(story.state)


def test_the_digest_tells_states_apart_that_differ_in_one_event() -> None:
    one, other = Story(), Story()
    for story in (one, other):
        story.worker()
        story.job((0, 3))
        story.assign(1, 0)
    assert digest(one.state) == digest(other.state)
    one.apply(ev.TaskStarted(1, 0, 1, T0))
    other.apply(ev.TaskStarted(1, 0, 1, T0 + 1))
    assert digest(one.state) != digest(other.state)
