"""One pass over the queue: what is placed, resumed, reserved or preempted now.

    for each class, in the order of the queue:
        place its tasks while there is room for them, up to where another class goes first
        if there is none, and a worker could take one when empty:
            it is the head, if it is the first such class: it reserves its earliest start
            later classes go on where they do not delay it (`easy`), or not at all (`fcfs`)

A pass looks at classes, not at tasks: where one task of a class finds no room none does. The
caller applies each proposal to the state before it asks for the next.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Final

from titan.scheduler.backfill import Closed, Guard, Guarded, closest, guard_of_hold
from titan.scheduler.class_queue import Line, Place
from titan.scheduler.constraints import could_take
from titan.scheduler.policies import Choice
from titan.scheduler.preemption import rank_victims
from titan.scheduler.proposals import (
    Keeping,
    Lifting,
    Placement,
    Preemption,
    Proposal,
    Resumption,
)
from titan.scheduler.rules import Rules, cpus_left, is_over_limit
from titan.scheduler.scheduler import Scheduler
from titan.state.attempts import Attempt
from titan.state.job import Job
from titan.state.job_class import JobClass
from titan.state.tables import Hold
from titan.state.worker import Worker

# A worker is sent so much work ahead of each slot, and no more tasks than that: mostly it is about
# half of it, as run times are guessed to the long side. The more it is, the fewer calls and flushes
# there are for a task; who comes with a higher priority may have to wait for so long.
AHEAD_WINDOW_US: Final = 300_000
AHEAD_TASKS_MAX: Final = 128
# The tasks of a class are short up to here.
AHEAD_RUN_US_MAX: Final = 25_000
# A class has proved short once so many of its tasks completed.
AHEAD_SAMPLES: Final = 2


def run_pass(scheduler: Scheduler, rules: Rules, now_us: int) -> Iterator[Proposal]:
    """One pass."""
    scheduler.refresh()
    return Pass(scheduler, rules, now_us).run()


class Pass:
    """The state of one pass. Made anew for each."""

    def __init__(self, scheduler: Scheduler, rules: Rules, now_us: int) -> None:
        self._state = scheduler.state
        self._fleet = scheduler.fleet
        self._search = scheduler.search
        self._starts = scheduler.starts
        self._has_called_in = scheduler.has_called_in
        self._rules = rules
        self._now_us = now_us
        self._line = Line(scheduler.state, scheduler.queue, fair_share=rules.fair_share)
        # The workers on which somebody must not be delayed.
        self._guards: dict[int, Guarded] = {}
        self._head: JobClass | None = None
        self._preempts = rules.preempt != "off" and bool(scheduler.fleet.preemptible)
        # Classes that wait: nothing of a later one is sent ahead where they could go, or its
        # slots would pass on for ever within that. Looked at once it matters.
        self._waiting: list[JobClass] = []
        self._awaited_pools: dict[int, None] = {}
        self._awaited: dict[int, None] = {}
        # Suspended attempts that are to run on, the last in the queue first.
        self._standing: list[tuple[Place, Attempt]] = []

    def run(self) -> Iterator[Proposal]:
        """All of it."""
        if not len(self._fleet) and not self._fleet.standing:
            return
        yield from self._take_up_holds()
        self._find_standing()
        while (taken := self._line.take(self._passes_over)) is not None:
            place, job_class = taken
            yield from self._resume_before(place)
            yield from self._serve(place, job_class)
            if self._head is not None and self._rules.order == "fcfs":
                break
        yield from self._resume_before(None)

    def _passes_over(self, job_class: JobClass) -> bool:
        """Whether it is known without a look that the class can't start, send ahead, or be head."""
        if self._preempts or self._standing:
            return False
        if not self._search.is_known_full(job_class.class_id):
            return False
        if not self._search.could_run(job_class):
            # There is no worker that it could keep others from.
            return True
        if self._head is None:
            return False
        if self._rules.lookahead:
            if job_class.samples and ahead_depth(job_class):
                return False
            self._waiting.append(job_class)
        return True

    def _serve(self, place: Place, job_class: JobClass) -> Iterator[Proposal]:
        """The tasks of a class, as far as they go and nobody else goes first."""
        self._fleet.refresh()
        # Where nobody has to be minded, one place leads to the next.
        run = None if self._guards else self._search.run(job_class, self._rules.policy)
        live, touched = self._state.jobs.live, self._state.touched_classes
        job: Job | None = None
        while job_class.pending_jobs:
            if self._rules.user_limits and self._is_over_limit(job_class):
                return
            if job is None:
                job = live[job_class.pending_jobs.peekitem(0)[0]]
            choice = run.next() if run is not None else self._find(place, job_class, job)
            if choice is None:
                yield from self._wait(place, job_class, job)
                return
            index = job.pending.first()
            if job.waits is not None and job.waits.failed_on.get(index) == choice.worker.number:
                # Where it failed before only if there is nowhere else.
                other = self._find(place, job_class, job, but=choice.worker.number)
                choice, run = other or choice, None
            number = choice.worker.number
            yield Placement(job.job_id, index, number, False, choice.rule)
            if self._guards:
                self._placed(number)
            if self._rules.fair_share or job_class.class_id in touched:
                # Its next task stands further behind.
                job = None
                if job_class.pending_jobs:
                    place = self._line.place_of(job_class)
                    if not self._line.is_next(place):
                        self._line.put_back(job_class)
                        return

    def _find(self, place: Place, job_class: JobClass, job: Job, but: int = 0) -> Choice | None:
        """A place where the class delays nobody, and not on that worker."""
        excluded = self._excluded(place, job_class, job.job_id)
        if but:
            excluded.add(but)
        return self._search.find(job_class, self._rules.policy, excluded, job)

    def _wait(self, place: Place, job_class: JobClass, job: Job) -> Iterator[Proposal]:
        """The class found no room: it may be the head, may preempt, and may send ahead."""
        if not self._search.could_run(job_class):
            return
        yield from self._preempt(place, job_class, job)
        if self._rules.lookahead and job_class.samples and ahead_depth(job_class):
            yield from self._send_ahead(job_class)
            if not job_class.pending_jobs:
                # All of it is on its way behind its own: it waits for nothing of the others'.
                return
            job = self._state.jobs.live[job_class.pending_jobs.peekitem(0)[0]]
            place = self._line.place_of(job_class)
        if self._head is None:
            self._head = job_class
            if self._rules.order in ("easy", "easy-sjbf"):
                yield from self._reserve(place, job_class, job)
            if self._rules.order == "easy-sjbf":
                self._line.put_shortest_first()
        self._waiting.append(job_class)

    def _reserve(self, place: Place, job_class: JobClass, job: Job) -> Iterator[Proposal]:
        """The head's earliest start; or a worker that is kept for it after a while."""
        holds = self._state.holds
        if any(hold.job_id == job.job_id for hold in holds.values()):
            return
        found = self._starts.earliest(job_class, self._now_us, self._guards)
        if found is not None:
            guard = Guard(
                found.worker, job_class.demand, found.start_us, self._now_us,
                alone=job_class.exclusive,
            )  # fmt: skip
            self._guards[found.worker.number] = Guarded(place, guard)
            return
        since_us = max(job.submit_us, job.waits.eligible_us if job.waits is not None else 0)
        if self._now_us - since_us < self._rules.reserve_after_us:
            return
        for number, hold in list(holds.items()):
            if not hold.preempts:
                yield Lifting(number)
                self._guards.pop(number, None)
        free = [each for each in self._search.feasible(job_class) if each.number not in holds]
        chosen = closest(free, job_class)
        if chosen is not None:
            yield Keeping(chosen.number, job.job_id)
            self._guard(chosen.number, Hold(job.job_id, False), place)

    def _preempt(self, place: Place, job_class: JobClass, job: Job) -> Iterator[Proposal]:
        """Room for tasks of higher priority than others that may be stopped."""
        if not self._preempts:
            return
        holds = self._state.holds
        own = [(number, each) for number, each in holds.items() if each.job_id == job.job_id]
        kept = sum(hold.preempts for _, hold in own)
        # Those where it waits for an end are let go once somebody makes room instead.
        awaited = [number for number, hold in own if not hold.preempts]
        wanted = job.pending.count
        limit = job.scheduling.array_limit
        if limit:
            wanted = min(wanted, limit - job.counts[1] - job.counts[2])
        left = cpus_left(self._state, self._rules.user_limits, job_class)
        if left is not None:
            wanted = min(wanted, left // job_class.demand.cpus_milli)
        suspends = self._rules.preempt == "suspend"
        jobs = self._state.live_jobs
        if kept >= wanted:
            return
        workers = [
            worker
            for worker in map(self._state.get_worker, sorted(self._fleet.preemptible))
            if (worker.number not in self._guards or worker.number in awaited)
            and could_take(worker, job_class, jobs)
        ]
        # What is done on one worker changes nothing on the others.
        ranked = rank_victims(workers, job_class, jobs, suspends=suspends)
        for victims in ranked[: wanted - kept]:
            for number in awaited:
                yield Lifting(number)
                self._guards.pop(number, None)
            awaited.clear()
            yield Preemption(victims, job.job_id)
            self._fleet.refresh()
            hold = holds.get(victims.worker.number)
            if hold is not None:
                self._guard(victims.worker.number, hold, place)

    def _send_ahead(self, job_class: JobClass) -> Iterator[Proposal]:
        """Tasks of a short class behind its own slots, where no earlier class waits."""
        if job_class.looks_at_jobs or job_class.exclusive:
            return
        depth = ahead_depth(job_class)
        for each in self._waiting:
            self._await(each)
        self._waiting.clear()
        hosts = [
            worker
            for worker in map(self._state.get_worker, sorted(job_class.hosts))
            if self._may_send_ahead(job_class, worker)
        ]
        for position, worker in enumerate(hosts):
            here = worker.classes[job_class.class_id]
            # What is left is shared out, so that the last ones do not pile up on one worker.
            first_jobs = islice(job_class.pending_jobs, AHEAD_TASKS_MAX * here.slots * len(hosts))
            waiting = sum(self._state.jobs.live[job_id].pending.count for job_id in first_jobs)
            share = -(-waiting // (len(hosts) - position))
            for _ in range(min(here.slots * depth - len(here.ahead), share)):
                if not job_class.pending_jobs:
                    return
                job = self._state.jobs.live[job_class.pending_jobs.peekitem(0)[0]]
                yield Placement(job.job_id, job.pending.first(), worker.number, True, 0)
                if self._guards:
                    self._placed(worker.number)

    def _may_send_ahead(self, job_class: JobClass, worker: Worker) -> bool:
        """Whether nobody who goes before waits for that worker, and it is not to get less."""
        number = worker.number
        if number not in self._fleet or worker.is_overfull or worker.exclusive:
            return False
        # What stands still of the class takes its cpus back where tasks are ahead: they may have
        # been given away.
        if any(each.job_class is job_class for each in worker.suspended.values()):
            return False
        guarded = self._guards.get(number)
        if guarded is not None and guarded.job_id not in job_class.pending_jobs:
            return False
        pool = self._fleet.pool_of(number)
        return number not in self._awaited and pool.number not in self._awaited_pools

    def _await(self, job_class: JobClass) -> None:
        """The class waits for the workers that could take it."""
        pools = self._search.pools_of(job_class)
        if pools is None:
            for worker in self._search.feasible(job_class):
                self._awaited[worker.number] = None
        else:
            for pool in pools:
                self._awaited_pools[pool.number] = None

    # Who is not to be delayed --------------------------------------------------------------

    def _excluded(self, place: Place, job_class: JobClass, job_id: int) -> set[int]:
        """The workers where the job may not start a task now, since it would delay somebody."""
        if not self._guards:
            return set()
        return {
            number
            for number, guarded in self._guards.items()
            if guarded.goes_before(place, job_id) and not guarded.guard.allows(job_class)
        }

    def _guard(self, number: int, hold: Hold, place: Place) -> None:
        guard = guard_of_hold(self._state, self._state.get_worker(number), hold, self._now_us)
        if guard is not None:
            place = place._replace(limit_ms=0, job_id=hold.job_id)
            self._guards[number] = Guarded(place, guard, hold.job_id)

    def _placed(self, number: int) -> None:
        """A task came to that worker."""
        if number in self._guards:
            self._guards[number].guard.placed()
        holds = self._state.holds
        for kept in [n for n, each in self._guards.items() if each.job_id and n not in holds]:
            # It was for this task, or the last of its job, that it had been kept.
            del self._guards[kept]

    def _take_up_holds(self) -> Iterator[Proposal]:
        """The workers that are kept for jobs; those that are not needed any more are let go."""
        kept: dict[int, int] = {}
        for number, hold in sorted(self._state.holds.items()):
            job = self._state.live_jobs.get(hold.job_id)
            worker = self._state.get_worker(number)
            kept[hold.job_id] = kept.get(hold.job_id, 0) + 1
            is_silent = worker.takes_tasks and not self._has_called_in(number)
            if (
                job is None
                or not job.pending.count
                or not job.may_start
                or kept[hold.job_id] > job.pending.count
                or (number not in self._fleet and not is_silent)
                or not could_take(worker, job.job_class, self._state.live_jobs)
                or self._is_over_limit(job.job_class)
            ):
                yield Lifting(number)
                continue
            if is_silent:
                # It calls in yet, or is given up: else each start of a manager, of which one
                # worker hears first, would stop tasks elsewhere for what is made room for there.
                continue
            self._guard(number, hold, self._line.place_of(job.job_class))

    # What stands still ---------------------------------------------------------------------

    def _find_standing(self) -> None:
        for number in self._fleet.standing:
            for attempt in self._state.get_worker(number).suspended.values():
                job = self._state.get_job(attempt.job_id)
                if not job.is_suspended and not attempt.is_given_up:
                    place = Place(-job.priority, 0, 0, job.job_id, -attempt.index - 1)
                    self._standing.append((place, attempt))
        # The last one is the next.
        self._standing.sort(key=lambda each: each[0], reverse=True)

    def _resume_before(self, place: Place | None) -> Iterator[Proposal]:
        """What stands still and goes before that place runs on, where its cpus are free."""
        while self._standing and (place is None or self._standing[-1][0] < place):
            own_place, attempt = self._standing.pop()
            worker = self._state.get_worker(attempt.worker)
            job_class = attempt.job_class
            guarded = self._guards.get(worker.number)
            if job_class.demand.cpus_milli <= worker.free_cpus_milli and (
                guarded is None
                or not guarded.goes_before(own_place, attempt.job_id)
                or guarded.guard.allows_again(attempt)
            ):
                yield Resumption(attempt)
                self._fleet.refresh()
            elif guarded is None:
                # What comes later is not to take what is freed there.
                self._guards[worker.number] = Guarded(own_place, Closed())

    def _is_over_limit(self, job_class: JobClass) -> bool:
        """Whether one more of its tasks would be more than its user may have at once."""
        return is_over_limit(self._state, self._rules.user_limits, job_class)


def ahead_depth(job_class: JobClass) -> int:
    """How many tasks of the class may wait behind each slot; 0 unless they proved short.

    None that run at most once: with its worker each of them would be lost for good.
    """
    if (
        job_class.at_most_once
        or job_class.samples < AHEAD_SAMPLES
        or job_class.run_us > AHEAD_RUN_US_MAX
    ):
        return 0
    return min(AHEAD_WINDOW_US // max(job_class.run_us, 1), AHEAD_TASKS_MAX)
