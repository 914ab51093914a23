"""One run of a cluster with several managers over one journal."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from tests.simulation.checks import Witness
from tests.simulation.cluster import Cluster, Outcome, run_cluster
from tests.simulation.manager_machine import ManagerMachine
from tests.simulation.network import Network
from tests.simulation.plan import FaultPlan
from tests.simulation.several.addresses import Addresses
from tests.simulation.several.faults import Struck
from tests.simulation.several.leader import Leader
from tests.simulation.several.machine import Clocks, ReplicaMachine
from tests.simulation.several.plan import SeveralPlan
from tests.simulation.several.server import Server
from tests.simulation.several.witness import SharedWitness
from tests.simulation.shell import SETTINGS
from titan.manager.kernel import Kernel


def run(plan: SeveralPlan, on_note: Callable[[str], None] | None = None) -> Outcome:
    """Runs the plan to its end, and tells `on_note` each line of its trace.

    Raises SimulationFailed.
    """
    command = f"make simulate SEED={plan.cluster.seed} ARGS=--several"
    return run_cluster(SeveralCluster(plan), on_note, command, plan)


class SeveralCluster(Cluster):
    """Everything of a run."""

    def __init__(self, plan: SeveralPlan) -> None:
        self._several = plan
        super().__init__(plan.cluster)

    @property
    def _calm_us(self) -> int:
        return self._several.calm_ms * 1000

    def _make_managers(self) -> tuple[Witness, object]:
        several, world, network = self._several, self.world, self.network
        self._journal = Network(
            world, lost_percent=several.lost_percent, doubled_percent=0,
            late_percent=several.late_percent,
        )  # fmt: skip
        server = Server(world, self._journal)
        witness = SharedWitness(world, self.plan, SETTINGS.heartbeat_timeout_us, server)
        clocks = Clocks()
        self._managers = [
            ReplicaMachine(
                f"manager{i}", world, network, self.plan.preempt, clocks=clocks,
                journal=self._journal, server=server, witness=witness,
            )
            for i in range(several.managers)
        ]  # fmt: skip
        network.managers = [each.node for each in self._managers]
        witness.find_confident = self._find_confident
        network.addresses = Addresses(network.managers, world)
        self._struck = Struck(self._managers, server, network, self._journal)
        return witness, clocks

    def _start_managers(self) -> None:
        for each in self._managers:
            each.start()
        for fault in self._several.faults:
            self.world.after(fault.at_ms * 1000, partial(self._struck.strike, fault))

    def _calm_managers(self) -> None:
        self._journal.heal()
        self._struck.server.calm()
        for each in self._managers:
            each.calm()

    def _find_confident(self) -> list[str]:
        processes = [each.process for each in self._managers if each.process is not None]
        return [each.holder for each in processes if each.leads()]

    def _find_leader(self) -> Leader | None:
        machine = self._struck.leader()
        process = None if machine is None else machine.process
        return None if process is None else process.leader

    def _find_kernel(self) -> Kernel | None:
        leader = self._find_leader()
        return None if leader is None else leader.kernel

    def _find_serving(self) -> Kernel | None:
        leader = self._find_leader()
        return leader.kernel if leader is not None and leader.is_serving else None

    def _struck_manager(self, fault: FaultPlan) -> ManagerMachine:
        leader = self._struck.leader()
        if leader is not None and fault.detail % 2:
            return leader
        return self._managers[fault.detail // 2 % len(self._managers)]

    def _left_of_managers(self) -> list[str]:
        end = self._struck.server.end
        left = []
        kernel = self._find_kernel()
        if kernel is not None and kernel.state.lsn != end.lsn:
            left.append("records under way")
        for each in self._managers:
            process = each.process
            if process is None or process.state is None:
                left.append(f"{each.node} does not follow")
            elif process.leader is None and process.position != end:
                left.append(f"{each.node} is behind")
            elif process.mirror.log.position != end:
                left.append(f"the copy of {each.node} is behind")
        return left

    def _look_at_the_end(self) -> None:
        super()._look_at_the_end()
        assert isinstance(self.witness, SharedWitness)
        for each in self._managers:
            process = each.process
            assert process is not None
            assert process.state is not None
            self.witness.caught_up(process.state)
