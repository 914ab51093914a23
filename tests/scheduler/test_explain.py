"""Why a task waits and when it could start: the answer agrees with what the passes do."""

from __future__ import annotations

import random
from typing import Any, Final

import pytest

from tests.manager.builders import GIB, SECOND_US, FakeHost, Rig, new_job, only, resources
from titan import events as ev
from titan.manager.kernel import Settings
from titan.manager.kernel.commands import (
    DrainWorkers,
    HoldJobs,
    NewAffinity,
    NewDependency,
    NewJob,
    NewReference,
    SuspendJobs,
    WhichJobs,
)
from titan.manager.kernel.references import resolve_references
from titan.manager.kernel.schedule import rules_in_force
from titan.model import Resources, WorkerState
from titan.queries.selection import JobSelector
from titan.scheduler.explain import Explained, Verdict, explain_new, explain_task
from titan.scheduler.filters import Kind
from titan.scheduler.policies import POLICIES, RULE_NAMES
from titan.scheduler.waiting import first_waiting
from titan.scheduling import ORDERS, DependencyCondition, LabelConstraint, Scheduling
from titan.state import digest
from titan.state.job import Job
from titan.state.job_class import class_key
from titan.state.worker import Worker

MINUTE_MS: Final = 60_000


def explain(rig: Rig, job_id: int, index: int | None = None) -> Explained:
    """Why a task waits; without an index the first that does."""
    job = rig.state.get_job(job_id)
    if index is None:
        index = first_waiting(job)
    assert index is not None
    kernel = rig.kernel
    return explain_task(kernel.scheduler, job, index, rules_in_force(kernel), rig.now_us)


def plan(rig: Rig, job: NewJob, user: str = "ada") -> Explained:
    """What would be if the job came now."""
    (scheduling,) = resolve_references(rig.state, [job])
    terms = job.terms
    key = class_key(
        user=user, priority=terms.priority, demand=terms.resources, on=terms.on,
        time_limit_ms=terms.time_limit_ms, grace_ms=terms.grace_ms, scheduling=scheduling,
        execution=terms.execution, job_id=rig.state.next_job_id,
    )  # fmt: skip
    kernel = rig.kernel
    return explain_new(
        kernel.scheduler, key, scheduling, rules_in_force(kernel), rig.now_us,
        job_id=rig.state.next_job_id, time_limit_ms=terms.time_limit_ms,
    )  # fmt: skip


def settle(rig: Rig) -> None:
    """Passes until one changes nothing."""
    rig.kernel.schedule_wanted = True
    while rig.schedule():
        rig.kernel.schedule_wanted = True


def after(job_id: int, condition: DependencyCondition = DependencyCondition.OK) -> NewDependency:
    return NewDependency(NewReference(JobSelector(job_id=job_id)), condition, -1)


def turned_away(explained: Explained) -> list[tuple[int, str]]:
    return [(each.workers, each.why) for each in explained.tally.turned_away]


def whats(explained: Explained) -> list[str]:
    return [each.what for each in explained.waits]


# One thing at a time ----------------------------------------------------------------------------


def test_each_worker_is_counted_under_the_reason_that_lasts_longest() -> None:
    rig = Rig()
    hosts = {
        "small": FakeHost(rig, resources(8, 31 * GIB, gpu=1), "small"),
        "plain": FakeHost(rig, resources(8, 64 * GIB), "plain"),
        "drained": FakeHost(rig, resources(8, 64 * GIB, gpu=1), "drained"),
        "full": FakeHost(rig, resources(8, 64 * GIB, gpu=1), "full"),
    }
    for host in hosts.values():
        host.register()
    rig.do(DrainWorkers(workers=("drained", "small"), drains=True, reason="disk", user="root"))
    rig.submit(new_job(memory_bytes=32 * GIB, on="full"))
    settle(rig)
    rig.submit(new_job(memory_bytes=64 * GIB, named={"gpu": 1}))
    settle(rig)
    told = explain(rig, 2)
    assert told.verdict is Verdict.LATER
    assert told.sentence == "0 of 4 workers can take it now"
    assert turned_away(told) == [
        (1, "lacks memory (needs 64 GiB, largest has 31 GiB)"),
        (1, "has no gpu"),
        (1, "drains for root: disk"),
        (1, "lacks memory (needs 64 GiB, largest free 32 GiB)"),
    ]
    assert [each.never for each in told.tally.turned_away] == [True, True, False, False]


def test_never_says_what_would_have_to_change() -> None:
    rig = Rig()
    rig.submit(new_job(memory_bytes=64 * GIB))
    assert explain(rig, 1).sentence == "there is no worker; start one with `titan worker`"
    rig.worker(4, 31 * GIB)
    zone_b = Scheduling(constraints=(LabelConstraint("zone", ("b",)),))
    rig.submit(new_job(scheduling=zone_b), new_job(on="w1", named={"gpu": 1}))
    rig.worker(64, 1 * GIB, gpu=1)
    told = [explain(rig, each) for each in (1, 2, 3)]
    assert [each.verdict for each in told] == [Verdict.NEVER] * 3
    assert [each.sentence for each in told] == [
        "no worker is large enough for it, even when empty: "
        "it needs 64 GiB of memory, the largest has 31 GiB",
        "no worker could ever take it: there is none with zone==b",
        "no worker of the name w1 is large enough for it, even when empty: "
        "it needs gpu=1, the most is gpu=0",
    ]


def test_the_estimate_is_when_time_limits_make_room_and_names_what_ends_where() -> None:
    rig = Rig()
    rig.worker(2)
    rig.worker(2)
    rig.submit(new_job(cpus=2, time_limit_ms=9 * MINUTE_MS))
    rig.submit(new_job(cpus=2, time_limit_ms=4 * MINUTE_MS))
    rig.submit(new_job(cpus=2), new_job(cpus=2, array=[(0, 41)]), new_job(cpus=2))
    settle(rig)
    told = explain(rig, 3)
    second = rig.state.get_worker(rig.state.get_job(2).active[0].worker).name
    assert told.estimate == (rig.now_us + 4 * MINUTE_MS * 1000, second, 2)
    assert told.tasks_ahead == 0
    assert explain(rig, 5).tasks_ahead == 42
    assert explain(rig, 4, 7).tasks_ahead == 1 + 7


def test_without_time_limits_no_start_is_told() -> None:
    rig = Rig()
    rig.worker(1)
    rig.submit(new_job(), new_job())
    settle(rig)
    assert explain(rig, 2).estimate.start_us == 0


def test_who_would_delay_the_reserved_start_of_the_first_is_told_whose() -> None:
    rig = Rig()
    rig.worker(2)
    rig.submit(new_job(time_limit_ms=4 * MINUTE_MS))
    rig.submit(new_job(cpus=2), new_job(time_limit_ms=5 * MINUTE_MS))
    settle(rig)
    assert turned_away(explain(rig, 3)) == [(1, "would delay the reserved start of 2 on w1")]
    assert plan(rig, new_job(time_limit_ms=3 * MINUTE_MS)).verdict is Verdict.NOW


def test_a_worker_kept_for_another_job_is_told_for_which() -> None:
    rig = Rig(settings=Settings(reserve_after_us=0))
    rig.worker(2)
    rig.submit(new_job(), new_job(cpus=2), new_job())
    settle(rig)
    assert rig.state.holds
    assert turned_away(explain(rig, 3)) == [(1, "is kept for 2")]


def test_a_worker_that_owes_cpus_to_one_that_stands_still_is_told_to_whom() -> None:
    rig = Rig(checks=False, settings=Settings(preempt="suspend"))
    host = rig.worker(2)
    rig.submit(new_job(cpus=2, scheduling=Scheduling(preemptible=True)))
    settle(rig)
    host.receive_all()
    host.send_reports()
    rig.submit(new_job(priority=5))
    settle(rig)
    assert rig.state.get_job(1).active[0].suspended
    assert rig.state.get_job(2).active
    rig.submit(new_job())
    settle(rig)
    assert turned_away(explain(rig, 3)) == [(1, "owes cpus to 1, which was suspended for others")]


def test_under_fcfs_a_task_waits_for_the_first_even_where_it_has_room() -> None:
    rig = Rig(settings=Settings(order="fcfs"))
    rig.worker(2)
    rig.submit(new_job(), new_job(cpus=2), new_job())
    settle(rig)
    told = explain(rig, 3)
    assert told.verdict is Verdict.LATER
    assert whats(told) == ["2 to be placed: it is first, and the order is fcfs"]
    assert told.sentence == "behind 2: it is first, and the order is fcfs"
    assert len(told.tally.with_room) == 1


def test_what_a_job_waits_for_besides_room_is_told_as_long_as_it_is_so() -> None:
    rig = Rig(settings=Settings(user_cpus_milli=2000))
    rig.worker(8)
    rig.submit(new_job())
    begin = Scheduling(begin_us=rig.now_us + 7200 * SECOND_US)
    rig.submit(
        new_job(after=(after(1),)),
        new_job(scheduling=begin),
        new_job(array=[(0, 4)], scheduling=Scheduling(array_limit=1)),
        new_job(cpus=2),
        new_job(scheduling=Scheduling(held=True)),
    )
    settle(rig)
    assert whats(explain(rig, 2))[0] == "1 to complete"
    told = explain(rig, 3)
    assert whats(told)[0] == "its begin in 2h"
    assert whats(explain(rig, 4)) == [
        "one of its tasks to end: 1 of at most 1 of its tasks are under way",
        "other tasks of ada to end: ada uses 2 of at most 2 cpus, and it needs 1",
    ]
    assert whats(explain(rig, 5)) == [
        "other tasks of ada to end: ada uses 2 of at most 2 cpus, and it needs 2"
    ]
    told = explain(rig, 6)
    assert whats(told)[0] == "a release: it is held (`titan release 6`)"
    assert told.sentence.startswith("held; limit: ada uses 2 of at most 2 cpus")
    rig.do(HoldJobs(which=WhichJobs(selectors=(JobSelector(job_id=6),)), releases=True))
    rig.do(SuspendJobs(which=WhichJobs(selectors=(JobSelector(job_id=6),)), resumes=False))
    assert whats(explain(rig, 6))[0] == "a resume: it is suspended (`titan resume 6`)"


def test_a_begin_that_is_known_is_the_estimate_where_there_is_room() -> None:
    rig = Rig()
    rig.worker(1)
    begin_us = rig.now_us + 60 * SECOND_US
    rig.submit(new_job(scheduling=Scheduling(begin_us=begin_us)))
    settle(rig)
    told = explain(rig, 1)
    assert (told.verdict, told.estimate) == (Verdict.LATER, (begin_us, "w1", 0))


def test_who_asks_for_more_than_his_limit_is_not_told_to_wait_for_others() -> None:
    rig = Rig(settings=Settings(user_cpus_milli=2000))
    rig.worker(4)
    rig.submit(new_job(cpus=3))
    settle(rig)
    assert whats(explain(rig, 1)) == ["a higher limit: ada may have 2 cpus at once, and it needs 3"]


def test_tasks_that_wait_each_for_its_like_are_told_for_which() -> None:
    rig = Rig()
    rig.submit(new_job(array=[(0, 5)]))
    same = NewDependency(NewReference(JobSelector(job_id=1)), DependencyCondition.ANY, -2)
    rig.submit(new_job(array=[(0, 5)], after=(same,)))
    assert whats(explain(rig, 2, 3)) == ["task 3 of 1 to end"]


def test_a_worker_that_has_not_called_in_again_is_told_so() -> None:
    rig = Rig()
    rig.worker(1)
    rig.submit(new_job())
    rig.restart()
    assert turned_away(explain(rig, 1)) == [(1, "has not called in since the manager started")]


def test_jobs_near_and_away_are_told_by_number() -> None:
    rig = Rig()
    rig.worker(2)
    rig.worker(2)
    rig.submit(new_job())
    settle(rig)
    one = NewReference(JobSelector(job_id=1))
    told = [
        turned_away(plan(rig, new_job(cpus=2, affinities=(NewAffinity(one, anti),))))
        for anti in (False, True)
    ]
    assert told == [
        [
            (1, "has no tasks of 1, which it is to be near"),
            (1, "lacks cpus (needs 2, largest free 1)"),
        ],
        [(1, "has tasks of 1, which it keeps away from")],
    ]


def test_a_planned_job_whose_dependency_cannot_be_met_could_never_start() -> None:
    rig = Rig()
    host = rig.worker(1)
    rig.submit(new_job())
    rig.start_here(host, 1)
    host.end(host.running[0])
    host.send_reports()
    told = plan(rig, new_job(after=(after(1, DependencyCondition.FAILED),)))
    assert told.verdict is Verdict.NEVER
    assert told.sentence == "it waits for 1 to fail, which ended otherwise, and would be cancelled"
    assert plan(rig, new_job(after=(after(1),))).verdict is Verdict.NOW
    late = Scheduling(deadline_us=rig.now_us + SECOND_US)
    told = plan(rig, new_job(scheduling=late, time_limit_ms=MINUTE_MS))
    assert told.verdict is Verdict.NEVER


# Over random clusters ---------------------------------------------------------------------------


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("seed", range(12))
def test_an_explanation_agrees_with_the_passes(order: str, seed: int) -> None:
    rng = random.Random(f"{order} {seed}")
    rig = _random_rig(rng, order)
    settle(rig)
    before = digest(rig.state)
    explained = 0
    for job in list(rig.state.live_jobs.values()):
        index = first_waiting(job)
        if index is not None:
            told = explain(rig, job.job_id, index)
            _check(rig, job, told)
            # After a pass nothing is left that one would start.
            assert told.verdict is not Verdict.NOW
            explained += 1
    assert explained
    assert digest(rig.state) == before


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("seed", range(12))
def test_a_plan_is_what_happens_when_the_job_then_comes(order: str, seed: int) -> None:
    rng = random.Random(f"plan {order} {seed}")
    rig = _random_rig(rng, order)
    for _ in range(12):
        settle(rig)
        job, user = _random_job(rng, rig), rng.choice(["ada", "grace"])
        before = digest(rig.state)
        told = plan(rig, job, user)
        assert digest(rig.state) == before
        (job_id,) = rig.submit(job, user=user)
        placed = [e for e in only(rig.schedule(), ev.TaskAssigned) if e.job_id == job_id]
        first = [
            (rig.state.get_worker(e.worker).name, RULE_NAMES[e.rule]) for e in placed if not e.ahead
        ][:1]
        now = [(told.choice.worker.name, RULE_NAMES[told.choice.rule])] if told.choice else []
        assert bool(now) is (told.verdict is Verdict.NOW)
        assert now == first


def _random_rig(rng: random.Random, order: str) -> Rig:
    rig = Rig(
        checks=False,
        settings=Settings(
            policy=rng.choice(list(POLICIES)),
            order=order,
            fair_share=rng.random() < 0.3,
            user_cpus_milli=rng.choice([0, 0, 12_000]),
            preempt=rng.choice(["off", "off", "requeue", "suspend"]),
            reserve_after_us=rng.choice([0, 60 * SECOND_US]),
        ),
    )
    hosts = []
    for number in range(rng.randint(2, 6)):
        capacity = resources(
            rng.choice([2, 4, 8]), rng.choice([4, 8]) * GIB, gpu=rng.choice([0, 2])
        )
        host = FakeHost(rig, capacity, f"h{number}")
        host.register(labels=(("zone", rng.choice("ab")),))
        hosts.append(host)
    for _ in range(rng.randint(6, 14)):
        rig.submit(_random_job(rng, rig), user=rng.choice(["ada", "grace"]))
        if rng.random() < 0.4:
            settle(rig)
            for host in hosts:
                host.receive_all()
                host.send_reports()
            rig.now_us += rng.randint(0, 40) * SECOND_US
    if rng.random() < 0.5:
        rig.do(DrainWorkers(workers=("h0",), drains=True, reason="", user="root"))
    if rng.random() < 0.3:
        hosts[1].fault = "its disk is broken"
        hosts[1].heartbeat()
    if rng.random() < 0.3:
        rig.restart()
        for host in hosts[: rng.randint(1, len(hosts))]:
            host.register(labels=rig.state.get_worker(host.number).labels)
    return rig


def _random_job(rng: random.Random, rig: Rig) -> NewJob:
    live = list(rig.state.live_jobs)
    constraint = LabelConstraint("zone", (rng.choice("abc"),), rng.random() < 0.3)
    scheduling = Scheduling(
        held=rng.random() < 0.05,
        array_limit=rng.choice([0, 0, 0, 2]),
        constraints=(constraint,) if rng.random() < 0.25 else (),
        spread="zone" if rng.random() < 0.1 else "",
        exclusive=rng.random() < 0.1,
        preemptible=rng.random() < 0.3,
        begin_us=rig.now_us + 60 * SECOND_US if rng.random() < 0.05 else 0,
    )
    options: dict[str, Any] = {}
    if live and rng.random() < 0.1:
        options["after"] = (after(rng.choice(live)),)
    if live and rng.random() < 0.1:
        which = NewReference(JobSelector(job_id=rng.choice(live)))
        options["affinities"] = (NewAffinity(which, rng.random() < 0.6),)
    return new_job(
        cpus=rng.choice([1, 1, 2, 4, 16]),
        memory_bytes=rng.choice([0, 1, 4, 16]) * GIB if rng.random() < 0.5 else 0,
        named={"gpu": rng.choice([1, 2])} if rng.random() < 0.2 else {},
        array=[(0, rng.randint(2, 6))] if scheduling.array_limit or rng.random() < 0.3 else [],
        priority=rng.choice([0, 0, 0, 5]),
        time_limit_ms=rng.choice([0, 1, 3, 10]) * MINUTE_MS,
        on="h1" if rng.random() < 0.1 else "",
        scheduling=scheduling,
        **options,
    )


def _check(rig: Rig, job: Job, told: Explained) -> None:
    workers = [each for each in rig.state.workers.values() if each.state is not _GONE]
    tally = told.tally
    assert tally.workers == len(workers)
    assert len(tally.with_room) + sum(each.workers for each in tally.turned_away) == len(workers)
    assert (told.verdict is Verdict.NEVER) is not any(_could_when_empty(w, job) for w in workers)
    for (reason, found), away in zip(tally.reasons.items(), tally.turned_away, strict=True):
        assert away.workers == len(found)
        assert away.never is not any(_could_when_empty(worker, job) for worker in found)
        for worker in found:
            assert _is_so(rig, job, worker, reason.kind, reason.subject), (reason, worker.name)
    kinds = [reason.kind for reason in tally.reasons]
    assert kinds == sorted(kinds)
    if told.verdict is Verdict.LATER and not told.waits:
        assert not tally.with_room, "what could start has started"


_GONE: Final = WorkerState.DEREGISTERED


def _could_when_empty(worker: Worker, job: Job) -> bool:
    labels = dict(worker.labels)
    return (
        (not job.on or job.on in (worker.name, worker.worker_id.hex()))
        and all((labels[c.label] in c.values) != c.negated for c in job.scheduling.constraints)
        and all(_has(worker.capacity, name) >= n for name, n in _asked(job.demand).items())
    )


def _is_so(rig: Rig, job: Job, worker: Worker, kind: Kind, subject: str) -> bool:
    """Whether the reason is true, found in the dumbest way."""
    slots = [each for each in worker.attempts.values() if not each.ahead]
    here = {each.job_id for each in worker.attempts.values()}
    zone = dict(worker.labels)["zone"]
    claims = {Kind.KEPT: _is_kept, Kind.DELAYS: _would_delay}
    if kind in claims:
        return claims[kind](rig, job, worker, rig.state.get_job(int(subject)))
    return {
        Kind.OTHER_WORKER: lambda: job.on not in ("", worker.name),
        Kind.LABELS: lambda: (zone == subject[-1]) is (subject[-3] == "!"),
        Kind.TOO_SMALL: lambda: 0 < _has(worker.capacity, subject) < _asked(job.demand)[subject],
        Kind.LACKS_NAME: lambda: _has(worker.capacity, subject) == 0,
        Kind.AFFINITY: lambda: any((a.job_id in here) == a.anti for a in job.scheduling.affinities),
        Kind.NOT_HEALTHY: lambda: worker.state is not WorkerState.HEALTHY,
        Kind.NOT_CALLED_IN: lambda: worker.number not in rig.kernel.outboxes,
        Kind.DRAINS: lambda: worker.drain is not None,
        Kind.EXCLUSIVE: lambda: any(each.job_class.exclusive for each in slots),
        Kind.NOT_EMPTY: lambda: job.scheduling.exclusive and bool(worker.attempts),
        Kind.STANDS_STILL: lambda: bool(worker.suspended),
        Kind.NO_ROOM: lambda: (
            _used(worker, subject) + _asked(job.demand)[subject] > _has(worker.capacity, subject)
        ),
    }[kind]()


def _used(worker: Worker, resource: str) -> int:
    """Who stands still has lent his cpus."""
    return sum(
        _asked(each.job_class.demand).get(resource, 0)
        for each in worker.attempts.values()
        if not each.ahead and not (resource == "cpus" and each.suspended)
    )


def _is_kept(rig: Rig, job: Job, worker: Worker, other: Job) -> bool:
    return rig.state.holds[worker.number].job_id == other.job_id != job.job_id


def _would_delay(rig: Rig, job: Job, worker: Worker, head: Job) -> bool:
    """Whether the head could start there later than it could, if the job started now."""
    ends = [
        (max(a.since_us + a.limit_ms * 1000, rig.now_us), a.job_class.demand, a.job_class.exclusive)
        if a.limit_ms
        else (1 << 62, a.job_class.demand, a.job_class.exclusive)
        for a in worker.attempts.values()
        if not a.ahead
    ]
    limit_ms = job.job_class.limit_ms
    own_end = rig.now_us + limit_ms * 1000 if limit_ms else 1 << 62
    own = (own_end, job.demand, job.scheduling.exclusive)
    start = _start(worker, ends, head, rig.now_us)
    assert not worker.suspended
    return start < 1 << 62 and start < _start(worker, [*ends, own], head, rig.now_us)


def _start(worker: Worker, ends: list[tuple[int, Resources, bool]], job: Job, now_us: int) -> int:
    """The first moment at which what is left there leaves room for the job."""
    alone = job.scheduling.exclusive
    for moment in sorted({now_us, *(end for end, _, _ in ends)}):
        left = [(demand, only) for end, demand, only in ends if end > moment or end == 1 << 62]
        if left and (alone or any(only for _, only in left)):
            continue
        if all(
            sum(_asked(demand).get(name, 0) for demand, _ in left) + asked
            <= _has(worker.capacity, name)
            for name, asked in _asked(job.demand).items()
        ):
            return moment
    return 1 << 62


def _asked(demand: Resources) -> dict[str, int]:
    return {"cpus": demand.cpus_milli, "memory": demand.memory_bytes, **dict(demand.named)}


def _has(capacity: Resources, name: str) -> int:
    return _asked(capacity).get(name, 0)
