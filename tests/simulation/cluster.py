"""One run: a cluster made from a plan, its faults, the calm after them, and what is left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from unittest import mock

from tests.simulation.administrator import Administrator
from tests.simulation.checks import Witness
from tests.simulation.client import Client
from tests.simulation.faults import strike
from tests.simulation.machine import Machine
from tests.simulation.manager import NODE, SimManager
from tests.simulation.manager_machine import ManagerMachine
from tests.simulation.network import Network
from tests.simulation.overseer import Overseer
from tests.simulation.plan import FaultPlan, Plan
from tests.simulation.shell import SETTINGS
from tests.simulation.worker import Worker
from tests.simulation.world import Violation, World, check
from titan.manager import clock
from titan.manager.kernel import Kernel

# After that all ends within the time of its work and so much to find out what is to be done.
CALM_US_MAX = 120_000_000
# Once all is calm a superseded attempt is found out and stopped within that, and so is one that is
# to end, besides its grace: a call to its worker that waits for its deadline, and the next one.
STALE_US_MAX = 25_000_000
STEPS_MAX = 100_000
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


def run(plan: Plan, on_note: Callable[[str], None] | None = None) -> Outcome:
    """Runs the plan to its end, and tells `on_note` each line of its trace.

    Raises SimulationFailed.
    """
    return run_cluster(Cluster(plan), on_note, f"make simulate SEED={plan.seed}", plan)


def run_cluster(
    cluster: Cluster, on_note: Callable[[str], None] | None, command: str, plan: object
) -> Outcome:
    """Runs a cluster to its end; `command` repeats it. Raises SimulationFailed."""
    world = cluster.world
    world.on_note = on_note
    try:
        # The clocks of the real manager read the virtual ones.
        with mock.patch.object(clock, "time", cluster.clocks):
            cluster.run()
    except (Exception, AssertionError) as error:
        recent = "\n    ".join(world.recent)
        raise SimulationFailed(
            f"{error!r}\n  at {world.elapsed_us / 1e6:.6f} s of the run with seed "
            f"{cluster.plan.seed} ('{command}' repeats it, if the plan is its)\n"
            f"  {plan}\n  the last that happened:\n    {recent}"
        ) from error
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
        self.witness, self.clocks = self._make_managers()
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
        self._unended_since_us: dict[object, int] = {}

    def _make_managers(self) -> tuple[Witness, object]:
        """Those, or the one; and the clocks that it reads."""
        witness = Witness(self.world, self.plan, SETTINGS.heartbeat_timeout_us)
        self._manager = SimManager(self.world, self.network, witness, self.plan.preempt)
        return witness, self._manager

    def _start_managers(self) -> None:
        self._manager.start()

    def _calm_managers(self) -> None:
        self._manager.calm()

    def _find_kernel(self) -> Kernel | None:
        """That of the manager that is up, or leads."""
        process = self._manager.process
        return None if process is None else process.kernel

    def _find_serving(self) -> Kernel | None:
        """The same, while it can be called."""
        return self._find_kernel() if NODE in self.network.servers else None

    def _struck_manager(self, fault: FaultPlan) -> ManagerMachine:
        """Which manager a fault of managers strikes."""
        return self._manager

    def _left_of_managers(self) -> list[str]:
        """What managers among themselves have still to do."""
        return []

    def run(self) -> None:
        """Faults, calm, quiet. Raises Violation and whatever the real parts raise."""
        world = self.world
        self._start_managers()
        for worker in self.workers:
            worker.start_agent()
        for fault in self.plan.faults:
            world.after(fault.at_ms * 1000, partial(self._strike, fault))
        calm_us = self._calm_us
        end_us = calm_us + self.plan.work_us + CALM_US_MAX
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
            if world.elapsed_us >= end_us:
                raise Violation(f"it does not end: {self._what_is_left()}")
        self._look_at_the_end()

    @property
    def _calm_us(self) -> int:
        """From when on nothing fails any more."""
        return self.plan.calm_ms * 1000

    def _look_at_the_end(self) -> None:
        kernel = self._find_kernel()
        assert kernel is not None
        self.witness.looked_at(kernel)
        self.witness.check_ends()

    def _step(self) -> None:
        self.world.step()
        check(self.world.steps < STEPS_MAX, "it takes too many steps")

    def _calm(self) -> None:
        self.world.note("calm")
        self.network.heal()
        self._calm_managers()
        for worker in self.workers:
            if worker.host is not None:
                worker.host.dies_after = -1
            worker.start_agent()

    def _manager_time_us(self) -> int | None:
        kernel = self._find_kernel()
        return None if kernel is None else kernel.now_us

    def _is_quiet(self) -> bool:
        return not self._what_is_left()

    def _what_is_left(self) -> list[str]:
        kernel = self._find_serving()
        if kernel is None:
            return ["the manager is down"]
        left = self._left_of_managers()
        left += [f"client {i}" for i, each in enumerate(self.clients) if not each.is_done]
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
        """Once all is calm, what a worker has to be told reaches it soon (invariant 3)."""
        now_us = self.world.now_us
        witness = self.witness
        for known, found, what in (
            (self._stale_since_us, witness.stale(), "is superseded and runs on (3)"),
            (self._wrong_since_us, witness.wrongly_standing(), "runs suspended, or the reverse"),
            (self._unended_since_us, witness.unended(), "is to end and runs on"),
        ):
            for key in known.keys() - found.keys():
                del known[key]
            for key, may_take_us in found.items():
                since_us = known.setdefault(key, now_us)
                check(now_us - since_us < STALE_US_MAX + may_take_us, f"{key} {what}")

    def _strike(self, fault: FaultPlan) -> None:
        worker = self.workers[fault.worker % len(self.workers)]
        name = worker.machine.name
        self.world.note(f"fault: {fault.fault.value}, {name}, {fault.for_ms} ms, {fault.detail}")
        strike(fault, self._struck_manager(fault), self.network, worker)
        # An agent that is gone is started again by whoever looks after it.
        worker.machine.clockwork.after(fault.for_ms * 1000, worker.start_agent)
