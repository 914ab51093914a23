"""Preemption: the fewest victims, in a total order, for one of higher priority, and no others."""

from __future__ import annotations

import random
from itertools import chain, combinations
from types import SimpleNamespace
from typing import Any

import pytest

from tests.manager.builders import (
    GIB,
    SECOND_US,
    FakeHost,
    Rig,
    new_job,
    only,
    resources,
)
from tests.scheduler.builders import worker as build_worker
from tests.scheduler.stories import Story
from titan import events as ev
from titan.manager.kernel import Settings
from titan.manager.kernel.commands import DrainWorkers, HoldJobs, UpdateJobs, WhichJobs
from titan.model import AttemptKey, Resources, State, named_resources
from titan.queries.selection import JobSelector
from titan.scheduler.preemption import rank_victims
from titan.scheduling import Scheduling
from titan.state.attempts import Attempt
from titan.state.invariants import check_capacity
from titan.state.job_class import ClassKey, JobClass
from titan.state.worker import Worker

MAY_BE_PREEMPTED = Scheduling(preemptible=True)


# The choice, against all subsets -----------------------------------------------------------


def amounts(demand: Resources) -> dict[str, int]:
    return {"cpus": demand.cpus_milli, "memory": demand.memory_bytes} | dict(demand.named)


def some_demand(rng: random.Random) -> Resources:
    return Resources(
        rng.choice([500, 1000, 2000]),
        rng.choice([0, 0, GIB, 2 * GIB]),
        named_resources((("gpu", rng.choice([0, 0, 1])),)),
    )


def some_worker(rng: random.Random, number: int, jobs: dict[int, Any]) -> Worker:
    """A small one, rather full of tasks of which some may be preempted."""
    built = build_worker(number, Resources(4000, 4 * GIB, (("gpu", 2),)))
    for _ in range(rng.randint(1, 7)):
        priority = rng.choice([0, 0, 1, 5, 6])
        key = ClassKey("ada", priority, some_demand(rng), preemptible=rng.random() < 0.8)
        if not built.has_room(key.demand):
            continue
        job_id = len(jobs) + 1
        jobs[job_id] = SimpleNamespace(priority=priority)
        job_class = JobClass(job_id, key)
        attempt = Attempt(job_class, job_id, rng.randint(0, 3), 1, number, False, rng.randint(1, 3))
        built.add(attempt)
        if rng.random() < 0.9:
            built.start(attempt)
            attempt.state = State.RUNNING
        if rng.random() < 0.1:
            attempt.cancel_grace_ms = 0
        elif rng.random() < 0.1:
            attempt.preempt_grace_ms = 0
    return built


def all_subsets(worker: Worker, wanted: JobClass, *, suspends: bool) -> list[list[Attempt]]:
    """Every set of victims on the worker that makes room."""
    candidates = [
        each
        for each in worker.attempts.values()
        if each.job_class.preemptible
        and each.job_class.priority < wanted.priority
        and each.state is State.RUNNING
        and not each.cancel_requested
        and not each.preempted
    ]
    leaving = [each for each in worker.attempts.values() if each.preempted]
    found = []
    sizes = (combinations(candidates, size) for size in range(1, len(candidates) + 1))
    for chosen in chain.from_iterable(sizes):
        free = amounts(worker.free)
        for each in (*chosen, *leaving):
            for name, count in amounts(each.job_class.demand).items():
                if name == "cpus" or not suspends or each in leaving:
                    free[name] = free.get(name, 0) + count
        if all(free.get(name, 0) >= count for name, count in amounts(wanted.demand).items()):
            found.append(list(chosen))
    return found


def fits_once_they_left(worker: Worker, wanted: JobClass) -> bool:
    """Whether there will be room without any more victims."""
    free = amounts(worker.free)
    for each in worker.attempts.values():
        for name, count in amounts(each.job_class.demand).items() if each.preempted else ():
            free[name] = free.get(name, 0) + count
    return all(free.get(name, 0) >= count for name, count in amounts(wanted.demand).items())


@pytest.mark.parametrize("suspends", [False, True])
def test_of_all_sets_of_victims_the_first_of_the_smallest_is_chosen(suspends: bool) -> None:
    seen = {"none": 0, "one": 0, "some": 0}
    for seed in range(1_500):
        rng = random.Random(f"victims {seed}")
        jobs: dict[int, Any] = {}
        workers = [some_worker(rng, number, jobs) for number in range(1, rng.randint(2, 4))]
        demand = Resources(rng.choice([1000, 2000, 4000]), rng.choice([0, GIB, 3 * GIB]))
        wanted = JobClass(99, ClassKey("ada", rng.choice([1, 5]), demand))
        possible = [
            (len(chosen), sorted(map(order, chosen)), each.number)
            for each in workers
            if not fits_once_they_left(each, wanted)
            for chosen in all_subsets(each, wanted, suspends=suspends)
        ]
        victims = next(iter(rank_victims(workers, wanted, jobs, suspends=suspends)), None)
        if not possible:
            assert victims is None, f"seed {seed}"
            seen["none"] += 1
            continue
        assert victims is not None, f"seed {seed}"
        got = (len(victims.attempts), list(map(order, victims.attempts)), victims.worker.number)
        assert got == min(possible), f"seed {seed}"
        seen["one" if got[0] == 1 else "some"] += 1
    assert min(seen.values()) > 50, seen


def order(attempt: Attempt) -> tuple[int, ...]:
    """Lowest priority, started last, highest job and index."""
    return attempt.job_class.priority, -attempt.since_us, -attempt.job_id, -attempt.index


# Passes ------------------------------------------------------------------------------------


def rig_of(preempt: str, **settings: Any) -> Rig:
    return Rig(settings=Settings(preempt=preempt, lookahead=False, **settings))


def fill(rig: Rig, cpus: int = 2, **fields: Any) -> FakeHost:
    """A worker full of preemptible tasks of one cpu each that run."""
    host = rig.worker(cpus, 4 * GIB)
    job = {"array": [(0, cpus)], "scheduling": MAY_BE_PREEMPTED} | fields
    rig.submit(new_job(**job))
    deliver(rig, host)
    assert len(host.running) == cpus
    return host


def deliver(rig: Rig, *hosts: FakeHost) -> list[ev.Event]:
    """Passes and what the hosts answer, until nothing more happens."""
    events: list[ev.Event] = []
    while True:
        new = rig.schedule()
        events += new
        batches = [batch for host in hosts for batch in host.receive_all()]
        for host in hosts:
            host.send_reports()
        if not new and not batches:
            return events


def placed(events: list[ev.Event]) -> list[int]:
    return [each.job_id for each in only(events, ev.TaskAssigned)]


def end(rig: Rig, host: FakeHost, job_id: int, index: int = 0) -> None:
    rig.now_us += SECOND_US
    host.end(host.key_of(job_id, index))
    host.send_reports()


def which(job_id: int) -> WhichJobs:
    return WhichJobs(selectors=(JobSelector(job_id=job_id),))


def is_suspended(rig: Rig, job_id: int, index: int = 0) -> bool:
    return rig.state.get_job(job_id).active[index].suspended


def test_one_victim_if_one_suffices() -> None:
    rig = rig_of("requeue")
    host = fill(rig, cpus=3)
    rig.submit(new_job(priority=1))
    events = deliver(rig, host)
    assert [each.index for each in only(events, ev.Preempted)] == [2], "the one with the highest"
    assert placed(events) == [2]
    assert rig.task_state(1, 2) is State.PENDING


def test_nobody_is_stopped_if_all_together_do_not_suffice() -> None:
    rig = rig_of("requeue")
    host = fill(rig)
    rig.worker(1)
    rig.submit(new_job(priority=-1), new_job(priority=1, cpus=2, memory_bytes=5 * GIB))
    assert only(deliver(rig, host), ev.Preempted) == []


@pytest.mark.parametrize(
    "fields", [{"scheduling": MAY_BE_PREEMPTED, "priority": 1}, {"scheduling": Scheduling()}]
)
def test_neither_the_same_priority_nor_what_is_not_preemptible_is_stopped(
    fields: dict[str, Any],
) -> None:
    rig = rig_of("requeue")
    host = fill(rig, **fields)
    rig.submit(new_job(priority=1))
    assert deliver(rig, host) == []


def test_a_priority_that_was_raised_since_protects_from_preemption() -> None:
    rig = rig_of("requeue")
    host = fill(rig)
    rig.do(UpdateJobs(which=which(1), priority=5, time_limit_ms=None))
    rig.submit(new_job(priority=5))
    assert only(deliver(rig, host), ev.Preempted) == []
    rig.submit(new_job(priority=6))
    assert len(only(deliver(rig, host), ev.Preempted)) == 1


def test_no_more_is_preempted_than_its_user_may_have() -> None:
    rig = rig_of("requeue", user_cpus_milli=1000)
    hosts = [rig.worker(1) for _ in range(3)]
    for user in ("ada", "grace", "mary"):
        rig.submit(new_job(scheduling=MAY_BE_PREEMPTED), user=user)
    deliver(rig, *hosts)
    rig.submit(new_job(priority=1, array=[(0, 3)]), user="edsger")
    events = deliver(rig, *hosts)
    assert len(only(events, ev.Preempted)) == 1
    assert placed(events) == [4]


def test_who_waits_for_an_end_preempts_as_soon_as_that_suffices() -> None:
    """The worker is kept for it already, since one there could not be stopped."""
    rig = rig_of("requeue", reserve_after_us=SECOND_US)
    host = rig.worker(2)
    rig.submit(new_job(), new_job(scheduling=MAY_BE_PREEMPTED))
    deliver(rig, host)
    rig.submit(new_job(cpus=2, priority=1))
    rig.tick(2 * SECOND_US)
    assert len(only(deliver(rig, host), ev.Reserved)) == 1
    end(rig, host, 1)
    events = deliver(rig, host)
    assert [each.job_id for each in only(events, ev.Preempted)] == [2]
    assert placed(events) == [3]


def test_a_new_manager_stops_no_second_one_while_the_first_ones_worker_is_silent() -> None:
    rig = rig_of("requeue")
    hosts = [fill(rig, cpus=1) for _ in range(2)]
    rig.submit(new_job(priority=1))
    (stopped,) = only(rig.schedule(), ev.Preempted)
    number = rig.state.get_job(stopped.job_id).active[0].worker
    hosts.sort(key=lambda host: host.number == number)
    rig.restart()
    events: list[ev.Event] = []
    for host in hosts:
        host.register()
        events += deliver(rig, host)
    assert only(events, ev.Preempted) == only(events, ev.ReservationLifted) == []
    assert placed(events)[0] == 3


def test_who_waits_for_room_on_a_worker_that_stays_silent_is_made_some_elsewhere() -> None:
    rig = rig_of("requeue")
    hosts = [fill(rig, cpus=1) for _ in range(2)]
    rig.submit(new_job(priority=1))
    (first,) = only(rig.schedule(), ev.Preempted)
    number = rig.state.get_job(first.job_id).active[0].worker
    (other,) = [host for host in hosts if host.number != number]
    rig.restart()
    other.register()
    assert only(rig.schedule(), ev.Preempted) == []
    rig.tick(rig.settings.heartbeat_timeout_us - 1)
    other.heartbeat()
    (second,) = only(rig.schedule(), ev.Preempted)
    assert second.job_id != first.job_id
    assert placed(deliver(rig, other))[0] == 3


def test_freed_room_is_not_taken_by_a_stream_of_others() -> None:
    rig = rig_of("requeue")
    host = fill(rig)
    rig.submit(new_job(priority=1, cpus=2))
    rig.schedule()
    victims = rig.state.get_job(1).active
    assert all(each.preempted for each in victims.values())
    batches = []
    # They go one after the other.
    while (batch := host.next_batch()) is not None:
        batches.append(batch)
        assert host.outbox is not None
        host.outbox.acknowledged(batch)
    for batch in batches:
        for stop in batch.stops:
            rig.submit(new_job(priority=1), new_job(priority=0))
            host.receive_message(batch.dispatch_seq, [], {}, [stop])
            host.dispatch_seq -= 1
            host.send_reports()
            assert set(placed(rig.schedule())) <= {2}
    assert rig.task_state(2) is not State.PENDING


@pytest.mark.parametrize("what", ["cancel", "hold"])
def test_the_room_is_given_free_when_the_job_is_cancelled_or_held(what: str) -> None:
    rig = rig_of("requeue")
    host = fill(rig, cpus=1)
    rig.submit(new_job(priority=1), new_job(priority=1))
    rig.schedule()
    assert rig.state.holds[1].job_id == 2
    if what == "cancel":
        rig.cancel(2)
    else:
        rig.do(HoldJobs(which=which(2), releases=False))
    assert placed(deliver(rig, host)) == [3]
    assert rig.state.holds == {}


def test_a_suspended_victim_runs_on_after_who_it_made_room_for() -> None:
    rig = rig_of("suspend")
    host = fill(rig, cpus=1)
    rig.submit(new_job(priority=1))
    events = deliver(rig, host)
    assert len(only(events, ev.AttemptSuspended)) == 1
    assert placed(events) == [2]
    # Later ones of its own priority do not take its place.
    rig.submit(new_job(), new_job(priority=-1))
    assert deliver(rig, host) == []
    end(rig, host, 2)
    events = deliver(rig, host)
    assert [each.job_id for each in only(events, ev.AttemptResumed)] == [1]
    assert placed(events) == []


def test_a_stream_of_lower_priority_does_not_keep_a_victim_standing() -> None:
    """They end one by one, and each would take what the last one gave back."""
    rig = rig_of("suspend")
    host = rig.worker(2)
    rig.submit(new_job(cpus=2, scheduling=MAY_BE_PREEMPTED))
    deliver(rig, host)
    rig.submit(new_job(priority=1), new_job(priority=1))
    deliver(rig, host)
    assert is_suspended(rig, 1)
    rig.submit(*[new_job(priority=-1) for _ in range(5)], *[new_job() for _ in range(5)])
    for job_id in (2, 3):
        end(rig, host, job_id)
        assert placed(deliver(rig, host)) == []
    assert not is_suspended(rig, 1)


def test_a_victim_runs_on_where_its_worker_drains() -> None:
    rig = rig_of("suspend")
    host = fill(rig, cpus=1)
    rig.submit(new_job(priority=1))
    deliver(rig, host)
    rig.do(DrainWorkers(workers=(host.name,), drains=True, reason="", user="root"))
    end(rig, host, 2)
    assert [each.job_id for each in only(deliver(rig, host), ev.AttemptResumed)] == [1]
    end(rig, host, 1)
    assert rig.state.workers[1].attempts == {}


def test_a_victim_runs_on_when_the_next_one_waits_for_the_memory_that_it_has() -> None:
    """Else each would wait for the other for ever: the worker is kept for the one that waits."""
    rig = rig_of("suspend", reserve_after_us=SECOND_US)
    host = fill(rig, cpus=1, memory_bytes=3 * GIB)
    rig.submit(new_job(priority=2), new_job(priority=1, memory_bytes=2 * GIB))
    deliver(rig, host)
    rig.tick(10 * SECOND_US)
    deliver(rig, host)
    assert rig.state.holds[1].job_id == 3
    end(rig, host, 2)
    assert [each.job_id for each in only(deliver(rig, host), ev.AttemptResumed)] == [1]
    end(rig, host, 1)
    assert placed(deliver(rig, host)) == [3]


def test_a_time_limit_stands_still_with_what_is_suspended() -> None:
    rig = rig_of("suspend")
    host = fill(rig, cpus=1, time_limit_ms=60_000)
    rig.now_us += 10 * SECOND_US
    rig.submit(new_job(priority=1))
    deliver(rig, host)
    rig.now_us += 100 * SECOND_US
    end(rig, host, 2)
    deliver(rig, host)
    attempt = rig.state.get_job(1).active[0]
    assert not attempt.suspended
    assert attempt.limit_end_us - rig.now_us == 50 * SECOND_US


def test_nobody_preempts_where_one_of_a_higher_place_has_a_reservation() -> None:
    """What ends there is counted on by the head, which all victims would not have helped."""
    rig = rig_of("requeue")
    host = rig.worker(2)
    FakeHost(rig, resources(1), "small").register()
    rig.submit(
        new_job(time_limit_ms=10_000, scheduling=MAY_BE_PREEMPTED, on=host.name),
        new_job(priority=9, time_limit_ms=20_000, on=host.name),
        new_job(priority=9, on="small"),
    )
    deliver(rig, host)
    rig.submit(new_job(priority=5, cpus=2), new_job(priority=4, time_limit_ms=60_000))
    events = deliver(rig, host)
    assert only(events, ev.Preempted) == []
    assert rig.state.holds == {}


@pytest.mark.parametrize("preempt", ["requeue", "suspend"])
@pytest.mark.parametrize("seed", range(10))
def test_whatever_happens_only_lower_and_preemptible_tasks_that_run_are_stopped(
    preempt: str, seed: int
) -> None:
    story = Story(f"preempt {preempt} {seed}", preempt=preempt, reserve_after_us=5 * SECOND_US)
    rig = story.rig
    for _ in range(3):
        story.join()
    stopped = 0
    for _ in range(40):
        for _ in range(2):
            story.submit(
                scheduling=Scheduling(preemptible=story.rng.random() < 0.8),
                priority=story.rng.choice([0, 0, 1, 5]),
                cpus=story.rng.choice([0.5, 1, 2]),
                on="",
            )
        story.deliver()
        before = {
            (job.job_id, each.index): (job.priority, each.state, each.is_given_up)
            for job in rig.state.live_jobs.values()
            for each in job.active.values()
        }
        events = story.rig.schedule()
        for event in events:
            if isinstance(event, ev.Preempted | ev.AttemptSuspended) and event.for_job:
                priority, state, is_given_up = before[event.job_id, event.index]
                job = rig.state.get_job(event.job_id)
                assert job.scheduling.preemptible
                assert priority < rig.state.get_job(event.for_job).priority
                assert state is State.RUNNING
                assert not is_given_up
                stopped += 1
        end_what_runs(story, 0.2)
        rig.now_us += story.rng.randint(0, 3) * SECOND_US
        rig.tick()
        check_capacity(rig.state)
    assert stopped > 0
    settle_down(story)


def end_what_runs(story: Story, part: float) -> None:
    """Some of what runs ends; what stands still does not."""
    for host in story.hosts:
        for key in host.running:
            if not stands(story.rig, key) and story.rng.random() < part:
                host.end(key)
        host.send_reports()


def stands(rig: Rig, key: AttemptKey) -> bool:
    job = rig.state.live_jobs.get(key.job_id)
    attempt = job.active.get(key.index) if job is not None else None
    return attempt is not None and attempt.suspended


def settle_down(story: Story) -> None:
    """All that could ever run ends at last, and nothing is kept or stands still."""
    rig = story.rig
    for _ in range(200):
        rig.schedule()
        story.deliver()
        end_what_runs(story, 1)
        rig.now_us += 2 * SECOND_US
        rig.tick()
    left = [worker.attempts for worker in rig.state.workers.values() if worker.attempts]
    assert left == []
    assert rig.state.holds == {}
    for job in rig.state.live_jobs.values():
        for worker in rig.state.workers.values():
            assert not (job.may_start and job.pending.count and worker.admits(job.job_class)) or (
                job.scheduling.affinities or job.job_class.constraints or job.on
            )
