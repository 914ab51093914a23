"""Random clusters, queues and what happens between passes. The same seed tells the same story."""

from __future__ import annotations

import random
from contextlib import suppress
from typing import Any

from tests.manager.builders import GIB, SECOND_US, FakeHost, Rig, new_job, resources
from titan import events as ev
from titan.errors import TitanError
from titan.manager.kernel import Kernel, Settings
from titan.manager.kernel.commands import (
    DrainWorkers,
    HoldJobs,
    NewAffinity,
    NewDependency,
    NewJob,
    NewReference,
    SuspendJobs,
    UpdateJobs,
    WhichJobs,
)
from titan.model import Execution, Sandbox, State
from titan.queries.selection import JobSelector
from titan.scheduler.scheduler import Scheduler
from titan.scheduling import WHOLE_JOB, DependencyCondition, LabelConstraint, Scheduling
from titan.state import ClusterState
from titan.state.snapshot import decode_state, encode_state

USERS = ("ada", "grace", "mary")
ZONES = ("a", "b", "c")


def copy_of(state: ClusterState) -> ClusterState:
    """Another one that says the same."""
    return decode_state(list(encode_state(state, "0.1.0")))


def fresh_pass(rig: Rig) -> list[ev.Event]:
    """What a kernel does in its pass that has looked at none of it before."""
    kernel = Kernel(copy_of(rig.state), rig.settings)
    kernel.scheduler = Scheduler(kernel.state, frozenset(rig.kernel.outboxes))
    kernel.schedule(rig.now_us)
    events: list[ev.Event] = []
    while (taken := kernel.take_record()) is not None:
        events += taken[1]
    return events


class Story:
    """Something happens at random, and then a pass."""

    def __init__(self, seed: int | str, *, checks: bool = False, **settings: Any) -> None:
        self.rng = random.Random(seed)
        self.rig = Rig(checks=checks, settings=Settings(**({"lookahead": False} | settings)))
        self.hosts: list[FakeHost] = []
        self.has_limits = self.rng.random() < 0.7

    def join(self) -> None:
        """One more worker."""
        host = FakeHost(self.rig, self.some_capacity())
        host.register(**self.some_offer())
        self.hosts.append(host)

    def some_capacity(self) -> Any:
        """Of few sizes, so that there are ties, and of almost the same memory."""
        rng = self.rng
        return resources(
            rng.choice([1, 2, 4, 4, 8]),
            rng.choice(
                [0, 4 * GIB, 4 * GIB - rng.randint(0, 9), 8 * GIB + rng.randint(0, 1 << 20)]
            ),
            gpu=rng.choice([0, 0, 0, 2, 4]),
        )

    def some_offer(self) -> dict[str, Any]:
        """Labels, and how tasks may be isolated there."""
        labels = self.some_labels()
        zone = dict(labels).get("zone", "")
        return {
            "labels": labels,
            "sandboxes": (Sandbox.BUBBLEWRAP,) if zone in ("a", "b") else (),
            "run_as": {"b": (("*", "batch"),), "c": (("ada", "batch"), ("ada", "self"))}.get(
                zone, ()
            ),
        }

    def some_labels(self) -> tuple[tuple[str, str], ...]:
        """Of a worker."""
        zone = self.rng.choice([*ZONES, ""])
        return (("zone", zone),) if zone else ()

    def some_job(self, **fields: Any) -> NewJob:
        """Of few shapes, so that several share a class."""
        rng = self.rng
        count = rng.choice([1, 1, 1, 2, 5])
        asks = rng.random()
        scheduling = Scheduling(
            held=rng.random() < 0.05,
            array_limit=rng.choice([0, 0, 1, 3]) if count > 1 else 0,
            retries=rng.choice([0, 0, 2]),
            constraints=self.some_constraints() if asks < 0.25 else (),
            spread="zone" if 0.25 < asks < 0.35 else "",
            exclusive=0.35 < asks < 0.42,
            begin_us=self.rig.now_us + rng.randint(1, 20) * SECOND_US if asks > 0.95 else 0,
        )
        options: dict[str, Any] = {
            "cpus": rng.choice([0.5, 1, 1, 2, 4, 8, 9]),
            "memory_bytes": rng.choice([0, 0, 0, GIB, 4 * GIB, 4 * GIB - 5]),
            "named": {"gpu": rng.choice([0, 0, 0, 0, 1, 2])},
            "array": [(0, count)] if count > 1 else [],
            "priority": rng.choice([0, 0, 0, -1, 5]),
            "on": rng.choice(self.hosts).worker_id.hex() if 0.42 < asks < 0.5 else "",
            "time_limit_ms": rng.choice([0, 1, 5, 5, 20, 60]) * 1000 if self.has_limits else 0,
            "grace_ms": 0,
            "scheduling": scheduling,
        }
        if 0.5 < asks < 0.6:
            options["affinities"] = (
                NewAffinity(self.some_reference(may_be_itself=True), rng.random() < 0.6),
            )
        if 0.6 < asks < 0.7 and self.rig.state.next_job_id > 1:
            condition = rng.choice(list(DependencyCondition))
            options["after"] = (NewDependency(self.some_reference(), condition, WHOLE_JOB),)
        if 0.7 < asks < 0.8:
            options["execution"] = Execution(
                run_as="batch" if asks < 0.76 else "",
                sandbox=Sandbox.BUBBLEWRAP if asks > 0.74 else Sandbox.NONE,
            )
        return new_job(**(options | fields))

    def some_constraints(self) -> tuple[LabelConstraint, ...]:
        """On the zone."""
        rng = self.rng
        values = tuple(rng.sample(ZONES, rng.choice([1, 1, 2])))
        return (LabelConstraint("zone", values, negated=rng.random() < 0.4),)

    def some_reference(self, *, may_be_itself: bool = False) -> NewReference:
        """An earlier job, or the job itself."""
        last = self.rig.state.next_job_id - 1
        if not last or (may_be_itself and self.rng.random() < 0.6):
            return NewReference(None, 0)
        return NewReference(JobSelector(job_id=self.rng.randint(1, last)))

    def submit(self, **fields: Any) -> None:
        """One job of somebody."""
        # It may name what is gone.
        with suppress(TitanError):
            job, user = self.some_job(**fields), self.rng.choice(USERS)
            self.rig.submit(job, user=user, proven_user=user)

    def deliver(self) -> None:
        """Every worker learns what it is to do, and starts it."""
        for host in self.hosts:
            if host.outbox is not None and host.session in self.rig.kernel.sessions:
                host.receive_all()
                host.send_reports()

    def end_some(self, part: float = 0.4, *, fails: float = 0.2) -> None:
        """Some of what runs ends."""
        for host in self.hosts:
            if host.session not in self.rig.kernel.sessions:
                continue
            for key in host.running:
                if self.rng.random() < part:
                    has_failed = self.rng.random() < fails
                    host.end(key, State.FAILED if has_failed else State.COMPLETED)
            host.send_reports()

    def happen(self) -> None:
        """One thing out of many."""
        rng, rig = self.rng, self.rig
        what = rng.choices(("submit", "end", "pass time", "worker", "job"), (4, 4, 2, 2, 1))[0]
        if what == "submit":
            for _ in range(rng.randint(1, 3)):
                self.submit()
        elif what == "end":
            self.deliver()
            rig.now_us += rng.randint(0, 3) * SECOND_US
            self.end_some()
        elif what == "pass time":
            rig.now_us += rng.randint(1, 30) * SECOND_US
        elif what == "worker":
            self.change_a_worker()
        else:
            self.change_a_job()

    def change_a_worker(self) -> None:
        """It comes, goes, drains, restarts, is another size, or is faulty."""
        rng, rig = self.rng, self.rig
        what = rng.randrange(7)
        host = rng.choice(self.hosts)
        is_known = host.session in rig.kernel.sessions
        if what == 0 and len(self.hosts) < 7:
            self.join()
        elif what == 1 and is_known and rng.random() < 0.3:
            host.deregister()
            host.clear()
        elif what == 2:
            drains = rng.random() < 0.4
            rig.do(
                DrainWorkers(workers=(host.worker_id.hex(),), drains=drains, reason="", user="root")
            )
        elif what == 3:
            host.restart_host()
            host.register(**self.some_offer())
        elif what == 4:
            # It comes back smaller or larger while its tasks run on.
            host.capacity = self.some_capacity()
            host.register()
        elif what == 5 and is_known:
            host.fault = rng.choice(["", "its disk is full"])
            host.heartbeat()
        elif not is_known:
            host.register()

    def change_a_job(self) -> None:
        """It is held, released, suspended, resumed, cancelled or updated."""
        rng, rig = self.rng, self.rig
        if not rig.state.live_jobs:
            return
        which = WhichJobs(selectors=(JobSelector(job_id=rng.choice(list(rig.state.live_jobs))),))
        what = rng.randrange(4)
        if what == 0:
            rig.do(HoldJobs(which=which, releases=rng.random() < 0.6))
        elif what == 1:
            rig.cancel(which.selectors[0].job_id)
        elif what == 2:
            limit_ms = rng.choice([None, 0, 5_000, 60_000]) if self.has_limits else None
            rig.do(UpdateJobs(which=which, priority=rng.choice([0, 3]), time_limit_ms=limit_ms))
        elif rig.settings.preempt == "suspend":
            rig.do(SuspendJobs(which=which, resumes=rng.random() < 0.6))
