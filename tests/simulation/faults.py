"""What each fault of a plan does; see the fault model in `__init__`."""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import partial
from typing import Final

from tests.simulation import administrator, client, overseer
from tests.simulation.machine import CLOCK_WRONG_US_MAX
from tests.simulation.manager_machine import ManagerMachine
from tests.simulation.network import Network
from tests.simulation.plan import Fault, FaultPlan
from tests.simulation.worker import Worker
from tests.simulation.world import World

USERS: Final = (client.NODE, administrator.NODE, overseer.NODE)
# What is left on a full disk, times `detail`.
LEFT_BYTES: Final = 40


def strike(fault: FaultPlan, manager: ManagerMachine, network: Network, worker: Worker) -> None:
    """It happens now, where there is anything to strike.

    A machine that is asleep wakes first, unless it is its power that goes.
    """
    network_fault = _OF_NETWORK.get(fault.fault)
    if network_fault is not None:
        manager.world.count(f"fault: {fault.fault.value}")
        network_fault(network, worker.machine.name, fault)
        return
    is_of_manager = fault.fault in _OF_MANAGER
    clockwork = manager.clockwork if is_of_manager else worker.machine.clockwork
    blow = (
        partial(_strike_manager, manager, fault)
        if is_of_manager
        else partial(_strike_worker, worker, fault)
    )
    if fault.fault in (Fault.MANAGER_POWER_LOST, Fault.REBOOT):
        blow()
    else:
        clockwork.run(blow)


def _strike_manager(manager: ManagerMachine, fault: FaultPlan) -> None:
    # One that is down already is not struck again.
    if manager.is_up:
        manager.world.count(f"fault: {fault.fault.value}")
        _OF_MANAGER[fault.fault](manager, fault)


def _strike_worker(worker: Worker, fault: FaultPlan) -> None:
    worker.machine.world.count(f"fault: {fault.fault.value}")
    _OF_WORKER[fault.fault](worker, fault)


def _stall(manager: ManagerMachine, fault: FaultPlan) -> None:
    manager.stall(fault.for_ms * 1000)


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
    machine.wall_offset_us = _random_offset_us(machine.world)


def _set_manager_clock(manager: ManagerMachine, _: FaultPlan) -> None:
    manager.wall_offset_us = _random_offset_us(manager.world)


def _random_offset_us(world: World) -> int:
    """Set right within seconds, or set wrong by hours."""
    most_us = world.random.choice((5_000_000, CLOCK_WRONG_US_MAX))
    return world.random.randint(-most_us, most_us)


def _fail_call(manager: ManagerMachine, fault: FaultPlan) -> None:
    manager.fail_call(fault.detail // 2, (errno.EIO, errno.ENOSPC)[fault.detail % 2])


def _stall_agent(worker: Worker, fault: FaultPlan) -> None:
    if worker.agent is not None:
        worker.agent.clockwork.hold(fault.for_ms * 1000)


def _stall_host(worker: Worker, fault: FaultPlan) -> None:
    if worker.host is not None:
        worker.host.clockwork.hold(fault.for_ms * 1000)
        worker.machine.witness.host_stands(worker.machine.name)


def _fill_disk(worker: Worker, fault: FaultPlan) -> None:
    machine = worker.machine
    machine.fault = "its disk is nearly full"

    def empty() -> None:
        machine.fault = ""

    machine.world.after(fault.for_ms * 1000, empty)


_OF_MANAGER: Final[dict[Fault, Callable[[ManagerMachine, FaultPlan], None]]] = {
    Fault.MANAGER_KILLED: lambda manager, fault: manager.kill(fault.for_ms * 1000),
    Fault.MANAGER_POWER_LOST: lambda manager, fault: manager.lose_power(fault.for_ms * 1000),
    Fault.MANAGER_DIES_IN_CALL: lambda manager, fault: manager.die_in_call(fault.detail),
    Fault.MANAGER_STALLS: _stall,
    Fault.MANAGER_SLEEPS: lambda manager, fault: manager.sleep(fault.for_ms * 1000),
    Fault.MANAGER_CLOCK_SET: _set_manager_clock,
    Fault.DISK_FULL: lambda manager, fault: manager.fill_disk(
        fault.for_ms * 1000, fault.detail * LEFT_BYTES
    ),
    Fault.DISK_SLOW: lambda manager, fault: manager.slow_disk(fault.for_ms * 1000),
    Fault.SYNC_FAILS: lambda manager, fault: manager.fail_sync(),
    Fault.CALL_FAILS: _fail_call,
}

_OF_WORKER: Final[dict[Fault, Callable[[Worker, FaultPlan], None]]] = {
    Fault.AGENT_KILLED: lambda worker, fault: worker.kill_agent(),
    Fault.AGENT_LEAVES: _leave,
    Fault.AGENT_DRAINS: _drain,
    Fault.HOST_KILLED: _kill_host,
    Fault.WORKER_KILLED: _kill_worker,
    Fault.AGENT_STALLS: _stall_agent,
    Fault.HOST_STALLS: _stall_host,
    Fault.WORKER_SLEEPS: lambda worker, fault: worker.machine.sleep(fault.for_ms * 1000),
    Fault.REBOOT: lambda worker, fault: worker.reboot(),
    Fault.CLOCK_SET: _set_clock,
    Fault.WORKER_DISK_FULL: _fill_disk,
}


def _cut_to_worker(network: Network, worker: str, fault: FaultPlan) -> None:
    for manager in network.managers:
        network.cut(manager, worker, fault.for_ms * 1000)


def _cut_to_manager(network: Network, worker: str, fault: FaultPlan) -> None:
    for manager in network.managers:
        network.cut(worker, manager, fault.for_ms * 1000)


def _cut(network: Network, worker: str, fault: FaultPlan) -> None:
    _cut_to_worker(network, worker, fault)
    _cut_to_manager(network, worker, fault)


def _cut_all(network: Network, _: str, fault: FaultPlan) -> None:
    for worker in network.workers:
        _cut(network, worker, fault)


def _cut_clients(network: Network, _: str, fault: FaultPlan) -> None:
    """One way, the other, or both."""
    for user in USERS:
        for manager in network.managers:
            if fault.detail % 3 != 1:
                network.cut(user, manager, fault.for_ms * 1000)
            if fault.detail % 3 != 2:
                network.cut(manager, user, fault.for_ms * 1000)


_OF_NETWORK: Final[dict[Fault, Callable[[Network, str, FaultPlan], None]]] = {
    Fault.CUT: _cut,
    Fault.CUT_TO_WORKER: _cut_to_worker,
    Fault.CUT_TO_MANAGER: _cut_to_manager,
    Fault.CUT_ALL: _cut_all,
    Fault.CUT_CLIENTS: _cut_clients,
}
