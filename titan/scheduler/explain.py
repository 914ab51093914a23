"""Why a task waits, and whether and when it could start: the answer to `titan why`.

It agrees with the passes, since it asks what they ask: a rehearsal finds who would be in the way
(`rehearsal.py`), the filters count the workers (`filters.py`), and `waiting.py` tells what else
has to happen. Of a job that is not there yet it says what would be (`titan plan`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Final, NamedTuple

from titan.model import TASK_ENDS, WorkerState
from titan.scheduler.backfill import NEVER, earliest_start_us, what_ends
from titan.scheduler.constraints import could_take
from titan.scheduler.filters import Claims, Kind, Tally, lacks_text, tally_workers
from titan.scheduler.policies import Choice
from titan.scheduler.rehearsal import Rehearsal
from titan.scheduler.rules import Rules
from titan.scheduler.scheduler import Scheduler
from titan.scheduler.waiting import (
    Wait,
    begin_wait,
    dependency_waits,
    limit_waits,
    waits_of_task,
)
from titan.scheduling import SAME_INDEX, WHOLE_JOB, Dependency, Scheduling
from titan.state.cluster import ClusterState
from titan.state.job import Job
from titan.state.job_changes import is_met
from titan.state.job_class import ClassKey, JobClass

# Of a class that is not there: no class has it.
_NO_CLASS: Final = 0
_GONE: Final = WorkerState.DEREGISTERED


class Verdict(IntEnum):
    """Whether a task can start. The numbers are those of the wire."""

    NOW = 1
    LATER = 2
    NEVER = 3


class Estimate(NamedTuple):
    """When and where there is room at the latest, if all time limits are used up.

    As if nobody went before it: how many do is told beside.
    """

    start_us: int
    """0: it can't be told."""
    worker: str = ""
    ends_job_id: int = 0
    """What has to end there; 0: nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """Why a task waits."""

    verdict: Verdict
    sentence: str
    waits: list[Wait]
    """What it waits for besides room."""
    tally: Tally
    tasks_ahead: int
    """Those that may start and stand before it in the queue, those of its own job included."""
    estimate: Estimate
    """Of a task that can start now: where."""
    choice: Choice | None
    """The same with the rule of the policy that chose it."""


def explain_task(
    scheduler: Scheduler, job: Job, index: int, rules: Rules, now_us: int
) -> Explained:
    """Of a pending task. Costs a look at each worker, and by the classes that go before."""
    state = scheduler.state
    waits = waits_of_task(state, job, index, now_us)
    question = _Question(scheduler, rules, now_us, job.job_class, job.job_id, job)
    explained = question.answer(waits)
    own = sum(
        len(range(each.start, min(each.stop, index), each.step)) for each in job.pending.ranges
    )
    return replace(explained, tasks_ahead=explained.tasks_ahead + own)


def explain_new(
    scheduler: Scheduler,
    key: ClassKey,
    scheduling: Scheduling,
    rules: Rules,
    now_us: int,
    *,
    job_id: int,
    time_limit_ms: int = 0,
) -> Explained:
    """Of the first task of a job that would come by that number, alone. Changes nothing."""
    state = scheduler.state
    question = _Question(scheduler, rules, now_us, JobClass(_NO_CLASS, key), job_id, None)
    waits = [Wait("a release: it is to be held", "held")] if scheduling.held else []
    if scheduling.begin_us > now_us:
        waits.append(begin_wait(scheduling.begin_us, now_us))
    unmet, broken = _sort_dependencies(state, scheduling.after)
    waits += dependency_waits(unmet)
    begin_us = max(now_us, scheduling.begin_us)
    if scheduling.deadline_us and begin_us + time_limit_ms * 1000 > scheduling.deadline_us:
        return question.answer(waits, "it could not end by its deadline and would be cancelled")
    if broken:
        (wait, *_) = dependency_waits(broken)
        return question.answer(
            waits, f"it waits for {wait.what}, which ended otherwise, and would be cancelled"
        )
    return question.answer(waits)


class _Question:
    """One task, or one that would be."""

    def __init__(
        self,
        scheduler: Scheduler,
        rules: Rules,
        now_us: int,
        job_class: JobClass,
        job_id: int,
        job: Job | None,
    ) -> None:
        scheduler.refresh()
        self._state = scheduler.state
        self._fleet = scheduler.fleet
        self._rules = rules
        self._now_us = now_us
        self._job_class = job_class
        self._job = job
        self._rehearsal = Rehearsal(scheduler, rules, now_us, job_class, job_id)
        self._claims: Claims = self._rehearsal.claims()
        self._tally = tally_workers(
            (each for each in self._state.workers.values() if each.state is not _GONE),
            job_class,
            has_called_in=scheduler.has_called_in,
            claims=self._claims,
        )

    def answer(self, waits: list[Wait], never: str = "") -> Explained:
        """`never`: why it can't start whatever the workers are."""
        waits = waits + limit_waits(self._state, self._job_class, self._rules.user_limits)
        head = self._rehearsal.head
        if head is not None and self._rules.order == "fcfs":
            text = "it is first, and the order is fcfs"
            waits.append(
                Wait(f"{head.job_id} to be placed: {text}", f"behind {head.job_id}: {text}")
            )
        choice = None if waits or never else self._rehearsal.find(self._job)
        verdict = self._verdict(choice, is_never=bool(never))
        return Explained(
            verdict=verdict,
            sentence=self._sentence(verdict, waits, never),
            waits=waits,
            tally=self._tally,
            tasks_ahead=self._rehearsal.count_tasks_ahead(),
            estimate=self._estimate(choice, waits) if verdict is not Verdict.NEVER else _UNKNOWN,
            choice=choice,
        )

    def _verdict(self, choice: Choice | None, *, is_never: bool) -> Verdict:
        if choice is not None:
            return Verdict.NOW
        return Verdict.NEVER if is_never or self._tally.is_never else Verdict.LATER

    def _sentence(self, verdict: Verdict, waits: list[Wait], never: str) -> str:
        tally = self._tally
        if never:
            return never
        if verdict is Verdict.NEVER:
            return never_text(tally, self._job_class)
        if verdict is Verdict.NOW:
            return "it is next to be placed" if self._job is not None else "there is room for it"
        if waits:
            return "; ".join(each.in_short for each in waits)
        workers = "worker" if tally.workers == 1 else "workers"
        return f"0 of {tally.workers} {workers} can take it now"

    def _estimate(self, choice: Choice | None, waits: list[Wait]) -> Estimate:
        now_us = self._now_us
        if choice is not None:
            return Estimate(now_us, choice.worker.name)
        if not all(each.until_us for each in waits):
            return _UNKNOWN
        due_us = max((each.until_us for each in waits), default=0)
        if self._tally.with_room:
            return Estimate(max(due_us, now_us), self._tally.with_room[0].name)
        best: tuple[int, int] | None = None
        for number in self._fleet.limited:
            worker = self._state.get_worker(number)
            if not could_take(worker, self._job_class, self._state.live_jobs):
                continue
            if number in self._claims and worker.admits(self._job_class):
                # The room is there, for somebody else.
                continue
            start_us = earliest_start_us(worker, self._job_class, now_us)
            if start_us < NEVER and (best is None or (start_us, number) < best):
                best = (start_us, number)
        if best is None:
            return _UNKNOWN
        worker = self._state.get_worker(best[1])
        ends = what_ends(worker, self._job_class, now_us)
        return Estimate(max(due_us, best[0]), worker.name, ends)


_UNKNOWN: Final = Estimate(0)


def never_text(tally: Tally, job_class: JobClass) -> str:
    """What would have to change for a worker to be able to take it."""
    if not tally.workers:
        return "there is no worker; start one with `titan worker`"
    small = [
        worker
        for reason, workers in tally.reasons.items()
        if reason.kind in (Kind.TOO_SMALL, Kind.LACKS_NAME)
        for worker in workers
    ]
    which = "no worker"
    if len(small) < tally.workers:
        allowed = _allowed_text(tally, job_class)
        if not small:
            return f"no worker could ever take it: there is none {allowed}"
        which = f"no worker {allowed}"
    lacks = "; ".join(lacks_text(small, job_class.demand)) or "none has all it asks for at once"
    return f"{which} is large enough for it, even when empty: {lacks}"


def _allowed_text(tally: Tally, job_class: JobClass) -> str:
    """Which workers it may run on, as far as that turned some away."""
    texts = []
    for reason in tally.reasons:
        if reason.kind is Kind.OTHER_WORKER:
            texts.append(f"of the name {job_class.on}")
        elif reason.kind is Kind.LABELS:
            texts.append(f"with {reason.subject}")
    return " and ".join(texts)


def _sort_dependencies(
    state: ClusterState, after: Sequence[Dependency]
) -> tuple[list[Dependency], list[Dependency]]:
    """Those of a new job that are to come, and those that can't come any more."""
    unmet: list[Dependency] = []
    broken: list[Dependency] = []
    for each in after:
        other: Job | None = state.jobs.get(each.job_id)
        end = None
        if other is not None and each.index in (WHOLE_JOB, SAME_INDEX):
            end = other.state if other.has_ended else None
        elif other is not None:
            end = other.find_task_state(each.index)
        if end not in TASK_ENDS:
            unmet.append(each)
        elif each.index != SAME_INDEX and not is_met(each.condition, end):
            broken.append(each)
    return unmet, broken
