"""The fleet: what is kept of the workers from pass to pass is what a look at each of them says."""

from __future__ import annotations

from typing import Any

import pytest

from tests.manager.builders import GIB, SECOND_US, FakeHost, Rig, new_job, only, resources
from tests.scheduler.stories import Story
from titan import events as ev
from titan.manager.kernel import Settings
from titan.manager.kernel.commands import DrainWorkers, UpdateJobs, WhichJobs
from titan.queries.selection import JobSelector
from titan.scheduler.fleet import Fleet, free_key
from titan.scheduling import Scheduling


def content_of(fleet: Fleet) -> dict[Any, Any]:
    """Everything that the fleet says, in an order of its own."""
    pools = {
        key: (
            sorted(pool.members),
            list(pool.numbers),
            {name: count for name, count in pool.capacity.items() if count},
            {name: count for name, count in pool.free.items() if count},
        )
        for key, pool in fleet.pools.items()
    }
    marks = [sorted(each) for each in (fleet.standing, fleet.limited, fleet.preemptible)]
    return {"pools": pools, "marks": marks, "workers": [each.number for each in fleet.workers()]}


def check_fleet(rig: Rig) -> None:
    """Compares it with one that has just been made."""
    fleet = rig.kernel.scheduler.fleet
    fleet.refresh()
    other = Fleet(rig.state, rig.kernel.outboxes)
    other.refresh()
    assert content_of(fleet) == content_of(other)
    for pool in fleet.pools.values():
        for resources_asked in pool.indexes:
            keys = sorted(free_key(each, resources_asked) for each in pool.members.values())
            assert list(pool.index(resources_asked)) == keys
        for worker in pool.members.values():
            assert pool.least.fits_in(worker.capacity)
            assert worker.capacity.fits_in(pool.most)
            assert fleet.pool_of(worker.number) is pool
            assert worker in fleet.named(worker.name)
            assert worker in fleet.named(worker.worker_id.hex())


@pytest.mark.parametrize("seed", range(12))
def test_after_whatever_happens_the_fleet_is_as_if_made_anew(seed: int) -> None:
    story = Story(f"fleet {seed}", policy="bin-packing", preempt="requeue")
    for _ in range(4):
        story.join()
    for _ in range(30):
        preemptible = Scheduling(preemptible=story.rng.random() < 0.5)
        story.submit(scheduling=preemptible)
        story.rig.tick()
        story.rig.schedule()
        story.happen()
        if story.rng.random() < 0.5:
            story.change_a_worker()
        check_fleet(story.rig)


def test_workers_whose_memory_differs_a_little_share_a_pool() -> None:
    rig = Rig()
    for memory_bytes in (4 * GIB, 4 * GIB + 4096, 5 * GIB, 0):
        rig.worker(4, memory_bytes)
    rig.schedule()
    pools = rig.kernel.scheduler.fleet.pools.values()
    assert [sorted(each.members) for each in pools] == [[1, 2], [3], [4]]


def test_a_job_that_only_a_part_of_a_pool_can_take_goes_to_that_part() -> None:
    rig = Rig()
    for memory_bytes in (4 * GIB, 4 * GIB + 4096, 4 * GIB + 1):
        rig.worker(4, memory_bytes)
    rig.submit(new_job(memory_bytes=4 * GIB + 1, array=[(0, 3)]))
    placed = only(rig.schedule(), ev.TaskAssigned)
    assert [(each.worker, each.rule) for each in placed] == [(2, 1), (3, 2)]


def test_a_worker_gains_when_something_ends_there_and_not_when_something_comes() -> None:
    rig = Rig()
    host = rig.worker(2)
    fleet = rig.kernel.scheduler.fleet
    rig.schedule()
    rig.submit(new_job())
    before = fleet.gains_count
    key = rig.start_here(host, 1)
    fleet.refresh()
    assert fleet.gains_count == before
    host.end(key)
    host.send_reports()
    fleet.refresh()
    assert fleet.gains_since(before) == [1]


def test_a_draining_worker_leaves_the_fleet_and_comes_back() -> None:
    rig = Rig()
    host = rig.worker(2)
    fleet = rig.kernel.scheduler.fleet
    seen = []
    for drains in (True, False):
        rig.do(DrainWorkers(workers=(host.name,), drains=drains, reason="", user="root"))
        fleet.refresh()
        seen.append((len(fleet), 1 in fleet, len(fleet.pools)))
    assert seen == [(0, False, 0), (1, True, 1)]


def test_what_was_full_is_looked_at_again_once_a_worker_joins() -> None:
    rig = Rig()
    rig.worker(1)
    rig.submit(new_job(array=[(0, 2)]))
    rig.schedule()
    FakeHost(rig, resources(1), "another").register()
    assert [each.worker for each in only(rig.schedule(), ev.TaskAssigned)] == [2]


def fill_for_a_head(rig: Rig, time_limit_ms: int) -> FakeHost:
    """A full worker of two cpus whose one task runs; behind it a job that wants both."""
    host = rig.worker(2)
    rig.submit(new_job(cpus=1, time_limit_ms=time_limit_ms))
    rig.start_here(host, 1)
    rig.submit(new_job(cpus=2))
    return host


def test_a_worker_that_calls_in_again_is_still_reserved_as_its_time_limits_run_out() -> None:
    rig = Rig()
    host = fill_for_a_head(rig, 60_000)
    host.register()
    rig.schedule()
    assert list(rig.kernel.scheduler.fleet.limited) == [1]
    # It ends before the head starts; the other one would not.
    rig.submit(new_job(time_limit_ms=50_000), new_job(time_limit_ms=70_000))
    assert [each.job_id for each in only(rig.schedule(), ev.TaskAssigned)] == [3]


def test_a_worker_that_calls_in_again_may_still_be_preempted() -> None:
    rig = Rig(settings=Settings(preempt="requeue"))
    host = rig.worker(1)
    rig.submit(new_job(scheduling=Scheduling(preemptible=True)))
    rig.start_here(host, 1)
    host.register()
    rig.submit(new_job(priority=1))
    (event,) = only(rig.schedule(), ev.Preempted)
    assert (event.job_id, event.for_job) == (1, 2)


def test_what_is_free_in_a_pool_adds_up_after_a_worker_with_nothing_left_called_in_again() -> None:
    rig = Rig()
    host = rig.worker(4, gpu=2)
    rig.submit(new_job(named={"gpu": 2}))
    key = rig.start_here(host, 1)
    host.register()
    rig.schedule()
    host.end(key)
    host.send_reports()
    check_fleet(rig)


def update(rig: Rig, job_id: int, **fields: Any) -> None:
    which = WhichJobs(selectors=(JobSelector(job_id=job_id),))
    rig.do(UpdateJobs(which=which, **({"priority": None, "time_limit_ms": None} | fields)))


def test_a_time_limit_that_a_running_task_is_given_counts_for_a_reservation() -> None:
    rig = Rig()
    host = fill_for_a_head(rig, 0)
    rig.schedule()
    update(rig, 1, time_limit_ms=60_000)
    rig.submit(new_job(time_limit_ms=50_000), new_job(time_limit_ms=70_000))
    assert [each.job_id for each in only(rig.schedule(), ev.TaskAssigned)] == [3]
    rig.now_us += 10 * SECOND_US
    host.receive_all()
    for key in host.running:
        host.end(key)
    host.send_reports()
    assert [each.job_id for each in only(rig.schedule(), ev.TaskAssigned)] == [2]
    assert rig.state.workers[1].limited == 0
