"""Calls between processes on different machines, and all that may become of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol

import grpc

from tests.simulation.world import World

# The address under which all know the manager, or the managers.
MANAGER = "manager"


class Answer(NamedTuple):
    """What a call came back with: OK and a message, or another status."""

    status: grpc.StatusCode
    message: Any = None
    details: str = ""

    @property
    def is_ok(self) -> bool:
        """Whether it is an answer and no failure."""
        return self.status is grpc.StatusCode.OK


UNAVAILABLE = Answer(grpc.StatusCode.UNAVAILABLE, details="no connection")
DEADLINE = Answer(grpc.StatusCode.DEADLINE_EXCEEDED, details="no answer in time")
Reply = Callable[[Answer], None]


class Server(Protocol):
    """A process that can be called, as long as it lives."""

    node: str
    is_alive: bool

    def serve(self, method: str, request: Any, reply: Reply) -> None:
        """Answers with `reply`, now or later, once."""


class Addresses(Protocol):
    """Lists of managers, where there are several."""

    def resolve(self, source: str, done: Reply) -> tuple[str, Reply]:
        """Which manager this caller is to call, and what is to be told of the answer."""


class Call:
    """A call under way, as the caller has it."""

    def __init__(self, done: Reply) -> None:
        self._done: Reply | None = done

    @property
    def is_over(self) -> bool:
        """Whether the caller knows what became of it, or asks no more."""
        return self._done is None

    def finish(self, answer: Answer) -> None:
        """The caller learns of it, the first time."""
        done, self._done = self._done, None
        if done is not None:
            done(answer)


class Network:
    """Between the nodes. Bad until `heal`."""

    def __init__(
        self, world: World, *, lost_percent: int, doubled_percent: int, late_percent: int
    ) -> None:
        self._world = world
        # The machines of all workers, by name, and those of managers.
        self.workers: list[str] = []
        self.managers: list[str] = [MANAGER]
        self.addresses: Addresses | None = None
        self._lost = lost_percent
        self._doubled = doubled_percent
        self._late = late_percent
        # Which server is reached under an address.
        self.servers: dict[str, Server] = {}
        # The calls that reached each server, for when it dies.
        self._arrived: dict[Server, list[Call]] = {}
        # (from, to) and how many cuts lie upon it.
        self._cuts: dict[tuple[str, str], int] = {}
        # (from, to): how many messages were sent, and which of them that arrived was sent last.
        self._sent: Counter[tuple[str, str]] = Counter()
        self._arrived_last: Counter[tuple[str, str]] = Counter()

    def heal(self) -> None:
        """Nothing is lost, doubled or late any more; cuts end by themselves."""
        self._lost = self._doubled = self._late = 0

    def cut(self, source: str, target: str, for_us: int) -> None:
        """Nothing comes from there to here for so long."""
        self._cuts[source, target] = self._cuts.get((source, target), 0) + 1
        self._world.after(for_us, lambda: self._mend(source, target))

    def is_cut(self, source: str, target: str) -> bool:
        """Whether anything sent there is lost."""
        return self._cuts.get((source, target), 0) > 0

    def died(self, server: Server) -> None:
        """A process is gone: its connections break, which most callers learn of at once."""
        for call in self._arrived.pop(server, []):
            if not self._world.chance(20):
                self._world.after(self._delay(), partial(call.finish, UNAVAILABLE))

    def call(
        self, source: str, address: str, method: str, request: Any, deadline_us: int, done: Reply
    ) -> Call:
        """Calls whoever is reached under the address; `done` is called once."""
        world = self._world
        if address == MANAGER and self.addresses is not None:
            address, done = self.addresses.resolve(source, done)
        call = Call(done)
        world.after(deadline_us, lambda: call.finish(DEADLINE))
        server = self.servers.get(address)
        if server is not None and server.is_alive and world.chance(self._doubled):
            world.count("request doubled")
            self._carry(source, server, method, request, _Deaf())
        if server is None or not server.is_alive:
            # The first attempt to connect: refused, or nobody there to refuse it.
            if world.chance(20):
                world.count("call swallowed")
            else:
                world.after(self._delay(), lambda: call.finish(UNAVAILABLE))
            return call
        self._carry(source, server, method, request, call)
        return call

    def _mend(self, source: str, target: str) -> None:
        self._cuts[source, target] -= 1

    def _carry(self, source: str, server: Server, method: str, request: Any, call: Call) -> None:
        world = self._world
        way, way_back = (source, server.node), (server.node, source)

        def arrive() -> None:
            if not server.is_alive:
                if not world.chance(20):
                    call.finish(UNAVAILABLE)
                return
            waiting = self._arrived.setdefault(server, [])
            waiting[:] = [each for each in waiting if not each.is_over]
            waiting.append(call)
            server.serve(method, request, respond)

        def respond(answer: Answer) -> None:
            self._send(way_back, "answer", partial(call.finish, answer))

        self._send(way, "request", arrive)

    def _send(self, way: tuple[str, str], what: str, arrive: Callable[[], None]) -> None:
        """One message; it arrives, or it does not."""
        world = self._world
        if world.chance(self._lost):
            world.count(f"{what} lost")
            return
        self._sent[way] += 1
        number = self._sent[way]

        def come() -> None:
            if self.is_cut(*way):
                world.count(f"{what} lost in a cut")
                return
            if number < self._arrived_last[way]:
                world.count(f"{what} overtaken")
            else:
                self._arrived_last[way] = number
            arrive()

        if self.is_cut(*way):
            world.count(f"{what} lost in a cut")
        else:
            world.after(self._delay(), come)

    def _delay(self) -> int:
        if self._world.chance(self._late):
            self._world.count("message late")
            return self._world.random.randint(100_000, 15_000_000)
        return self._world.random.randint(50, 2_000)


class _Deaf(Call):
    """The call of a request that came twice: nobody hears the second answer."""

    def __init__(self) -> None:
        super().__init__(_ignore)


def _ignore(_: Answer) -> None:
    pass
