"""Jobs that wait for others: when they may start, when they never can, and what is refused."""

from __future__ import annotations

import random

import pytest

from tests.manager.builders import (
    GIB,
    TIMEOUT_US,
    FakeHost,
    Rig,
    after,
    check_refused,
    new_job,
    only,
    submit,
)
from titan import events as ev
from titan.errors import InvalidJob
from titan.manager.kernel import Settings, desk, references
from titan.manager.kernel.commands import NewAffinity, NewDependency, NewJob, NewReference
from titan.model import Held, IndexRange, Reason, State
from titan.queries.selection import JobSelector
from titan.scheduling import SAME_INDEX, WHOLE_JOB, DependencyCondition

OK, ANY, FAILED = DependencyCondition
COMPLETED, CANCELLED = State.COMPLETED, State.CANCELLED


@pytest.mark.parametrize(
    ("condition", "end", "goes_on"),
    [
        (OK, State.COMPLETED, True), (OK, State.FAILED, False), (OK, State.CANCELLED, False),
        (ANY, State.COMPLETED, True), (ANY, State.FAILED, True), (ANY, State.CANCELLED, True),
        (FAILED, State.COMPLETED, False), (FAILED, State.FAILED, True),
        (FAILED, State.CANCELLED, False),
    ],
)  # fmt: skip
@pytest.mark.parametrize("late", [False, True], ids=["before the end", "after the end"])
@pytest.mark.parametrize("index", [WHOLE_JOB, 0])
def test_a_job_starts_once_what_it_waits_for_ended_as_asked(
    condition: DependencyCondition, end: State, goes_on: bool, late: bool, index: int
) -> None:
    rig = Rig()
    host = rig.worker(2)
    rig.submit(new_job())
    if not late:
        rig.submit(new_job(after=(after(1, condition, index),)))
        rig.schedule()
        assert rig.task_state(2) is State.PENDING
    if end is State.CANCELLED:
        rig.start_here(host, 1)
        rig.cancel(1)
        host.receive_all()
        host.send_reports()
    else:
        rig.finish(host, 1, 0, end)
    if late:
        rig.submit(new_job(after=(after(1, condition, index),)))
    rig.schedule()
    assert rig.task_state(2) is (State.SCHEDULED if goes_on else State.CANCELLED)
    expected = None if goes_on else (Reason.DEPENDENCY_FAILED, 1)
    assert rig.state.get_job(2).cut_short == expected
    assert not rig.state.dependents


def test_a_job_waits_for_the_whole_of_an_array() -> None:
    rig = Rig()
    host = rig.worker(2)
    rig.submit(new_job(array=[(0, 2)]))
    rig.submit(new_job(after=(after(1),)))
    rig.finish(host, 1, 0)
    assert rig.task_state(2) is State.PENDING
    rig.finish(host, 1, 1)
    assert rig.task_state(2) is State.SCHEDULED


def test_a_job_waits_for_one_element_of_an_array_and_for_no_other() -> None:
    rig = Rig()
    host = rig.worker(3)
    rig.submit(new_job(array=[(0, 3)]))
    rig.submit(new_job(after=(after(1, OK, 1),)), new_job(after=(after(1, FAILED, 2),)))
    rig.finish(host, 1, 0, State.FAILED)
    assert [rig.task_state(each) for each in (2, 3)] == [State.PENDING] * 2
    rig.finish(host, 1, 1)
    assert [rig.task_state(each) for each in (2, 3)] == [State.SCHEDULED, State.PENDING]
    # It can't fail any more.
    rig.finish(host, 1, 2)
    assert rig.task_state(3) is CANCELLED


def test_each_task_of_an_array_waits_for_the_one_of_its_index() -> None:
    rig = Rig()
    host = rig.worker(9)
    rig.submit(new_job(array=[(0, 4)]))
    rig.submit(new_job(array=[(0, 4)], after=(after(1, OK, SAME_INDEX),)))
    rig.finish(host, 1, 2)
    rig.finish(host, 1, 0, State.FAILED)
    rig.cancel(1, indexes=[(3, 4)])
    host.receive_all()
    host.send_reports()
    rig.schedule()
    assert [rig.task_state(2, index) for index in range(4)] == [
        CANCELLED, State.PENDING, State.RUNNING, CANCELLED,
    ]  # fmt: skip


def test_a_task_waits_for_its_index_in_several_arrays() -> None:
    rig = Rig()
    host = rig.worker(9)
    rig.submit(new_job(array=[(0, 3)]), new_job(array=[(0, 9)], cpus=0.1))
    both = (after(1, OK, SAME_INDEX), after(2, ANY, SAME_INDEX))
    rig.submit(new_job(array=[(0, 3)], after=both))
    rig.finish(host, 1, 0)
    rig.finish(host, 2, 1, State.FAILED)
    assert list(rig.state.get_job(3).counts) == [3, 0, 0, 0, 0, 0]
    rig.finish(host, 2, 0, State.FAILED)
    assert rig.task_state(3, 0) is State.SCHEDULED
    rig.finish(host, 1, 1, State.FAILED)
    assert rig.task_state(3, 1) is CANCELLED
    rig.restart()
    host.register()
    rig.finish(host, 1, 2)
    rig.finish(host, 2, 2)
    assert rig.task_state(3, 2) is State.SCHEDULED


def test_tasks_of_the_same_index_wait_for_an_array_that_has_partly_ended() -> None:
    rig = Rig()
    host = rig.worker(9)
    rig.submit(new_job(array=[(0, 3)]))
    rig.finish(host, 1, 1)
    rig.finish(host, 1, 2, State.FAILED)
    rig.submit(new_job(array=[(1, 3)], after=(after(1, OK, SAME_INDEX),)))
    rig.schedule()
    assert [rig.task_state(2, index) for index in (1, 2)] == [State.SCHEDULED, CANCELLED]


def test_tasks_of_the_same_index_go_at_once_after_an_array_of_which_all_completed() -> None:
    rig = Rig()
    host = rig.worker(4)
    rig.submit(new_job(array=[(0, 2)]), new_job(array=[(0, 2)]))
    for index in (0, 1):
        rig.finish(host, 1, index)
    rig.finish(host, 2, 0, State.FAILED)
    rig.finish(host, 2, 1)
    rig.submit(
        new_job(array=[(0, 2)], after=(after(1, OK, SAME_INDEX), after(2, ANY, SAME_INDEX))),
        new_job(array=[(0, 2)], after=(after(1, OK, SAME_INDEX), after(2, OK, SAME_INDEX))),
    )
    rig.schedule()
    assert list(rig.state.get_job(3).counts) == [0, 2, 0, 0, 0, 0]
    assert list(rig.state.get_job(4).counts) == [0, 1, 0, 0, 0, 1]


def test_jobs_of_one_request_wait_for_each_other_in_any_order() -> None:
    rig = Rig()
    host = rig.worker()
    rig.submit(
        new_job(name="last", after=(after(2, of_request=True),)),
        new_job(name="first"),
        new_job(name="second", after=(after(1, of_request=True),)),
    )
    for job_id in (2, 3, 1):
        rig.finish(host, job_id)
    assert rig.state.task_counts == [0, 0, 0, 3, 0, 0]


def test_a_diamond_runs_its_two_sides_at_once_and_then_its_end() -> None:
    rig = Rig()
    host = rig.worker(4)
    rig.submit(
        new_job(),
        new_job(after=(after(0, of_request=True),)),
        new_job(after=(after(0, of_request=True),)),
        new_job(after=(after(1, of_request=True), after(2, of_request=True))),
    )
    rig.finish(host, 1)
    assert [rig.task_state(each) for each in (2, 3, 4)] == [
        State.SCHEDULED, State.SCHEDULED, State.PENDING,
    ]  # fmt: skip
    rig.finish(host, 2)
    assert rig.task_state(4) is State.PENDING
    rig.finish(host, 3)
    assert rig.task_state(4) is State.SCHEDULED


def test_a_failed_dependency_passes_down_a_chain_at_once() -> None:
    rig = Rig()
    host = rig.worker()
    rig.submit(
        new_job(),
        *(new_job(after=(after(place, of_request=True),)) for place in range(5)),
        new_job(after=(after(5, ANY, of_request=True),)),
    )
    rig.finish(host, 1, 0, State.FAILED)
    assert [rig.task_state(each) for each in range(2, 7)] == [CANCELLED] * 5
    assert [rig.state.get_job(each).cut_short for each in range(2, 7)] == [
        (Reason.DEPENDENCY_FAILED, each - 1) for each in range(2, 7)
    ]
    assert rig.task_state(7) is State.SCHEDULED, "it waits for whatever end"


def test_a_failed_dependency_passes_through_arrays_element_by_element() -> None:
    rig = Rig()
    host = rig.worker(9)
    array = [(0, 6)]
    rig.submit(
        new_job(array=array),
        new_job(array=array, after=(after(0, OK, SAME_INDEX, of_request=True),)),
        new_job(array=array, after=(after(1, OK, SAME_INDEX, of_request=True),)),
    )
    for key in [rig.start_here(host, 1, index) for index in (1, 2, 4)]:
        host.end(key, State.FAILED)
    host.send_reports()
    failed = only(rig.schedule(), ev.DependencyFailed)
    ranges = (IndexRange(1, 3), IndexRange(4, 5))
    assert failed == [ev.DependencyFailed(2, ranges, 1), ev.DependencyFailed(3, ranges, 2)]
    assert [rig.task_state(3, index) for index in range(6)] == [
        State.PENDING, CANCELLED, CANCELLED, State.PENDING, CANCELLED, State.PENDING,
    ]  # fmt: skip


def test_a_job_that_waits_can_be_cancelled() -> None:
    rig = Rig()
    host = rig.worker()
    rig.submit(new_job(), new_job(after=(after(0, of_request=True),)))
    rig.cancel(2)
    assert rig.task_state(2) is CANCELLED
    assert not rig.state.dependents
    rig.finish(host, 1, 0, State.FAILED)
    assert rig.state.get_job(2).cut_short is None


def test_tasks_cancelled_while_the_failure_of_what_they_wait_for_is_told_end_once() -> None:
    """The failures of two elements and a cancel of one of the waiting tasks in one turn."""
    rig = Rig()
    host = rig.worker(9)
    rig.submit(new_job(array=[(0, 2)]), new_job(array=[(0, 2)]))
    both = (after(1, OK, SAME_INDEX), after(2, OK, SAME_INDEX))
    rig.submit(new_job(array=[(0, 2)], after=both))
    keys = [rig.start_here(host, 1, 0), host.key_of(2, 1)]
    for key in keys:
        host.end(key, State.FAILED)
    host.send_reports()
    assert rig.state.doomed == {3: {0: 1, 1: 2}}
    rig.cancel(3, indexes=[(1, 2)])
    assert only(rig.schedule(), ev.DependencyFailed) == [
        ev.DependencyFailed(3, (IndexRange(0, 1),), 1)
    ]
    assert rig.state.get_job(3).state is CANCELLED


def test_whoever_waits_is_found_again_after_a_restart() -> None:
    rig = Rig()
    host = rig.worker()
    rig.submit(new_job(), new_job(after=(after(0, of_request=True),)))
    for _ in range(2):
        rig.restart()
        host.register()
        rig.schedule()
        assert rig.task_state(2) is State.PENDING
    rig.finish(host, 1)
    assert rig.task_state(2) is State.SCHEDULED


def test_unknown_and_forgotten_jobs_tasks_that_are_none_and_circles_are_refused() -> None:
    rig = Rig(settings=Settings(forget_after_us=0))
    host = rig.worker(9)
    rig.submit(new_job(), new_job(array=[(0, 9, 2)]), new_job())
    rig.finish(host, 3)
    rig.tick(1_000_000)
    assert rig.state.is_forgotten(3)
    plain = new_job
    for job, match in [
        (plain(after=(after(7),)), "a job that is not there"),
        (plain(after=(after(3),)), "job 3, which ended and was forgotten"),
        (plain(after=(after(1, OK, 1),)), r"no task 1\.1"),
        (plain(after=(after(2, OK, 3),)), r"no task 2\.3"),
        (plain(after=(after(2, OK, SAME_INDEX),)), "only an array"),
        (plain(array=[(0, 2)], after=(after(1, OK, SAME_INDEX),)), "only an array"),
        (plain(array=[(0, 2)], after=(after(2, OK, SAME_INDEX),)), r"no task 2\.1"),
        (plain(after=(after(0, of_request=True),)), "in a circle"),
        (plain(after=(after(4, of_request=True),)), "which has 1"),
        (
            plain(after=(NewDependency(
                NewReference(JobSelector(job_id=2, indexes=(IndexRange(0, 3),))), OK, WHOLE_JOB
            ),)),
            "give one index",
        ),
    ]:  # fmt: skip
        check_refused(rig, submit(job), InvalidJob, match=match)
    circle = [
        plain(name=name, after=(after(to, of_request=True),))
        for name, to in (("a", 1), ("b", 2), ("c", 0))
    ]
    check_refused(rig, submit(*circle), InvalidJob, match="circle: ")
    # One bad job of a request refuses all of it, by its place.
    check_refused(rig, submit(plain(), plain(after=(after(99),))), InvalidJob, match="job 2 of 2")


def test_a_job_near_one_that_has_ended_is_refused_since_it_would_never_start() -> None:
    rig = Rig()
    host = rig.worker()
    rig.submit(new_job())
    rig.finish(host, 1)
    ended = NewReference(JobSelector(job_id=1))
    near = submit(new_job(affinities=(NewAffinity(ended, False),)))
    check_refused(rig, near, InvalidJob, match="near job 1, which has ended")
    rig.submit(new_job(affinities=(NewAffinity(ended, True),)))


@pytest.mark.parametrize("seed", range(8))
def test_the_order_of_a_workflow_is_never_broken(seed: int) -> None:
    """Random graphs with random ends: the ledger of the rig looks at every assignment."""
    rng = random.Random(seed)
    rig = Rig()
    hosts = [rig.worker(3), rig.worker(1)]
    jobs: list[NewJob] = []
    for place in range(12):
        is_array = rng.random() < 0.4
        named = rng.sample(range(place), min(place, rng.randint(0, 3)))
        jobs.append(
            new_job(
                array=[(0, 3)] if is_array else [],
                after=tuple(
                    after(
                        each,
                        rng.choice([OK, OK, ANY, FAILED]),
                        rng.choice([WHOLE_JOB, SAME_INDEX, 1])
                        if is_array and jobs[each].terms.array
                        else WHOLE_JOB,
                        of_request=True,
                    )
                    for each in named
                ),
            )
        )
    rig.submit(*jobs)
    for turn in range(200):
        rig.schedule()
        for host in hosts:
            _work(host, rng)
        if turn % 9 == 4:
            rig.restart()
            for host in hosts:
                host.register()
        if not rig.state.live_jobs:
            break
    assert not rig.state.live_jobs
    assert not rig.state.dependents


def _work(host: FakeHost, rng: random.Random) -> None:
    host.receive_all()
    for key in host.running:
        if rng.random() < 0.7:
            host.end(key, State.COMPLETED if rng.random() < 0.7 else State.FAILED)
    host.send_reports()


def test_the_end_of_an_attempt_that_was_given_up_lets_those_start_that_waited_for_it() -> None:
    rig = Rig()
    host, other = rig.worker(1, GIB), rig.worker()
    rig.submit(new_job(memory_bytes=GIB))
    rig.submit(new_job(after=(after(1),)))
    key = rig.start_here(host, 1)
    rig.now_us += TIMEOUT_US
    rig.turned_us += TIMEOUT_US
    other.heartbeat()
    rig.tick()
    host.end(key)
    host.fault = "no room"
    host.register(held=Held((), 0, 0))
    rig.schedule()
    assert rig.task_state(1) is State.PENDING
    host.send_reports()
    assert rig.task_state(1) is State.COMPLETED
    rig.schedule()
    assert rig.task_state(2) is State.SCHEDULED


def test_who_waits_for_one_task_is_not_looked_at_when_others_end() -> None:
    rig = Rig()
    rig.submit(new_job(array=[(0, 4)]))
    rig.submit(new_job(after=(after(1),)))
    rig.submit(new_job(after=(after(1, index=2), after(1, ANY, index=2))))
    rig.submit(new_job(array=[(0, 4)], after=(after(1, index=SAME_INDEX),)))
    assert rig.state.dependents == {
        1: {WHOLE_JOB: {2: (0,)}, 2: {3: (0, 1)}, SAME_INDEX: {4: (0,)}}
    }
    rig.cancel(1, indexes=[(2, 3)])
    rig.tick()
    assert rig.task_state(3) is CANCELLED
    assert rig.state.dependents == {1: {WHOLE_JOB: {2: (0,)}, SAME_INDEX: {4: (0,)}}}
    rig.cancel(1)
    rig.tick()
    assert not rig.state.dependents


def test_tasks_in_steps_that_never_can_start_are_one_range_of_the_log() -> None:
    rig = Rig()
    steps = [(0, 1000, 2), (1001, 1200, 3)]
    rig.submit(new_job(array=steps))
    rig.submit(new_job(array=steps, after=(after(1, index=SAME_INDEX),)))
    rig.cancel(1)
    failed = only(rig.tick(), ev.DependencyFailed)
    assert failed == [ev.DependencyFailed(2, (IndexRange(0, 1200),), 1)]
    assert list(rig.state.get_job(2).counts) == [0, 0, 0, 0, 0, 567]


def test_a_range_of_the_log_spares_the_tasks_in_it_that_still_can_start() -> None:
    rig = Rig()
    host = rig.worker()
    rig.submit(new_job(array=[(0, 5)]), new_job(array=[(0, 5)]))
    wait = (after(1, index=SAME_INDEX), after(2, ANY, index=SAME_INDEX))
    rig.submit(new_job(array=[(0, 5)], after=wait))
    rig.finish(host, 1, 0)
    rig.cancel(2, indexes=[(0, 1)])
    rig.cancel(1, indexes=[(2, 3), (4, 5)])
    failed = only(rig.tick(), ev.DependencyFailed)
    assert failed == [ev.DependencyFailed(3, (IndexRange(2, 3), IndexRange(4, 5)), 1)]
    assert list(rig.state.get_job(3).counts) == [3, 0, 0, 0, 0, 2]


def test_one_request_makes_the_manager_look_at_so_many_tasks_and_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rig = Rig()
    monkeypatch.setattr(references, "SAME_INDEX_TASKS_MAX", 20)
    rig.submit(new_job(array=[(0, 30)]))
    part = new_job(array=[(0, 20, 2)], after=(after(1, index=SAME_INDEX),))
    check_refused(rig, submit(part, part, part), InvalidJob, match="job 3 of 3: over 20 tasks")
    whole = new_job(array=[(0, 30)], after=(after(1, index=SAME_INDEX),))
    rig.submit(part, whole, part)
    host = rig.worker()
    rig.finish(host, 1, 0)
    rig.finish(host, 1, 1)
    monkeypatch.setattr(references, "ENDED_TASKS_MAX", 3)
    check_refused(rig, submit(whole, whole), InvalidJob, match="of which over 3 ended")
    rig.submit(whole)
    rig.submit(*[new_job(after=(after(1, index=1),))] * 9)


def test_a_cancel_of_many_ranges_is_written_in_several_records(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rig = Rig()
    rig.submit(*[new_job(array=[(0, 100)])] * 4)
    monkeypatch.setattr(desk, "RANGES_PER_RECORD_MAX", 20)
    before = len(rig.records)
    rig.cancel(1, 2, 3, 4, indexes=[(at, at + 1) for at in range(0, 20, 2)])
    assert len(rig.records) == before + 2
