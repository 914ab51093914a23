"""The socket between an agent and its host: in order, whole, and gone with either of them."""

from __future__ import annotations

from typing import Protocol

from tests.simulation.world import Clockwork, World
from titan.worker import protocol


class End(Protocol):
    """What an end of the link does with messages."""

    is_alive: bool
    clockwork: Clockwork

    def receive(self, message: protocol.Message) -> None:
        """The other end says something."""

    def disconnected(self, link: Link) -> None:
        """The other end is gone."""


class Link:
    """One connection. What was sent before an end died is read by the other."""

    def __init__(self, world: World, agent: End, host: End) -> None:
        self._world = world
        self._agent = agent
        self._host = host
        self._agent_is_there = True
        self._host_is_there = True
        self._last_to_agent_us = 0
        self._last_to_host_us = 0

    def to_agent(self, message: protocol.Message) -> None:
        """The host sends something."""
        self._last_to_agent_us = self._when(self._last_to_agent_us)
        sent = _over_the_socket(message)

        def arrive() -> None:
            if self._agent_is_there and self._agent.is_alive:
                self._agent.receive(sent)

        self._agent.clockwork.after(self._last_to_agent_us - self._world.now_us, arrive)

    def to_host(self, message: protocol.Message) -> None:
        """The agent sends something."""
        self._last_to_host_us = self._when(self._last_to_host_us)
        sent = _over_the_socket(message)

        def arrive() -> None:
            if self._host_is_there and self._host.is_alive:
                self._host.receive(sent)

        self._host.clockwork.after(self._last_to_host_us - self._world.now_us, arrive)

    def host_gone(self) -> None:
        """The host died: the agent finds out behind what was sent."""
        self._host_is_there = False
        self._last_to_agent_us = self._when(self._last_to_agent_us)

        def arrive() -> None:
            if self._agent_is_there and self._agent.is_alive:
                self._agent.disconnected(self)

        self._agent.clockwork.after(self._last_to_agent_us - self._world.now_us, arrive)

    def agent_gone(self) -> None:
        """The agent died: the host finds out behind what was sent."""
        self._agent_is_there = False
        self._last_to_host_us = self._when(self._last_to_host_us)

        def arrive() -> None:
            if self._host_is_there and self._host.is_alive:
                self._host.disconnected(self)

        self._host.clockwork.after(self._last_to_host_us - self._world.now_us, arrive)

    def drop_agent(self) -> None:
        """The host closes it for a newer agent's."""
        self._agent_is_there = False

    def _when(self, last_us: int) -> int:
        return max(last_us, self._world.now_us + self._world.random.randint(5, 200))


def _over_the_socket(message: protocol.Message) -> protocol.Message:
    """What the other end reads."""
    (decoded,) = protocol.Decoder().feed(protocol.encode(message))
    return decoded
