"""Histories of commands drawn by hypothesis; after each step everything is checked.

`Rig` checks at every record: invariant 5 (a second state, fed with the bytes of the log,
has the same digest), `check_invariants`, invariant 4 (`check_capacity`), invariant 2 (a
ledger of its own) and invariant 10 (a refused command leaves no trace). Here invariant 6
follows every pass, and at the end of a history all is healed and every task has to end.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.manager.builders import (
    SECOND_US,
    TIMEOUT_US,
    FakeHost,
    Rig,
    new_job,
    resources,
    submit,
    with_terms,
)
from tests.manager.could_start import could_start
from titan.errors import InvalidJob, NoRoom, NotFound, Refused
from titan.manager.kernel import Settings
from titan.manager.kernel.commands import (
    CancelJobs,
    DrainWorkers,
    NewAffinity,
    NewDependency,
    NewJob,
    NewReference,
    Report,
    ReportTasks,
    WhichJobs,
)
from titan.manager.kernel.outbox import key_of
from titan.model import AttemptKey, Held, Reason, ReportKind, Resources, State, WorkerState
from titan.queries.selection import JobFilter, JobSelector
from titan.scheduling import (
    ORDERS,
    PLAIN_SCHEDULING,
    PREEMPTIONS,
    SAME_INDEX,
    WHOLE_JOB,
    DependencyCondition,
    LabelConstraint,
    Scheduling,
)
from titan.state.attempts import Attempt
from titan.state.job import Job

WORKERS = st.integers(0, 3)
CAPACITIES = [
    resources(1),
    resources(2, 8 << 30),
    resources(4, 4 << 30, gpu=1),
    resources(4, 16 << 30, gpu=2, licence=3),
]
DEMANDS: list[dict[str, Any]] = [
    {"cpus": 1},
    {"cpus": 0.5},
    {"cpus": 2, "memory_bytes": 3 << 30},
    {"cpus": 1, "named": {"gpu": 1}},
    {"cpus": 0.001, "named": {"licence": 2, "gpu": 1}},
    {"cpus": 64},
]
ARRAYS: list[tuple[tuple[int, ...], ...]] = [
    (),
    (),
    ((0, 4),),
    ((0, 9, 3), (9, 11)),
    ((3, 4), (10, 20, 2), (20, 21)),
]
USERS = ["ada", "grace"]
# Mostly moments, so that tasks prove short; sometimes what trips a timeout.
DELAYS = [0, 1, 1000, 10_000, 250_000, SECOND_US, 3 * SECOND_US, TIMEOUT_US // 2, TIMEOUT_US]

# What some jobs ask for besides; times count from the submit.
SCHEDULINGS: list[Scheduling] = [
    *[PLAIN_SCHEDULING] * 6,
    Scheduling(held=True),
    Scheduling(retries=2, preemptible=True),
    Scheduling(retries=1, retry_on=(1,)),
    Scheduling(preemptible=True),
    Scheduling(preemptible=True, exclusive=True),
    Scheduling(array_limit=1, retries=1),
    Scheduling(array_limit=3, max_fails=0),
    Scheduling(max_fails=1, preemptible=True),
    Scheduling(constraints=(LabelConstraint("zone", ("a", "b")),), spread="zone"),
    Scheduling(constraints=(LabelConstraint("zone", ("b",)),)),
    Scheduling(begin_us=SECOND_US, deadline_us=5 * SECOND_US),
    Scheduling(deadline_us=SECOND_US),
    Scheduling(at_most_once=True),
    Scheduling(at_most_once=True, preemptible=True),
]
# Of a job: which remembered one it waits for, how, and by which tasks.
AFTER = st.tuples(
    st.integers(0, 9),
    st.sampled_from([*DependencyCondition]),
    st.sampled_from([WHOLE_JOB, WHOLE_JOB, SAME_INDEX, 0, 3]),
)


class Wanted(NamedTuple):
    """A job before it is known which ones are there to wait for."""

    job: NewJob
    after: tuple[tuple[int, DependencyCondition, int], ...]
    keeps_to_itself: int
    """1: its tasks go to one worker, 2: each to another one."""


def wanted_job(
    demand: dict[str, Any], array: Any, scheduling: Scheduling, after: Any, **others: Any
) -> Wanted:
    if not array:
        scheduling = scheduling._replace(array_limit=0, max_fails=-1)
    itself = others.pop("itself")
    job = new_job(**demand, array=array, scheduling=scheduling, **others)
    return Wanted(job, tuple(after), itself)


jobs = st.builds(
    wanted_job,
    st.sampled_from(DEMANDS),
    st.sampled_from(ARRAYS),
    st.sampled_from(SCHEDULINGS),
    st.just(()) | st.just(()) | st.lists(AFTER, max_size=2),
    priority=st.sampled_from([0, 0, 5, -5]),
    on=st.sampled_from(["", "", "", "w1", "w3"]),
    time_limit_ms=st.sampled_from([0, 0, 500, 3000]),
    itself=st.sampled_from([0, 0, 0, 0, 1, 2]),
)


class Histories(RuleBasedStateMachine):
    """A manager, four machines and a network that loses, doubles and delays."""

    def __init__(self) -> None:
        super().__init__()
        # With so few remembered ones most jobs are forgotten within a history.
        self.rig = Rig(settings=Settings(forget_over=3))
        self.hosts = [
            FakeHost(self.rig, capacity, f"w{at}") for at, capacity in enumerate(CAPACITIES)
        ]
        # Calls to a worker that arrive late, held lists and reports that come again.
        self.late: list[tuple[FakeHost, bytes, tuple[Any, ...]]] = []
        self.old_lists: list[tuple[FakeHost, bytes, Held]] = []
        self.old_reports: list[tuple[FakeHost, tuple[Report, ...]]] = []
        self.requests: dict[bytes, tuple[tuple[NewJob, ...], list[int]]] = {}

    @initialize(wanted=st.lists(jobs, min_size=1, max_size=4), present=st.sets(WORKERS))
    def begins(self, wanted: list[Wanted], present: set[int]) -> None:
        for at in sorted(present):
            self.hosts[at].register()
        self.submits(wanted, "ada")

    # What goes well ------------------------------------------------------------------------

    @rule(
        ends=st.integers(0, 3),
        takes_us=st.sampled_from([100, 1000, 1000, SECOND_US]),
        how=st.sampled_from([0, 0, 0, 1]),
    )
    def works(self, ends: int, takes_us: int, how: int = 0) -> None:
        """A while without trouble: a pass, calls, reports, the ends of some tasks."""
        self.passes()
        for host in self.hosts:
            if self.is_cut_off(host):
                continue
            host.receive_all()
            host.send_reports()
        self.rig.tick(takes_us)
        for host in self.hosts:
            for key in host.working[:ends]:
                self.end(host, key, how)

    @precondition(lambda self: self.rig.kernel.room)
    @rule(
        data=st.data(),
        wanted=jobs,
        what=st.lists(st.sampled_from(["suspend", "resume", "update", "requeue", "urge"]),
                      min_size=1, max_size=3),
    )  # fmt: skip
    def meddles(self, data: st.DataObject, wanted: Wanted, what: list[str]) -> None:
        """Something is done about a job that runs, whatever comes between."""
        self.submits([wanted], "grace")
        self.works(0, 1000)
        running = [job_id for job_id, job in self.rig.state.live_jobs.items() if job.counts[2] > 0]
        if not running:
            return
        job_id = data.draw(st.sampled_from(running))
        for each in what:
            if each == "suspend":
                self.rig.suspend(job_id)
            elif each == "resume":
                self.rig.resume(job_id)
            elif each == "update":
                self.rig.update(job_id, limit=data.draw(st.sampled_from([0, 500, 9000])))
            elif each == "requeue":
                job = self.rig.state.get_job(job_id)
                if not job.has_ended and not job.scheduling.at_most_once:
                    self.rig.requeue(job_id)
            else:
                job = self.rig.state.get_job(job_id)
                self.rig.set_policy(preempt=data.draw(st.sampled_from(PREEMPTIONS)))
                urgent = with_terms(wanted.job, priority=9, resources=job.demand, on="")
                self.submits([wanted._replace(job=urgent)], "ada")
                self.works(0, 1000)

    @rule(at=WORKERS, silence_us=st.sampled_from([TIMEOUT_US // 2, TIMEOUT_US]))
    def falls_silent(self, at: int, silence_us: int) -> None:
        """One is cut off while the others are heard; it works on."""
        for _ in range(4):
            self.rig.tick(silence_us // 4)
            for other in range(4):
                if other != at and not self.is_cut_off(self.hosts[other]):
                    self.beats(other)

    @rule(at=WORKERS, works_on=st.booleans())
    def was_cut_off_and_comes_back(self, at: int, works_on: bool) -> None:
        host = self.hosts[at]
        self.falls_silent(at, TIMEOUT_US)
        self.rig.tick(0)
        assert self.is_cut_off(host)
        if works_on:
            for key in host.working[:1]:
                host.end(key)
        host.register()
        host.send_reports()

    # Users ---------------------------------------------------------------------------------

    @rule(wanted=st.lists(jobs, min_size=1, max_size=2), user=st.sampled_from(USERS))
    def submits(self, wanted: list[Wanted], user: str) -> None:
        try:
            self.rig.submit(*self.complete(wanted), user=user)
        except NoRoom:
            assert not self.rig.kernel.room
        except InvalidJob:
            assert any(self.is_unknown(each.job) for each in wanted)
        else:
            assert not any(self.is_unknown(each.job) for each in wanted)

    @rule(wanted=jobs, request=st.integers(1, 3), content=st.binary(max_size=1))
    def submits_with_a_request_id(self, wanted: Wanted, request: int, content: bytes) -> None:
        request_id = request.to_bytes(16, "big")
        command = submit(*self.complete([wanted]), request_id=request_id, content=content)
        known = self.rig.state.requests.get("ada", request_id)
        lsn = self.rig.state.lsn
        try:
            answer = self.rig.do(command)
        except NoRoom:
            assert known is None
            assert not self.rig.kernel.room
        except InvalidJob:
            if known is None:
                assert self.is_unknown(wanted.job)
            else:
                assert known.content != content
        else:
            assert (self.rig.state.lsn == lsn) == (known is not None)
            if known is not None:
                assert list(answer.job_ids) == [known.first_job_id]

    @rule(data=st.data(), span=st.none() | st.tuples(st.integers(0, 12), st.integers(1, 9)))
    def cancels(self, data: st.DataObject, span: tuple[int, int] | None) -> None:
        job_id = data.draw(st.integers(1, self.rig.state.next_job_id))
        indexes = () if span is None else ((span[0], span[0] + span[1]),)
        try:
            self.rig.cancel(job_id, indexes=indexes, grace_ms=data.draw(st.integers(0, 10)))
        except NotFound:
            is_known = job_id in self.rig.state.jobs
            assert not is_known or indexes

    @rule(
        user=st.sampled_from(USERS), state=st.sampled_from([*State][:6]), chance=st.integers(0, 3)
    )
    def cancels_by_filter(self, user: str, state: State, chance: int) -> None:
        if chance == 0:
            self.rig.cancel(filter=JobFilter(states=(state,), user=user))

    @precondition(lambda self: self.rig.kernel.room)
    @rule(data=st.data(), releases=st.booleans())
    def holds(self, data: st.DataObject, releases: bool) -> None:
        job_id = self.pick(data)
        if job_id:
            changed = self.rig.release(job_id) if releases else self.rig.hold(job_id)
            job = self.rig.state.get_job(job_id)
            assert (changed.already_ended == [job_id]) == job.has_ended
            assert job.has_ended or job.is_held != releases

    @precondition(lambda self: self.rig.kernel.room)
    @rule(data=st.data(), resumes=st.booleans())
    def suspends(self, data: st.DataObject, resumes: bool) -> None:
        job_id = self.pick(data)
        if job_id:
            if resumes:
                self.rig.resume(job_id)
            else:
                self.rig.suspend(job_id)
            job = self.rig.state.get_job(job_id)
            assert job.has_ended or job.is_suspended != resumes
            running = [each for each in job.active.values() if each.state is State.RUNNING]
            assert resumes or all(each.suspended or each.is_given_up for each in running)

    @precondition(lambda self: self.rig.kernel.room)
    @rule(
        data=st.data(),
        priority=st.sampled_from([None, 0, 5, -5]),
        limit_ms=st.sampled_from([None, 0, 500, 9000]),
    )
    def updates(self, data: st.DataObject, priority: int | None, limit_ms: int | None) -> None:
        job_id = self.pick(data)
        if job_id and (priority, limit_ms) != (None, None):
            self.rig.update(job_id, priority=priority, limit=limit_ms)
            job = self.rig.state.get_job(job_id)
            assert job.has_ended or priority in (None, job.priority)
            assert job.has_ended or limit_ms in (None, job.time_limit_ms)

    @rule(data=st.data(), request=st.integers(0, 3), span=st.none() | st.tuples(
        st.integers(0, 12), st.integers(1, 9)))  # fmt: skip
    def requeues(self, data: st.DataObject, request: int, span: tuple[int, int] | None) -> None:
        job_id = self.pick(data)
        if not job_id:
            return
        indexes = () if span is None else ((span[0], span[0] + span[1]),)
        request_id = (request + 100).to_bytes(16, "big") if request else b""
        job = self.rig.state.get_job(job_id)
        had_ended = job.has_ended
        try:
            answer = self.rig.requeue(job_id, indexes=indexes, request_id=request_id)
        except (NotFound, NoRoom):
            assert indexes or not self.rig.kernel.room
        except Refused:
            assert had_ended or (job.scheduling.at_most_once and job.counts[2])
        else:
            assert answer.job_ids == [answer.submitted_again.get(job_id, job_id)]

    @precondition(lambda self: self.rig.kernel.room)
    @rule(
        order=st.none() | st.sampled_from(ORDERS),
        preempt=st.sampled_from(PREEMPTIONS),
        fair_share=st.booleans(),
        reserve_after_ms=st.sampled_from([0, 1000, 60_000]),
        limit=st.sampled_from([0, 0, 2000]),
    )
    def sets_the_policy(self, limit: int, **changes: Any) -> None:
        self.rig.set_policy(user_limits=(("ada", limit),), **changes)

    # Workers -------------------------------------------------------------------------------

    @rule(at=WORKERS)
    def calls_in(self, at: int) -> None:
        self.hosts[at].register()

    @rule(at=WORKERS)
    def starts_anew(self, at: int) -> None:
        self.hosts[at].restart_host()
        self.hosts[at].register()

    @rule(at=WORKERS, capacity=st.sampled_from(CAPACITIES))
    def comes_back_with_another_size(self, at: int, capacity: Resources) -> None:
        self.resize(self.hosts[at], capacity)

    @rule(at=WORKERS)
    def leaves(self, at: int) -> None:
        host = self.hosts[at]
        try:
            host.deregister()
        except Refused:
            self.has_no_session(host)
        else:
            host.restart_host()

    @rule(at=WORKERS)
    def beats(self, at: int) -> None:
        host = self.hosts[at]
        self.old_lists.append((host, host.session, host.list_held()))
        self.beat(host, host.list_held())

    @precondition(lambda self: self.old_lists)
    @rule(data=st.data())
    def beats_late(self, data: st.DataObject) -> None:
        host, session, held = self.old_lists.pop(data.draw(st.integers(0, len(self.old_lists) - 1)))
        if session == host.session:
            self.beat(host, held)

    @rule(at=WORKERS, count=st.integers(1, 5), answer_arrives=st.booleans())
    def reports(self, at: int, count: int, answer_arrives: bool) -> None:
        host = self.hosts[at]
        self.old_reports.append((host, tuple(host.unacknowledged[:count])))
        try:
            host.send_reports(count, answer_arrives=answer_arrives)
        except Refused:
            self.has_no_session(host)

    @precondition(lambda self: self.old_reports)
    @rule(data=st.data())
    def reports_again(self, data: st.DataObject) -> None:
        host, batch = self.old_reports.pop(data.draw(st.integers(0, len(self.old_reports) - 1)))
        if not batch:
            return
        try:
            host.report(*batch)
        except Refused:
            # The session has gone, or the batch is of another instance.
            return

    @rule(
        at=WORKERS,
        job_id=st.integers(0, 6),
        index=st.integers(0, 10),
        attempt=st.integers(0, 4),
        kind=st.sampled_from([ReportKind.STARTED, ReportKind.RECALLED]),
    )
    def reports_with_a_hole(
        self, at: int, job_id: int, index: int, attempt: int, kind: ReportKind
    ) -> None:
        host = self.hosts[at]
        key = AttemptKey(1, job_id, index, attempt)
        applied = host.outbox.applied_seq if host.outbox else 0
        far = Report(applied + 2 + host.report_seq, key, kind)
        with pytest.raises(Refused):
            host.report(far)

    @rule(at=WORKERS, fate=st.sampled_from(["arrives", "arrives", "lost", "answer lost", "late"]))
    def gets_a_call(self, at: int, fate: str) -> None:
        host = self.hosts[at]
        if host.outbox is None or self.is_cut_off(host):
            return
        batch = host.next_batch()
        if batch is None:
            return
        state = self.rig.state
        copy = (
            batch.dispatch_seq,
            [(key_of(state, each), each.job_class.class_id) for each in batch.starts],
            dict(batch.slots),
            batch.stops,
        )
        assert not (batch.starts and batch.stops), "starts or stops, never both"
        assert host.next_batch() is None, "one batch is under way"
        if fate in ("arrives", "answer lost"):
            host.receive_message(*copy)
        elif fate == "late":
            self.late.append((host, host.session, copy))
        if fate == "arrives":
            host.outbox.acknowledged(batch)
        else:
            host.outbox.failed(batch, state)

    @precondition(lambda self: self.late)
    @rule(data=st.data())
    def gets_a_late_call(self, data: st.DataObject) -> None:
        host, session, message = self.late.pop(data.draw(st.integers(0, len(self.late) - 1)))
        if session == host.session:
            host.receive_message(*message)

    @rule(at=WORKERS, which=st.integers(0, 3), how=st.sampled_from([0, 0, 0, 1, 2, 3]))
    def ends_a_task(self, at: int, which: int, how: int) -> None:
        host = self.hosts[at]
        if which < len(host.working):
            self.end(host, host.working[which], how)

    @rule(at=WORKERS, drains=st.booleans(), reason=st.sampled_from(["", "disk"]))
    def is_drained(self, at: int, drains: bool, reason: str) -> None:
        command = DrainWorkers(
            workers=(self.hosts[at].name,), drains=drains, reason=reason, user="root"
        )
        try:
            (number,) = self.rig.do(command)
        except NotFound:
            number = self.hosts[at].number
            workers = self.rig.state.workers
            assert not number or workers[number].state is WorkerState.DEREGISTERED
        else:
            assert (self.rig.state.get_worker(number).drain is not None) == drains

    @rule(at=WORKERS, is_stopping=st.booleans())
    def is_told_to_end_when_drained(self, at: int, is_stopping: bool) -> None:
        host = self.hosts[at]
        host.is_stopping = is_stopping
        self.beat(host, host.list_held())
        if not self.is_cut_off(host):
            assert self.rig.state.get_worker(host.number).is_stopping == is_stopping

    @rule(at=WORKERS, fault=st.sampled_from(["", "", "its disk is nearly full", "rain"]))
    def says_what_is_wrong(self, at: int, fault: str) -> None:
        self.hosts[at].fault = fault
        self.beats(at)

    # Time ----------------------------------------------------------------------------------

    @rule(after_us=st.sampled_from(DELAYS), stalled=st.booleans())
    def ticks(self, after_us: int, stalled: bool) -> None:
        if stalled:
            # The loop did not turn: time went on, silence did not.
            self.rig.now_us += after_us
            after_us = 0
        self.rig.tick(after_us)

    @rule()
    def passes(self) -> None:
        for _ in range(20):
            # What one pass makes room for, or a full record, asks for another one at once.
            self.rig.schedule()
            if not (self.rig.kernel.schedule_wanted and self.rig.kernel.room):
                break
        else:
            pytest.fail("passes call for passes for ever")
        self.rig.check()
        if self.rig.kernel.room:
            assert could_start(self.rig) == [], "invariant 6"

    @rule(room=st.sampled_from([True, True, False]))
    def has_room(self, room: bool) -> None:
        self.rig.kernel.room = room

    @rule(chance=st.integers(0, 2))
    def manager_restarts(self, chance: int) -> None:
        if chance == 0:
            self.rig.restart()

    @rule(grace_ms=st.sampled_from([-1, 24 * 3600 * 1000 + 1]))
    def asks_for_nonsense(self, grace_ms: int) -> None:
        for command in (
            CancelJobs(which=WhichJobs(selectors=(JobSelector(job_id=1),)), grace_ms=grace_ms),
            CancelJobs(which=WhichJobs(), grace_ms=0),
            submit(new_job(cpus=-1)),
            submit(new_job(), new_job(array=[(3, 2)])),
            submit(new_job(), request_id=b"short"),
            ReportTasks(session=b"nobody's", first_seq=1, last_seq=1, reports=()),
        ):
            with pytest.raises((InvalidJob, Refused)):
                self.rig.do(command)
        with pytest.raises(NotFound):
            self.rig.cancel(1 << 40)

    # The end -------------------------------------------------------------------------------

    def teardown(self) -> None:
        """With everything healed, every task that fits somewhere ends, and nothing is held."""
        rig = self.rig
        rig.kernel.room = True
        for host, capacity in zip(self.hosts, CAPACITIES, strict=True):
            host.is_stopping, host.fault = False, ""
            self.resize(host, capacity)
        names = tuple(host.name for host in self.hosts)
        rig.do(DrainWorkers(workers=names, drains=False, reason="", user="root"))
        rig.set_policy(preempt="off", user_limits=(("ada", 0),))
        # What could never run, and whoever waits for that in vain, ends too.
        for job in list(rig.state.live_jobs.values()):
            if not self.fits(job) or any(map(self.is_too_large, job.active.values())):
                rig.cancel(job.job_id)
        for job_id in list(rig.state.live_jobs):
            rig.release(job_id)
            rig.resume(job_id)
        for _ in range(400):
            rig.tick(250_000)
            for host in self.hosts:
                if self.is_cut_off(host):
                    host.register()
                host.heartbeat()
                host.receive_all()
                self.check_wishes(host)
                for key in host.working:
                    host.end(key)
                host.send_reports()
            self.passes()
            if self.is_done():
                break
        assert self.is_done(), f"tasks by state: {rig.state.task_counts}"
        for host in self.hosts:
            assert not host.held, "invariant 8: a task that ended holds nothing"
            worker = rig.state.get_worker(host.number)
            assert worker.free == worker.capacity, "invariant 8"
        for job_id, job in rig.state.jobs.items():
            assert list(job.counts) == rig.ledger.counts(job_id), "invariant 2"
        super().teardown()

    def is_done(self) -> bool:
        return not self.rig.state.live_jobs and not any(host.held for host in self.hosts)

    def fits(self, job: Job) -> bool:
        return ("zone", ("b",)) not in [each[:2] for each in job.scheduling.constraints] and any(
            job.demand.fits_in(capacity) and job.on in ("", host.name)
            for host, capacity in zip(self.hosts, CAPACITIES, strict=True)
        )

    def is_too_large(self, attempt: Attempt) -> bool:
        """Whether it stands still on a worker that has become too small for its cpus."""
        worker = self.rig.state.get_worker(attempt.worker)
        return attempt.suspended and attempt.job_class.demand.cpus_milli > worker.capacity[0]

    def check_wishes(self, host: FakeHost) -> None:
        """All that was wished of what runs has come to the worker."""
        for attempt in self.rig.state.get_worker(host.number).attempts.values():
            key = key_of(self.rig.state, attempt)
            if attempt.is_given_up or attempt.state is not State.RUNNING or key not in host.held:
                continue
            assert (key in host.standing) == attempt.suspended
            limit_ms = self.rig.state.get_job(attempt.job_id).time_limit_ms
            assert host.limits.get(key, limit_ms) == limit_ms

    def pick(self, data: st.DataObject) -> int:
        """A job that is remembered, mostly one that has not ended; 0: there is none."""
        state = self.rig.state
        chosen = list(state.live_jobs) if data.draw(st.integers(0, 3)) else list(state.jobs)
        return data.draw(st.sampled_from(chosen)) if chosen else 0

    def complete(self, wanted: list[Wanted]) -> list[NewJob]:
        """The jobs with what they wait for among those that are there and those before them."""
        known = list(self.rig.state.jobs)[-6:]
        completed = []
        for place, (job, after, itself) in enumerate(wanted):
            references = []
            for at, condition, index in after:
                if at < place:
                    reference, array = NewReference(None, at), wanted[at].job.terms.array
                elif known:
                    job_id = known[at % len(known)]
                    reference = NewReference(JobSelector(job_id=job_id))
                    array = self.rig.state.get_job(job_id).array
                else:
                    continue
                indexes = {i for each in array for i in each.indexes} or {0}
                own = {i for each in job.terms.array for i in each.indexes}
                is_there = index in indexes or (index == SAME_INDEX and own and own <= indexes)
                is_there = is_there and (index >= 0 or bool(array))
                references.append(
                    NewDependency(reference, condition, index if is_there else WHOLE_JOB)
                )
            scheduling = job.terms.scheduling
            now_us = max(self.rig.now_us, self.rig.state.time_us)
            scheduling = scheduling._replace(
                begin_us=now_us + scheduling.begin_us if scheduling.begin_us else 0,
                deadline_us=now_us + scheduling.deadline_us if scheduling.deadline_us else 0,
            )
            near = (NewAffinity(NewReference(None, place), itself == 2),) if itself else ()
            completed.append(
                with_terms(job, scheduling=scheduling, after=tuple(references), affinities=near)
            )
        return completed

    def is_unknown(self, job: NewJob) -> bool:
        """Whether it is to run on a worker that has not registered, or took its leave."""
        names = [
            each.name
            for each in self.rig.state.workers.values()
            if each.state is not WorkerState.DEREGISTERED
        ]
        return job.terms.on not in ("", *names)

    # Helpers -------------------------------------------------------------------------------

    def resize(self, host: FakeHost, capacity: Resources) -> None:
        # What it was promised may be more than it has now: invariant 4 says so.
        if host.number and not host.capacity.fits_in(capacity):
            self.rig.capacity_holds = False
        host.capacity = capacity
        host.register()

    def beat(self, host: FakeHost, held: Held) -> None:
        try:
            host.heartbeat(held)
        except Refused:
            self.has_no_session(host)
        else:
            worker = self.rig.state.get_worker(host.number)
            kernel = self.rig.kernel
            if kernel.room:
                # Its own word, or that it came back often.
                fault = host.fault or kernel.returns.fault(host.number, self.rig.turned_us)
                said = WorkerState.UNHEALTHY if fault else WorkerState.HEALTHY
                assert (worker.state, worker.fault) == (said, fault)

    def end(self, host: FakeHost, key: AttemptKey, how: int) -> None:
        if how == 0:
            host.end(key)
        elif how == 1:
            host.end(key, State.FAILED)
        elif how == 2:
            host.end(key, State.FAILED, reason=Reason.SIGNAL, exit_code=-1, signal=9)
        else:
            host.end(key, State.FAILED, reason=Reason.LAUNCH_ERROR, exit_code=-1, detail="no")

    def is_cut_off(self, host: FakeHost) -> bool:
        return host.session not in self.rig.kernel.sessions

    def has_no_session(self, host: FakeHost) -> None:
        assert self.is_cut_off(host)


Histories.TestCase.settings = settings(max_examples=150, stateful_step_count=50)
TestHistories = Histories.TestCase
