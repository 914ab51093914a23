"""A list of managers, as each client and each worker has one.

Keeps the rule of the real ones: whoever does not lead says so, and who does if it knows that; then,
or when nobody answers, the next of the list is called, or the one that was named if it is in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

import grpc

from tests.simulation.network import Answer, Reply
from tests.simulation.world import World

_MOVING_ON: Final = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


def not_leader(leader: str) -> Answer:
    """What a manager answers that does not lead, with the address of who does, or ""."""
    return Answer(grpc.StatusCode.UNAVAILABLE, leader, "this manager does not lead")


class Addresses:
    """Which manager each caller calls now."""

    def __init__(self, managers: Sequence[str], world: World) -> None:
        self._managers = list(managers)
        self._world = world
        self._at: dict[str, int] = {}

    def resolve(self, source: str, done: Reply) -> tuple[str, Reply]:
        """The manager that this caller is to call, and what is to be told of the answer."""
        at = self._at.setdefault(source, 0)
        return self._managers[at], partial(self._answered, source, at, done)

    def _answered(self, source: str, at: int, done: Reply, answer: Answer) -> None:
        if answer.status in _MOVING_ON and at == self._at[source]:
            named = answer.message if answer.message in self._managers else None
            self._world.count("led to the leader" if named else "another manager tried")
            following = (at + 1) % len(self._managers)
            self._at[source] = self._managers.index(named) if named else following
        done(answer)
