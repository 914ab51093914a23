"""What single events make of the state, and what the state does not allow."""

from collections.abc import Callable

import pytest

from tests.state.builders import ENVIRONMENT, T0, Story
from titan import events as ev
from titan.model import (
    ATTEMPT_TRANSITIONS,
    TASK_ENDS,
    TASK_TRANSITIONS,
    WORKER_TRANSITIONS,
    IndexRange,
    Resources,
    State,
    WorkerState,
)
from titan.scheduling import Dependency, JobAffinity, Scheduling
from titan.state import ClusterState, IllegalEvent, InvariantViolated, check_invariants, digest
from titan.state.invariants import check_capacity, check_invariants_of
from titan.state.job_class import ClassKey, JobClass

P, S, R, C, F, X = (State(number) for number in range(1, 7))

# Tables ------------------------------------------------------------------------------------


def test_the_tables_name_every_state_and_lead_to_known_ones() -> None:
    tasks = {P, S, R, C, F, X}
    assert set(TASK_TRANSITIONS) == tasks
    assert {each for to in TASK_TRANSITIONS.values() for each in to} <= tasks
    attempts = {*State} - {P}
    assert set(ATTEMPT_TRANSITIONS) == attempts
    assert {each for to in ATTEMPT_TRANSITIONS.values() for each in to} <= attempts
    assert set(WORKER_TRANSITIONS) == {*WorkerState}
    assert all(each not in to for each, to in TASK_TRANSITIONS.items())


def test_nothing_follows_an_end() -> None:
    assert TASK_ENDS == (C, F, X)
    for end in TASK_ENDS:
        assert TASK_TRANSITIONS[end] == ATTEMPT_TRANSITIONS[end] == ()
    assert ATTEMPT_TRANSITIONS[State.RECALLED] == ()


def test_every_task_can_still_end_from_every_state_that_is_no_end() -> None:
    for before in (P, S, R):
        assert set(TASK_ENDS) <= set(TASK_TRANSITIONS[before])


def ended_story(how: State) -> Story:
    story = Story()
    story.worker()
    story.job()
    if how is X:
        story.apply(ev.CancelRequested(1, (), 0))
        return story
    story.assign(1)
    story.start(1)
    story.end(1, state=how)
    return story


AFTER_THE_END: list[tuple[str, ev.Event]] = [
    ("assigned", ev.TaskAssigned(1, 0, 1, 1, False, 1, 1, 2)),
    ("assigned again", ev.TaskAssigned(1, 0, 2, 1, False, 1, 1, 2)),
    ("started", ev.TaskStarted(1, 0, 1, T0)),
    ("adopted", ev.Adopted(1, 0, 1, T0)),
    ("recalled", ev.Recalled(1, 0, 1)),
    ("recall wished", ev.RecallRequested(1, 0, 1)),
    ("completed", ev.AttemptEnded(1, 0, 1, 4, 1, 0, -1, T0, T0, 0, 0, 0, "", 4)),
    ("failed", ev.AttemptEnded(1, 0, 1, 5, 1, 1, -1, T0, T0, 0, 0, 0, "", 5)),
    ("lost", ev.AttemptEnded(1, 0, 1, 7, 4, -1, -1, T0, T0, 0, 0, 0, "", 1)),
    ("cancelled", ev.CancelRequested(1, (), 0)),
]


@pytest.mark.parametrize("event", [e for _, e in AFTER_THE_END], ids=[n for n, _ in AFTER_THE_END])
@pytest.mark.parametrize("how", TASK_ENDS, ids=lambda each: each.name)
def test_a_task_that_ended_never_changes_invariant_2(how: State, event: ev.Event) -> None:
    story = ended_story(how)
    with pytest.raises(IllegalEvent) as caught:
        story.apply(event)
    assert type(event).__name__ in str(caught.value)
    assert story.task_state(1) is how
    assert story.job_state(1) is how


@pytest.mark.parametrize("how", [C, F], ids=lambda each: each.name)
def test_a_cancel_of_a_task_that_ended_changes_no_count(how: State) -> None:
    story = Story()
    story.worker()
    story.job((0, 2))
    for index in (0, 1):
        story.assign(1, index)
        story.start(1, index)
    story.end(1, 0, state=how)
    counts = list(story.state.get_job(1).counts)
    story.apply(ev.CancelRequested(1, (), 0))
    assert list(story.state.get_job(1).counts) == counts == story.state.task_counts


JOB_2 = ev.JobSubmitted(2, "ada", "true", (b"true",), b"/", ENVIRONMENT, 1, 0, (), 0, ())
WORKER_2 = ev.WorkerRegistered(2, b"w", b"i", "", "w2", "", 1, 0, (), (), "", b"")
ILLEGAL: list[tuple[str, ev.Event]] = [
    ("a drain lifted that is none", ev.WorkerUndrained(1, "ada", False)),
    ("a stop over that is none", ev.WorkerUndrained(1, "", True)),
    ("a second cluster", ev.ClusterCreated(b"other")),
    ("a job out of turn", JOB_2._replace(job_id=9)),
    ("no environment", JOB_2._replace(environment=b"?")),
    ("no such job", ev.CancelRequested(99, (), 0)),
    ("no such task", ev.TaskAssigned(1, 5, 1, 1, False, 1, 1, 2)),
    ("no such worker", ev.TaskAssigned(1, 0, 1, 9, False, 1, 1, 2)),
    ("an attempt left out", ev.TaskAssigned(1, 0, 2, 1, False, 1, 1, 2)),
    ("a start of what waits", ev.TaskStarted(1, 0, 1, T0)),
    ("an end of what waits", ev.AttemptEnded(1, 0, 1, 4, 1, 0, -1, T0, T0, 0, 0, 0, "", 4)),
    ("adopted without a loss", ev.Adopted(1, 0, 1, T0)),
    ("a worker out of turn", WORKER_2._replace(worker=5)),
    ("a second number", WORKER_2._replace(worker_id=b"%016d" % 1)),
    ("an unknown worker", ev.WorkerHeartbeats((1, 9))),
]  # fmt: skip


@pytest.mark.parametrize("event", [e for _, e in ILLEGAL], ids=[n for n, _ in ILLEGAL])
def test_an_illegal_event_is_an_error_that_names_it(event: ev.Event) -> None:
    story = Story()
    story.worker()
    story.job()
    with pytest.raises(IllegalEvent, match=type(event).__name__):
        story.apply(event)


def test_a_worker_that_holds_attempts_is_neither_lost_nor_gone() -> None:
    story = Story()
    story.worker()
    story.job()
    story.assign(1)
    for event in (ev.WorkerLost(1), ev.WorkerDeregistered(1)):
        with pytest.raises(IllegalEvent, match="still holds"):
            story.apply(event)


def test_records_follow_each_other_and_their_times_never_decrease() -> None:
    state = ClusterState()
    state.apply_record(1, 10, [ev.ClusterCreated(b"c")])
    with pytest.raises(IllegalEvent, match="does not follow"):
        state.apply_record(3, 10, [])
    with pytest.raises(IllegalEvent, match="does not follow"):
        state.apply_record(1, 10, [])
    with pytest.raises(IllegalEvent, match="older"):
        state.apply_record(2, 9, [])
    state.apply_record(2, 10, [])
    assert (state.lsn, state.time_us) == (2, 10)


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


# Slot and ahead ----------------------------------------------------------------------------


def ahead_story() -> Story:
    """One slot of one cpu runs 1.0; 1.1, 1.2 and 1.3 wait behind it."""
    story = Story()
    story.worker(1000)
    story.job((0, 6))
    story.assign(1, 0)
    for index in (1, 2, 3):
        story.assign(1, index, ahead=True)
    return story


def ahead_of(story: Story) -> list[int]:
    return [index for _, index in story.state.get_worker(1).classes[1].ahead]


def test_an_ahead_attempt_takes_no_room() -> None:
    story = ahead_story()
    worker = story.state.get_worker(1)
    assert worker.free_cpus_milli == 0
    assert worker.classes[1].slots == 1
    check_capacity(story.state)


@pytest.mark.parametrize("how", [C, F, State.LOST])
def test_an_end_passes_the_slot_to_the_oldest_ahead_in_the_same_event(how: State) -> None:
    story = ahead_story()
    story.start(1, 0)
    story.end(1, 0, how, becomes=P if how is State.LOST else how)
    worker = story.state.get_worker(1)
    assert ahead_of(story) == [2, 3]
    assert [index for _, index in worker.classes[1].unstarted] == [1]
    assert not worker.attempts[1, 1].ahead
    assert worker.free_cpus_milli == 0


def test_a_recalled_slot_attempt_passes_its_slot_too() -> None:
    story = ahead_story()
    story.apply(ev.Recalled(1, 0, 1))
    assert ahead_of(story) == [2, 3]
    assert story.state.get_worker(1).free_cpus_milli == 0


def test_with_nobody_ahead_the_room_is_free_and_the_class_is_gone() -> None:
    story = ahead_story()
    for index in (0, 1, 2, 3):
        story.end(1, index)
    worker = story.state.get_worker(1)
    assert worker.free == worker.capacity
    assert worker.classes == {}


def test_an_ahead_attempt_that_starts_first_swaps_with_the_oldest_unstarted_slot() -> None:
    story = ahead_story()
    story.start(1, 2)
    worker = story.state.get_worker(1)
    assert not worker.attempts[1, 2].ahead
    assert worker.attempts[1, 0].ahead
    assert ahead_of(story) == [0, 1, 3], "what lost its slot goes first again"
    assert worker.free_cpus_milli == 0
    story.end(1, 2)
    assert ahead_of(story) == [1, 3]


def test_an_end_that_tells_the_start_too_swaps_before_it_passes_the_slot() -> None:
    story = ahead_story()
    story.end(1, 3)
    worker = story.state.get_worker(1)
    assert ahead_of(story) == [1, 2]
    assert not worker.attempts[1, 0].ahead
    assert worker.classes[1].slots == 1


def test_an_ahead_attempt_that_runs_beside_a_running_slot_takes_room_of_its_own() -> None:
    story = ahead_story()
    story.start(1, 0)
    story.start(1, 1)
    worker = story.state.get_worker(1)
    assert worker.classes[1].slots == 2
    assert worker.free_cpus_milli == -1000, "what runs, runs"


def test_an_ahead_attempt_that_is_recalled_frees_nothing() -> None:
    story = ahead_story()
    story.apply(ev.RecallRequested(1, 2, 1))
    assert story.state.get_worker(1).attempts[1, 2].recall_requested
    story.apply(ev.Recalled(1, 2, 1))
    assert ahead_of(story) == [1, 3]
    assert story.task_state(1, 2) is P
    assert story.state.get_worker(1).free_cpus_milli == 0


def test_slots_do_not_pass_to_another_class() -> None:
    story = ahead_story()
    story.job(user="grace")
    story.worker(2000, 1)
    story.assign(2, 0)
    story.end(2, 0)
    assert ahead_of(story) == [1, 2, 3]
    assert story.state.get_worker(1).free_cpus_milli == 1000


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


def test_worker_states_follow_the_table() -> None:
    events: dict[WorkerState, Callable[[int], ev.Event]] = {
        WorkerState.HEALTHY: ev.WorkerHealthy,
        WorkerState.UNHEALTHY: ev.WorkerUnhealthy,
        WorkerState.DISCONNECTED: ev.WorkerLost,
        WorkerState.DEREGISTERED: ev.WorkerDeregistered,
    }
    for before, allowed in WORKER_TRANSITIONS.items():
        for after, event in events.items():
            story = Story()
            story.worker()
            if before is not WorkerState.HEALTHY:
                story.apply(events[before](1))
            if after in allowed or after is before:
                story.apply(event(1))
                assert story.state.get_worker(1).state is after
            else:
                with pytest.raises(IllegalEvent, match=before.name):
                    story.apply(event(1))


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


BREAKS: list[tuple[str, Callable[[ClusterState], object]]] = [
    ("a count", lambda state: setattr(state.get_job(1), "counts", [9, 0, 0, 0, 0, 0])),
    ("a task lost", lambda state: state.get_job(1).pending.remove(2)),
    ("room forgotten", lambda state: setattr(state.get_worker(1), "free_cpus_milli", 4000)),
    ("an attempt nowhere", lambda state: state.get_worker(1).attempts.clear()),
    ("a slot too many", lambda state: setattr(state.get_worker(1).classes[1], "slots", 2)),
    ("a job not live", lambda state: state.jobs.end(state.get_job(1))),
    ("a class that nobody needs", lambda state: state.add_class(
        JobClass(9, ClassKey("ada", 9, Resources(1))))),
    ("an environment lost", lambda state: state.environments.clear()),
    ("a class without its jobs", lambda state: state.classes[1].pending_jobs.clear()),
    ("all tasks", lambda state: state.task_counts.__setitem__(0, 9)),
    ("all jobs", lambda state: state.job_counts.__setitem__(0, 9)),
    ("a gone worker that holds", lambda state: setattr(
        state.get_worker(1), "state", WorkerState.DISCONNECTED)),
]  # fmt: skip


@pytest.mark.parametrize("damage", [d for _, d in BREAKS], ids=[n for n, _ in BREAKS])
def test_the_check_of_invariants_finds(damage: Callable[[ClusterState], object]) -> None:
    story = Story()
    story.worker()
    story.job((0, 3))
    story.assign(1, 0)
    check_invariants(story.state)
    damage(story.state)
    with pytest.raises(InvariantViolated):
        check_invariants(story.state)


def test_the_check_of_some_finds_what_is_wrong_with_these_alone() -> None:
    story = Story()
    story.worker()
    story.worker()
    story.job((0, 3))
    story.job()
    story.assign(1, 0)
    check_invariants_of(story.state, (1, 2, 99), (1, 2, 99))
    story.state.get_job(1).active.clear()
    check_invariants_of(story.state, (2,), (2,))
    for jobs, workers in (((1,), ()), ((), (1,))):
        with pytest.raises(InvariantViolated):
            check_invariants_of(story.state, jobs, workers)


def test_a_draining_worker_gets_no_assignment() -> None:
    story = Story()
    story.worker()
    story.job((0, 3))
    for draining in (
        ev.WorkerDraining(1, "new kernel", "ada", False),
        ev.WorkerDraining(1, "", "", True),
    ):
        story.apply(draining)
        for ahead in (False, True):
            with pytest.raises(IllegalEvent, match="draining"):
                story.assign(1, 0, ahead=ahead)
        # What was refused leaves its record begun.
        story.apply(ev.WorkerUndrained(1, "", draining.stopping))
    story.assign(1, 0)
    assert story.task_state(1, 0) is State.SCHEDULED


def test_only_what_has_not_started_can_be_recalled() -> None:
    story = ahead_story()
    story.apply(ev.RecallRequested(1, 0, 1))
    story.start(1, 0)
    with pytest.raises(IllegalEvent, match="not started"):
        story.apply(ev.RecallRequested(1, 0, 1))


@pytest.mark.parametrize("on", ["w1", (b"%016d" % 1).hex()])
def test_an_assignment_elsewhere_than_the_job_asks_for_is_illegal(on: str) -> None:
    story = Story()
    story.worker()
    story.worker()
    story.job(on=on)
    with pytest.raises(IllegalEvent, match=f"it is to run on {on}"):
        story.assign(1, worker=2)
    story = Story()
    story.worker()
    story.job(on=on)
    story.assign(1)
    assert story.task_state(1) is S


# Submits together ---------------------------------------------------------------------------


def some_submits() -> list[ev.JobSubmitted]:
    """Runs of jobs that are alike, and between them some of each other kind."""
    plain = ev.JobSubmitted(
        1, "ada", "n", (b"c",), b"/", ENVIRONMENT, 1000, 0, (), 0, (),
    )  # fmt: skip
    near_itself = Scheduling(affinities=(JobAffinity(5),))
    kinds = [
        plain, plain, plain._replace(name="other", command=(b"d", b"e")),
        plain._replace(array=(IndexRange(0, 3),)), plain._replace(scheduling=near_itself),
        plain._replace(scheduling=Scheduling(held=True)),
        plain._replace(scheduling=Scheduling(held=True)),
        plain._replace(scheduling=Scheduling(after=(Dependency(1), Dependency(9)))),
        plain._replace(user="bob"), plain._replace(user="bob"), plain, plain._replace(priority=1),
        plain._replace(array=(IndexRange(0, 2),)), plain._replace(array=(IndexRange(0, 2),)),
    ]  # fmt: skip
    return [each._replace(job_id=job_id) for job_id, each in enumerate(kinds, 1)]


def test_jobs_submitted_together_are_as_if_they_came_one_by_one() -> None:
    together, one_by_one = Story().state, Story().state
    for state in (together, one_by_one):
        state.begin_record(state.lsn + 1, state.time_us + 1)
    together.apply_submits(some_submits())
    for event in some_submits():
        one_by_one.apply(event)
    check_invariants(together)
    assert digest(together) == digest(one_by_one)
    assert list(together.touched_classes) == list(one_by_one.touched_classes)
    assert list(together.jobs) == list(one_by_one.jobs) == list(range(1, 15))


@pytest.mark.parametrize("place", [0, 1, 3])
def test_of_jobs_submitted_together_each_has_the_next_number(place: int) -> None:
    state = Story().state
    state.begin_record(state.lsn + 1, state.time_us + 1)
    events = some_submits()
    events[place] = events[place]._replace(job_id=77)
    with pytest.raises(IllegalEvent, match="count up"):
        state.apply_submits(events)
