"""The story that logs are compared with: what it lets pass, and what it does not."""

from __future__ import annotations

import pytest

from tests.crash.story import Story
from titan import events as ev
from titan.model import Reason, State

JOB = ev.JobSubmitted(1, "ada", "true", (b"true",), b"/", b"e" * 16, 1000, 0, (), 0, ())
ASSIGNED = ev.TaskAssigned(1, 0, 1, 1, False, 1, 1, 0)
ADOPTED = ev.Adopted(1, 0, 1, 5, takes_back_loss=True)


def ended(state: State, becomes: State) -> ev.AttemptEnded:
    return ev.AttemptEnded(1, 0, 1, state, Reason.EXIT, 0, -1, 0, 0, 0, 0, 0, "", becomes)


LOST = ended(State.LOST, State.PENDING)
COMPLETED = ended(State.COMPLETED, State.COMPLETED)


def tell(*events: ev.Event) -> Story:
    story = Story()
    for lsn, event in enumerate((JOB, ASSIGNED, *events), 1):
        story.tell_record(lsn, ev.encode_record(lsn, (event,)))
    return story


@pytest.mark.parametrize("events", [(COMPLETED,), (LOST, ADOPTED, COMPLETED), (LOST, COMPLETED)])
def test_what_was_given_up_may_run_on_or_end_once_its_worker_is_heard(
    events: tuple[ev.Event, ...],
) -> None:
    story = tell(*events)
    assert story.has_ended(1)
    assert not story.has_ended(2)
    assert story.ends == {(1, 0): State.COMPLETED}


@pytest.mark.parametrize(
    "events",
    [
        (COMPLETED, COMPLETED),
        (ADOPTED,),
        (LOST, ADOPTED, ADOPTED),
        (LOST, COMPLETED, COMPLETED),
        (LOST, LOST),
        (ended(State.FAILED, State.PENDING), COMPLETED),
        (LOST, ASSIGNED._replace(attempt=2), COMPLETED),
        (LOST, ASSIGNED._replace(attempt=2), ADOPTED),
    ],
)
def test_nothing_ends_that_does_not_run(events: tuple[ev.Event, ...]) -> None:
    with pytest.raises(AssertionError):
        tell(*events)
