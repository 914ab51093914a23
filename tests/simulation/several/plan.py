"""What happens to several managers and their journal, beside what happens to any cluster."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from random import Random

from tests.simulation.plan import MEDIUM, SMALL, Plan, random_plan


class JournalFault(Enum):
    """What may happen to the journal, and between it and the managers; see `__init__`."""

    JOURNAL_RESTARTED = "journal restarted"
    JOURNAL_FAILS_OVER = "journal fails over"
    JOURNAL_FULL = "journal full"
    JOURNAL_SLOW = "journal slow"
    STANDBY_LAGS = "journal's standby lags"
    WAITS_CANCELLED = "waits for the journal's standby are cancelled"
    LOST_AFTER_CANCEL = "the standby takes over that had not all"
    CUT_FROM_JOURNAL = "manager cut off from the journal"
    CUT_TO_JOURNAL = "network cut towards the journal"
    CUT_ANSWERS = "network cut from the journal back"
    CUT_FROM_OTHERS = "manager cut off from workers and users"
    LEADER_KILLED = "leader killed"
    LEADER_STALLS = "leader stands still"
    LEADER_SLEEPS = "leader's machine suspended"
    COPY_LOST = "manager's copy lost"


@dataclass(frozen=True, kw_only=True)
class JournalFaultPlan:
    """One fault: when, what, to which manager (-1: the one that leads), for how long."""

    at_ms: int
    fault: JournalFault
    manager: int
    for_ms: int
    down_ms: int
    """For how long the journal is gone when it is restarted, or fails over."""


@dataclass(frozen=True, kw_only=True)
class SeveralPlan:
    """A run with several managers."""

    cluster: Plan
    managers: int
    faults: tuple[JournalFaultPlan, ...]
    lost_percent: int = 0
    late_percent: int = 0

    @property
    def calm_ms(self) -> int:
        """From when on nothing fails any more."""
        last_ms = max((each.at_ms + each.for_ms + each.down_ms for each in self.faults), default=0)
        is_noisy = self.lost_percent or self.late_percent
        noise_ms = self.cluster.faults_end_ms if is_noisy else 0
        return max(self.cluster.calm_ms, last_ms, noise_ms)


SIZES = (*(SMALL,) * 9, MEDIUM)
FAULT_LENGTHS_MS = (20, 300, 1_500, 4_000, 7_000, 13_000)
DOWN_MS = (20, 300, 3_000, 9_000)


def random_several_plan(seed: int) -> SeveralPlan:
    """The plan of that seed: the cluster of another plan, with fewer of its faults."""
    random = Random(f"several managers of {seed}")
    cluster = random_plan(seed, SIZES)
    kept = tuple(each for each in cluster.faults if random.random() < 0.5)
    faults = tuple(
        JournalFaultPlan(
            at_ms=random.randint(0, cluster.faults_end_ms),
            fault=random.choice(list(JournalFault)),
            manager=random.choice((-1, -1, 0, 1, 2)),
            for_ms=random.choice(FAULT_LENGTHS_MS),
            down_ms=random.choice(DOWN_MS),
        )
        for _ in range(random.choice((1, 2, 4, 7)))
    )
    return SeveralPlan(
        cluster=replace(cluster, faults=kept),
        managers=random.choice((2, 2, 3)),
        faults=faults,
        lost_percent=random.choice((0, 0, 0, 1, 3)),
        late_percent=random.choice((0, 0, 1, 3)),
    )
