"""How a pass goes about it: the policy in force, and what it means for a user."""

from __future__ import annotations

from typing import NamedTuple

from titan.events import PolicySet
from titan.scheduler.policies import POLICY_OF_CODE, Policy
from titan.scheduling import ORDERS, PREEMPTIONS
from titan.state.cluster import ClusterState
from titan.state.job_class import JobClass


class Rules(NamedTuple):
    """How a pass goes about it."""

    policy: Policy
    order: str
    """One of titan.scheduling.ORDERS."""
    fair_share: bool = False
    preempt: str = "off"
    """One of titan.scheduling.PREEMPTIONS."""
    reserve_after_us: int = 60_000_000
    user_limits: dict[str, int] = {}  # noqa: RUF012 - never changed
    """How many thousandths of cpus of a user may run at once; the user "": of any other."""
    lookahead: bool = True


def rules_of(policy: PolicySet, *, lookahead: bool = True) -> Rules:
    """The rules that a policy means."""
    return Rules(
        POLICY_OF_CODE[policy.placement],
        ORDERS[policy.order - 1],
        policy.fair_share,
        PREEMPTIONS[policy.preempt - 1],
        policy.reserve_after_ms * 1000,
        dict(policy.user_limits),
        lookahead,
    )


def is_over_limit(state: ClusterState, limits: dict[str, int], job_class: JobClass) -> bool:
    """Whether one more task of the class would be more than its user may have at once."""
    left = cpus_left(state, limits, job_class)
    return left is not None and job_class.demand.cpus_milli > left


def cpus_left(state: ClusterState, limits: dict[str, int], job_class: JobClass) -> int | None:
    """How many thousandths of cpus its user may have beside what it has; None: any."""
    limit = limits.get(job_class.user, limits.get("", 0)) if limits else 0
    if not limit:
        return None
    return limit - state.usage.user_cpus_milli.get(job_class.user, 0)
