"""Jobs of one request are applied together, with the same result as one by one."""

import pytest

from tests.state.builders import ENVIRONMENT, Story
from titan import events as ev
from titan.model import IndexRange
from titan.scheduling import Dependency, JobAffinity, Scheduling
from titan.state import IllegalEvent, check_invariants, digest


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
