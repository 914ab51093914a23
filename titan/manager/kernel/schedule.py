"""Passes: what the scheduler proposes becomes events, once the kernel has looked at it again."""

from __future__ import annotations

from typing import Final, assert_never

from titan import events as ev
from titan.manager.kernel.desk import Desk
from titan.manager.kernel.policy import policy_in_force
from titan.manager.kernel.suspend import resume_attempt, suspend_attempt
from titan.scheduler import passes
from titan.scheduler.proposals import Keeping, Lifting, Placement, Preemption, Resumption
from titan.scheduler.rules import Rules, rules_of

# A pass stops here and goes on in the next record: one record and one loop turn stay short.
ASSIGNMENTS_PER_RECORD_MAX: Final = 10_000
# What time alone makes possible, such as a reservation of a worker, is looked for so often.
REMINDED_EVERY_US: Final = 1_000_000


def run_pass(desk: Desk) -> None:
    """One pass over the queue."""
    rules = rules_in_force(desk)
    desk.passed_us = desk.now_us
    for assigned, proposal in enumerate(passes.run_pass(desk.scheduler, rules, desk.now_us)):
        if assigned == ASSIGNMENTS_PER_RECORD_MAX:
            desk.schedule_wanted = True
            return
        match proposal:
            case Placement():
                _assign(desk, rules, proposal)
            case Resumption():
                resume_attempt(desk, proposal.attempt)
            case Keeping():
                desk.emit(ev.Reserved(proposal.job_id, proposal.worker))
            case Lifting():
                desk.emit(ev.ReservationLifted(proposal.worker))
            case Preemption():
                _preempt(desk, rules, proposal)
            case _:
                assert_never(proposal)


def remind(desk: Desk) -> None:
    """Asks for a pass where none was for a while, and something waits."""
    waits = desk.state.task_counts[0] or desk.scheduler.fleet.standing
    if waits and desk.now_us - desk.passed_us >= REMINDED_EVERY_US:
        desk.schedule_wanted = True


def rules_in_force(desk: Desk) -> Rules:
    """How a pass goes about it now."""
    policy = policy_in_force(desk.state, desk.settings)
    return rules_of(policy, lookahead=desk.settings.lookahead)


def _assign(desk: Desk, rules: Rules, placement: Placement) -> None:
    state = desk.state
    job = state.jobs.live[placement.job_id]
    # The scheduler proposes, the kernel answers for it (invariant 4).
    if not placement.ahead and not state.get_worker(placement.worker).admits(job.job_class):
        raise AssertionError(f"{placement} does not fit")
    policy = rules.policy
    desk.emit(
        ev.TaskAssigned(
            placement.job_id, placement.index, job.next_attempt(placement.index),
            placement.worker, placement.ahead, policy.code, policy.version, placement.rule,
        )
    )  # fmt: skip
    if placement.ahead:
        desk.ahead_on[placement.worker] = None
    outbox = desk.outboxes.get(placement.worker)
    if outbox is not None:
        outbox.want_start(job.active[placement.index])


def _preempt(desk: Desk, rules: Rules, preemption: Preemption) -> None:
    """Makes room; the one for whom it is has it once the victims are gone, or stand still."""
    for attempt in preemption.victims.attempts:
        if rules.preempt == "suspend":
            suspend_attempt(desk, attempt, preemption.job_id)
        else:
            grace_ms = desk.state.get_job(attempt.job_id).grace_ms
            desk.emit(
                ev.Preempted(
                    attempt.job_id, attempt.index, attempt.attempt, preemption.job_id, grace_ms
                )
            )
            desk.stop_attempt(attempt)
    desk.schedule_wanted = True
