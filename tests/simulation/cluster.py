"""One run: a cluster made from a plan, its faults, the calm after them, and what is left."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from tests.simulation.administrator import Administrator
from tests.simulation.checks import Witness
from tests.simulation.client import Client
from tests.simulation.faults import strike
from tests.simulation.machine import Machine
from tests.simulation.manager import NODE, SETTINGS, SimManager
from tests.simulation.network import Network
from tests.simulation.overseer import Overseer
from tests.simulation.plan import FAULTS_END_MS, FaultPlan, Plan
from tests.simulation.worker import Worker
from tests.simulation.world import Violation, World, check

# The last fault begins before FAULTS_END_MS and lasts for up to 20 s.
FAULTS_END_US = FAULTS_END_MS * 1000 + 20_000_000
# After that all ends within the time of its work and so much to find out what is to be done.
CALM_US_MAX = 120_000_000
# Once all is calm a superseded attempt is found out and stopped within that: a call to its
# worker that waits for its deadline, and the next one.
STALE_US_MAX = 25_000_000
STEPS_MAX = 400_000
LOOK_US = 250_000


class SimulationFailed(AssertionError):
    """A run went wrong; the text says which, so that it can be had again."""


@dataclass(frozen=True)
class Outcome:
    """What a run that went well leaves."""

    trace_hash: str
    counts: dict[str, int]
    steps: int
    elapsed_us: int


def run(plan: Plan) -> Outcome:
    """Runs the plan to its end. Raises SimulationFailed."""
    cluster = Cluster(plan)
    try:
        cluster.run()
    except (Exception, AssertionError) as error:
        recent = "\n    ".join(cluster.world.recent)
        raise SimulationFailed(
            f"{error!r}\n  at {cluster.world.elapsed_us / 1e6:.6f} s of the run with seed "
            f"{plan.seed} (TITAN_SIMULATION_SEED={plan.seed} has it alone, if the plan is its)\n"
            f"  {plan}\n  the last that happened:\n    {recent}"
        ) from error
    world = cluster.world
    return Outcome(world.trace_hash(), dict(world.counts), world.steps, world.elapsed_us)


class Cluster:
    """Everything of a run."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.world = world = World(plan.seed)
        self.network = Network(
            world,
            lost_percent=plan.lost_percent,
            doubled_percent=plan.doubled_percent,
            late_percent=plan.late_percent,
        )
        self.witness = Witness(world, plan, SETTINGS.heartbeat_timeout_us)
        self.manager = SimManager(world, self.network, self.witness, plan.preempt)
        self.workers = [
            Worker(Machine(f"worker{i}", plan, each, world, self.network, self.witness))
            for i, each in enumerate(plan.workers)
        ]
        self.clients: list[Client] = []
        for i, job in enumerate(plan.jobs):
            self.clients.append(
                Client(
                    i, job, world, self.network, self.witness, self.clients, self._manager_time_us
                )
            )
        self.overseer = Overseer(
            plan.changes, world, self.network, self.witness,
            lambda number: self.clients[number % len(self.clients)].job_id,
        )  # fmt: skip
        self.administrators = [
            Administrator(each, f"worker{each.worker % len(self.workers)}", world, self.network)
            for each in plan.drains
        ]
        self._stale_since_us: dict[object, int] = {}
        self._wrong_since_us: dict[object, int] = {}

    def run(self) -> None:
        """Faults, calm, quiet. Raises Violation and whatever the real parts raise."""
        world = self.world
        self.manager.start()
        for worker in self.workers:
            worker.start_agent()
        for fault in self.plan.faults:
            world.after(fault.at_ms * 1000, partial(self._strike, fault))
        last_ms = max((each.at_ms + each.for_ms for each in self.plan.faults), default=0)
        is_noisy = self.plan.lost_percent or self.plan.late_percent or self.plan.doubled_percent
        calm_us = FAULTS_END_US if is_noisy else last_ms * 1000
        world.after(calm_us, self._calm)
        while world.elapsed_us <= calm_us:
            self._step()
        self._check_stale()
        while not self._is_quiet():
            until_us = world.elapsed_us + LOOK_US
            while world.elapsed_us < until_us:
                self._step()
            self._check_stale()
            for worker in self.workers:
                # One that was to drain has ended only now.
                worker.start_agent()
            if world.elapsed_us >= calm_us + self.plan.work_us + CALM_US_MAX:
                raise Violation(f"it does not end: {self._what_is_left()}")
        self.witness.check_ends()

    def _step(self) -> None:
        self.world.step()
        check(self.world.steps < STEPS_MAX, "it takes too many steps")

    def _calm(self) -> None:
        self.world.note("calm")
        self.network.heal()
        self.manager.calm()
        for worker in self.workers:
            if worker.host is not None:
                worker.host.dies_after = -1
            worker.start_agent()

    def _manager_time_us(self) -> int | None:
        process = self.manager.process
        return None if process is None else process.kernel.now_us

    def _is_quiet(self) -> bool:
        return not self._what_is_left()

    def _what_is_left(self) -> list[str]:
        process = self.manager.process
        if process is None or NODE not in self.network.servers:
            return ["the manager is down"]
        kernel = process.kernel
        left = [f"client {i}" for i, each in enumerate(self.clients) if not each.is_done]
        left += [f"drain {i}" for i, each in enumerate(self.administrators) if not each.is_done]
        drained = [each for each in kernel.state.workers.values() if each.drain is not None]
        if drained:
            self.administrators[0].lift_what_came_late([each.worker_id for each in drained])
            left.append(f"drained: {[each.name for each in drained]}")
        if kernel.events_count:
            left.append("events that are in no record yet")
        if not self.overseer.is_done:
            left.append("changes of jobs")
        live = kernel.state.live_jobs
        if any(job.is_held or job.is_suspended for job in live.values()):
            self.overseer.let_all_go_on()
        left += [f"job {job_id}" for job_id in live]
        for worker in self.workers:
            if worker.machine.processes:
                left.append(f"{worker.machine.name}: {list(worker.machine.processes)}")
            if not worker.is_at_rest:
                left.append(f"{worker.machine.name} is not at rest")
        left += [
            f"outbox of {number}"
            for number, outbox in kernel.outboxes.items()
            if outbox.has_work or outbox._under_way is not None
        ]
        return left

    def _check_stale(self) -> None:
        """Once all is calm, superseded attempts are stopped soon (invariant 3)."""
        now_us = self.world.now_us
        stale = self.witness.stale()
        self._stale_since_us = {key: self._stale_since_us.get(key, now_us) for key in stale}
        for key, since_us in self._stale_since_us.items():
            check(now_us - since_us < STALE_US_MAX, f"{key} is superseded and runs on (3)")
        wrong = self.witness.wrongly_standing()
        self._wrong_since_us = {key: self._wrong_since_us.get(key, now_us) for key in wrong}
        for key, since_us in self._wrong_since_us.items():
            what = "runs and is suspended, or the reverse"
            check(now_us - since_us < STALE_US_MAX, f"{key} {what}")

    def _strike(self, fault: FaultPlan) -> None:
        worker = self.workers[fault.worker % len(self.workers)]
        name = worker.machine.name
        self.world.note(f"fault: {fault.fault.value}, {name}, {fault.for_ms} ms, {fault.detail}")
        strike(fault, self.manager, self.network, worker)
        # An agent that is gone is started again by whoever looks after it.
        self.world.after(fault.for_ms * 1000, worker.start_agent)
