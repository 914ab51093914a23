"""What each fault of a plan does; see the fault model in `__init__`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tests.simulation.manager import NODE, SimManager
from tests.simulation.network import Network
from tests.simulation.plan import Fault, FaultPlan
from tests.simulation.worker import Worker

# What is left on a full disk, times `detail`.
LEFT_BYTES: Final = 40


def strike(fault: FaultPlan, manager: SimManager, network: Network, worker: Worker) -> None:
    """It happens now. A manager that is down already is not struck again."""
    if fault.fault in _OF_MANAGER:
        if manager.process is not None:
            _OF_MANAGER[fault.fault](manager, fault)
    elif fault.fault in _OF_WORKER:
        _OF_WORKER[fault.fault](worker, fault)
    else:
        name, for_us = worker.machine.name, fault.for_ms * 1000
        if fault.fault is not Fault.CUT_TO_WORKER:
            network.cut(name, NODE, for_us)
        if fault.fault is not Fault.CUT_TO_MANAGER:
            network.cut(NODE, name, for_us)


def _stall(manager: SimManager, fault: FaultPlan) -> None:
    assert manager.process is not None
    manager.process.stall(fault.for_ms * 1000)


def _leave(worker: Worker, _: FaultPlan) -> None:
    if worker.agent is not None and worker.agent.is_alive:
        worker.agent.leave()


def _drain(worker: Worker, _: FaultPlan) -> None:
    if worker.agent is not None and worker.agent.is_alive:
        worker.agent.drain()


def _kill_host(worker: Worker, fault: FaultPlan) -> None:
    if worker.host is not None:
        worker.host.dies_after = fault.detail


def _kill_worker(worker: Worker, _: FaultPlan) -> None:
    worker.kill_agent()
    worker.kill_host()


def _set_clock(worker: Worker, _: FaultPlan) -> None:
    machine = worker.machine
    machine.wall_offset_us = machine.world.random.randint(-100_000_000, 10_000_000)


def _fill_disk(worker: Worker, fault: FaultPlan) -> None:
    machine = worker.machine
    machine.fault = "its disk is nearly full"

    def empty() -> None:
        machine.fault = ""

    machine.world.after(fault.for_ms * 1000, empty)


_OF_MANAGER: Final[dict[Fault, Callable[[SimManager, FaultPlan], None]]] = {
    Fault.MANAGER_KILLED: lambda manager, fault: manager.kill(fault.for_ms * 1000),
    Fault.MANAGER_POWER_LOST: lambda manager, fault: manager.lose_power(fault.for_ms * 1000),
    Fault.MANAGER_DIES_IN_CALL: lambda manager, fault: manager.die_in_call(fault.detail),
    Fault.MANAGER_STALLS: _stall,
    Fault.DISK_FULL: lambda manager, fault: manager.fill_disk(
        fault.for_ms * 1000, fault.detail * LEFT_BYTES
    ),
    Fault.SYNC_FAILS: lambda manager, fault: manager.fail_sync(),
}

_OF_WORKER: Final[dict[Fault, Callable[[Worker, FaultPlan], None]]] = {
    Fault.AGENT_KILLED: lambda worker, fault: worker.kill_agent(),
    Fault.AGENT_LEAVES: _leave,
    Fault.AGENT_DRAINS: _drain,
    Fault.HOST_KILLED: _kill_host,
    Fault.WORKER_KILLED: _kill_worker,
    Fault.REBOOT: lambda worker, fault: worker.reboot(),
    Fault.CLOCK_SET: _set_clock,
    Fault.WORKER_DISK_FULL: _fill_disk,
}
