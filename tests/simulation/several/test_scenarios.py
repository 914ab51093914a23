"""Named runs of several managers: one situation each in the smallest cluster that gets into it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cache

import pytest

from tests.simulation.plan import Fault, FaultPlan, JobPlan, Plan
from tests.simulation.several.cluster import run
from tests.simulation.several.plan import JournalFault, JournalFaultPlan, SeveralPlan
from tests.simulation.test_scenarios import job
from tests.simulation.test_scenarios import plan as cluster_plan
from tests.simulation.wishes import SchedulingPlan


def fault(
    kind: JournalFault, at_ms: int, for_ms: int = 0, *, manager: int = -1, down_ms: int = 300
) -> JournalFaultPlan:
    """A fault that strikes the manager that leads, if it strikes one."""
    return JournalFaultPlan(
        at_ms=at_ms, fault=kind, manager=manager, for_ms=for_ms, down_ms=down_ms
    )


def plan(
    faults: list[JournalFaultPlan], jobs: list[JobPlan] | None = None, *, managers: int = 2,
    seed: int = 1, late_percent: int = 0,
) -> SeveralPlan:  # fmt: skip
    """Two workers, with something to do all the time, and managers over one journal."""
    cluster: Plan = cluster_plan(jobs or BUSY, [], workers=2, seed=seed)
    return SeveralPlan(
        cluster=cluster, managers=managers, faults=tuple(faults), late_percent=late_percent
    )


BUSY = [job(200, 300, 1_500, submit_ms=each * 700, tasks=4) for each in range(12)]
ONCE = [
    replace(job(30_000, submit_ms=1_000 + each), scheduling=SchedulingPlan(at_most_once=True))
    for each in range(2)
]

# Nothing is to be written: no worker is heard of.
IDLE = cluster_plan(
    [job(300, submit_ms=101_000)],
    [FaultPlan(at_ms=0, fault=Fault.CUT_ALL, worker=0, for_ms=100_000, detail=0)],
)

SCENARIOS: dict[str, SeveralPlan] = {
    "nothing happens": plan([]),
    "the leader is killed": plan([fault(JournalFault.LEADER_KILLED, 3_000, 9_000)]),
    "the leader stands still past its lease and goes on": plan(
        [fault(JournalFault.LEADER_STALLS, at_ms, 7_000) for at_ms in (2_000, 11_000)]
    ),
    "the leader's machine is suspended past its lease": plan(
        [fault(JournalFault.LEADER_SLEEPS, at_ms, 7_000) for at_ms in (2_000, 11_000)]
    ),
    "what runs at most once outlives its leader": plan(
        [fault(JournalFault.LEADER_STALLS, 5_000, 9_000)], ONCE
    ),
    "the leader is cut off from the journal": plan(
        [fault(JournalFault.CUT_FROM_JOURNAL, at_ms, 6_000) for at_ms in (2_000, 12_000)]
    ),
    "the leader's questions reach the journal and the answers do not come": plan(
        [fault(JournalFault.CUT_ANSWERS, at_ms, 6_000) for at_ms in (2_000, 12_000)]
    ),
    "the journal restarts": plan(
        [fault(JournalFault.JOURNAL_RESTARTED, at_ms) for at_ms in range(2_000, 12_000, 1_500)]
    ),
    "the journal fails over again and again": plan(
        [fault(JournalFault.JOURNAL_FAILS_OVER, at_ms) for at_ms in range(2_000, 12_000, 1_500)]
    ),
    "the standby takes over that lacks what was told with a warning": plan(
        [fault(JournalFault.LOST_AFTER_CANCEL, at_ms, 1_500) for at_ms in (2_000, 10_000, 18_000)],
        [job(200, submit_ms=each * 300) for each in range(60)],
    ),
    "the journal is slow beyond the lease": plan(
        [fault(JournalFault.STANDBY_LAGS, at_ms, 6_000) for at_ms in (2_000, 12_000)]
    ),
    "the leader stands still when its row is answered": plan(
        [
            fault(JournalFault.STANDBY_LAGS, 2_000, 2_500),
            fault(JournalFault.LEADER_STALLS, 2_500, 12_000),
        ]
    ),
    "the leader is killed while its row is under way": plan(
        [
            fault(JournalFault.STANDBY_LAGS, 2_000, 6_000),
            fault(JournalFault.LEADER_KILLED, 2_200, 300),
        ]
    ),
    "a renewal was answered late, and the next ones do not come through": replace(
        plan(
            [
                each
                for at_ms in range(2_000, 90_000, 11_550)
                for each in (
                    fault(JournalFault.STANDBY_LAGS, at_ms, 1_320),
                    fault(JournalFault.CUT_FROM_JOURNAL, at_ms + 1_325, 6_000),
                )
            ]
        ),
        cluster=IDLE,
    ),
    "a renewal was told with a warning and is lost, and the next ones do not come through": replace(
        plan(
            [
                each
                for at_ms in range(2_000, 90_000, 11_550)
                for each in (
                    fault(JournalFault.LOST_AFTER_CANCEL, at_ms, 1_320, down_ms=20),
                    fault(JournalFault.CUT_FROM_JOURNAL, at_ms + 1_350, 6_000),
                )
            ]
        ),
        cluster=IDLE,
    ),
    "the journal is full for a while": plan([fault(JournalFault.JOURNAL_FULL, 2_000, 6_000)]),
    "copies are lost": plan(
        [fault(JournalFault.COPY_LOST, 3_000, 300), fault(JournalFault.COPY_LOST, 9_000, 300)],
        managers=3,
    ),
    "the network to the journal is bad": plan([], late_percent=10, managers=3),
}


@cache
def scenario_counts(name: str) -> Counter[str]:
    """What a scenario brings about under its first seeds; run once."""
    counts: Counter[str] = Counter()
    scenario = SCENARIOS[name]
    for seed in (1, 2):
        outcome = run(replace(scenario, cluster=replace(scenario.cluster, seed=seed)))
        counts.update(outcome.counts)
    return counts


@pytest.mark.parametrize("name", SCENARIOS)
def test_managers_keep_their_promises(name: str) -> None:
    assert scenario_counts(name)["took over"]
