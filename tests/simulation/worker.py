"""A worker: a machine, and the agent and the host that run there now."""

from __future__ import annotations

from tests.simulation.agent import SimAgent
from tests.simulation.host import SimHost
from tests.simulation.machine import Machine


class Worker:
    """A machine with whatever agent and host run on it."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.agent: SimAgent | None = None
        self.host: SimHost | None = None

    def start_agent(self) -> None:
        """Starts an agent, if there is none."""
        if self.agent is None or not self.agent.is_alive:
            self.agent = SimAgent(self.machine, self._have_host)

    def kill_agent(self) -> None:
        """The agent dies."""
        if self.agent is not None:
            self.agent.die()

    def kill_host(self) -> None:
        """The host dies; its tasks do not."""
        if self.host is not None:
            self.host.die()

    def reboot(self) -> None:
        """Everything dies."""
        self.kill_agent()
        self.kill_host()
        self.machine.lose_power()

    @property
    def is_at_rest(self) -> bool:
        """Nothing runs, waits or is unacknowledged."""
        if self.agent is None or not self.agent.is_alive or not self.agent.is_settled:
            return False
        return self.host is not None and self.host.is_alive and self.host.book.is_idle

    def _have_host(self) -> SimHost | None:
        if self.host is None or not self.host.is_alive:
            self.host = SimHost(self.machine)
        return self.host
