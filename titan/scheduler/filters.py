"""Why a worker can't take a task now: one reason for each, the most lasting first.

A pass looks for workers that have no such reason (`search.py`); here each worker is asked for
its own, so that it can be told how many were turned away for what.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from enum import IntEnum
from typing import Final, NamedTuple

from titan.isolation import needed_text
from titan.model import Resources, WorkerState
from titan.scheduler.constraints import find_broken_affinity, labels_match
from titan.scheduler.policies import amount_of, asked_resources, free_of
from titan.scheduling import LabelConstraint
from titan.state.job_class import JobClass
from titan.state.worker import Worker

# So many workers' own words are told of one job.
FAULTS_MAX: Final = 2


class Kind(IntEnum):
    """What turns workers away, the most lasting first."""

    OTHER_WORKER = 1
    LABELS = 2
    TOO_SMALL = 3
    LACKS_NAME = 4
    # Up to here even an empty worker is no help.
    AFFINITY = 5
    NOT_HEALTHY = 6
    NOT_CALLED_IN = 7
    DRAINS = 8
    EXCLUSIVE = 9
    NOT_EMPTY = 10
    NO_ROOM = 11
    # There is room, but not for this one.
    KEPT = 12
    DELAYS = 13
    STANDS_STILL = 14

    # That of the base takes a microsecond, and each worker is counted under one of these.
    __hash__ = int.__hash__


class Reason(NamedTuple):
    """Why one worker is turned away; those of the same kind and subject are counted together."""

    kind: Kind
    subject: str = ""
    """The resource, the constraint or the job that it is about."""


Claims = dict[int, Reason]
"""By number the workers where the task would be in somebody's way, and in whose."""


class TurnedAway(NamedTuple):
    """So many workers, all for one reason."""

    workers: int
    why: str
    """In the plural or the singular, as their number is."""
    never: bool
    """They could not take it when empty, either."""


class Tally(NamedTuple):
    """All workers, each counted once."""

    workers: int
    with_room: list[Worker]
    turned_away: list[TurnedAway]
    reasons: dict[Reason, list[Worker]]
    """The same by reason, in their order."""

    @property
    def is_never(self) -> bool:
        """Whether none of them could take it, even when empty."""
        return not self.with_room and all(each.never for each in self.turned_away)


def tally_workers(
    workers: Iterable[Worker],
    job_class: JobClass,
    *,
    has_called_in: Callable[[int], bool],
    claims: Claims,
) -> Tally:
    """Asks each. Costs a look at each."""
    count = 0
    with_room: list[Worker] = []
    reasons: dict[Reason, list[Worker]] = {}
    is_plain = _is_plain(job_class)
    cpus_milli, memory_bytes, _ = job_class.demand
    no_cpus: list[Worker] = []
    for worker in workers:
        count += 1
        # Most have no cpu free, and are told so without a look at all else.
        if (
            cpus_milli > worker.free_cpus_milli
            and is_plain
            and not worker.exclusive
            and worker.takes_tasks
            and cpus_milli <= worker.capacity.cpus_milli
            and memory_bytes <= worker.capacity.memory_bytes
            and has_called_in(worker.number)
        ):
            no_cpus.append(worker)
            continue
        reason = find_reason(worker, job_class, has_called_in, claims)
        if reason is None:
            with_room.append(worker)
        else:
            reasons.setdefault(reason, []).append(worker)
    if no_cpus:
        reasons.setdefault(Reason(Kind.NO_ROOM, "cpus"), []).extend(no_cpus)
    ordered = dict(sorted(reasons.items(), key=lambda each: each[0].kind))
    turned_away = [
        TurnedAway(len(found), _why(reason, found, job_class), reason.kind <= Kind.LACKS_NAME)
        for reason, found in ordered.items()
    ]
    return Tally(count, with_room, turned_away, ordered)


def _is_plain(job_class: JobClass) -> bool:
    """Whether it asks for cpus and memory alone."""
    return not (
        job_class.on
        or job_class.constraints
        or job_class.affinities
        or job_class.exclusive
        or job_class.demand.named
    )


def find_reason(
    worker: Worker, job_class: JobClass, has_called_in: Callable[[int], bool], claims: Claims
) -> Reason | None:
    """The one that the worker is counted under; None: it can take a task of the class now."""
    return (
        _lasting_reason(worker, job_class)
        or _silent_reason(worker, has_called_in)
        or _passing_reason(worker, job_class, claims)
    )


def _lasting_reason(worker: Worker, job_class: JobClass) -> Reason | None:
    """What stays when all that runs has ended."""
    if not worker.may_run(job_class):
        return Reason(Kind.OTHER_WORKER)
    for constraint in job_class.constraints:
        if not labels_match(worker.labels, (constraint,)):
            return Reason(Kind.LABELS, constraint_text(constraint))
    demand, capacity = job_class.demand, worker.capacity
    if not demand.fits_in(capacity):
        for resource in asked_resources(demand):
            has = amount_of(capacity, resource)
            if amount_of(demand, resource) > has:
                is_there = has or resource in ("cpus", "memory")
                return Reason(Kind.TOO_SMALL if is_there else Kind.LACKS_NAME, resource)
    broken = find_broken_affinity(worker, job_class) if job_class.affinities else None
    if broken is None:
        return None
    what = "which it keeps away from" if broken.anti else "which it is to be near"
    return Reason(Kind.AFFINITY, f"{'' if broken.anti else 'no '}tasks of {broken.job_id}, {what}")


def _silent_reason(worker: Worker, has_called_in: Callable[[int], bool]) -> Reason | None:
    """Why it gets no tasks at all."""
    if worker.state is not WorkerState.HEALTHY:
        return Reason(Kind.NOT_HEALTHY)
    if not has_called_in(worker.number):
        return Reason(Kind.NOT_CALLED_IN)
    return Reason(Kind.DRAINS) if worker.is_draining else None


def _passing_reason(worker: Worker, job_class: JobClass, claims: Claims) -> Reason | None:
    """What ends with other tasks."""
    if worker.exclusive:
        return Reason(Kind.EXCLUSIVE)
    if job_class.exclusive and worker.attempts:
        return Reason(Kind.NOT_EMPTY)
    if not worker.has_room(job_class.demand):
        for resource in ("cpus", "memory", *(name for name, _ in job_class.demand.named)):
            if amount_of(job_class.demand, resource) > free_of(worker, resource):
                return Reason(Kind.NO_ROOM, resource)
    return claims.get(worker.number)


def constraint_text(constraint: LabelConstraint) -> str:
    """As users write it."""
    if needed := needed_text(constraint):
        return needed
    label, values, negated = constraint
    if len(values) == 1:
        return f"{label}{'!=' if negated else '=='}{values[0]}"
    return f"{label} {'not in' if negated else 'in'} {','.join(values)}"


def amount_text(resource: str, amount: int) -> str:
    """So much of a resource: 1.5, 31 GiB, 2."""
    if resource == "cpus":
        return f"{amount / 1000:g}"
    if resource != "memory":
        return str(amount)
    for power, unit in ((4, "TiB"), (3, "GiB"), (2, "MiB"), (1, "KiB")):
        if abs(amount) >= 1024**power:
            return f"{amount / 1024**power:.5g} {unit}"
    return f"{amount} bytes"


def drain_text(worker: Worker) -> str:
    """That a worker is draining, for whom and why; empty when it is not."""
    if worker.drain is not None:
        whom = f" for {worker.drain.user}" if worker.drain.user else ""
        return f"draining{whom}" + (f": {worker.drain.reason}" if worker.drain.reason else "")
    return "draining: it stops once nothing is left there" if worker.is_stopping else ""


def lacks_text(workers: list[Worker], demand: Resources) -> Iterator[str]:
    """What all of these have too little of, even when empty."""
    for resource in asked_resources(demand):
        needs = amount_of(demand, resource)
        most = max(amount_of(worker.capacity, resource) for worker in workers)
        if needs <= most:
            continue
        if resource in ("cpus", "memory"):
            what = "of memory" if resource == "memory" else "cpus"
            yield (
                f"it needs {amount_text(resource, needs)} {what}, "
                f"the largest has {amount_text(resource, most)}"
            )
        else:
            yield f"it needs {resource}={needs}, the most is {resource}={most}"


def _why(reason: Reason, workers: list[Worker], job_class: JobClass) -> str:
    """What is told of these."""
    one = len(workers) == 1
    kind, subject = reason
    if kind is Kind.TOO_SMALL:
        most = max(amount_of(each.capacity, subject) for each in workers)
        return f"{_lack(job_class, subject, one)}, largest has {amount_text(subject, most)})"
    if kind is Kind.NO_ROOM:
        most = max(0, *(free_of(each, subject) for each in workers))
        return f"{_lack(job_class, subject, one)}, largest free {amount_text(subject, most)})"
    if kind is Kind.NOT_HEALTHY:
        told = [f"{each.name}: {each.fault}" for each in workers if each.fault]
        faults = f" ({'; '.join(told[:FAULTS_MAX])})" if told else ""
        return f"{'is' if one else 'are'} not healthy{faults}"
    if kind is Kind.DRAINS and one:
        return f"drains{drain_text(workers[0]).removeprefix('draining')}"
    return _WHY[kind][not one].format(subject=subject, on=job_class.on, worker=workers[0].name)


# Of one worker, and of several.
_WHY: Final = {
    Kind.OTHER_WORKER: ("is not {on}, the one that it is for",
                        "are not {on}, the one that it is for"),
    Kind.LABELS: ("does not meet {subject}", "do not meet {subject}"),
    Kind.LACKS_NAME: ("has no {subject}", "have no {subject}"),
    Kind.AFFINITY: ("has {subject}", "have {subject}"),
    Kind.NOT_CALLED_IN: ("has not called in since the manager started",
                         "have not called in since the manager started"),
    Kind.DRAINS: ("drains", "drain"),
    Kind.EXCLUSIVE: ("is used by a job alone", "are used by jobs alone"),
    Kind.NOT_EMPTY: ("is in use, and it wants a worker for itself",
                     "are in use, and it wants a worker for itself"),
    Kind.KEPT: ("is kept for {subject}", "are kept for {subject}"),
    Kind.DELAYS: ("would delay the reserved start of {subject} on {worker}",
                  "would delay the reserved start of {subject}"),
    Kind.STANDS_STILL: ("owes cpus to {subject}, which was suspended for others",
                        "owe cpus to {subject}, which was suspended for others"),
}  # fmt: skip


def _lack(job_class: JobClass, resource: str, one: bool) -> str:
    needs = amount_text(resource, amount_of(job_class.demand, resource))
    return f"{'lacks' if one else 'lack'} {resource} (needs {needs}"
