"""A simulation that finds nothing proves nothing: each of these mistakes it must find."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.simulation.cluster import SimulationFailed
from tests.simulation.network import Answer
from tests.simulation.several.cluster import run
from tests.simulation.several.leader import Leader
from tests.simulation.several.machine import ReplicaMachine
from tests.simulation.several.plan import SeveralPlan, random_several_plan
from tests.simulation.several.replica import LEASE_SECONDS, Replica
from tests.simulation.several.server import Server
from tests.simulation.several.test_scenarios import SCENARIOS
from tests.simulation.test_mutations import changed
from titan.journal.lease import Deadline

# After the named scenarios, which find most.
SEEDS_MAX = 40


def always(*_: Any, **__: Any) -> bool:
    return True


def never(*_: Any, **__: Any) -> bool:
    return False


def leave_at_any_time(leader: Leader, action: Any) -> None:
    leader.view.leaves("something")
    action()


def count_from_the_answer(replica: Replica, _: int) -> Deadline:
    return Deadline.of(replica.machine.boot_ns(), LEASE_SECONDS)


def count_without_a_margin(_: Replica, asked_ns: int) -> Deadline:
    return Deadline(asked_ns, LEASE_SECONDS, 0.0)


def tell_monotonic_time(machine: ReplicaMachine) -> int:
    return machine.monotonic_ns()


def lead_at_once(replica: Replica) -> None:
    replica._lead()


def take_doubt_for_success(leader: Leader, row: Any, answer: Answer) -> None:
    leader._is_there(row)


def take_warnings_for_success(leader: Leader, answer: Answer) -> bool:
    return not answer.is_ok


def tell_of_no_doubt(leader: Leader, row: Any, answer: Answer) -> None:
    """What nobody knows of is dropped, and the next row goes where it went."""
    if leader.is_alive and leader._is_in_doubt(answer):
        leader._advance(row.last_lsn)
    came(leader, row, answer)


def lead_on_after_doubt(replica: Replica, why: str) -> None:
    """The same process follows, with all that it had decided."""
    if "knows" not in why:
        step_down(replica, why)
        return
    leader, replica.leader = replica.leader, None
    if leader is not None:
        leader.is_alive = False
        leader.view.looked_at(leader.kernel)
        replica.position = leader._position
    replica._term, replica._deadline = 0, None
    replica._poll()
    replica._look_at_lease()


def renew_whatever_was_warned(replica: Replica, asked_ns: int, answer: Answer) -> None:
    renewed(replica, asked_ns, Answer(answer.status, answer.message._replace(warned=False)))


def keep_a_copy_that_is_not_there(replica: Replica, found: Any) -> bool:
    return True if not hasattr(found, "rows") else apply(replica, found)


apply = Replica._apply
came = Leader._came
renewed = Replica._renewed
step_down = Replica.step_down

MISTAKES: dict[str, tuple[tuple[Any, Any, Any], ...]] = {
    "the lease is not looked at before something leaves": ((Leader, "let_out", leave_at_any_time),),
    "the lease is not looked at when a call comes in": ((Leader, "leads", always),),
    "the deadline counts from the answer": ((Replica, "_deadline_of", count_from_the_answer),),
    "the deadline has no margin": ((Replica, "_deadline_of", count_without_a_margin),),
    "the deadline does not count time in suspension": (
        (ReplicaMachine, "boot_ns", tell_monotonic_time),
    ),
    "a row is accepted from whatever term": ((Server, "_has_term", always),),
    "the lease is taken while a row is under way": ((Server, "_take_must_wait", never),),
    "the lease is taken while it holds": ((Server, "_is_over", always),),
    "the rest is not read before a manager leads": ((Replica, "_wait_for_reading", lead_at_once),),
    "doubt is taken for success": ((Leader, "_came", take_doubt_for_success),),
    "doubt is told as success": ((Leader, "_came", tell_of_no_doubt),),
    "a warning is taken for success": ((Leader, "_is_in_doubt", take_warnings_for_success),),
    "a renewal counts whatever the warning": ((Replica, "_renewed", renew_whatever_was_warned),),
    "what was decided outlives a step down": ((Replica, "step_down", lead_on_after_doubt),),
    "a copy that is not in the journal is kept": (
        (Replica, "_apply", keep_a_copy_that_is_not_there),
    ),
}


# Where each is found: all plans up to there would take longer.
FOUND_BY: dict[str, tuple[Any, ...]] = {
    "the lease is not looked at before something leaves": (
        "the leader stands still when its row is answered",
    ),
    "the deadline counts from the answer": (
        "a renewal was answered late, and the next ones do not come through",
    ),
    "the deadline has no margin": (
        "a renewal was told with a warning and is lost, and the next ones do not come through",
    ),
    "the deadline does not count time in suspension": (
        "the leader's machine is suspended past its lease",
    ),
    "a row is accepted from whatever term": ("the network to the journal is bad", 2),
    "the lease is taken while a row is under way": ("the journal restarts",),
    "the rest is not read before a manager leads": (
        "the standby takes over that lacks what was told with a warning",
    ),
    "doubt is taken for success": ("the journal restarts",),
    "doubt is told as success": ("the journal restarts",),
    "a warning is taken for success": (
        "the standby takes over that lacks what was told with a warning",
    ),
    "a renewal counts whatever the warning": (
        "a renewal was told with a warning and is lost, and the next ones do not come through",
    ),
    "what was decided outlives a step down": ("the journal restarts",),
    "a copy that is not in the journal is kept": (
        "the standby takes over that lacks what was told with a warning",
    ),
}


def named(name: str, seed: int = 1) -> SeveralPlan:
    scenario = SCENARIOS[name]
    return replace(scenario, cluster=replace(scenario.cluster, seed=seed))


def plans(mistake: str) -> Iterator[SeveralPlan]:
    # What it found once may be found elsewhere by now: all others are run as well.
    if mistake in FOUND_BY:
        yield named(*FOUND_BY[mistake])
    for seed in (1, 2, 3):
        yield from (named(each, seed) for each in SCENARIOS)
    yield from map(random_several_plan, range(SEEDS_MAX))


def run_all(mistake: str) -> None:
    for plan in plans(mistake):
        run(plan)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_simulation_finds_the_mistake(mistake: str) -> None:
    with changed(*MISTAKES[mistake]), pytest.raises(SimulationFailed) as failed:
        run_all(mistake)
    # It is the mistake that was found, not that it is made in a way that does not fit any more.
    assert not isinstance(failed.value.__cause__, AttributeError | NameError | TypeError)
