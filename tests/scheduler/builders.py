"""Workers with some of their room taken, without a history."""

from __future__ import annotations

from collections.abc import Sequence

from titan import events as ev
from titan.model import Resources
from titan.scheduler.policies import Choice, Policy
from titan.state.worker import Worker

NOTHING = Resources()


def worker(number: int, capacity: Resources, used: Resources = NOTHING) -> Worker:
    """A healthy worker of which so much is used."""
    built = Worker(
        ev.WorkerRegistered(
            number, b"%016d" % number, b"i", "", f"w{number}", "", capacity.cpus_milli,
            capacity.memory_bytes, capacity.named, (), "", b"",
        )
    )  # fmt: skip
    built.free_cpus_milli -= used.cpus_milli
    built.free_memory_bytes -= used.memory_bytes
    for name, count in used.named:
        built.free_named[name] = built.free_named.get(name, 0) - count
    # As after a registration: what is used up is not listed any more.
    built.free_named = {name: count for name, count in built.free_named.items() if count}
    return built


def choose_for(
    policy: Policy, feasible: Sequence[Worker], demand: Resources, pointer: int
) -> Choice | None:
    """What the policy says where each that has room may be chosen."""
    candidates = [each for each in feasible if each.has_room(demand)]
    return policy.choose(feasible, candidates, demand, pointer)
