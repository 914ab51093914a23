"""`python -m tests.simulation`, which is `make simulate`."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from tests.simulation.__main__ import main
from tests.simulation.cluster import run
from tests.simulation.plan import random_plan
from tests.simulation.test_mutations import MISTAKES, changed


def test_one_seed_is_shown_with_all_that_happens_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seed", "3"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"seed 3: {random_plan(3)}\n")
    assert " record 1: 2 events, ClusterCreated ManagerStarted\n" in shown
    assert f"has the hash {run(random_plan(3)).trace_hash}\n" in shown


def test_many_seeds_run_in_several_processes_and_are_counted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--seed", "3", "--seeds", "6", "--processes", "2"]) == 0
    counts: Counter[str] = Counter()
    for seed in range(3, 9):
        counts.update(run(random_plan(seed)).counts)
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "seeds from 3 in 2 processes until all are done"
    assert shown[-1].startswith("6 seeds in ")
    assert shown[-1].endswith(", 0 failed")
    at = shown.index("what happened, how often, and in which seed first:") + 1
    told = [line.strip().rsplit(maxsplit=2) for line in shown[at : at + len(counts)]]
    assert [[kind, count] for kind, count, _ in told] == [
        [kind, f"{count:,}"] for kind, count in sorted(counts.items())
    ]
    assert {seed for _, _, seed in told} <= set("345678")


def test_the_first_seed_that_fails_is_told_with_what_repeats_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with changed(*MISTAKES["what is not durable is let out"]):
        assert main(["--seed", "4", "--seeds", "4", "--processes", "2", "--keep-going"]) == 1
        shown = capsys.readouterr().out
        assert "seed 4 failed: Violation(" in shown
        assert "others that failed: 5, 6, 7" in shown
        assert "'make simulate SEED=4' repeats it" in shown
        assert main(["--seed", "4"]) == 1
    assert "seed 4 failed: Violation(" in capsys.readouterr().err


def test_when_the_time_is_over_no_seed_is_begun(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--minutes", "0"]) == 0
    # However long it took to see that.
    assert re.search(r"^0 seeds in \d+ s", capsys.readouterr().out, re.MULTILINE)
