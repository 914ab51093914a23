"""What classes have in common that no worker tells apart, and the pools that are in question."""

from __future__ import annotations

from titan.model import Resources
from titan.scheduler.fleet import Pool
from titan.scheduler.policies import amount_of, asked_resources, free_of
from titan.state.worker import Worker


class Shape:
    """What classes have in common that are told apart by no worker: demand and labels."""

    __slots__ = ("amounts", "asked", "demand", "full_at", "orders", "parts", "version", "whole")

    def __init__(self, demand: Resources) -> None:
        self.demand = demand
        self.asked = tuple(asked_resources(demand))
        self.amounts = {each: amount_of(demand, each) for each in self.asked}
        # The resources asked for, each of them first, with how much of them.
        self.orders = {first: _order(self.asked, first, self.amounts) for first in self.asked}
        # Pools of which each member is large enough, and those of which some are.
        self.whole: list[Pool] = []
        self.parts: list[Pool] = []
        # Of the fleet, when these were chosen.
        self.version = -1
        # How many gains there had been when nobody had room; -1: somebody may have.
        self.full_at = -1

    def members_of(self, pool: Pool) -> list[Worker]:
        """Those of a pool that are large enough."""
        return [each for each in pool.members.values() if self.demand.fits_in(each.capacity)]

    def use(self, resource: str) -> tuple[int, int]:
        """What is used of a resource over F, and how much there is."""
        capacity = free = 0
        for pool in self.whole:
            capacity += pool.capacity.get(resource, 0)
            free += pool.free.get(resource, 0)
        for pool in self.parts:
            for worker in self.members_of(pool):
                capacity += amount_of(worker.capacity, resource)
                free += free_of(worker, resource)
        return capacity - free, capacity


def takes(worker: Worker, demand: Resources) -> bool:
    """Whether a task of that demand, which does not mind others, has room there now."""
    return not worker.exclusive and worker.has_room(demand)


def _order(
    asked: tuple[str, ...], first: str, amounts: dict[str, int]
) -> tuple[tuple[str, ...], list[int]]:
    """The resources asked for, that one first, and how much of each."""
    order = asked
    if first != asked[0]:
        order = (first, *(each for each in asked if each != first))
    return order, [amounts[each] for each in order]
