"""Why tasks wait, or how they came to be where they are, as messages.

Which of the two it is the state tells; of a task that was placed only the log knows how it was
then: a `Placing` says which of its attempts is asked about, and where in the log to look.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import msgpack

from titan import events as ev
from titan.model import IndexRange, Reason, State
from titan.queries.views import CANCELLED_WAITING, resources_message
from titan.rpc.v1 import manager_pb2, types_pb2
from titan.scheduler.candidates import Candidate, find_candidates
from titan.scheduler.explain import Explained, explain_task
from titan.scheduler.policies import POLICY_OF_CODE, RULE_BEST, RULE_NAMES, Policy
from titan.scheduler.rules import Rules
from titan.scheduler.scheduler import Scheduler
from titan.scheduler.waiting import first_waiting, resume_wait
from titan.state.cluster import ClusterState
from titan.state.job import Job
from titan.state.job_class import JobClass
from titan.state.job_events import RULE_ROUND_ROBIN
from titan.state.worker import Worker

# An answer names so many workers that were in question; each takes some 50 bytes.
CANDIDATES_MAX: Final = 1_000


class Placing(NamedTuple):
    """The assignment of one attempt, to be found in the log."""

    job_id: int
    index: int  # type: ignore[assignment]  # hides tuple.index
    attempt: int
    after_lsn: int
    last_lsn: int
    """Between these records it is."""
    not_before_us: int
    """0: nothing is known of its time."""

    def pack(self) -> bytes:
        """As bytes."""
        packed: bytes = msgpack.packb(self)
        return packed


def unpack_placing(packed: bytes) -> Placing:
    """The same again."""
    return Placing(*msgpack.unpackb(packed))


def choose_index(job: Job, indexes: Sequence[IndexRange]) -> int:
    """The first task that is named; else the first that waits, else that is under way, else of all.

    The ranges have to be checked: the job has a task in each.
    """
    if indexes:
        span, *_ = indexes
        firsts = [(_next(each, span.start), each.stop) for each in job.array or (IndexRange(0, 1),)]
        return min(first for first, stop in firsts if first < min(stop, span.stop))
    first = first_waiting(job)
    if first is not None:
        return first
    if job.active:
        return min(job.active)
    return job.array[0].start if job.array else 0


def _next(each: IndexRange, start: int) -> int:
    """The first index of the range at or behind that one."""
    return each.start + max(0, -(-(start - each.start) // each.step)) * each.step


def find_placing(state: ClusterState, job: Job, index: int) -> Placing | None:
    """The latest attempt of a task that does not wait; None: it waits, or never had any."""
    active = job.active.get(index)
    if active is not None:
        attempt, not_before_us = active.attempt, active.assigned_us
    else:
        ended = job.ended.of_index(index) if job.ended and not job.is_pending(index) else []
        if not ended:
            return None
        attempt, not_before_us = ended[-1].attempt, 0
    last_lsn = job.changed_lsn if job.has_ended else state.lsn
    return Placing(job.job_id, index, attempt, job.submit_lsn - 1, last_lsn, not_before_us)


def explain_unplaced(
    scheduler: Scheduler, job: Job, index: int, rules: Rules, now_us: int
) -> manager_pb2.Explanation:
    """Of a task that waits, or ended without an attempt."""
    state = job.find_task_state(index)
    if state is State.PENDING:
        message = waiting_message(explain_task(scheduler, job, index, rules, now_us))
    else:
        message = manager_pb2.Explanation(
            verdict=manager_pb2.VERDICT_ENDED, sentence=_cut_short_text(job)
        )
    message.job_id, message.index = job.job_id, index
    message.state = types_pb2.State.ValueType(state or 0)
    return message


def add_state(message: manager_pb2.Explanation, job: Job, index: int) -> None:
    """To how a task was placed: what became of it, and what it waits for if it stands still."""
    message.state = types_pb2.State.ValueType(job.find_task_state(index) or 0)
    attempt = job.active.get(index)
    if attempt is None or not attempt.suspended:
        return
    message.waiting_for.append(
        resume_wait(job.job_id).what
        if job.is_suspended
        else "its cpus: it is suspended, and runs on once they are free for it again"
    )


def waiting_message(explained: Explained) -> manager_pb2.Explanation:
    """Why a task waits, without saying which."""
    tally, estimate = explained.tally, explained.estimate
    return manager_pb2.Explanation(
        verdict=manager_pb2.Verdict.ValueType(explained.verdict),
        sentence=explained.sentence,
        waiting_for=[each.what for each in explained.waits],
        workers=tally.workers,
        workers_with_room=len(tally.with_room),
        turned_away=[
            manager_pb2.WorkersTurnedAway(workers=each.workers, why=each.why, never=each.never)
            for each in tally.turned_away
        ],
        tasks_ahead=explained.tasks_ahead,
        start_us=estimate.start_us,
        worker=estimate.worker,
        ends_job_id=estimate.ends_job_id,
        rule=RULE_NAMES[explained.choice.rule] if explained.choice is not None else "",
    )


def plan_message(
    state: ClusterState, explained: Explained, job_class: JobClass, policy: Policy
) -> manager_pb2.Explanation:
    """Where a job would go, and among whom."""
    message = waiting_message(explained)
    if explained.choice is not None:
        message.policy, message.policy_version = policy.name, policy.version
        _add_candidates(message, find_candidates(state, job_class), explained.choice.worker)
    return message


def placed_message(
    before: ClusterState, event: ev.TaskAssigned, *, lsn: int, time_us: int
) -> manager_pb2.Explanation:
    """How a task was placed, from the state just before. Who asks adds the task's state now."""
    job = before.get_job(event.job_id)
    worker = before.get_worker(event.worker)
    policy = POLICY_OF_CODE.get(event.policy)
    candidates = find_candidates(before, job.job_class)
    message = manager_pb2.Explanation(
        job_id=event.job_id,
        index=event.index,
        verdict=manager_pb2.VERDICT_PLACED,
        sentence=_placed_text(worker, event, candidates),
        workers=len(candidates),
        workers_with_room=sum(each.had_room for each in candidates),
        worker=worker.name,
        attempt=event.attempt,
        assigned_us=time_us,
        assigned_lsn=lsn,
        policy=policy.name if policy is not None else f"policy {event.policy}",
        policy_version=event.policy_version,
        rule=RULE_NAMES.get(event.rule, f"rule {event.rule}"),
    )
    _add_candidates(message, candidates, worker)
    return message


def _add_candidates(
    message: manager_pb2.Explanation, candidates: list[Candidate], chosen: Worker
) -> None:
    """The chosen one, and others up to the limit."""
    shown = candidates[:CANDIDATES_MAX]
    if not any(each.worker is chosen for each in shown):
        shown += [each for each in candidates if each.worker is chosen]
    message.candidates.extend(
        manager_pb2.Candidate(
            worker=each.worker.name,
            free=resources_message(each.worker.free),
            had_room=each.had_room,
            chosen=each.worker is chosen,
        )
        for each in shown
    )


def _placed_text(worker: Worker, event: ev.TaskAssigned, candidates: list[Candidate]) -> str:
    total, roomy = len(candidates), sum(each.had_room for each in candidates)
    workers = f"{total} worker{'s' if total != 1 else ''}"
    if event.ahead:
        return f"sent ahead to {worker.name}, to start when a task of its kind ends there"
    if total == 1:
        return f"placed on {worker.name}, the only worker in question"
    if roomy == 1:
        return f"placed on {worker.name}, the only one of {workers} in question that had room"
    had = f"{roomy} of {workers} in question had room"
    if roomy == total:
        had = f"all {workers} in question had room"
    if event.rule == RULE_ROUND_ROBIN:
        return f"placed on {worker.name}, whose turn it was: {had}"
    policy = POLICY_OF_CODE.get(event.policy)
    if event.rule == RULE_BEST and policy is not None:
        left = "least" if policy.fills else "most"
        return f"placed on {worker.name}, which it left the {left} free of: {had}"
    return f"placed on {worker.name}: {had}"


def _cut_short_text(job: Job) -> str:
    """Why a task ended that never started."""
    if job.cut_short is not None:
        reason, other_id = job.cut_short
        if reason is Reason.DEPENDENCY_FAILED:
            return f"cancelled before it was placed: job {other_id}, which it waited for, ended " \
                   "otherwise"  # fmt: skip
        if reason is Reason.DEADLINE:
            return "cancelled before it was placed: it could not end by its deadline any more"
    return CANCELLED_WAITING
