"""What the scheduler promises, held over random histories: invariants 4, 6, 8 and 9, and that
no class starves."""

from __future__ import annotations

import random
from collections.abc import Container
from typing import Any

import pytest

from tests.manager.builders import GIB, SECOND_US, FakeHost, Rig, new_job, only, resources
from tests.scheduler.stories import Story
from tests.scheduler.test_dumb import dumb_pass, settings_of
from titan import events as ev
from titan.manager.kernel import Settings
from titan.manager.kernel.commands import DrainWorkers
from titan.model import AttemptKey, State
from titan.scheduler.reservation import Reservation, Starts
from titan.scheduling import Scheduling
from titan.state.invariants import check_capacity
from titan.state.job_class import JobClass


def rig_of(**settings: Any) -> Rig:
    return Rig(checks=False, settings=Settings(**({"lookahead": False} | settings)))


def deliver(rig: Rig, *hosts: FakeHost) -> list[ev.Event]:
    """A pass, and everybody starts what it is sent."""
    rig.tick()
    events = rig.schedule()
    for host in hosts:
        host.receive_all()
        host.send_reports()
    return events


def placed(events: list[ev.Event]) -> list[int]:
    return [each.job_id for each in only(events, ev.TaskAssigned)]


def end_oldest(rig: Rig, host: FakeHost) -> None:
    rig.now_us += SECOND_US
    host.end(host.running[0])
    host.send_reports()


# Invariants 4 and 6 ------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(16))
def test_after_a_pass_nothing_could_start_without_delaying_somebody(seed: int) -> None:
    """Invariant 6, by the dumb scheduler: it finds nothing that was left. The passes are those
    that the kernel asked for, so it was woken by all that makes room."""
    story = Story(f"left {seed}", **settings_of(f"left {seed}", seed))
    for _ in range(4):
        story.join()
    for _ in range(40):
        story.happen()
        story.rig.tick()
        while story.rig.kernel.schedule_wanted:
            story.rig.schedule()
        left = [each for each in dumb_pass(story.rig) if each[0] == "place"]
        assert left == [], f"story 'left {seed}'"


@pytest.mark.parametrize("seed", range(8))
def test_no_worker_is_promised_more_than_it_has(seed: int) -> None:
    """Invariant 4, where no worker comes back smaller."""
    story = Story(f"capacity {seed}", **settings_of(f"capacity {seed}", seed))
    for _ in range(4):
        story.join()
    for _ in range(40):
        story.submit()
        story.rig.tick()
        story.rig.schedule()
        check_capacity(story.rig.state)
        story.rig.now_us += SECOND_US
        story.deliver()
        story.end_some()
        check_capacity(story.rig.state)


@pytest.mark.parametrize("what", ["cancel", "drain", "fault", "leave", "silence"])
def test_those_behind_a_head_that_is_gone_or_can_run_nowhere_start_at_once(what: str) -> None:
    """Not only when something else happens, or a second later."""
    rig = rig_of(order="fcfs", heartbeat_timeout_us=SECOND_US)
    large, small = rig.worker(2), rig.worker(1)
    rig.submit(new_job(cpus=2))
    deliver(rig, large, small)
    rig.submit(new_job(cpus=2), new_job())
    assert placed(deliver(rig, large, small)) == []
    if what == "cancel":
        rig.cancel(2)
    elif what == "drain":
        rig.do(DrainWorkers(workers=(large.name,), drains=True, reason="", user="root"))
    elif what == "fault":
        large.fault = "its disk is full"
        large.heartbeat()
    elif what == "leave":
        large.deregister()
    else:
        rig.turned_us += SECOND_US // 2
        small.heartbeat()
        rig.kernel.tick(rig.now_us, rig.turned_us)
        rig.settle()
    assert placed(rig.schedule()) == [3]


# Invariants 8 and 9 ------------------------------------------------------------------------


class WatchedStarts(Starts):
    """Remembers what was reserved in a pass, and for which job."""

    def __init__(self, rig: Rig) -> None:
        super().__init__(rig.state, rig.kernel.scheduler.fleet)
        self.reserved: list[tuple[int, int]] = []

    def earliest(
        self, job_class: JobClass, now_us: int, kept: Container[int]
    ) -> Reservation | None:
        found = super().earliest(job_class, now_us, kept)
        if found is not None:
            self.reserved.append((job_class.pending_jobs.peekitem(0)[0], found.start_us))
        return found


class Promises:
    """Tasks with time limits that end by then, often earlier; what the head was promised."""

    def __init__(self, seed: str, order: str) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.rig = rig_of(order=order)
        self.starts = self.rig.kernel.scheduler.starts = WatchedStarts(self.rig)
        self.hosts: list[FakeHost] = []
        self.promised: dict[int, int] = {}
        self.kept = 0
        for _ in range(self.rng.randint(1, 4)):
            self.join()

    def join(self) -> None:
        host = FakeHost(self.rig, resources(self.rng.choice([2, 4, 8]), 8 * GIB, gpu=2))
        host.register()
        self.hosts.append(host)

    def submit(self, priority: int) -> None:
        rng = self.rng
        jobs = self.rig.state.jobs
        # The new one may go before those of a lower priority: nothing is promised to them.
        self.promised = {
            job_id: start_us
            for job_id, start_us in self.promised.items()
            if jobs[job_id].priority >= priority
        }
        count = rng.choice([1, 1, 3])
        self.rig.submit(
            new_job(
                cpus=rng.choice([0.5, 1, 2, 4, 8, 9]),
                memory_bytes=rng.choice([0, 0, 4, 8]) * GIB,
                named={"gpu": rng.choice([0, 0, 1, 2])},
                array=[(0, count)] if count > 1 else [],
                time_limit_ms=rng.choice([1, 3, 10, 30]) * 1000,
                grace_ms=rng.choice([0, 500]),
                priority=priority,
                scheduling=Scheduling(exclusive=rng.random() < 0.1),
            )
        )

    def run_pass(self) -> None:
        rig = self.rig
        self.starts.reserved.clear()
        rig.tick()
        rig.kernel.schedule_wanted = True
        events = rig.schedule()
        for job_id in placed(events):
            if job_id in self.promised:
                assert rig.now_us <= self.promised.pop(job_id), f"{self.seed}: it starts by then"
                self.kept += 1
        # Of a job that had tasks placed it is the next one that is promised something.
        for job_id, start_us in self.starts.reserved:
            assert start_us <= self.promised.get(job_id, start_us), f"{self.seed}: invariant 9"
            self.promised[job_id] = start_us
        for host in self.hosts:
            host.receive_all()
            host.send_reports()

    def end_of(self, key: AttemptKey) -> int:
        return self.rig.state.get_job(key.job_id).active[key.index].limit_end_us

    def pass_time(self, *, early: float) -> None:
        """Up to the next end at the latest; some end earlier."""
        rig = self.rig
        ends = [self.end_of(key) for host in self.hosts for key in host.running]
        if not ends:
            return
        if self.rng.random() < 0.5:
            rig.now_us = min(ends)
        else:
            rig.now_us += (min(ends) - rig.now_us) // self.rng.randint(1, 3)
        for host in self.hosts:
            for key in host.running:
                if self.end_of(key) <= rig.now_us or self.rng.random() < early:
                    host.end(key)
            host.send_reports()


@pytest.mark.parametrize("order", ["easy", "easy-sjbf"])
@pytest.mark.parametrize("seed", range(20))
def test_a_reserved_start_never_moves_later_and_is_kept(seed: int, order: str) -> None:
    """Invariant 9; at the end invariant 8."""
    story = Promises(f"promises {order} {seed}", order)
    for _ in range(60):
        for _ in range(story.rng.choice([0, 1, 2])):
            story.submit(story.rng.choice([0, 0, -1]))
        if story.rng.random() < 0.04:
            story.submit(7)
        if story.rng.random() < 0.05:
            story.join()
            # What could run nowhere before may go first from now on.
            story.promised.clear()
        story.run_pass()
        story.pass_time(early=0.15)
    assert story.kept > 0
    story.run_pass()
    while any(host.running for host in story.hosts):
        story.pass_time(early=0)
        story.run_pass()
    state = story.rig.state
    for job in state.live_jobs.values():
        assert not any(job.demand.fits_in(each.capacity) for each in state.workers.values())
    assert all(each.free == each.capacity for each in state.workers.values())
    assert (state.usage.user_cpus_milli, state.holds) == ({}, {})


def test_a_backfilled_task_goes_where_it_ends_by_then_or_fits_beside() -> None:
    rig = rig_of()
    host = rig.worker(4)
    rig.submit(new_job(cpus=3, time_limit_ms=60_000))
    deliver(rig, host)
    rig.submit(
        new_job(cpus=3, time_limit_ms=60_000),
        new_job(cpus=1, time_limit_ms=61_000),
        new_job(cpus=1, time_limit_ms=60_000),
    )
    # The head leaves one cpu, and until then there is just one.
    assert placed(deliver(rig, host)) == [3]
    end_oldest(rig, host)
    assert placed(deliver(rig, host)) == [2]


# Nobody starves ----------------------------------------------------------------------------


def test_with_time_limits_a_wide_job_starts_by_the_longest_of_them() -> None:
    rig = rig_of(order="easy")
    host = rig.worker(4)
    wide = submitted_us = 0
    started_us: dict[int, int] = {}
    for step in range(90):
        rig.submit(*[new_job(time_limit_ms=10_000) for _ in range(3)])
        if step == 5:
            (wide,) = rig.submit(new_job(cpus=4, time_limit_ms=10_000))
            submitted_us = rig.now_us
        for job_id in placed(deliver(rig, host)):
            started_us[job_id] = rig.now_us
        rig.now_us += SECOND_US
        for key in host.running:
            attempt = rig.state.get_job(key.job_id).active[key.index]
            if attempt.limit_end_us <= rig.now_us:
                host.end(key)
        host.send_reports()
        if wide in started_us:
            break
    ahead_of_it = 6 * 3
    rounds = -(-ahead_of_it // 4) + 1
    assert started_us[wide] - submitted_us <= rounds * 10 * SECOND_US


@pytest.mark.parametrize("order", ["easy", "easy-sjbf"])
def test_without_time_limits_a_worker_is_kept_for_a_wide_job_after_a_while(order: str) -> None:
    rig = rig_of(order=order, reserve_after_us=20 * SECOND_US)
    hosts = [rig.worker(4), rig.worker(4)]
    rig.submit(new_job(array=[(0, 8)]))
    deliver(rig, *hosts)
    (wide,) = rig.submit(new_job(cpus=4))
    kept: list[tuple[int, int]] = []
    for second in range(60):
        rig.submit(new_job(), new_job(), user="grace")
        for host in hosts:
            if host.running:
                host.end(host.running[0])
                host.send_reports()
        rig.now_us += SECOND_US
        events = deliver(rig, *hosts)
        kept += [(second, each.worker) for each in only(events, ev.Reserved)]
        if wide in placed(events):
            break
    # Once, and it does not flip: the four that ran there end one by one.
    assert kept == [(19, 1)]
    assert second <= 19 + 4
    assert rig.state.holds == {}


STEPS = 100
LARGE: dict[str, dict[str, Any]] = {
    "all cpus": {"cpus": 4},
    "all memory": {"memory_bytes": 4 * GIB},
    "all devices": {"named": {"gpu": 2}},
    "a worker alone": {"scheduling": Scheduling(exclusive=True)},
}


def steps_until_it_starts(order: str, large: dict[str, Any], limit_ms: int) -> int:
    """When the large job starts that came among small ones, of which more always come."""
    rig = rig_of(order=order, reserve_after_us=10 * SECOND_US)
    hosts = [rig.worker(4, 4 * GIB, gpu=2) for _ in range(2)]
    job_id = 0
    for step in range(STEPS):
        while rig.state.task_counts[0] < 6:
            rig.submit(new_job(memory_bytes=GIB, named={"gpu": 1}, time_limit_ms=limit_ms))
        if step == 5:
            (job_id,) = rig.submit(new_job(time_limit_ms=limit_ms, **large))
        if job_id in placed(deliver(rig, *hosts)):
            return step
        rig.now_us += SECOND_US
        for host in hosts:
            # There is always another one that still runs.
            host.end(host.running[0])
            host.send_reports()
    return STEPS


@pytest.mark.parametrize("limit_ms", [8_000, 0])
@pytest.mark.parametrize("large", LARGE)
def test_no_class_starves_under_an_endless_stream_of_others(large: str, limit_ms: int) -> None:
    """It would: where nothing is reserved the small ones always take what gets free."""
    assert steps_until_it_starts("skip", LARGE[large], limit_ms) == STEPS
    assert steps_until_it_starts("easy", LARGE[large], limit_ms) < 50


def test_a_user_with_a_flood_of_tasks_does_not_keep_another_one_waiting() -> None:
    rig = rig_of(fair_share=True)
    host = rig.worker(4)
    rig.submit(*[new_job() for _ in range(50)], user="ada")
    deliver(rig, host)
    rig.submit(*[new_job() for _ in range(3)], user="grace")
    order = []
    for _ in range(6):
        end_oldest(rig, host)
        order += [rig.state.get_job(each).user for each in placed(deliver(rig, host))]
    assert order[:2] == ["grace", "grace"]
    assert sorted(order) == ["ada"] * 3 + ["grace"] * 3


# Heads -------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["easy", "fcfs", "easy-sjbf"])
def test_a_head_that_can_never_run_reserves_nothing_and_stops_nobody(order: str) -> None:
    rig = rig_of(order=order, reserve_after_us=0)
    host = rig.worker(4)
    rig.submit(new_job(cpus=5), new_job(cpus=1, on=host.name, named={"gpu": 1}), new_job(cpus=3))
    assert placed(deliver(rig, host)) == [3]
    rig.submit(new_job(cpus=1))
    events = deliver(rig, host)
    assert placed(events) == [4]
    assert only(events, ev.Reserved) == []


def test_fcfs_starts_nothing_past_the_head() -> None:
    rig = rig_of(order="fcfs")
    host = rig.worker(4)
    rig.worker(1)
    rig.submit(new_job(cpus=3), new_job(cpus=3), new_job(cpus=1), new_job(priority=-1))
    assert placed(deliver(rig, host)) == [1]
    end_oldest(rig, host)
    assert placed(deliver(rig, host)) == [2, 3, 4]


def test_skip_reserves_nothing_however_long_the_head_waits() -> None:
    rig = rig_of(order="skip", reserve_after_us=0)
    host = rig.worker(2)
    rig.submit(new_job(), new_job(cpus=2, time_limit_ms=1000))
    deliver(rig, host)
    for job_id in range(3, 20):
        rig.submit(new_job(time_limit_ms=1_000_000))
        events = deliver(rig, host)
        assert placed(events) == [job_id]
        assert only(events, ev.Reserved) == []
        end_oldest(rig, host)
    assert rig.state.get_job(2).state is State.PENDING
