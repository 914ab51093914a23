"""The states of tasks by position: as a dumb version tells them, of all that can happen to one."""

from __future__ import annotations

import random
from collections.abc import Callable, Generator
from typing import TypeVar

import pytest

from tests.lookback.builders import states
from tests.state.builders import Story
from titan.errors import InvalidJob, NotFound
from titan.model import State
from titan.queries import tasks
from titan.queries.tasks import list_tasks, task_states
from titan.rpc.v1 import manager_pb2
from titan.state.cluster import ClusterState
from titan.state.job import Job

T = TypeVar("T")


def at_once(steps: Generator[None, None, T]) -> T:
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            answer: T = stop.value
            return answer


def indexes(job: Job) -> list[int]:
    return [index for each in job.array for index in each.indexes] or [0]


def told_dumbly(job: Job) -> bytes:
    return bytes(job.find_task_state(index) or 0 for index in indexes(job))


def test_every_job_of_a_long_history_at_every_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "STEP_RECORDS", 3)
    chance = random.Random(5)
    seen: set[int] = set()
    for state in states():
        for job in state.jobs.values():
            if chance.random() < 0.3 or state.lsn == job.changed_lsn:
                expected = told_dumbly(job)
                first, count = chance.randrange(6), chance.randrange(1, 8)
                assert at_once(task_states(job, 0, 1000)) == expected
                assert at_once(task_states(job, first, count)) == expected[first:][:count]
                seen.update(expected)
    assert seen == {int(each) for each in State if each <= State.CANCELLED}


def request(job_id: int, **fields: int) -> manager_pb2.ListTasksRequest:
    made = manager_pb2.ListTasksRequest(job=manager_pb2.JobSelector(job_id=job_id))
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def last_state() -> ClusterState:
    *_, state = states()
    return state


def test_the_answer_says_which_tasks_there_are() -> None:
    state = last_state()
    job = max(state.jobs.values(), key=lambda each: each.tasks_total)
    answer = at_once(list_tasks(state, request(job.job_id, first=1, count=2)))
    assert (answer.total, answer.first, answer.lsn) == (job.tasks_total, 1, state.lsn)
    assert answer.states == told_dumbly(job)[1:3]
    assert [(each.start, each.stop, each.step) for each in answer.array] == list(job.array)
    assert at_once(list_tasks(state, request(job.job_id, first=10**15))).states == b""


def test_what_is_asked_wrongly_is_refused() -> None:
    state = last_state()
    job_id = next(iter(state.jobs))
    for wrong in (request(job_id, first=-1), request(job_id, count=-1)):
        with pytest.raises(InvalidJob):
            at_once(list_tasks(state, wrong))
    with pytest.raises(NotFound):
        at_once(list_tasks(state, request(10**9)))
    with pytest.raises(InvalidJob):
        at_once(list_tasks(state, manager_pb2.ListTasksRequest()))
    named = request(job_id)
    named.job.indexes.add(start=0, stop=1, step=1)
    with pytest.raises(InvalidJob, match="by position"):
        at_once(list_tasks(state, named))


def test_a_task_that_moves_while_they_are_looked_through_did_not_complete(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tasks, "STEP_RANGES", 1)
    monkeypatch.setattr(tasks, "STEP_RECORDS", 1)
    story = Story()
    worker = story.worker(cpus_milli=100_000)
    job_id = story.job((0, 12, 1))
    for index in (1, 3, 5, 7, 9, 11):
        story.assign(job_id, index, worker=worker)
        story.start(job_id, index)
    story.end(job_id, 9, State.FAILED, exit_code=1)
    story.end(job_id, 11)
    job = story.state.get_job(job_id)
    begun = told_dumbly(job)
    # One that waited is assigned, and one that ran waits again.
    moves: list[Callable[[], None]] = [
        lambda: story.assign(job_id, 0, worker=worker),
        lambda: story.end(job_id, 1, State.FAILED, becomes=State.PENDING, exit_code=1),
        lambda: story.assign(job_id, 2, worker=worker),
        lambda: story.end(job_id, 3, State.FAILED, becomes=State.PENDING, exit_code=1),
        lambda: story.assign(job_id, 4, worker=worker),
        lambda: story.end(job_id, 5, State.FAILED, exit_code=1),
    ]
    steps = task_states(job, 0, 100)
    for move in moves:
        next(steps)
        move()
    assert at_once(steps) == begun
    assert begun != told_dumbly(job)
