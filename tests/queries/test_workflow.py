"""The jobs that hang together, whichever of them is asked about."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.queries.test_tasks import at_once
from tests.state.builders import Story
from titan.errors import InvalidJob, NotFound
from titan.model import State
from titan.queries import workflow
from titan.queries.workflow import find_workflow, get_workflow
from titan.rpc.v1 import manager_pb2
from titan.scheduling import WHOLE_JOB, Dependency, Scheduling


def after(story: Story, *jobs: int) -> int:
    scheduling = Scheduling(after=tuple(Dependency(job) for job in jobs))
    return story.job(scheduling=scheduling)


def finish(story: Story, job_id: int, worker: int) -> None:
    story.assign(job_id, worker=worker)
    story.start(job_id)
    story.end(job_id)


def found(story: Story, job_id: int, limit: int = 1000) -> tuple[list[int], bool]:
    return at_once(find_workflow(story.state, job_id, limit))


def test_all_of_a_workflow_is_found_from_any_of_its_jobs() -> None:
    story = Story()
    alone, first, second = story.job(), story.job(), story.job()
    join = after(story, first, second)
    last = after(story, join)
    sibling = after(story, second)
    for each in (first, second, join, last, sibling):
        assert found(story, each) == ([first, second, join, last, sibling], False)
    assert found(story, alone) == ([alone], False)


def test_it_stays_whole_when_its_jobs_end() -> None:
    story = Story()
    worker = story.worker()
    first = story.job()
    second = after(story, first)
    third = after(story, second)
    other = story.job()
    for each in (first, second, third, other):
        finish(story, each, worker)
    story.state.jobs.pack_ended(10)
    for each in (first, second, third):
        assert story.state.jobs[each].state is State.COMPLETED
        assert found(story, each) == ([first, second, third], False)


def test_who_waits_is_found_however_much_later_he_came(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workflow, "NEXT_JOBS", 2)
    story = Story()
    worker = story.worker()
    first = story.job()
    for _ in range(5):
        story.job()
    late = after(story, first)
    assert found(story, first) == ([first, late], False)
    # Once nothing waits any more only those that came next are looked at.
    finish(story, first, worker)
    finish(story, late, worker)
    assert found(story, first) == ([first], False)
    assert found(story, late) == ([first, late], False)


def test_there_is_a_limit_and_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    story = Story()
    first = story.job()
    for _ in range(9):
        after(story, first)
    jobs, more = found(story, first, 4)
    assert (len(jobs), more) == (4, True)
    assert found(story, first, 10) == (list(range(first, first + 10)), False)
    monkeypatch.setattr(workflow, "LOOKED_AT_MAX", 3)
    assert found(story, first)[1] is True


def test_the_answer_has_the_jobs_and_is_about_a_job() -> None:
    story = Story()
    first = story.job()
    second = after(story, first)
    request = manager_pb2.GetWorkflowRequest(job=manager_pb2.JobSelector(job_id=first))
    answer = at_once(get_workflow(story.state, request))
    assert [each.job_id for each in answer.jobs] == [first, second]
    assert answer.jobs[1].scheduling.after[0].job.job.job_id == first
    assert (answer.more, answer.lsn) == (False, story.state.lsn)
    request.limit = -1
    with pytest.raises(InvalidJob):
        at_once(get_workflow(story.state, request))
    with pytest.raises(NotFound):
        at_once(
            get_workflow(
                story.state,
                manager_pb2.GetWorkflowRequest(job=manager_pb2.JobSelector(job_id=99)),
            )
        )


def steps_of(story: Story, job_id: int, limit: int) -> int:
    return sum(1 for _ in find_workflow(story.state, job_id, limit))


def test_others_take_turns_however_many_jobs_were_looked_at_before() -> None:
    story = Story()
    first = story.job()
    last = first
    for _ in range(50):
        last = after(story, last)
    # Behind each of them lie those that were looked at behind the first.
    assert steps_of(story, first, 1000) >= 50


def test_no_more_of_those_that_wait_are_looked_at_than_are_told() -> None:
    story = Story()
    first = story.job()
    waiting = Counted()
    for _ in range(40):
        waiting[after(story, first)] = (0,)
    story.state.dependents[first][WHOLE_JOB] = waiting
    jobs, more = found(story, first, 4)
    assert (jobs[0], len(jobs), more) == (first, 4, True)
    assert waiting.looked_at <= 10


class Counted(dict[int, tuple[int, ...]]):
    looked_at = 0

    def __iter__(self) -> Iterator[int]:
        for each in super().__iter__():
            self.looked_at += 1
            yield each
