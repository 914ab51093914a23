"""What every decision stands on: the state, time as told, events, sessions.

A decision is applied to the state as it is made, since the next item of the same
command may depend on it. Whoever lets the kernel decide takes the events with
`take_record`, appends them to the log before the loop turns again, and lets nothing
out that depends on them before that record is durable.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from titan import events as ev
from titan.manager.kernel.commands import Report
from titan.manager.kernel.outbox import Outbox, key_of, stop_of, wish_of
from titan.manager.kernel.returns import Returns
from titan.manager.kernel.tally import Tally
from titan.model import LEASE_US, AttemptKey, Reason, State, Stop, StopMode
from titan.scheduler.scheduler import Scheduler
from titan.scheduling import ORDERS, PLACEMENTS, PREEMPTIONS
from titan.state.attempts import Attempt
from titan.state.cluster import ClusterState

# A record takes at most 16 MiB, and an end with its sentence up to 1.2 KB. What one decision
# leads to beyond that goes on in the next record, but for what is promised to be atomic.
EVENTS_PER_RECORD_MAX: Final = 10_000
# Of tasks, in cancels and the like; each takes some 12 bytes.
RANGES_PER_RECORD_MAX: Final = 100_000
_DIVISIBLE: Final = frozenset(
    {
        ev.AttemptEnded, ev.CancelRequested, ev.RecallRequested, ev.Adopted, ev.DependencyFailed,
        ev.DeadlinePassed, ev.JobHeld, ev.JobReleased, ev.JobUpdated, ev.JobSuspended,
        ev.JobResumed, ev.AttemptSuspended, ev.Preempted,
    }
)  # fmt: skip
# A task that is lost so often with the worker that it ran on may be what kills them.
LOSSES_MAX: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What an operator chooses. Times in microseconds."""

    heartbeat_timeout_us: int = 30_000_000
    heartbeat_interval_us: int = 3_000_000
    # Nobody chooses it but tests: it is the workers' as well.
    lease_us: int = LEASE_US
    # These five count until somebody sets the policy while the cluster runs.
    policy: str = PLACEMENTS[0]
    order: str = ORDERS[0]
    fair_share: bool = False
    preempt: str = PREEMPTIONS[0]
    reserve_after_us: int = 60_000_000
    # How many cpus of one user may run at once; 0: as many as there are.
    user_cpus_milli: int = 0
    # Whether short tasks are sent ahead of their slots.
    lookahead: bool = True
    # Jobs are forgotten so long after their end, and earlier while more ended ones than that are
    # remembered; eight tasks of an array count as one.
    forget_after_us: int = 7 * 24 * 3600 * 1_000_000
    forget_over: int = 250_000
    # And earlier while environments and scripts, which each job may have its own of, take more
    # than that.
    forget_over_environment_bytes: int = 256 << 20
    # How many jobs that have not ended there may be, counted in the same way. A KiB of command and
    # directory counts as one more, and so do five jobs or labels that it names. Some 3 GB where
    # each of them has a request id of its own.
    jobs_max: int = 2_000_000
    # What environments and scripts may take, of all jobs that are remembered. Nobody chooses it.
    environment_bytes_max: int = 1 << 30


class Desk:
    """The state and what the kernel remembers beside it. Owned by one thread."""

    def __init__(self, state: ClusterState, settings: Settings) -> None:
        self.state = state
        self.settings = settings
        self.now_us = state.time_us
        # Whether the log has room; without it only ends, cancels and registrations are decided.
        self.room = True
        # By worker number and by session: the workers that have called in since the start.
        self.outboxes: dict[int, Outbox] = {}
        self.sessions: dict[bytes, Outbox] = {}
        # Those of them, by worker number, that have something new to send.
        self.ready_outboxes: dict[int, None] = {}
        # When each worker was heard last, in time during which the loop turned; who has been silent
        # longest is the first.
        self.heard_us: dict[int, int] = {}
        # Those of them that fell silent with many others: they are lost later.
        self.held_back: dict[int, None] = {}
        # Workers that may have attempts sent ahead, by number.
        self.ahead_on = {
            number: None
            for number, worker in state.workers.items()
            if any(here.ahead for here in worker.classes.values())
        }
        self.turned_us = 0
        # Heard since the last WorkerHeartbeats, and when that was.
        self.heard_now: dict[int, None] = {}
        self.heartbeats_recorded_us = 0
        # The host of each worker that registered last: its instance, and how many were started.
        self.hosts: dict[int, tuple[bytes, int]] = {}
        # Those that were given an id since the start, by the instance that called without one.
        self.first_calls: dict[bytes, int] = {}
        # The instance that a worker's newer one took the place of, and when.
        self.replaced: dict[int, tuple[bytes, int]] = {}
        # The one that was refused as an earlier one, and when.
        self.refused_earlier: dict[int, tuple[bytes, int]] = {}
        self.returns = Returns(settings.heartbeat_timeout_us)
        # Who counts what happens; None: nobody.
        self.tally: Tally | None = None
        self.schedule_wanted = True
        self.scheduler = Scheduler(state, self.outboxes)
        # When the last pass was.
        self.passed_us = 0
        # Jobs that changed in the events not taken yet, in order.
        self.changed_jobs: dict[int, None] = {}
        self._events: list[ev.Event] = []
        # How many ranges of tasks stand in them.
        self._ranges = 0
        # Records that were full before they were taken.
        self._full: deque[tuple[int, list[ev.Event]]] = deque()

    @property
    def events_count(self) -> int:
        """How many events have happened and were not taken yet."""
        return len(self._events) + sum(len(events) for _, events in self._full)

    def take_record(self) -> tuple[int, list[ev.Event]] | None:
        """The time and the events of the oldest record not taken, None when there is none."""
        if self._full:
            record = self._full.popleft()
        elif self._events:
            record = self.state.time_us, self._events
            self._events = []
        else:
            return None
        if self.tally is not None:
            self.tally.note_record(record[1])
        return record

    def take_ready_outboxes(self) -> list[Outbox]:
        """The outboxes that got something to send since the last call."""
        ready = [self.outboxes[each] for each in self.ready_outboxes if each in self.outboxes]
        self.ready_outboxes.clear()
        return ready

    def take_changed_jobs(self) -> list[int]:
        """The jobs changed since the last call."""
        changed = list(self.changed_jobs)
        self.changed_jobs.clear()
        return changed

    def emit(self, event: ev.Event) -> None:
        """Lets an event happen."""
        kind = type(event)
        is_full = (
            len(self._events) >= EVENTS_PER_RECORD_MAX or self._ranges >= RANGES_PER_RECORD_MAX
        )
        if is_full and kind in _DIVISIBLE:
            self._full.append((self.state.time_us, self._events))
            self._events = []
        self._begin()
        self.state.apply(event)
        self._events.append(event)
        if isinstance(event, ev.CancelRequested | ev.DependencyFailed):
            self._ranges += len(event.indexes)
        job_id = getattr(event, "job_id", None)
        if job_id is not None:
            self.changed_jobs[job_id] = None

    def emit_submits(self, events: Sequence[ev.JobSubmitted]) -> None:
        """Lets them happen, all in one record."""
        self._begin()
        self.state.apply_submits(events)
        self._events += events
        self.changed_jobs.update(dict.fromkeys(event.job_id for event in events))

    def note_start(self, attempt: Attempt, start_us: int) -> None:
        """An attempt under way has started, for who counts; before the event that tells it."""
        if self.tally is not None:
            self.tally.note_start(self.state.get_job(attempt.job_id), attempt, start_us)

    def note_return(self, key: AttemptKey, start_us: int) -> None:
        """The same of one that was given up with its worker, and may have started by then."""
        if self.tally is not None:
            self.tally.note_return(self.state.get_job(key.job_id), key.index, key.attempt, start_us)

    def forget_jobs(self, job_ids: tuple[int, ...]) -> None:
        """Jobs that have ended are forgotten."""
        tasks, jobs = tuple(self.state.task_counts), tuple(self.state.job_counts)
        self.emit(ev.JobsForgotten(job_ids))
        if self.tally is not None:
            self.tally.note_forgotten(tasks, jobs)

    def end_attempt(
        self,
        attempt: Attempt,
        *,
        state: State,
        reason: Reason,
        task_state: State,
        detail: str = "",
        report: Report | None = None,
        not_before_us: int = 0,
        charge: int = ev.CHARGE_NOTHING,
    ) -> None:
        """An attempt under way ends; with the numbers of the report where there is one."""
        key = key_of(self.state, attempt)
        class_id = attempt.job_class.class_id
        outbox = self.outboxes.get(attempt.worker)
        start_us = report.start_us if report and report.start_us else attempt.start_us
        if start_us and attempt.state is State.SCHEDULED:
            # Of a short task its end tells the start, too.
            self.note_start(attempt, start_us)
        self.emit(
            ev.AttemptEnded(
                attempt.job_id, attempt.index, attempt.attempt, state, reason,
                report.exit_code if report else -1, report.signal if report else -1, start_us,
                report.end_us if report else max(self.now_us, self.state.time_us, attempt.start_us),
                report.cpu_user_us if report else 0, report.cpu_system_us if report else 0,
                report.max_rss_bytes if report else 0, detail, task_state, not_before_us, charge,
            )
        )  # fmt: skip
        if outbox is not None:
            outbox.forget(attempt, key, class_id)
        self.schedule_wanted = True

    def lose_attempt(self, attempt: Attempt, detail: str, *, counts: bool = True) -> None:
        """An attempt is gone with its worker; its task goes back, or ends if that was wished.

        Unless it `counts` as a loss of a running task only so often, or may have begun and is
        not to begin again: then it has FAILED.
        """
        state, task_state = State.LOST, State.PENDING
        charge = ev.CHARGE_LOSS if counts and attempt.start_us else ev.CHARGE_NOTHING
        if attempt.cancel_requested:
            task_state = State.CANCELLED
        elif attempt.job_class.at_most_once and self._may_have_begun(attempt):
            state = task_state = State.FAILED
            begun = "had begun" if attempt.start_us else "may have begun"
            detail = f"{detail}; it {begun} and runs at most once"
        elif charge == ev.CHARGE_LOSS:
            waits = self.state.get_job(attempt.job_id).waits
            losses = 1 + (waits.losses.get(attempt.index, 0) if waits is not None else 0)
            if losses >= LOSSES_MAX:
                state = task_state = State.FAILED
                detail = f"{detail}; it was lost {losses} times and is not tried again"
        self.end_attempt(
            attempt,
            state=state,
            reason=Reason.WORKER_LOST,
            task_state=task_state,
            detail=detail,
            charge=charge if task_state is State.PENDING else ev.CHARGE_NOTHING,
        )

    def _may_have_begun(self, attempt: Attempt) -> bool:
        """Whether nobody knows that the attempt, which is gone, never ran."""
        outbox = self.outboxes.get(attempt.worker)
        # Without a session there is nobody to say what was sent before a restart.
        return attempt.state is State.RUNNING or outbox is None or outbox.was_sent(attempt)

    def stop_attempt(self, attempt: Attempt) -> None:
        """Tells the worker of a cancel, a recall or a preemption that has been written down."""
        outbox = self.outboxes.get(attempt.worker)
        if outbox is not None:
            outbox.want_stop(stop_of(self.state, attempt))

    def wish(self, attempt: Attempt, mode: StopMode) -> None:
        """Tells the worker that a running attempt is to stand still, to go on, or its limit."""
        outbox = self.outboxes.get(attempt.worker)
        if outbox is not None:
            outbox.want_stop(wish_of(self.state, attempt, mode))

    def stop_stray(self, outbox: Outbox, key: AttemptKey) -> None:
        """Tells a worker to give up an attempt that counts no more (invariant 3)."""
        outbox.want_stop(Stop(key, StopMode.CANCEL, 0))

    def hear(self, number: int) -> None:
        """That worker was heard now."""
        self.heard_us.pop(number, None)
        self.heard_us[number] = self.turned_us
        self.held_back.pop(number, None)

    def forget_silence(self, number: int) -> None:
        """Nobody waits to hear of that worker any more."""
        self.heard_us.pop(number, None)
        self.heard_now.pop(number, None)
        self.held_back.pop(number, None)

    def close_session(self, number: int) -> None:
        """Nothing of the worker's session counts any more."""
        outbox = self.outboxes.pop(number, None)
        if outbox is not None:
            self.sessions.pop(outbox.session, None)
            self.state.usage.touched[number] = None

    def set_time(self, now_us: int, turned_us: int) -> None:
        """It is now so late; `turned_us` is time as far as the loop turned. Neither goes back."""
        self.now_us = max(self.now_us, now_us)
        self.turned_us = max(self.turned_us, turned_us)

    def _begin(self) -> None:
        """What follows happens in the record that was begun, or in a new one."""
        if not self._events:
            self._ranges = 0
            self.state.begin_record(self.state.lsn + 1, max(self.now_us, self.state.time_us))
