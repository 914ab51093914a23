"""Placement policies: which of the workers that could take a task gets it.

All arithmetic is on integers and fractions are compared by cross-multiplication, so
the choice is the same on every machine. F below are the feasible workers: healthy and
not draining, and large enough for the task when empty. C are those of F with room for it now.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from titan.model import Resources
from titan.state.job_events import RULE_ROUND_ROBIN
from titan.state.worker import Worker

RULE_BEST: Final = 2


class Choice(NamedTuple):
    """A worker, and the rule that chose it."""

    worker: Worker
    rule: int


# (F in rising number, the demand, the worker of the last round-robin assignment) → the choice.
Chooser = Callable[[Sequence[Worker], Resources, int], Choice | None]


class Policy(NamedTuple):
    """A policy. Code and version stand in every assignment that it made."""

    name: str
    code: int
    version: int
    choose: Chooser


def choose_round_robin_then_bin_packing(
    feasible: Sequence[Worker], demand: Resources, pointer: int
) -> Choice | None:
    """While every worker of F has room they take turns; then the best fit packs them full."""
    candidates = [worker for worker in feasible if worker.has_room(demand)]
    if len(candidates) == len(feasible):
        return _next_in_turn(candidates, pointer)
    return _best_fit(feasible, candidates, demand)


def choose_round_robin(
    feasible: Sequence[Worker], demand: Resources, pointer: int
) -> Choice | None:
    """The workers of C take turns."""
    return _next_in_turn([worker for worker in feasible if worker.has_room(demand)], pointer)


def choose_bin_packing(
    feasible: Sequence[Worker], demand: Resources, pointer: int
) -> Choice | None:
    """The worker of C that the task fills best."""
    return _best_fit(feasible, [each for each in feasible if each.has_room(demand)], demand)


def choose_spread(feasible: Sequence[Worker], demand: Resources, pointer: int) -> Choice | None:
    """The worker of C that keeps the most room."""
    candidates = [worker for worker in feasible if worker.has_room(demand)]
    if not candidates:
        return None
    order = _resources_by_use(feasible, demand)
    best = min(
        candidates,
        key=lambda worker: ([-_left(worker, demand, each) for each in order], worker.number),
    )
    return Choice(best, RULE_BEST)


POLICIES: Final = {
    policy.name: policy
    for policy in (
        Policy("round-robin-then-bin-packing", 1, 1, choose_round_robin_then_bin_packing),
        Policy("round-robin", 2, 1, choose_round_robin),
        Policy("bin-packing", 3, 1, choose_bin_packing),
        Policy("spread", 4, 1, choose_spread),
    )
}
DEFAULT_POLICY: Final = "round-robin-then-bin-packing"


def _next_in_turn(candidates: Sequence[Worker], pointer: int) -> Choice | None:
    if not candidates:
        return None
    for worker in candidates:
        if worker.number > pointer:
            return Choice(worker, RULE_ROUND_ROBIN)
    return Choice(candidates[0], RULE_ROUND_ROBIN)


def _best_fit(
    feasible: Sequence[Worker], candidates: Sequence[Worker], demand: Resources
) -> Choice | None:
    """Least left of the scarcest resource that is asked for, then of the others."""
    if not candidates:
        return None
    if len(candidates) == 1:
        return Choice(candidates[0], RULE_BEST)
    order = _resources_by_use(feasible, demand)
    best = min(
        candidates,
        key=lambda worker: ([_left(worker, demand, each) for each in order], worker.number),
    )
    return Choice(best, RULE_BEST)


def _resources_by_use(feasible: Sequence[Worker], demand: Resources) -> list[str]:
    """The resources asked for: first r*, the one most used over F, then cpus, memory, names."""
    asked = [
        *(["cpus"] if demand.cpus_milli else []),
        *(["memory"] if demand.memory_bytes else []),
        *(name for name, _ in demand.named),
    ]
    if len(asked) < 2:
        return asked
    scarcest = asked[0]
    used, capacity = _use(feasible, scarcest)
    for each in asked[1:]:
        used_here, capacity_here = _use(feasible, each)
        if used_here * capacity > used * capacity_here:
            scarcest, used, capacity = each, used_here, capacity_here
    return [scarcest, *(each for each in asked if each != scarcest)]


def _use(feasible: Sequence[Worker], resource: str) -> tuple[int, int]:
    capacity = sum(_amount(worker.capacity, resource) for worker in feasible)
    return capacity - sum(_free(worker, resource) for worker in feasible), capacity


def _left(worker: Worker, demand: Resources, resource: str) -> int:
    return _free(worker, resource) - _amount(demand, resource)


def _free(worker: Worker, resource: str) -> int:
    if resource == "cpus":
        return worker.free_cpus_milli
    if resource == "memory":
        return worker.free_memory_bytes
    return worker.free_named.get(resource, 0)


def _amount(resources: Resources, resource: str) -> int:
    if resource == "cpus":
        return resources.cpus_milli
    if resource == "memory":
        return resources.memory_bytes
    return dict(resources.named).get(resource, 0)
