"""Placement policies: which of the workers that could take a task gets it.

F below are the feasible workers: those that get tasks, that the constraints allow, and that are
large enough for the task when empty. C are those of F where it may start now. All arithmetic is
on integers and fractions are compared by cross-multiplication, so the choice is the same on every
machine. What stands here is what the policies mean; `search.py` finds the same without a look
at each worker.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from titan.model import Resources
from titan.scheduling import PLACEMENTS
from titan.state.job_events import RULE_ROUND_ROBIN
from titan.state.worker import Worker

RULE_BEST: Final = 2
RULE_NAMES: Final = {0: "ahead", RULE_ROUND_ROBIN: "round-robin", RULE_BEST: "best"}


class Choice(NamedTuple):
    """A worker, and the rule that chose it."""

    worker: Worker
    rule: int


# (F and C by number, the demand, the worker of the last round-robin assignment) → the choice.
Chooser = Callable[[Sequence[Worker], Sequence[Worker], Resources, int], Choice | None]


class Policy(NamedTuple):
    """A policy. Code and version stand in every assignment that it made."""

    name: str
    code: int
    version: int
    choose: Chooser
    takes_turns: bool
    """Whether all of F, while it is C, are gone through by number."""
    fills: bool
    """Whether the best is the one with the least left; else with the most."""
    always_takes_turns: bool = False
    """Whether they take turns however few are left."""


def choose_round_robin_then_bin_packing(
    feasible: Sequence[Worker], candidates: Sequence[Worker], demand: Resources, pointer: int
) -> Choice | None:
    """While every worker of F has room they take turns; then the best fit packs them full."""
    if len(candidates) == len(feasible):
        return next_in_turn(candidates, pointer)
    return best_fit(feasible, candidates, demand)


def choose_round_robin(
    feasible: Sequence[Worker], candidates: Sequence[Worker], demand: Resources, pointer: int
) -> Choice | None:
    """The workers of C take turns."""
    return next_in_turn(candidates, pointer)


def choose_bin_packing(
    feasible: Sequence[Worker], candidates: Sequence[Worker], demand: Resources, pointer: int
) -> Choice | None:
    """The worker of C that the task fills best."""
    return best_fit(feasible, candidates, demand)


def choose_spread(
    feasible: Sequence[Worker], candidates: Sequence[Worker], demand: Resources, pointer: int
) -> Choice | None:
    """The worker of C that keeps the most room."""
    if not candidates:
        return None
    order = resources_by_use(feasible, demand)
    best = min(
        candidates,
        key=lambda worker: ([-_left(worker, demand, each) for each in order], worker.number),
    )
    return Choice(best, RULE_BEST)


_POLICIES: Final = (
    Policy(PLACEMENTS[0], 1, 1, choose_round_robin_then_bin_packing, True, True),
    Policy(PLACEMENTS[1], 2, 1, choose_round_robin, True, True, True),
    Policy(PLACEMENTS[2], 3, 1, choose_bin_packing, False, True),
    Policy(PLACEMENTS[3], 4, 1, choose_spread, False, False),
)
POLICIES: Final = {policy.name: policy for policy in _POLICIES}
POLICY_OF_CODE: Final = {policy.code: policy for policy in _POLICIES}
DEFAULT_POLICY: Final = PLACEMENTS[0]


def next_in_turn(candidates: Sequence[Worker], pointer: int) -> Choice | None:
    """The first one behind the pointer, else the first one."""
    if not candidates:
        return None
    for worker in candidates:
        if worker.number > pointer:
            return Choice(worker, RULE_ROUND_ROBIN)
    return Choice(candidates[0], RULE_ROUND_ROBIN)


def best_fit(
    feasible: Sequence[Worker], candidates: Sequence[Worker], demand: Resources
) -> Choice | None:
    """Least left of the scarcest resource that is asked for, then of the others."""
    if not candidates:
        return None
    if len(candidates) == 1:
        return Choice(candidates[0], RULE_BEST)
    order = resources_by_use(feasible, demand)
    best = min(
        candidates,
        key=lambda worker: ([_left(worker, demand, each) for each in order], worker.number),
    )
    return Choice(best, RULE_BEST)


def resources_by_use(feasible: Sequence[Worker], demand: Resources) -> list[str]:
    """The resources asked for: first r*, the one most used over F, then cpus, memory, names."""
    asked = asked_resources(demand)
    if len(asked) < 2:
        return asked
    scarcest = most_used(asked, lambda resource: _use(feasible, resource))
    return [scarcest, *(each for each in asked if each != scarcest)]


def asked_resources(demand: Resources) -> list[str]:
    """What is asked for, in the order cpus, memory, names."""
    return [
        *(["cpus"] if demand.cpus_milli else []),
        *(["memory"] if demand.memory_bytes else []),
        *(name for name, _ in demand.named),
    ]


def most_used(asked: Sequence[str], use: Callable[[str], tuple[int, int]]) -> str:
    """The resource with the highest used ÷ capacity, the first of those; `use` tells both."""
    scarcest = asked[0]
    used, capacity = use(scarcest)
    for each in asked[1:]:
        used_here, capacity_here = use(each)
        if used_here * capacity > used * capacity_here:
            scarcest, used, capacity = each, used_here, capacity_here
    return scarcest


def amount_of(resources: Resources, resource: str) -> int:
    """How much of one resource that is."""
    if resource == "cpus":
        return resources.cpus_milli
    if resource == "memory":
        return resources.memory_bytes
    return dict(resources.named).get(resource, 0)


def free_of(worker: Worker, resource: str) -> int:
    """How much of one resource the worker has free."""
    if resource == "cpus":
        return worker.free_cpus_milli
    if resource == "memory":
        return worker.free_memory_bytes
    return worker.free_named.get(resource, 0)


def _use(feasible: Sequence[Worker], resource: str) -> tuple[int, int]:
    capacity = sum(amount_of(worker.capacity, resource) for worker in feasible)
    return capacity - sum(free_of(worker, resource) for worker in feasible), capacity


def _left(worker: Worker, demand: Resources, resource: str) -> int:
    return free_of(worker, resource) - amount_of(demand, resource)
