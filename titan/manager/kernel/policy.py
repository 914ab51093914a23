"""The policy: how tasks are ordered and placed, by the flags or by what was set since."""

from __future__ import annotations

from typing import Final

from titan import events as ev
from titan.checks import NAME_LENGTH_MAX, check_user
from titan.errors import InvalidJob
from titan.manager.kernel.commands import SetPolicy
from titan.manager.kernel.desk import Desk, Settings
from titan.model import CPUS_MILLI_MAX
from titan.scheduling import ORDERS, PLACEMENTS, PREEMPTIONS
from titan.state.cluster import ClusterState

USER_LIMITS_MAX: Final = 1_000
RESERVE_AFTER_MS_MAX: Final = 365 * 86_400_000


def policy_in_force(state: ClusterState, settings: Settings) -> ev.PolicySet:
    """What was set while the cluster ran, else what the manager was started with."""
    return state.policy if state.policy is not None else policy_of_flags(settings)


def policy_of_flags(settings: Settings) -> ev.PolicySet:
    """What the manager was started with."""
    limits = (("", settings.user_cpus_milli),) if settings.user_cpus_milli else ()
    return ev.PolicySet(
        "",
        1 + PLACEMENTS.index(settings.policy),
        1 + ORDERS.index(settings.order),
        settings.fair_share,
        1 + PREEMPTIONS.index(settings.preempt),
        settings.reserve_after_us // 1000,
        limits,
    )


def set_policy(desk: Desk, command: SetPolicy) -> None:
    """Changes what is named of it. Raises InvalidJob."""
    check_user(command.user)
    before = policy_in_force(desk.state, desk.settings)
    after = before._replace(
        user=command.user,
        placement=_number(command.placement, PLACEMENTS, before.placement, "placement policy"),
        order=_number(command.order, ORDERS, before.order, "order"),
        preempt=_number(command.preempt, PREEMPTIONS, before.preempt, "way to preempt"),
        fair_share=before.fair_share if command.fair_share is None else command.fair_share,
        reserve_after_ms=(
            before.reserve_after_ms
            if command.reserve_after_ms is None
            else command.reserve_after_ms
        ),
        user_limits=_limits(before, command),
    )
    if not 0 <= after.reserve_after_ms <= RESERVE_AFTER_MS_MAX:
        raise InvalidJob("a worker is reserved after 0 to 365 days")
    if after._replace(user="") != before._replace(user="") or desk.state.policy is None:
        desk.emit(after)
    desk.schedule_wanted = True


def _number(name: str | None, names: tuple[str, ...], before: int, what: str) -> int:
    if name is None:
        return before
    if name not in names:
        shown = name[:NAME_LENGTH_MAX]
        raise InvalidJob(f"there is no {what} {shown!r}: choose one of {', '.join(names)}")
    return 1 + names.index(name)


def _limits(before: ev.PolicySet, command: SetPolicy) -> tuple[tuple[str, int], ...]:
    limits = dict(before.user_limits)
    for user, cpus_milli in command.user_limits:
        check_user(user)
        if not 0 <= cpus_milli <= CPUS_MILLI_MAX:
            raise InvalidJob(f"no user can be limited to {cpus_milli / 1000:g} cpus")
        limits[user] = cpus_milli
        if not cpus_milli and (not user or not limits.get("")):
            # Nothing is left to say; one user may be free of what limits all others.
            del limits[user]
    if len(limits) > USER_LIMITS_MAX:
        raise InvalidJob(f"at most {USER_LIMITS_MAX} users have limits of their own")
    return tuple(sorted(limits.items()))
