"""What must hold, seen from outside: a witness that keeps its own account of everything.

It reads what the manager appends, replays that into a state of its own, and knows which
processes really ran where. The numbers are those of the invariants:

1  an acknowledged submit, an acknowledged cancel and all that workers were told are in
   every log that a manager replays;
2  a task ends once and its end never changes; the end is that of a real execution;
3  no attempt is spawned twice; two attempts of a task run at once only after the first
   was given up with a silent worker; what has ended or was recalled is not spawned; what is
   to run at most once does, and not after it was given up while there is a host to stop it;
4  the state promises no more than a worker has, and what really runs there fits;
5  replay gives the state that the manager had, at every LSN;
6  after a pass nothing waits that could start without delaying a reservation;
7  whatever is received was durable when it left.

And a time limit is kept to the moment, while its host lives and whoever else is gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from tests.simulation.executions import Execution, TaskEnd
from tests.simulation.plan import USERS, JobPlan, Plan
from tests.simulation.promises import Promises
from tests.simulation.world import World, check
from titan import events as ev
from titan.manager.clock import LATENESS_MAX_US
from titan.manager.kernel import Kernel
from titan.manager.kernel.schedule import run_pass
from titan.manager.shell import TICK_SECONDS
from titan.model import TASK_ENDS, AttemptKey, IndexRange, Reason, Resources, State, WorkerState
from titan.scheduler.scheduler import Scheduler
from titan.scheduling import Dependency
from titan.state.cluster import ClusterState
from titan.state.digest import digest, digest_of
from titan.state.invariants import check_capacity, check_invariants, check_invariants_of
from titan.state.job import Job
from titan.state.snapshot import decode_state, encode_state
from titan.worker.host.records import EndRecord, Record

# A host's turn, and what a task takes to end itself; time limits are kept to within that.
TURN_US: Final = 50_000
# Of the time for which a manager stands still: how much it may take for time in which it turned.
UNNOTICED_US: Final = LATENESS_MAX_US + int(TICK_SECONDS * 1e6)

# A look at a whole state costs as much as all else that a record does.
LOOK_EVERY_RECORDS: Final = 16

# What the manager finds wrong with a worker, by how that begins.
_FAULTS: Final = {"fell silent together": " held back", "came back": " to rest"}


class Witness:
    """Sees everything, and raises Violation."""

    def __init__(self, world: World, plan: Plan, timeout_us: int) -> None:
        self._world = world
        self._plan = plan
        self._timeout_us = timeout_us
        self._payloads: list[bytes] = []
        # Which jobs and workers the records since the last look at the manager's state name.
        self._named_jobs: set[int] = set()
        self._named_workers: set[int] = set()
        self._state = ClusterState()
        self._durable_lsn = 0
        self._checked_lsn = 0
        # Up to which record the states were compared and examined as a whole.
        self._compared_lsn = self._examined_lsn = 0
        self._submits: dict[bytes, int] = {}
        self._given_up = 0
        self._plan_of_job: dict[int, int] = {}
        self._cancels_sent: set[int] = set()
        self._cancels_acknowledged: set[int] = set()
        self._told: dict[AttemptKey, None] = {}
        self._ends: dict[tuple[int, int], TaskEnd] = {}
        # In which record each was assigned, and each job submitted and cancelled.
        self._assigned: dict[AttemptKey, int] = {}
        self._submitted: dict[int, int] = {}
        self._cancelled: dict[int, int] = {}
        # Requeues by their ids, and jobs that were submitted again by them.
        self._requeues: set[bytes] = set()
        self._again: dict[int, int] = {}
        self.promises = Promises(world, plan, self._find_end)
        # By worker: whether an administrator's, whether for its stop.
        self._drains: dict[int, set[bool]] = {}
        self._lost_in_silence: set[AttemptKey] = set()
        self._executions: dict[AttemptKey, Execution] = {}
        # By number, as a worker that was not told its id in time has two; in time in which the
        # manager turned.
        self._heard_us: dict[int, int] = {}
        self._started_us = 0
        self._stood_us = 0
        # How far this manager's time is ahead of its monotonic clock.
        self._ahead_us: int | None = None

    # The manager ------------------------------------------------------------------------------

    def recovered(self, state: ClusterState, records: int) -> None:
        """A manager has taken its log up: a snapshot, and so many records behind it."""
        found = state.lsn
        check(found >= self._durable_lsn, f"{found} of {self._durable_lsn} records are there (1)")
        check(records <= found, "no record is replayed twice")
        if found < len(self._payloads):
            self._world.count("records lost at a crash")
            self._rewind(found)
        if found:
            check(digest(state) == digest(self._state), "replay gives another state (5)")
            check_invariants(state)
            self._world.count("replayed")
        self._durable_lsn = self._checked_lsn = self._compared_lsn = self._examined_lsn = found
        self._started_us = self._turned_us()
        self._heard_us.clear()
        self._ahead_us = None
        for request_id, job_id in self._submits.items():
            answers = [state.requests.get(user, request_id) for user in USERS]
            known = [each.first_job_id for each in answers if each is not None]
            check(known == [job_id], f"job {job_id} is there (1)")
        for job_id in self._cancels_acknowledged:
            check(job_id in self._cancelled, f"the cancel of job {job_id} is there (1)")
        for key in self._told:
            check(key in self._assigned, f"{key} was started and is not in the log (7)")
        for (job_id, index), end in self._ends.items():
            found_state = state.get_job(job_id).find_task_state(index)
            check(found_state is end.state, f"{job_id}.{index} is {found_state}, was {end} (2)")
        self._world.note(f"replayed {found} records")

    def _rewind(self, lsn: int) -> None:
        """What came after that record never happened."""
        del self._payloads[lsn:]
        self._ends = {key: end for key, end in self._ends.items() if end.lsn <= lsn}
        self.promises.rewind(lsn)
        for table in (self._submitted, self._cancelled, self._again):
            for number in [each for each, at in table.items() if at > lsn]:
                del table[number]
        for key in [each for each, at in self._assigned.items() if at > lsn]:
            del self._assigned[key]
        self._state = ClusterState()
        for number, payload in enumerate(self._payloads, start=1):
            self._state.apply_record(number, *ev.decode_record(payload))
        self._drains = {
            number: {False} if worker.drain is not None else set()
            for number, worker in self._state.workers.items()
        }
        for number, worker in self._state.workers.items():
            if worker.is_stopping:
                self._drains[number].add(True)

    def manager_stands(self, longer_us: int) -> None:
        """The manager does nothing for so much longer: nobody is silent in that time.

        What it may not notice of it: a tick, and lateness of up to a second.
        """
        self._stood_us += max(longer_us - UNNOTICED_US, 0)

    def _turned_us(self) -> int:
        return self._world.elapsed_us - self._stood_us

    def appended(self, lsn: int, payload: bytes, kernel: Kernel, awake_us: int) -> None:
        """The manager has appended a record; `awake_us` is its monotonic clock."""
        if self._ahead_us is None:
            self._ahead_us = kernel.now_us - awake_us
        check(kernel.now_us - awake_us == self._ahead_us, "the manager's time steps")
        check(lsn == len(self._payloads) + 1, f"record {lsn} follows {len(self._payloads)}")
        self._payloads.append(payload)
        time_us, events = ev.decode_record(payload)
        jobs = sorted(set(_numbers(events, "job_id")))
        workers = {*_numbers(events, "worker"), *self._workers_of(jobs)}
        self._state.begin_record(lsn, time_us)
        for event in events:
            self.promises.examine(lsn, event, self._state, kernel.now_us)
            self._examine(lsn, event)
            self._state.apply(event)
        names = " ".join(type(event).__name__ for event in events[:8])
        self._world.note(f"record {lsn}: {len(events)} events, {names}")
        workers |= self._workers_of(jobs)
        self._named_jobs.update(jobs)
        self._named_workers |= workers
        self._compare(lsn, jobs, sorted(workers), kernel.state)

    def _workers_of(self, jobs: Sequence[int]) -> set[int]:
        """Those that hold attempts of these jobs."""
        live = [each for each in map(self._state.live_jobs.get, jobs) if each is not None]
        return {attempt.worker for job in live for attempt in job.active.values()}

    def _compare(
        self, lsn: int, jobs: Sequence[int], workers: Sequence[int], state: ClusterState
    ) -> None:
        """What the record named is the same in both states; now and then, all is."""
        if lsn - self._compared_lsn >= LOOK_EVERY_RECORDS:
            self._compared_lsn = lsn
            is_same = digest(state) == digest(self._state)
        else:
            is_same = digest_of(state, jobs, workers) == digest_of(self._state, jobs, workers)
        check(is_same, f"replay of record {lsn} differs (5)")

    def turned(self, kernel: Kernel) -> None:
        """A turn of the manager is over."""
        state = kernel.state
        if state.lsn != self._checked_lsn:
            self._checked_lsn = state.lsn
            if state.lsn - self._examined_lsn >= LOOK_EVERY_RECORDS:
                self._examined_lsn = state.lsn
                check_invariants(state)
            else:
                check_invariants_of(state, sorted(self._named_jobs), sorted(self._named_workers))
            self._named_jobs.clear()
            self._named_workers.clear()
            check_capacity(state)
        if not kernel.room or kernel.schedule_wanted:
            return
        for job_class in state.classes.values():
            if not job_class.pending_jobs:
                continue
            for worker in state.workers.values():
                could_start = (
                    worker.state is WorkerState.HEALTHY
                    and not self._drains.get(worker.number)
                    and worker.number in kernel.outboxes
                    and job_class.on in ("", worker.name)
                    and worker.has_room(job_class.demand)
                )
                if could_start:
                    # Unless it would delay somebody: as one says who saw none of it before.
                    check(
                        not _would_start_more(kernel),
                        f"class {job_class.class_id} waits, {worker.name} idles (6)",
                    )
                    return

    def looked_at(self, kernel: Kernel) -> None:
        """At the end of a manager, and of the run: what is not looked at after each record."""
        check(digest(kernel.state) == digest(self._state), "replay differs (5)")
        check_invariants(kernel.state)

    def durable(self, lsn: int) -> None:
        """The log has flushed so far."""
        self._durable_lsn = max(self._durable_lsn, lsn)

    def heard(self, worker: int) -> None:
        """The manager took a message of that worker."""
        self._heard_us[worker] = self._turned_us()

    # What the outside is told -----------------------------------------------------------------

    def acknowledged(
        self, request_id: bytes, job_id: int, number: int, after: list[Dependency]
    ) -> None:
        """A client's submit was answered."""
        known = self._state.get_job(job_id).scheduling.after
        check(list(known) == after, f"job {job_id} waits for {known}, not {after}")
        check(self._submits.setdefault(request_id, job_id) == job_id, "one request, two jobs")
        check(self._is_durable(self._submitted.get(job_id)), f"job {job_id} was not durable (7)")
        self._plan_of_job[job_id] = number

    def given_up(self) -> None:
        """A client was refused for good, and wishes for its job no more."""
        self._given_up += 1

    def requeue_sent(self, request_id: bytes) -> None:
        """Somebody puts a job back, or has it submitted again under that id."""
        self._requeues.add(request_id)

    def changed(self, lsn: int) -> None:
        """A change of jobs was answered, or a worker."""
        check(self._is_durable(lsn), f"what was answered, of record {lsn}, is not durable (7)")

    def cancel_sent(self, job_id: int) -> None:
        """A client cancels."""
        self._cancels_sent.add(job_id)

    def cancel_acknowledged(self, job_id: int) -> None:
        """A client's cancel of a job that had not ended was answered."""
        check(self._is_durable(self._cancelled.get(job_id)), f"cancel of {job_id} not durable (7)")
        self._cancels_acknowledged.add(job_id)

    def told(self, epoch: int, job_id: int, index: int, attempt: int) -> None:
        """A worker was given an attempt."""
        key = AttemptKey(epoch, job_id, index, attempt)
        check(self._is_durable(self._assigned.get(key)), f"{key} was not durable (7)")
        self._told[key] = None

    def _is_durable(self, lsn: int | None) -> bool:
        return lsn is not None and lsn <= self._durable_lsn

    # Processes --------------------------------------------------------------------------------

    def spawned(self, worker: str, key: AttemptKey) -> None:
        """A process was started."""
        self._world.note(f"{worker} spawns {key[1:]}")
        check(key not in self._executions, f"{key} is spawned twice (3)")
        job = self._state.get_job(key.job_id)
        if not self._is_current(job, key):
            ended = job.ended.find(key.index, key.attempt) if job.ended else None
            is_lost = ended is not None and ended.state == State.LOST
            check(is_lost, f"{key} is spawned, and it was {ended} (3)")
            check(key in self._lost_in_silence, f"{key} is spawned, its worker was heard (3)")
            self._world.count("superseded attempt spawned")
        at_most_once = job.job_class.at_most_once
        check(not at_most_once or self._is_current(job, key), f"{key} is spawned after its end (3)")
        for other, execution in self._executions.items():
            check(not at_most_once or other[:3] != key[:3], f"{key} is spawned after {other} (3)")
            if execution.is_alive and other[:3] == key[:3]:
                check(
                    other in self._lost_in_silence or key in self._lost_in_silence,
                    f"{key} is spawned while {other} runs on {execution.worker} (3)",
                )
                self._world.count("two attempts at once")
        self._executions[key] = Execution(worker, self._world.now_us)
        self._check_room(worker)

    def exited(self, key: AttemptKey, exit_code: int | None, signal: int | None) -> None:
        """A process has ended."""
        execution = self._executions[key]
        execution.is_alive = False
        execution.end_us = self._world.now_us
        execution.exit_code, execution.signal = exit_code, signal

    def warned(self, key: AttemptKey) -> None:
        """A process was told that its time limit is near."""
        execution = self._executions[key]
        limits_ms = self.promises.limits_ms(key.job_id)
        if len(limits_ms) > 1:
            return
        check(not execution.is_warned, f"{key} is warned twice")
        execution.is_warned = True
        job = self._plan_of(self._state.get_job(key.job_id))
        # Not as planned, when it was submitted again after a change.
        due_us = (*limits_ms,)[0] * 1000 - job.warn_before_ms * 1000
        late_us = execution.ran_us(self._world.now_us) - due_us
        is_late = late_us >= TURN_US and execution.is_kept_in_time
        check(late_us >= 0 and not is_late, f"{key} is warned {late_us} us late")

    def stopped(self, key: AttemptKey) -> None:
        """A process stands still."""
        self._world.count("stopped")
        self._executions[key].stopped_at_us = self._world.now_us

    def went_on(self, key: AttemptKey) -> None:
        """A process that stood still runs on."""
        self._world.count("went on")
        execution = self._executions[key]
        assert execution.stopped_at_us is not None
        execution.stood_us += self._world.now_us - execution.stopped_at_us
        execution.stopped_at_us = None

    def slept(self, worker: str, for_us: int) -> None:
        """A worker's machine was suspended for so long, and goes on now."""
        self._world.count("machine woke")
        for execution in self._alive_on(worker):
            if execution.stopped_at_us is None:
                execution.stood_us += for_us

    def host_stands(self, worker: str) -> None:
        """A host does nothing for a while: the limits of what runs there are not kept in time."""
        self.lease_stands(worker)
        for execution in self._alive_on(worker):
            execution.is_kept_in_time = False

    def lease_stands(self, worker: str) -> None:
        """A host or its machine stands still: a paused machine is not covered by leases."""
        for execution in self._alive_on(worker):
            execution.may_outlive_its_lease = True

    def _alive_on(self, worker: str) -> list[Execution]:
        every = self._executions.values()
        return [each for each in every if each.is_alive and each.worker == worker]

    def wrongly_standing(self) -> dict[AttemptKey, int]:
        """What runs and counts as suspended, or the reverse; it may take no longer to tell."""
        return {
            key: 0
            for key, execution in self._executions.items()
            if execution.is_alive
            and self._is_current(job := self._state.get_job(key.job_id), key)
            and not job.active[key.index].is_given_up
            and job.active[key.index].suspended == (execution.stopped_at_us is None)
        }

    def unended(self) -> dict[AttemptKey, int]:
        """What runs and is to end, and for how long it may after it was told."""
        found = {}
        for key, execution in self._executions.items():
            job = self._state.get_job(key.job_id)
            if execution.is_alive and self._is_current(job, key):
                attempt = job.active[key.index]
                if attempt.cancel_requested or attempt.preempted:
                    grace_ms = max(attempt.cancel_grace_ms, attempt.preempt_grace_ms)
                    found[key] = grace_ms * 1000
        return found

    def orphaned(self, keys: Iterable[AttemptKey]) -> None:
        """Their host is gone, and they run on until another one finds them."""
        for key in keys:
            self._executions[key].is_orphan = True

    def vanished(self, key: AttemptKey) -> None:
        """A process went with its machine."""
        self._executions[key].is_alive = False

    def journaled(self, record: Record) -> None:
        """A host has written that down."""
        if isinstance(record, EndRecord) and record.report.key in self._executions:
            self._executions[record.report.key].end_is_kept = True

    def journal_lost(self, worker: str, left: list[Record]) -> None:
        """Only so much of a worker's journal is left."""
        kept = {each.report.key for each in left if isinstance(each, EndRecord)}
        for key, execution in self._executions.items():
            if execution.worker == worker:
                execution.end_is_kept = execution.end_is_kept and key in kept

    def stale(self) -> dict[AttemptKey, int]:
        """What runs and does not count; it may take no longer than it takes to tell."""
        return {
            key: 0
            for key, execution in self._executions.items()
            if execution.is_alive and not self._is_current(self._state.get_job(key.job_id), key)
        }

    def _is_current(self, job: Job, key: AttemptKey) -> bool:
        attempt = job.active.get(key.index)
        return attempt is not None and attempt.attempt == key.attempt

    def _check_room(self, worker: str) -> None:
        used = Resources()
        for key, execution in self._executions.items():
            if execution.is_alive and execution.worker == worker:
                job = self._state.get_job(key.job_id)
                if self._is_current(job, key):
                    # What is told to end while it stands still goes on for its grace: its cpus
                    # are others' by then.
                    attempt = job.active[key.index]
                    is_ending = attempt.suspended and attempt.is_given_up
                    stands = is_ending or execution.stopped_at_us is not None
                    used = used.plus(job.demand._replace(cpus_milli=0) if stands else job.demand)
        number = int(worker.removeprefix("worker"))
        has = self._plan.workers[number]
        room = Resources(has.cpus_milli, 1 << 34, (("gpu", has.gpus),) if has.gpus else ())
        check(used.fits_in(room), f"{worker} runs {used} and has {room} (4)")

    # Events -----------------------------------------------------------------------------------

    def _examine(self, lsn: int, event: ev.Event) -> None:
        """Before it is applied."""
        match event:
            case ev.WorkerDraining() | ev.WorkerUndrained():
                drains = self._drains.setdefault(event.worker, set())
                drains ^= {event.stopping}
                whose = " for a stop" if event.stopping else ""
                self._world.count(f"{type(event).__name__}{whose}")
            case ev.TaskAssigned():
                check(
                    not self._drains.get(event.worker), f"{event} goes to a worker that is draining"
                )
                worker = self._state.get_worker(event.worker)
                on = self._plan_of(self._state.get_job(event.job_id)).on
                check(worker.state is WorkerState.HEALTHY, f"{event}: it is {worker.state.name}")
                check(on in (None, int(worker.name[6:])), f"{event}: it is to run on worker{on}")
                self._assigned[self._key(event.job_id, event.index, event.attempt)] = lsn
                self._world.count("assigned ahead" if event.ahead else "assigned")
            case ev.RecallRequested():
                self._world.count("recall wished")
            case ev.Recalled():
                key = self._key(event.job_id, event.index, event.attempt)
                check(key not in self._executions, f"{key} ran and was recalled (3)")
                self._world.count("recalled")
            case ev.TaskStarted():
                self._examine_start(event)
            case ev.AttemptEnded():
                self._examine_end(lsn, event)
            case ev.Adopted():
                key = self._key(event.job_id, event.index, event.attempt)
                check(key in self._executions, f"{key} is adopted and never ran")
                self._world.count("adopted")
            case ev.WorkerLost() | ev.WorkerUnhealthy() | ev.WorkerHealthy():
                reason = event.reason if isinstance(event, ev.WorkerUnhealthy) else ""
                kind = next((why for why in _FAULTS if reason.startswith(why)), reason)
                self._world.count(
                    type(event).__name__ + _FAULTS.get(kind, " by itself") * bool(kind)
                )
            case _:
                self._examine_wish(lsn, event)

    def _examine_wish(self, lsn: int, event: ev.Event) -> None:
        match event:
            case ev.JobSubmitted():
                self._submitted[event.job_id] = lsn
            case ev.RequestAccepted():
                known = self._state.requests.get(event.user, event.request_id)
                check(known is None, "a request is accepted twice")
                if event.request_id in self._requeues:
                    first, jobs = event.first_job_id, event.jobs
                    self._again.update(dict.fromkeys(range(first, first + jobs), lsn))
                    self._world.count("submitted again", jobs)
            case ev.CancelRequested():
                if event.job_id in self._cancels_sent:
                    self._cancelled.setdefault(event.job_id, lsn)
                else:
                    is_over = self.promises.is_overfailed(self._state.get_job(event.job_id))
                    check(is_over, f"nobody cancelled {event.job_id}")
                    self._world.count("too many failed")
                self._cancel_pending(lsn, event.job_id, event.indexes)
            case ev.DependencyFailed():
                after = self._state.get_job(event.job_id).scheduling.after
                is_meant = event.dependency in [each.job_id for each in after]
                check(is_meant, f"{event}: it does not wait for that")
                self._cancel_pending(lsn, event.job_id, event.indexes)
            case ev.DeadlinePassed():
                self._cancel_pending(lsn, event.job_id, ())
            case _:
                pass

    def _examine_start(self, event: ev.TaskStarted) -> None:
        key = self._key(event.job_id, event.index, event.attempt)
        check(key in self._executions, f"{key} is said to have started and never did")
        job = self._state.get_job(event.job_id)
        attempt = job.active[event.index]
        if attempt.ahead:
            here = self._state.get_worker(attempt.worker).classes[attempt.job_class.class_id]
            self._world.count("swapped" if here.unstarted else "started beyond the slots")

    def _examine_end(self, lsn: int, event: ev.AttemptEnded) -> None:
        key = self._key(event.job_id, event.index, event.attempt)
        job = self._state.get_job(event.job_id)
        attempt = job.active.get(event.index)
        execution = self._executions.get(key)
        state, becomes = State(event.state), State(event.task_state)
        if state is State.LOST or event.reason == Reason.WORKER_LOST:
            self._examine_lost(key, event, execution)
        if state is State.LOST:
            assert attempt is not None
            self._examine_loss(key, attempt.worker, execution)
        else:
            may_run = execution is None or execution.is_orphan or execution.may_outlive_its_lease
            is_over = may_run or (execution is not None and not execution.is_alive)
            check(is_over, f"{key} ended and runs (8)")
        if attempt is None:
            self._world.count("end of a lost attempt counted")
        if state in (State.COMPLETED, State.FAILED) and event.reason != Reason.WORKER_LOST:
            self._examine_exit(key, event, execution)
        wished = attempt is not None and attempt.cancel_requested
        check((becomes is State.CANCELLED) == wished, f"{key} becomes {becomes.name} (2)")
        if becomes in TASK_ENDS:
            self._end_task(lsn, key, becomes)
        elif state is State.CANCELLED:
            self._world.count("stopped attempt put its task back")

    def _examine_lost(
        self, key: AttemptKey, event: ev.AttemptEnded, execution: Execution | None
    ) -> None:
        """What is to run at most once ends with its worker, unless nobody can have begun it."""
        at_most_once = self._state.get_job(key.job_id).job_class.at_most_once
        becomes = State(event.task_state)
        if at_most_once and becomes is State.PENDING:
            check(execution is None, f"{key} ran, and is to run at most once: {event}")
        if at_most_once and becomes is State.FAILED:
            self._world.count("ran at most once, and was lost")

    def _examine_exit(
        self, key: AttemptKey, event: ev.AttemptEnded, execution: Execution | None
    ) -> None:
        """Of an attempt that nobody cancelled: it ended by itself, or by its time limit."""
        if event.reason == Reason.LAUNCH_ERROR:
            check(execution is None, f"{key} was not launched, but {execution}")
            return
        check(execution is not None, f"{key} ended and never ran (2)")
        assert execution is not None
        code = execution.exit_code
        plan = self._plan_of(self._state.get_job(key.job_id))
        ran_us, limits_ms = execution.ran_us(execution.end_us), self.promises.limits_ms(key.job_id)
        least_us = min([each for each in limits_ms if each], default=0) * 1000
        # None that can be told of a limit that was changed while it ran, or of a host that stood.
        limit_us = least_us if len(limits_ms) == 1 and execution.is_kept_in_time else 0
        if event.reason == Reason.TIMEOUT:
            self._world.count("task timed out")
            check(event.state == State.FAILED, f"{key} timed out and is {event.state}")
            check(0 < least_us <= ran_us, f"{key} timed out after {ran_us} us: {plan}")
            most_us = limit_us + plan.grace_ms * 1000 + TURN_US
            check(
                not limit_us or ran_us < most_us,
                f"{key} timed out after {ran_us} us, not {most_us}",
            )
            return
        check(code is not None and code == event.exit_code, f"{key} ended: {execution} (2)")
        check((code == 0) == (event.state == State.COMPLETED), f"{key}: {execution}, {event} (2)")
        check(not limit_us or ran_us < limit_us + TURN_US, f"{key} ran for {ran_us} us: {plan}")

    def _plan_of(self, job: Job) -> JobPlan:
        return self._plan.jobs[int(job.name.removeprefix("job"))]

    def _examine_loss(self, key: AttemptKey, worker: int, execution: Execution | None) -> None:
        """A loss is right only in silence, or when the attempt is really gone."""
        if self._is_silent(worker):
            self._lost_in_silence.add(key)
            self._world.count("lost in silence")
            return
        self._world.count("lost with its host")
        if execution is not None:
            check(not execution.is_alive, f"{key} runs, its worker was heard (3)")
            check(not execution.end_is_kept, f"{key} ended and the end was dropped: {execution}")

    def _is_silent(self, worker: int) -> bool:
        last_us = self._heard_us.get(worker, self._started_us)
        return self._turned_us() - last_us >= self._timeout_us

    def _cancel_pending(self, lsn: int, job_id: int, ranges: tuple[IndexRange, ...]) -> None:
        job = self._state.get_job(job_id)
        for index in self.promises.tasks_of(job_id):
            is_meant = not ranges or any(index in each.indexes for each in ranges)
            if is_meant and job.is_pending(index):
                self._end_task(lsn, self._key(job_id, index, 0), State.CANCELLED)

    def _find_end(self, job_id: int, index: int) -> State | None:
        end = self._ends.get((job_id, index))
        return None if end is None else end.state

    def _end_task(self, lsn: int, key: AttemptKey, state: State) -> None:
        task = (key.job_id, key.index)
        check(task not in self._ends, f"{task} ends again: {self._ends.get(task)}, {state} (2)")
        self._ends[task] = TaskEnd(lsn, state, key.attempt)
        self._world.count(f"task {state.name}")

    def _key(self, job_id: int, index: int, attempt: int) -> AttemptKey:
        return AttemptKey(self._state.get_job(job_id).epoch, job_id, index, attempt)

    # The end ----------------------------------------------------------------------------------

    def check_ends(self) -> None:
        """When all is over: each task ended as its plan has it, or was cancelled."""
        for job in self._state.jobs.values():
            plan = self._plan_of(job)
            may_be_cancelled = job.job_id in self._cancels_sent or (
                plan.scheduling.may_be_cut_short
            )
            for index in self.promises.tasks_of(job.job_id):
                end = self._ends[job.job_id, index]
                wanted = self._ends_wanted(job, plan, index)
                is_right = end.state in wanted or (
                    end.state is State.CANCELLED and may_be_cancelled
                )
                check(is_right, f"{job.job_id}.{index} is {end}, should be {wanted}")
        wanted_jobs = len(self._plan.jobs) - self._given_up
        check(len(self._submits) == wanted_jobs, "every request made one job")
        check(len(self._state.jobs) == wanted_jobs + len(self._again), "no request made two")

    def _ends_wanted(self, job: Job, plan: JobPlan, index: int) -> set[State]:
        """How that task may end if nobody cancels it: in one way, under one time limit."""
        is_bad = plan.exit_code(index) or not plan.is_launched
        run_us = plan.run_us(index)
        if plan.scheduling.at_most_once:
            # It may be lost with its worker.
            return {State.FAILED, State.FAILED if is_bad else State.COMPLETED}
        return {
            State.FAILED if is_bad or 0 < limit_ms * 1000 < run_us else State.COMPLETED
            for limit_ms in self.promises.limits_ms(job.job_id)
        }


def _numbers(events: Sequence[ev.Event], field: str) -> list[int]:
    """What the events name by that field."""
    return [getattr(each, field) for each in events if hasattr(each, field)]


def _would_start_more(kernel: Kernel) -> bool:
    """Whether another pass at this time would give a task a slot."""
    state = decode_state(list(encode_state(kernel.state, "0.1.0")))
    other = Kernel(state, kernel.settings)
    other.now_us = kernel.now_us
    other.scheduler = Scheduler(state, frozenset(kernel.outboxes))
    run_pass(other)
    while (taken := other.take_record()) is not None:
        if any(isinstance(each, ev.TaskAssigned) and not each.ahead for each in taken[1]):
            return True
    return False
