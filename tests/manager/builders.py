"""Builders for tests of the pure core: commands, a kernel with a twin, task hosts of memory.

`Rig` drives a real kernel. Whatever the kernel decides goes through the bytes of the log
into a second state, the twin, and into a ledger that follows the events in the dumbest
way. After each step the three have to agree.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from tests.manager.ledger import ATTEMPT_ENDS, Ledger
from titan import events as ev
from titan.errors import TitanError
from titan.manager.kernel import Kernel, Settings
from titan.manager.kernel.commands import (
    CancelJobs,
    Changed,
    Command,
    DeregisterWorker,
    Heartbeat,
    HoldJobs,
    NewDependency,
    NewEnvironment,
    NewJob,
    NewReference,
    NewTerms,
    Registered,
    RegisterWorker,
    Report,
    ReportTasks,
    Requeued,
    RequeueJobs,
    SetPolicy,
    SubmitJobs,
    Submitted,
    SuspendJobs,
    UpdateJobs,
    WhichJobs,
)
from titan.manager.kernel.outbox import Batch, Outbox, key_of
from titan.manager.kernel.tally import Tally
from titan.model import (
    TASK_ENDS,
    AttemptKey,
    Held,
    HeldAttempt,
    HeldState,
    IndexRange,
    Reason,
    ReportKind,
    Resources,
    State,
    Stop,
    StopMode,
    WorkerState,
    named_resources,
)
from titan.queries.selection import JobFilter, JobSelector
from titan.scheduling import WHOLE_JOB, DependencyCondition
from titan.state import ClusterState, check_invariants, digest
from titan.state.invariants import check_capacity
from titan.state.snapshot import decode_state, encode_state

CLUSTER_ID = bytes(range(16))
START_US = 1_800_000_000_000_000
SECOND_US = 1_000_000
TIMEOUT_US = Settings().heartbeat_timeout_us
GIB = 1 << 30
NO_ENVIRONMENT = NewEnvironment(b"\0" * 16, (), ())


def resources(cpus: float = 1, memory_bytes: int = 0, **named: int) -> Resources:
    """Cpus as people write them; the rest as it is."""
    return Resources(round(cpus * 1000), memory_bytes, named_resources(named.items()))


def new_job(
    *,
    cpus: float = 1,
    memory_bytes: int = 0,
    named: dict[str, int] | None = None,
    array: Iterable[tuple[int, ...]] = (),
    priority: int = 0,
    name: str = "true",
    command: tuple[bytes, ...] = (b"true",),
    cwd: bytes = b"/",
    environment: int = 0,
    **options: Any,
) -> NewJob:
    """One job of a submit; `array` as (start, stop) or (start, stop, step).

    `options` are other fields of NewTerms.
    """
    terms = NewTerms(
        cwd=cwd,
        environment=environment,
        resources=resources(cpus, memory_bytes, **(named or {})),
        priority=priority,
        array=tuple(IndexRange(*each) for each in array),
        **options,
    )
    return NewJob(name, command, terms)


def with_terms(job: NewJob, **fields: Any) -> NewJob:
    """The same job on other terms."""
    return job._replace(terms=replace(job.terms, **fields))


def submit(
    *jobs: NewJob,
    user: str = "ada",
    request_id: bytes = b"",
    content: bytes = b"",
    size_bytes: int = 100,
    environments: tuple[tuple[Any, ...], ...] = (NO_ENVIRONMENT,),
    proven_user: str = "",
) -> SubmitJobs:
    """A submit of these jobs."""
    return SubmitJobs(
        user=user,
        request_id=request_id,
        content=content,
        size_bytes=size_bytes,
        environments=tuple(NewEnvironment(*each) for each in environments),
        jobs=jobs,
        proven_user=proven_user,
    )


def after(
    job: int,
    condition: DependencyCondition = DependencyCondition.OK,
    index: int = WHOLE_JOB,
    *,
    of_request: bool = False,
) -> NewDependency:
    """What a job waits for: the job of that number, or of that place in the same request."""
    reference = NewReference(None, job) if of_request else NewReference(JobSelector(job_id=job))
    return NewDependency(reference, condition, index)


def report(seq: int, key: AttemptKey, kind: ReportKind, **fields: Any) -> Report:
    """A report; an end is one with exit code 0 unless told otherwise."""
    if kind is ReportKind.ENDED:
        fields = {
            "state": State.COMPLETED,
            "reason": Reason.EXIT,
            "exit_code": 0,
            "start_us": START_US,
            "end_us": START_US + 1000,
        } | fields
    elif kind is ReportKind.STARTED:
        fields = {"start_us": START_US} | fields
    return Report(seq, key, kind, **fields)


SNAPSHOT_EVERY = 7


def through_snapshot(state: ClusterState) -> ClusterState:
    """The state as one finds it who takes it up from a snapshot."""
    again = decode_state(list(encode_state(state, "0.1.0")))
    assert digest(again) == digest(state), "a snapshot is the state"
    return again


class Rig:
    """A kernel, what it wrote, its twin by replay, and a clock that only the test moves.

    A third state is made of a snapshot every few records and follows from there.
    """

    def __init__(self, *, checks: bool = True, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self.checks = checks
        self.capacity_holds = True
        self.records: list[bytes] = []
        self.twin = ClusterState()
        self.resumed = ClusterState()
        self.ledger = Ledger()
        # What began on a worker, of the tasks that are to do so at most once.
        self.begun: dict[tuple[int, int], AttemptKey] = {}
        self.now_us = START_US
        self.turned_us = 0
        self.epoch = 0
        self.drawn = 0
        self._start(ClusterState())

    @property
    def state(self) -> ClusterState:
        """The live state."""
        return self.kernel.state

    def restart(self) -> None:
        """The manager dies; another takes up its log, or every other time the last snapshot."""
        state = ClusterState()
        for lsn, payload in enumerate(self.records, 1):
            state.apply_record(lsn, *ev.decode_record(payload))
        assert digest(state) == digest(self.state), "invariant 5"
        self._start(state if self.epoch % 2 else through_snapshot(state))

    def do(self, command: Command) -> Any:
        """Lets the kernel decide. A refusal has to leave no trace (invariant 10)."""
        before = digest(self.state) if self.checks else ""
        try:
            answer = self.kernel.decide(command, self.now_us, self.turned_us)
        except TitanError:
            assert not self.kernel.events_count, "invariant 10: a refused command has no events"
            if self.checks:
                assert digest(self.state) == before, "invariant 10"
            raise
        self.settle()
        return answer

    def tick(self, after_us: int = 0) -> list[ev.Event]:
        """Time passes, then the manager looks up."""
        self.now_us += after_us
        self.turned_us += after_us
        self.kernel.tick(self.now_us, self.turned_us)
        return self._settled()

    def schedule(self) -> list[ev.Event]:
        """A pass."""
        self.kernel.schedule(self.now_us)
        return self._settled()

    def _settled(self) -> list[ev.Event]:
        happened = self.settle()
        assert not self.state.doomed, "who waits for what can't happen any more is cancelled"
        assert not self.state.overfailed, "who failed too often is cancelled"
        return happened

    def settle(self) -> list[ev.Event]:
        """Writes down what was decided and compares the twin's state (invariant 5)."""
        happened: list[ev.Event] = []
        while (taken := self.kernel.take_record()) is not None:
            payload = ev.encode_record(*taken)
            time_us, events = ev.decode_record(payload)
            assert events == taken[1]
            assert [type(each) for each in events] == [type(each) for each in taken[1]]
            self.records.append(payload)
            if self.checks:
                self.ledger.note(time_us, events)
            self.twin.apply_record(len(self.records), time_us, events)
            if self.checks:
                self.resumed.apply_record(len(self.records), time_us, events)
                if len(self.records) % SNAPSHOT_EVERY == 0:
                    self.resumed = through_snapshot(self.resumed)
            happened += events
        if self.checks and happened:
            self.check()
        return happened

    def check(self) -> None:
        """Everything that holds in every state."""
        check_invariants(self.state)
        if self.capacity_holds:
            check_capacity(self.state)
        assert digest(self.twin) == digest(self.state), "invariant 5: replay is the live state"
        assert digest(self.resumed) == digest(self.state), "invariant 5: snapshot and tail are"
        self.check_tally()

    def check_tally(self) -> None:
        """What was counted for metrics is what has happened since the manager's start."""
        tally = self.kernel.tally
        assert tally is not None
        counted = {
            **dict(zip((state.name for state in TASK_ENDS), tally.tasks_ended, strict=True)),
            **{kind.__name__: tally.count_of(kind) for kind in ev.CODE_OF_EVENT},
            "started": tally.started,
            "waits": sum(tally.wait_seconds.read().counts),
        }
        happened = self.ledger.totals()
        assert counted == {what: happened[what] - self.before[what] for what in counted}
        ends = sum(count for *_, count in tally.attempts_ended)
        assert ends == sum(happened[each] - self.before[each] for each in ATTEMPT_ENDS)

    def draw(self) -> bytes:
        """16 bytes that were not drawn before."""
        self.drawn += 1
        return self.drawn.to_bytes(16, "big")

    # Users --------------------------------------------------------------------------------------

    def begin(self, key: AttemptKey) -> None:
        """An attempt really begins on a worker."""
        job = self.ledger.submitted.get(key.job_id)
        if job is not None and job.scheduling.at_most_once:
            other = self.begun.setdefault((key.job_id, key.index), key)
            assert other == key, f"{key} begins after {other}, and that is once too often"

    def submit(self, *jobs: NewJob, **fields: Any) -> list[int]:
        """The ids of the jobs."""
        answer: Submitted = self.do(submit(*jobs, **fields))
        return list(answer.job_ids)

    def cancel(self, *job_ids: int, grace_ms: int = 10_000, **fields: Any) -> Changed:
        """Cancels jobs; `indexes` as (start, stop) only some of their tasks."""
        indexes = tuple(IndexRange(*each) for each in fields.get("indexes", ()))
        selectors = tuple(JobSelector(job_id=each, indexes=indexes) for each in job_ids)
        chosen: JobFilter | None = fields.get("filter")
        answer: Changed = self.do(
            CancelJobs(
                which=WhichJobs(selectors=selectors, filter=chosen),
                grace_ms=grace_ms,
                signal=fields.get("signal", 15),
            )
        )
        return answer

    def which(self, *job_ids: int, user: str = "ada", indexes: Any = ()) -> WhichJobs:
        """These jobs, or where there are `indexes` as (start, stop) only some of their tasks."""
        ranges = tuple(IndexRange(*each) for each in indexes)
        selectors = tuple(JobSelector(job_id=each, indexes=ranges) for each in job_ids)
        return WhichJobs(selectors=selectors, user=user)

    def hold(self, *job_ids: int) -> Changed:
        """Holds them."""
        answer: Changed = self.do(HoldJobs(which=self.which(*job_ids), releases=False))
        return answer

    def release(self, *job_ids: int) -> Changed:
        """Releases them."""
        answer: Changed = self.do(HoldJobs(which=self.which(*job_ids), releases=True))
        return answer

    def suspend(self, *job_ids: int) -> Changed:
        """Suspends them."""
        answer: Changed = self.do(SuspendJobs(which=self.which(*job_ids), resumes=False))
        return answer

    def resume(self, *job_ids: int) -> Changed:
        """Resumes them."""
        answer: Changed = self.do(SuspendJobs(which=self.which(*job_ids), resumes=True))
        return answer

    def update(self, *job_ids: int, priority: int | None = None, limit: int | None = None) -> Any:
        """Gives them another priority, or time limit in milliseconds."""
        which = self.which(*job_ids)
        return self.do(UpdateJobs(which=which, priority=priority, time_limit_ms=limit))

    def requeue(self, *job_ids: int, **fields: Any) -> Requeued:
        """Puts them back, or where there are `indexes` only some of their tasks."""
        answer: Requeued = self.do(
            RequeueJobs(
                which=self.which(*job_ids, indexes=fields.get("indexes", ())),
                grace_ms=fields.get("grace_ms", 10_000),
                request_id=fields.get("request_id", b""),
                content=fields.get("content", b""),
                proven_user=fields.get("proven_user", ""),
            )
        )
        return answer

    def set_policy(self, **fields: Any) -> list[ev.Event]:
        """Changes what is named of the policy."""
        count = len(self.records)
        self.do(SetPolicy(user="root", **fields))
        return [event for payload in self.records[count:] for event in ev.decode_record(payload)[1]]

    def task_state(self, job_id: int, index: int = 0) -> State:
        """The state of a task, which the ledger has to agree with."""
        state = self.state.get_job(job_id).find_task_state(index)
        assert state is not None
        assert state is self.ledger.tasks[job_id, index]
        return state

    # Workers ------------------------------------------------------------------------------------

    def worker(self, cpus: float = 1, memory_bytes: int = 0, **named: int) -> FakeHost:
        """A new worker that has registered."""
        host = FakeHost(self, resources(cpus, memory_bytes, **named))
        host.register()
        return host

    def start_here(self, host: FakeHost, job_id: int, index: int = 0) -> AttemptKey:
        """Schedules, delivers and starts; the task has to run on that worker then."""
        self.schedule()
        host.receive_all()
        host.send_reports()
        key = host.key_of(job_id, index)
        assert self.task_state(job_id, index) is State.RUNNING
        return key

    def finish(
        self, host: FakeHost, job_id: int, index: int = 0, state: State = State.COMPLETED
    ) -> None:
        """Starts a task there and lets it end so; then a pass."""
        key = self.start_here(host, job_id, index)
        self.now_us += 1000
        host.end(key, state)
        host.send_reports()
        self.schedule()

    def _start(self, state: ClusterState) -> None:
        self.kernel = Kernel(state, self.settings)
        self.kernel.tally = Tally(state)
        self.before = self.ledger.totals()
        self.turned_us = 0
        self.epoch += 1
        self.kernel.start(
            cluster_id=CLUSTER_ID, epoch=self.epoch, version="0.1.0", now_us=self.now_us
        )
        self.settle()


class FakeHost:
    """A worker: an agent without failures and a task host that runs nothing.

    It admits by the rule of the real one: of each class as many run as the manager said
    last, and never more than are left.
    """

    def __init__(self, rig: Rig, capacity: Resources, name: str = "") -> None:
        self.rig = rig
        self.capacity = capacity
        self.worker_id = b""
        self.number = 0
        self.instance = rig.draw()
        self.starts = 1
        self.name = name or f"w{rig.drawn}"
        self.session = b""
        self.outbox: Outbox | None = None
        self.is_stopping = False
        self.fault = ""
        self.clear()

    def clear(self) -> None:
        """Nothing is held, nothing was said."""
        # In the order of their arrival: whether it runs, since when, its class.
        self.held: dict[AttemptKey, list[int]] = {}
        self.allowed: dict[int, int] = {}
        # What of it stands still, and which time limits it was told afterwards.
        self.standing: dict[AttemptKey, None] = {}
        self.limits: dict[AttemptKey, int] = {}
        self.unacknowledged: list[Report] = []
        self.report_seq = 0
        self.dispatch_seq = 0

    @property
    def acknowledged_seq(self) -> int:
        """Up to where the manager acknowledged."""
        return self.unacknowledged[0].seq - 1 if self.unacknowledged else self.report_seq

    @property
    def running(self) -> list[AttemptKey]:
        """What runs, oldest first."""
        return [key for key, (start_us, _) in self.held.items() if start_us]

    @property
    def working(self) -> list[AttemptKey]:
        """What runs and does not stand still, oldest first."""
        return [key for key in self.running if key not in self.standing]

    @property
    def queued(self) -> list[AttemptKey]:
        """What waits, oldest first."""
        return [key for key, (start_us, _) in self.held.items() if not start_us]

    def key_of(self, job_id: int, index: int = 0) -> AttemptKey:
        """The key of the one attempt at that task that is held."""
        (key,) = [key for key in self.held if (key.job_id, key.index) == (job_id, index)]
        return key

    def list_held(self) -> Held:
        """All that is held, ends that were not acknowledged included."""
        attempts = [
            HeldAttempt(key, HeldState.RUNNING if start_us else HeldState.QUEUED, start_us)
            for key, (start_us, _) in self.held.items()
        ]
        attempts += [
            HeldAttempt(each.key, HeldState.ENDED, each.start_us)
            for each in self.unacknowledged
            if each.kind is not ReportKind.STARTED
        ]
        return Held(tuple(attempts), self.dispatch_seq, self.report_seq)

    # Calls to the manager -----------------------------------------------------------------------

    def register_command(self, **fields: Any) -> RegisterWorker:
        """A registration as the worker is now, but for `fields`."""
        arguments: dict[str, Any] = {
            "worker_id": self.worker_id,
            "instance": self.instance,
            "boot_id": "boot",
            "name": self.name,
            "address": f"{self.name}:1",
            "token": "token",
            "capacity": self.capacity,
            "labels": (("zone", "a"),),
            "version": "0.1.0",
            "output_directory": b"/out",
            "cluster_id": CLUSTER_ID if self.worker_id else b"",
            "held": self.list_held(),
            "acknowledged_seq": self.acknowledged_seq,
            "new_worker_id": self.rig.draw(),
            "session": self.rig.draw(),
            "is_stopping": self.is_stopping,
            "fault": self.fault,
            "host_starts": self.starts,
            "takes_secrets": True,
        }
        return RegisterWorker(**(arguments | fields))

    def register(self, **fields: Any) -> Registered:
        """Calls in, for the first time or again."""
        command = self.register_command(**fields)
        answer: Registered = self.rig.do(command)
        self.session = command.session
        self.worker_id = answer.worker_id
        self.number = answer.worker
        self.dispatch_seq = 0
        self.outbox = self.rig.kernel.sessions[self.session]
        return answer

    def restart_host(self) -> None:
        """Another instance, which knows nothing of what the old one held."""
        self.instance = self.rig.draw()
        self.starts += 1
        self.clear()

    def wait_out_rest(self) -> None:
        """It came back often, and stays until it is given new tasks again."""
        while self.rig.state.get_worker(self.number).state is WorkerState.UNHEALTHY:
            self.rig.tick(SECOND_US)
            self.heartbeat()

    def heartbeat(self, held: Held | None = None) -> None:
        """Says that it lives."""
        self.rig.do(
            Heartbeat(
                session=self.session,
                held=held or self.list_held(),
                is_stopping=self.is_stopping,
                fault=self.fault,
            )
        )

    def send_reports(self, count: int = 1 << 30, *, answer_arrives: bool = True) -> None:
        """Sends the oldest reports in one batch."""
        batch = tuple(self.unacknowledged[:count])
        if not batch:
            return
        answer = self.report(*batch)
        if answer_arrives:
            self.unacknowledged = [each for each in self.unacknowledged if each.seq > answer]

    def report(self, *reports: Report) -> int:
        """Sends reports that the test made up."""
        command = ReportTasks(
            session=self.session,
            first_seq=reports[0].seq,
            last_seq=reports[-1].seq,
            reports=reports,
        )
        answer: int = self.rig.do(command)
        return answer

    def deregister(self, dispatch_seq: int | None = None) -> None:
        """Takes its leave; it took no batch after that one, where it says so."""
        self.rig.do(DeregisterWorker(session=self.session, dispatch_seq=dispatch_seq))

    # Calls from the manager ---------------------------------------------------------------------

    def next_batch(self) -> Batch | None:
        """The next call to it; to be answered."""
        assert self.outbox is not None
        return self.outbox.next_batch(self.rig.state)

    def receive_all(self) -> list[Batch]:
        """Takes every call until none is left."""
        batches = []
        while (batch := self.next_batch()) is not None:
            self.receive(batch)
            assert self.outbox is not None
            self.outbox.acknowledged(batch)
            batches.append(batch)
        return batches

    def receive(self, batch: Batch) -> None:
        """A call arrives; an old one is ignored."""
        state = self.rig.state
        self.receive_message(
            batch.dispatch_seq,
            [(key_of(state, each), each.job_class.class_id) for each in batch.starts],
            dict(batch.slots),
            batch.stops,
        )

    def receive_message(
        self,
        dispatch_seq: int,
        starts: list[tuple[AttemptKey, int]],
        slots: dict[int, int],
        stops: list[Stop],
    ) -> None:
        """The same, of what was copied from a batch."""
        if dispatch_seq <= self.dispatch_seq:
            return
        self.dispatch_seq = dispatch_seq
        ended = {each.key for each in self.unacknowledged if each.kind is not ReportKind.STARTED}
        for key, class_id in starts:
            if key not in ended:
                self.held.setdefault(key, [0, class_id])
        for class_id, count in slots.items():
            self.allowed[class_id] = min(count, self._live(class_id))
        for stop in stops:
            self._stop(stop, stop.key in ended)
        self._admit()

    # What happens to tasks ----------------------------------------------------------------------

    def end(self, key: AttemptKey, state: State = State.COMPLETED, **fields: Any) -> None:
        """A running task ends."""
        start_us, class_id = self._drop(key)
        fields = {
            "reason": Reason.EXIT,
            "exit_code": 0 if state is State.COMPLETED else 1,
            "start_us": start_us,
            "end_us": self.rig.now_us,
        } | fields
        self._say(key, ReportKind.ENDED, state=state, **fields)
        self._lower(class_id)
        self._admit()

    def _stop(self, stop: Stop, has_ended: bool) -> None:
        key, mode = stop.key, stop.mode
        if key not in self.held:
            if has_ended or mode not in (StopMode.CANCEL, StopMode.RECALL):
                return
        elif mode is StopMode.LIMIT:
            self.limits[key] = stop.time_limit_ms
            return
        elif mode is StopMode.RESUME:
            self.standing.pop(key, None)
            return
        elif not self.held[key][0]:
            self._lower(self._drop(key)[1])
        elif mode is StopMode.CANCEL:
            self.end(key, State.CANCELLED, reason=Reason.CANCELLED, exit_code=-1, signal=15)
            return
        else:
            if mode is StopMode.SUSPEND:
                self.standing[key] = None
            return
        if mode is StopMode.CANCEL:
            end_us = self.rig.now_us
            self._say(
                key, ReportKind.ENDED, state=State.CANCELLED, reason=Reason.CANCELLED, end_us=end_us
            )
        else:
            self._say(key, ReportKind.RECALLED)

    def _drop(self, key: AttemptKey) -> list[int]:
        self.standing.pop(key, None)
        self.limits.pop(key, None)
        return self.held.pop(key)

    def _admit(self) -> None:
        for key, entry in self.held.items():
            class_id = entry[1]
            running = sum(bool(start_us) for start_us, c in self.held.values() if c == class_id)
            if not entry[0] and running < self.allowed.get(class_id, 0):
                entry[0] = self.rig.now_us
                self.rig.begin(key)
                self._say(key, ReportKind.STARTED, start_us=entry[0])

    def _lower(self, class_id: int) -> None:
        live = self._live(class_id)
        self.allowed[class_id] = min(self.allowed.get(class_id, 0), live)

    def _live(self, class_id: int) -> int:
        return sum(each[1] == class_id for each in self.held.values())

    def _say(self, key: AttemptKey, kind: ReportKind, **fields: Any) -> None:
        self.report_seq += 1
        self.unacknowledged.append(Report(self.report_seq, key, kind, **fields))


def only(events: Iterable[ev.Event], kind: type[Any]) -> list[Any]:
    """The events of one kind."""
    return [each for each in events if type(each) is kind]


def check_refused(
    rig: Rig, command: Command, error: type[TitanError], *, match: str | None = None
) -> TitanError:
    """The command is refused with a sentence and changes nothing (invariant 10)."""
    before = digest(rig.state)
    with pytest.raises(error, match=match) as caught:
        rig.do(command)
    assert digest(rig.state) == before
    assert len(str(caught.value)) > 10
    return caught.value


def prove_short(rig: Rig, host: FakeHost, count: int = 2, **fields: Any) -> None:
    """Lets tasks of a class complete within a millisecond each, so that it may go ahead."""
    for _ in range(count):
        (job_id,) = rig.submit(new_job(**fields))
        key = rig.start_here(host, job_id)
        rig.now_us += 1000
        host.end(key)
        host.send_reports()
