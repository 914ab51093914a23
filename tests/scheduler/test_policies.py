"""The placement policies, each against a dumb one written from its definition.

The default: F = the healthy workers that could take the task when empty; C = those of F
with room now. C = F: the next worker in number after the last round-robin assignment.
Else best fit: r* = the asked resource with the highest used ÷ capacity over F; the
worker of C with the least free(r*) - demand(r*); ties by the other asked resources in
the order cpus, memory, names, then by the lowest number.
"""

from __future__ import annotations

import random
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.scheduler.builders import choose_for, worker
from titan.model import Resources, named_resources
from titan.scheduler.policies import (
    DEFAULT_POLICY,
    POLICIES,
    RULE_BEST,
    Choice,
)
from titan.state.job_events import RULE_ROUND_ROBIN
from titan.state.worker import Worker

GPU2 = (("gpu", 2),)


def as_fractions(resources: Resources) -> dict[str, Fraction]:
    """Every resource by its name."""
    amounts = {"cpus": Fraction(resources.cpus_milli, 1000), "memory": Fraction(resources[1])}
    return amounts | {name: Fraction(count) for name, count in resources.named}


class Dumb:
    """One decision, step by step as the definition says it."""

    def __init__(self, workers: list[Worker], demand: Resources, pointer: int) -> None:
        self.asked = {name: n for name, n in as_fractions(demand).items() if n > 0}
        self.capacity = {each.number: as_fractions(each.capacity) for each in workers}
        self.free = {each.number: as_fractions(each.free) for each in workers}
        self.pointer = pointer
        self.feasible = [n for n in self.capacity if self.has(self.capacity[n])]
        self.candidates = [n for n in self.feasible if self.has(self.free[n])]

    def has(self, room: dict[str, Fraction]) -> bool:
        # A worker that was promised more cpus or memory than it has takes nothing at all.
        needed = {"cpus": Fraction(0), "memory": Fraction(0)} | self.asked
        return all(room.get(name, Fraction(0)) >= n for name, n in needed.items())

    def in_turn(self) -> tuple[int, int]:
        after = [number for number in self.candidates if number > self.pointer]
        return min(after or self.candidates), RULE_ROUND_ROBIN

    def load(self, name: str) -> Fraction:
        capacity = sum(
            (self.capacity[n].get(name, Fraction(0)) for n in self.feasible), Fraction(0)
        )
        free = sum((self.free[n].get(name, Fraction(0)) for n in self.feasible), Fraction(0))
        return (capacity - free) / capacity

    def order(self) -> list[str]:
        names: list[str] = [name for name in ("cpus", "memory") if name in self.asked]
        names += sorted(name for name in self.asked if name not in ("cpus", "memory"))
        highest = max((self.load(name) for name in names), default=Fraction(0))
        first = [name for name in names if self.load(name) == highest][:1]
        return first + [name for name in names if name not in first]

    def best(self, sign: int) -> tuple[int, int]:
        left = self.candidates
        for name in self.order():
            rest = {
                n: sign * (self.free[n].get(name, Fraction(0)) - self.asked[name]) for n in left
            }
            least = min(rest.values())
            left = [n for n in left if rest[n] == least]
        return min(left), RULE_BEST

    def choose(self, policy: str) -> tuple[int, int] | None:
        if not self.candidates:
            return None
        if policy == "round-robin":
            return self.in_turn()
        if policy == "bin-packing":
            return self.best(1)
        if policy == "spread":
            return self.best(-1)
        assert policy == "round-robin-then-bin-packing"
        return self.in_turn() if self.candidates == self.feasible else self.best(1)


def check(policy: str, workers: list[Worker], demand: Resources, pointer: int) -> str:
    dumb = Dumb(workers, demand, pointer)
    feasible = [each for each in workers if demand.fits_in(each.capacity)]
    assert [each.number for each in feasible] == dumb.feasible
    choice = choose_for(POLICIES[policy], feasible, demand, pointer)
    got = None if choice is None else (choice.worker.number, choice.rule)
    assert got == dumb.choose(policy)
    if got is None:
        return "none"
    if dumb.candidates == dumb.feasible:
        return "all"
    return "some" if len(dumb.candidates) > 1 else "one"


def random_cluster(rng: random.Random) -> tuple[list[Worker], Resources, int]:
    """Few sizes, so that ties are frequent; some workers over-promised, as after a return."""

    def some(most: Resources, over: int = 0) -> Resources:
        return Resources(
            rng.choice([0, 1, 2, 4, 4 + over]) * most.cpus_milli // 4,
            rng.choice([0, 1, 2, 4]) * most.memory_bytes // 4,
            named_resources((name, rng.randint(0, count)) for name, count in most.named),
        )

    workers = []
    for number in sorted(rng.sample(range(1, 20), rng.randint(1, 8))):
        capacity = Resources(
            rng.choice([1000, 4000, 4000, 64000]),
            rng.choice([0, 8 << 30, 8 << 30, (1 << 40) + 1]),
            named_resources((name, rng.choice([0, 2, 4])) for name in ("gpu", "a licence")),
        )
        workers.append(worker(number, capacity, some(capacity, over=1)))
    demand = Resources(
        rng.choice([1, 500, 1000, 3000]),
        rng.choice([0, 0, 1, 2 << 30]),
        named_resources((name, rng.choice([0, 0, 1, 2])) for name in ("gpu", "a licence")),
    )
    return workers, demand, rng.choice([0, *range(1, 21)])


@pytest.mark.parametrize("policy", POLICIES)
def test_a_policy_chooses_as_its_definition_on_thousands_of_clusters(policy: str) -> None:
    rng = random.Random(f"clusters of {policy}")
    seen = [check(policy, *random_cluster(rng)) for _ in range(3_000)]
    assert all(seen.count(kind) > 100 for kind in ("none", "all", "some", "one"))


@given(st.integers(0, 1 << 60))
def test_the_default_policy_chooses_as_its_definition_on_drawn_clusters(seed: int) -> None:
    check(DEFAULT_POLICY, *random_cluster(random.Random(seed)))


def choose(
    policy: str, workers: list[Worker], demand: Resources, pointer: int = 0
) -> Choice | None:
    return choose_for(POLICIES[policy], workers, demand, pointer)


def test_the_four_policies_have_their_names_codes_and_versions() -> None:
    assert [(each.name, each.code, each.version) for each in POLICIES.values()] == [
        ("round-robin-then-bin-packing", 1, 1),
        ("round-robin", 2, 1),
        ("bin-packing", 3, 1),
        ("spread", 4, 1),
    ]
    assert all(name == each.name for name, each in POLICIES.items())
    assert DEFAULT_POLICY == "round-robin-then-bin-packing"


def test_while_all_have_room_they_take_turns_by_number_from_the_pointer_on() -> None:
    workers = [worker(number, Resources(9000)) for number in (2, 5, 7)]
    turns = []
    pointer = 0
    for _ in range(5):
        choice = choose(DEFAULT_POLICY, workers, Resources(1000), pointer)
        assert choice is not None
        assert choice.rule == RULE_ROUND_ROBIN
        pointer = choice.worker.number
        turns.append(pointer)
    assert turns == [2, 5, 7, 2, 5]


def test_a_worker_too_small_for_the_task_does_not_end_the_turns() -> None:
    """F holds only what could take it when empty, so C = F still."""
    workers = [worker(2, Resources(2000)), worker(3, Resources(2000), Resources(500))]
    choice = choose(DEFAULT_POLICY, workers, Resources(1500), 2)
    assert choice == Choice(workers[1], RULE_ROUND_ROBIN)


def test_once_one_is_full_the_fullest_that_has_room_is_filled() -> None:
    workers = [
        worker(1, Resources(4000), Resources(4000)),
        worker(2, Resources(4000), Resources(1000)),
        worker(3, Resources(4000), Resources(3000)),
    ]
    assert choose(DEFAULT_POLICY, workers, Resources(1000)) == Choice(workers[2], RULE_BEST)


def test_the_scarcest_resource_decides_before_the_others() -> None:
    """Memory is used more than cpus over all; so the worker with the least memory left."""
    full = worker(1, Resources(8000, 1000), Resources(0, 1000))
    much = worker(2, Resources(8000, 1000), Resources(6000, 100))
    little = worker(3, Resources(8000, 1000), Resources(0, 800))
    demand = Resources(1000, 100)
    assert choose(DEFAULT_POLICY, [full, much, little], demand) == Choice(little, RULE_BEST)
    assert choose("bin-packing", [full, much, little], demand) == Choice(little, RULE_BEST)
    assert choose("spread", [full, much, little], demand) == Choice(much, RULE_BEST)


def test_a_resource_that_is_not_asked_for_decides_nothing() -> None:
    full = worker(1, Resources(1000, 10, GPU2), Resources(1000, 10, GPU2))
    one = worker(2, Resources(4000, 10, GPU2), Resources(1000, 10, GPU2))
    other = worker(3, Resources(4000, 10, GPU2), Resources(2000))
    assert choose(DEFAULT_POLICY, [full, one, other], Resources(1000)) == Choice(other, RULE_BEST)


def test_with_no_room_anywhere_nobody_is_chosen() -> None:
    workers = [worker(1, Resources(1000), Resources(1)), worker(2, Resources(1000), Resources(900))]
    for policy in POLICIES:
        assert choose(policy, workers, Resources(1000)) is None
        assert choose(policy, [], Resources(1000)) is None
