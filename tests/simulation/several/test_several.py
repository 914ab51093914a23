"""Several managers over one journal under faults: a few seeds; `make simulate` runs more."""

from __future__ import annotations

from collections import Counter
from functools import cache

import pytest

from tests.simulation.__main__ import main
from tests.simulation.cluster import Outcome
from tests.simulation.several.cluster import run
from tests.simulation.several.plan import JournalFault, random_several_plan
from tests.simulation.several.test_scenarios import scenario_counts
from tests.simulation.test_simulation import blocks

SEEDS = 20

# What the fixed seeds must bring about, or they prove less than they seem to.
KINDS = (
    "a row is in doubt",
    "another manager tried",
    "copy is not in the journal",
    "deposed",
    "held back: the lease is over",
    "journal failed over",
    "journal full",
    "journal restarted",
    "led to the leader",
    "record followed",
    "records lost at a takeover",
    "refused: Append",
    "refused: Renew",
    "refused: Take",
    "rows lost that were not acknowledged",
    "rows lost that were seen",
    "slow commit",
    "started from a snapshot",
    "stepped down: another manager leads",
    "stepped down: nobody knows whether a row is there",
    "stepped down: the lease is over",
    "took over",
    "wait for the standby cancelled",
    *(f"fault: {each.value}" for each in JournalFault),
)


@cache
def outcome(seed: int) -> Outcome:
    """What comes of that seed's plan; run once."""
    return run(random_several_plan(seed))


@pytest.mark.parametrize("seeds", blocks(range(SEEDS)), ids=lambda seeds: f"from {seeds.start}")
def test_managers_with_faults_keep_their_promises_and_come_to_rest(seeds: range) -> None:
    for seed in seeds:
        outcome(seed)


def test_the_fixed_seeds_bring_about_everything_that_is_to_be_tried() -> None:
    counts: Counter[str] = Counter()
    for seed in range(SEEDS):
        counts.update(outcome(seed).counts)
    # What random plans rarely bring about is in plans of its own.
    for name in ("the leader stands still when its row is answered", "the journal restarts"):
        counts.update(scenario_counts(name))
    assert [kind for kind in KINDS if not counts[kind]] == []


def test_one_seed_is_one_run_to_the_byte() -> None:
    assert run(random_several_plan(1)) == outcome(1)


def test_the_command_runs_seeds_of_several_managers(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--several", "--seed", "1"]) == 0
    assert f"has the hash {outcome(1).trace_hash}\n" in capsys.readouterr().out
    assert main(["--several", "--seeds", "2", "--processes", "1"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("2 seeds in ")


def test_one_that_slept_over_the_answer_to_its_taking_reads_the_rest_once() -> None:
    """In seed 163 it also went on to look for news, and found the same rows twice."""
    outcome(163)
