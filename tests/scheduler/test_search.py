"""The search in sorted lists finds what a look at each worker finds, and goes on being right."""

from __future__ import annotations

import random

import pytest

from tests.manager.builders import GIB, Rig, new_job, only
from tests.scheduler.stories import Story
from titan import events as ev
from titan.manager.kernel import Settings
from titan.manager.kernel.commands import NewAffinity, NewReference, UpdateJobs, WhichJobs
from titan.model import Resources, named_resources
from titan.queries.selection import JobSelector
from titan.scheduler.backfill import NEVER, earliest_start_us
from titan.scheduler.constraints import could_take
from titan.scheduler.policies import POLICIES
from titan.scheduler.reservation import Starts
from titan.scheduling import LabelConstraint
from titan.state.job_class import ClassKey, JobClass


def some_class(rng: random.Random) -> JobClass:
    """What nobody has submitted."""
    demand = Resources(
        rng.choice([500, 1000, 4000, 8000]),
        rng.choice([0, 0, GIB, 4 * GIB - 5, 4 * GIB]),
        named_resources((("gpu", rng.choice([0, 0, 0, 1, 3])),)),
    )
    constraints = (LabelConstraint("zone", ("a", "b"), rng.random() < 0.5),)
    chosen = constraints if rng.random() < 0.3 else ()
    return JobClass(0, ClassKey("ada", 0, demand, constraints=chosen))


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("seed", range(4))
def test_a_search_finds_what_the_policy_says_of_all_workers(policy: str, seed: int) -> None:
    """The same searches again and again, over all that happens: what was full must not stay so."""
    story = Story(f"search {policy} {seed}", policy=policy)
    rig, rng = story.rig, story.rng
    for _ in range(5):
        story.join()
    classes = [some_class(rng) for _ in range(12)]
    found = 0
    for _ in range(25):
        story.submit()
        rig.tick()
        rig.schedule()
        story.happen()
        fleet, search = rig.kernel.scheduler.fleet, rig.kernel.scheduler.search
        fleet.refresh()
        for job_class in classes:
            numbers = [each.number for each in fleet.workers()]
            excluded = set(rng.sample(numbers, len(numbers) // 3)) if rng.random() < 0.5 else set()
            feasible = [each for each in fleet.workers() if could_take(each, job_class)]
            candidates = [
                each for each in feasible if each.admits(job_class) and each.number not in excluded
            ]
            pointer = rig.state.round_robin
            expected = POLICIES[policy].choose(feasible, candidates, job_class.demand, pointer)
            assert search.find(job_class, POLICIES[policy], excluded) == expected
            assert search.could_run(job_class) == bool(feasible)
            assert search.feasible(job_class) == feasible
            found += expected is not None
    assert found > 30


@pytest.mark.parametrize("seed", range(6))
def test_what_is_known_of_the_earliest_starts_does_not_go_stale(seed: int) -> None:
    story = Story(f"starts {seed}", order="skip")
    story.has_limits = True
    rig, rng = story.rig, story.rng
    for _ in range(4):
        story.join()
    job_class = some_class(rng)
    # The kernel's own would take the changes away: it reserves nothing.
    watched = Starts(rig.state, rig.kernel.scheduler.fleet)
    known = 0
    for step in range(60):
        if step % 15 == 14:
            job_class = some_class(rng)
            job_class.class_id = step
        story.submit()
        rig.tick()
        rig.schedule()
        story.happen()
        scheduler = rig.kernel.scheduler
        scheduler.refresh()
        now_us = rig.now_us
        limited = [each for each in scheduler.fleet.workers() if each.limited]
        starts = [
            (start_us, each.number)
            for each in limited
            if could_take(each, job_class)
            for start_us in [earliest_start_us(each, job_class, now_us)]
            if start_us < NEVER
        ]
        found = watched.earliest(job_class, now_us, ())
        got = None if found is None else (found.start_us, found.worker.number)
        assert got == min(starts, default=None)
        known += got is not None
    assert known > 0


@pytest.mark.parametrize("seed", range(6))
def test_the_queue_of_classes_is_in_order_whatever_happens(seed: int) -> None:
    story = Story(f"queue {seed}")
    for _ in range(3):
        story.join()
    for _ in range(40):
        story.submit()
        story.rig.tick()
        story.rig.schedule()
        story.happen()
        queue = story.rig.kernel.scheduler.queue
        queue.refresh()
        expected = sorted(
            (-each.priority, each.pending_jobs.peekitem(0)[0], each.class_id)
            for each in story.rig.state.classes.values()
            if each.pending_jobs
        )
        places = list(queue.places())
        assert [(p.negated_priority, p.job_id, p.class_id) for p in places] == expected
        assert len(queue) == len(expected)
        for place in places:
            assert list(queue.before(place)) == places[: places.index(place)]


def test_an_array_of_many_tasks_is_one_entry_of_the_queue() -> None:
    rig = Rig(settings=Settings(lookahead=False))
    rig.worker(2)
    rig.submit(new_job(array=[(0, 100_000)]), new_job(array=[(0, 100_000)]))
    rig.schedule()
    assert len(rig.kernel.scheduler.queue) == 1
    assert rig.state.task_counts[:2] == [199_998, 2]


def test_tasks_that_stay_together_do_so_after_an_update_of_their_job() -> None:
    rig = Rig(settings=Settings(lookahead=False, policy="spread"))
    host, _ = rig.worker(2), rig.worker(2)
    itself = NewAffinity(NewReference(None, 0), anti=False)
    rig.submit(new_job(array=[(0, 3)], affinities=(itself,)))
    key = rig.start_here(host, 1)
    which = WhichJobs(selectors=(JobSelector(job_id=1),))
    rig.do(UpdateJobs(which=which, priority=3, time_limit_ms=None))
    assert only(rig.schedule(), ev.TaskAssigned) == [], "there is room on the other one"
    host.end(key)
    host.send_reports()
    assert [each.worker for each in only(rig.schedule(), ev.TaskAssigned)] == [host.number]
