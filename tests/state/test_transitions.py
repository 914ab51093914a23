"""Which events the state does not allow."""

from collections.abc import Callable

import pytest

from tests.state.builders import ENVIRONMENT, T0, C, F, P, R, S, Story, X
from titan import events as ev
from titan.model import (
    ATTEMPT_TRANSITIONS,
    TASK_ENDS,
    TASK_TRANSITIONS,
    WORKER_TRANSITIONS,
    State,
    WorkerState,
)
from titan.state import ClusterState, IllegalEvent


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
