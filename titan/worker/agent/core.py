"""What the agent decides: registration, which calls of the manager count, what is reported.

Pure: no clock, no randomness, no sockets. What comes from the task host and from the
manager goes in, actions come out, to be performed in their order by a shell: `agent.py`
with gRPC, the simulation with messages that get lost, doubled and late.

Three kinds of action. Calls to the manager (`Register`, `Heartbeat`, `SendReports`,
`Deregister`) have a number `call`; the shell makes the call `delay_us` later (jitter is
the shell's) and gives the answer back with that number, or `failed`. Answers to calls
that no longer matter are ignored, however late. Messages to the host (`Pass…`) go over
the link in order. The rest is for the shell itself.

What is held is in `mirror.py`, leaving in `departure.py`, whether the manager answers in
`contact.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from titan.model import LEASE_US, AttemptKey, Held, HeldAttempt, Stop
from titan.worker.agent.actions import (
    Action,
    BeatEvery,
    Deregister,
    KeepIdentity,
    Level,
    PassAcknowledged,
    PassCluster,
    PassLease,
    PassStart,
    PassStop,
    Register,
    Say,
    SendHeartbeat,
    SendReports,
)
from titan.worker.agent.contact import Contact
from titan.worker.agent.departure import Departure
from titan.worker.agent.mirror import Mirror
from titan.worker.agent.report_queue import ReportQueue
from titan.worker.messages import Fetched, Report, StartBatch

RETRY_FIRST_US: Final = 100_000
RETRY_MAX_US: Final = 2_000_000
# A refusal is answered by people: nothing changes within a second.
RETRY_REFUSED_US: Final = 10_000_000


# Nothing of the manager's is left then; what clients started by themselves is asked to end.
DRAINED_GRACE_MS: Final = 10_000
_ENDS_WITH_MANAGER: Final = "this worker ends once the manager knows how they ended"


NOTHING: Final = Fetched()


class Failure(Enum):
    """Why a call to the manager failed."""

    UNREACHABLE = "unreachable"
    """No answer, or one that says try later."""
    ELSEWHERE = "elsewhere"
    """No answer, or one that says that it does not lead: the next registration goes to another of
    the managers, which has not been tried since one answered."""
    UNREGISTERED = "unregistered"
    """The session is not the manager's: FAILED_PRECONDITION from anything but Register."""
    REFUSED = "refused"
    """Any other error: asking at once again will not help."""


class Verdict(Enum):
    """What a StartTask or StopTask is answered with."""

    ACCEPTED = "accepted"
    """Done, or known already."""
    UNKNOWN_SESSION = "unknown session"
    REGISTERING = "registering"
    """Not known yet: the answer to Register is awaited. Ask again when it is there."""
    LEAVING = "leaving"
    """Nothing is started here any more."""


@dataclass(slots=True, frozen=True, kw_only=True)
class HostState:
    """What a task host says when the agent has connected to it."""

    instance: bytes
    cluster_id: bytes
    live: tuple[HeldAttempt, ...]
    """The attempts that wait or run."""
    reports: tuple[Report, ...]
    """The unacknowledged ones, in order."""
    report_seq: int
    """Of the last report it made."""
    starts: int = 0
    """How many hosts were started in its directory, this one included; 0: not known."""


class Core:
    """One agent. `host_connected` comes first; then anything in any order."""

    def __init__(
        self, worker_id: bytes, *, fetches: bool = False, lease_us: int = LEASE_US
    ) -> None:
        """`worker_id` is the stored one, empty when the manager has not given one yet.

        `fetches`: the manager cannot call this worker, so what it has to say comes with the
        answers to heartbeats. That may also turn out later. `lease_us` is another in tests.
        """
        self.worker_id = worker_id
        self.fetches = fetches
        self._lease_us = lease_us
        self._interval_ms = 0
        self.session = b""
        self._host: HostState | None = None
        self._cluster_id = b""
        self._mirror = Mirror()
        self._reports = ReportQueue()
        self._last_call = 0
        # The numbers of the calls that are awaited, 0: none.
        self._register_call = 0
        self._report_call = 0
        self._heartbeat_call = 0
        self._deregister_call = 0
        # The highest that any manager of that cluster has led in.
        self._term = 0
        # In a row, for the delay of the next.
        self._register_failures = 0
        self._report_failures = 0
        self._vain_sessions = 0
        self._contact = Contact()
        self._departure = Departure()
        # What keeps this worker from taking tasks, for the manager to know.
        self._fault = ""

    # Reading ------------------------------------------------------------------------------------

    @property
    def is_registered(self) -> bool:
        """Whether a session is in force, as far as the agent knows."""
        return bool(self.session)

    def awaits(self, call: int) -> bool:
        """Whether the answer to that call still matters: if not, it need not be made."""
        return call in (
            self._register_call,
            self._report_call,
            self._heartbeat_call,
            self._deregister_call,
        )

    @property
    def is_draining(self) -> bool:
        """Whether what is held runs out, and the agent leaves then."""
        return self._departure.is_draining

    @property
    def is_leaving(self) -> bool:
        """Whether everything is being handed back, and nothing started any more."""
        return self._departure.has_begun

    @property
    def unacknowledged_count(self) -> int:
        """How many reports the manager has not acknowledged."""
        return len(self._reports)

    @property
    def fault(self) -> str:
        """What keeps this worker from taking tasks; empty: nothing."""
        return self._fault

    def find_held(self, key: AttemptKey) -> HeldAttempt | None:
        """The attempt, if it is held."""
        return self._mirror.find(key)

    def held_keys(self) -> Collection[AttemptKey]:
        """The keys of all attempts held."""
        return self._mirror.keys()

    def held(self) -> Held:
        """All attempts held."""
        return self._mirror.held()

    # From the host ------------------------------------------------------------------------------

    def host_connected(self, host: HostState) -> list[Action]:
        """A task host was taken up: what it says replaces all that was known before."""
        self._host = host
        self._cluster_id = host.cluster_id
        self._mirror = Mirror(host.live, host.report_seq)
        acknowledged_seq = host.reports[0].seq - 1 if host.reports else host.report_seq
        self._reports = ReportQueue((), acknowledged_seq)
        for report in host.reports:
            self._note(report)
        self._mirror.report_seq = host.report_seq
        self._report_call = 0
        self._report_failures = 0
        self._register_failures = 0
        return self._register()

    def host_lost(self) -> list[Action]:
        """The link to the host broke. Without a host the agent has no session."""
        self._host = None
        self.session = b""
        self._register_call = self._report_call = self._heartbeat_call = 0
        return self._departure.host_lost()

    def host_reported(self, reports: Sequence[Report]) -> list[Action]:
        """The host made reports, in order; those that it told before are passed over."""
        for report in reports:
            if report.seq > self._mirror.report_seq:
                self._note(report)
        return self._send_reports()

    def host_left(self) -> list[Action]:
        """After `PassLeave`: the host runs nothing any more."""
        self._departure.host_stopped()
        return self._go_on_leaving()

    # The manager's calls ------------------------------------------------------------------------

    def start(
        self, session: bytes, dispatch_seq: int, batch: StartBatch
    ) -> tuple[Verdict, list[Action]]:
        """A StartTask call."""
        verdict = self._admit(session, dispatch_seq)
        if verdict is not None:
            return verdict, []
        return Verdict.ACCEPTED, [PassStart(self._mirror.start(batch))]

    def stop(
        self, session: bytes, dispatch_seq: int, stops: tuple[Stop, ...]
    ) -> tuple[Verdict, list[Action]]:
        """A StopTask call."""
        verdict = self._admit(session, dispatch_seq)
        if verdict is not None:
            return verdict, []
        return Verdict.ACCEPTED, [PassStop(stops)]

    def offer_changed(self) -> list[Action]:
        """The worker has more or less than it registered with: it registers again, as it is."""
        return [] if self.is_leaving else self._register()

    # Answers to calls ---------------------------------------------------------------------------

    def registered(
        self,
        call: int,
        *,
        worker_id: bytes,
        session: bytes,
        cluster_id: bytes,
        heartbeat_interval_ms: int,
        term: int = 0,
    ) -> list[Action]:
        """The answer to `Register`, which does not count if its term `is_over`."""
        if call != self._register_call:
            return []
        self._register_call = 0
        if self.is_over(term, cluster_id):
            return self._refuse_term(term)
        self._term = term
        self._register_failures = 0
        actions = self._contact.back()
        if worker_id != self.worker_id:
            if self.worker_id:
                old, new = self.worker_id.hex(), worker_id.hex()
                actions.append(Say(Level.WARNING, f"the manager renamed worker {old} to {new}"))
            self.worker_id = worker_id
            actions.append(KeepIdentity(worker_id))
        self.session = session
        self._departure.was_heard()
        self._contact.was_registered = True
        self._mirror.begin_session()
        if cluster_id != self._cluster_id:
            self._cluster_id = cluster_id
            actions.append(PassCluster(cluster_id))
        self._interval_ms = heartbeat_interval_ms
        actions.append(BeatEvery(heartbeat_interval_ms))
        actions += self._send_reports() + self._go_on_leaving()
        return actions + (self.heartbeat_due() if self.fetches else [])

    def is_over(self, term: int, cluster_id: bytes) -> bool:
        """Whether this worker has heard from a manager of that cluster that led later."""
        return cluster_id == self._cluster_id and term < self._term

    def lease_renewed(self, sent_us: int) -> list[Action]:
        """A Register or a Heartbeat that was sent then, on CLOCK_BOOTTIME, was answered, not
        refused: the manager heard this worker at that time or later, and counts from there."""
        return [PassLease(sent_us + self._lease_us)]

    def note_fault(self, fault: str) -> list[Action]:
        """What keeps this worker from taking tasks, empty for nothing: the next heartbeat says."""
        if fault == self._fault:
            return []
        self._fault = fault
        if not fault:
            return [Say(Level.INFO, "this worker can take tasks again")]
        return [Say(Level.WARNING, f"this worker takes no new tasks: {fault}")]

    def heartbeat_due(self) -> list[Action]:
        """The interval of `BeatEvery` has passed."""
        if not self.session or self._heartbeat_call:
            return []
        self._heartbeat_call = self._next_call()
        is_stopping = self._departure.tell()
        # The manager hears of it in time, and waits no longer than it would for the next.
        wait_ms = self._interval_ms if self.fetches else 0
        return [
            SendHeartbeat(
                *(self._heartbeat_call, self.session, self.held()),
                *(is_stopping, self._fault, wait_ms),
            )
        ]

    def heartbeat_taken(self, call: int, fetched: Fetched = NOTHING) -> list[Action]:
        """The answer to `SendHeartbeat`, and what it brings."""
        if call != self._heartbeat_call:
            return []
        self._heartbeat_call = 0
        self._vain_sessions = 0
        self._departure.was_heard()
        actions = self._contact.back()
        if fetched.cannot_call and not self.fetches:
            self.fetches = True
            message = (
                f"the manager cannot call this worker ({fetched.cannot_call}): from now on it "
                "fetches its tasks from the manager"
            )
            return [*actions, Say(Level.WARNING, message), *self._register()]
        verdict = Verdict.ACCEPTED
        if fetched.start is not None:
            verdict, todo = self.start(self.session, fetched.dispatch_seq, fetched.start)
            actions += todo
        elif fetched.stops:
            verdict, todo = self.stop(self.session, fetched.dispatch_seq, fetched.stops)
            actions += todo
        actions += self._go_on_leaving()
        if self.fetches and fetched.waited and verdict is Verdict.ACCEPTED:
            # What was not taken comes again: not before the next is due.
            actions += self.heartbeat_due()
        return actions

    def reports_taken(self, call: int, report_seq: int, dispatch_seq: int = 0) -> list[Action]:
        """The answer to `SendReports`: everything up to `report_seq` is durable.

        No batch after `dispatch_seq` has an attempt in it whose end is among that.
        """
        if call != self._report_call:
            return []
        self._report_call = 0
        self._vain_sessions = 0
        actions = self._contact.back()
        taken = self._reports.acknowledge(report_seq)
        if taken is None:
            # It took nothing of the batch: the same again, but not in a tight loop.
            return actions + self._reports_failed(Failure.UNREACHABLE, "")
        self._report_failures = 0
        for report in taken:
            self._mirror.acknowledged(report, dispatch_seq)
        actions.append(PassAcknowledged(self._reports.acknowledged_seq))
        return actions + self._send_reports() + self._go_on_leaving()

    def deregistered(self, call: int) -> list[Action]:
        """The answer to `Deregister`."""
        return self._departure.quit() if call == self._deregister_call else []

    def failed(self, call: int, failure: Failure, sentence: str) -> list[Action]:
        """A call failed. `sentence` is the manager's, or says what went wrong on the way."""
        if not call:
            return []
        if call == self._register_call:
            self._register_call = 0
            return self._register_failed(failure, sentence)
        if call == self._report_call:
            self._report_call = 0
            if failure == Failure.ELSEWHERE:
                return self._leave_session(sentence)
            return self._lost(failure, sentence) + self._reports_failed(failure, sentence)
        if call == self._heartbeat_call:
            self._heartbeat_call = 0
            if failure == Failure.ELSEWHERE:
                return self._leave_session(sentence)
            return self._lost(failure, sentence) + self._session_failed(failure)
        if call == self._deregister_call:
            return self._departure.quit()
        return []

    # Leaving ------------------------------------------------------------------------------------

    def leave(self, grace_ms: int) -> list[Action]:
        """Hand everything back: stop the tasks without reporting their ends, deregister, quit.

        Ends from before are reported first. A second call with another grace is passed on.
        """
        return self._departure.begin(grace_ms, has_host=self._host is not None)

    def drain(self) -> list[Action]:
        """Take nothing new, let what is held run out, then leave. `leave` cuts it short."""
        if not self._departure.drain():
            return []
        sentence = f"draining: {len(self._mirror)} tasks are left here"
        if self._contact.is_lost:
            sentence += f"; the manager is away: {_ENDS_WITH_MANAGER}"
        return [Say(Level.INFO, sentence), *self._go_on_leaving()]

    def give_up(self) -> list[Action]:
        """The manager does not answer: leave without telling it."""
        return self._departure.quit()

    # Helpers ------------------------------------------------------------------------------------

    def _next_call(self) -> int:
        self._last_call += 1
        return self._last_call

    def _note(self, report: Report) -> None:
        """Keep the report for sending, and what it means for the mirror."""
        self._reports.add(report)
        self._mirror.note(report)

    def _admit(self, session: bytes, dispatch_seq: int) -> Verdict | None:
        """The verdict without doing anything, None: do it."""
        if not session or session != self.session:
            waiting = self._register_call != 0 and not self.session
            return Verdict.REGISTERING if waiting else Verdict.UNKNOWN_SESSION
        if dispatch_seq <= self._mirror.dispatch_seq:
            return Verdict.ACCEPTED
        if self._departure.has_begun:
            return Verdict.LEAVING
        self._mirror.begin_batch(dispatch_seq)
        return None

    def _register(self, delay_us: int = 0, *, passes_on: bool = False) -> list[Action]:
        if self._host is None:
            return []
        self.session = b""
        # What is on its way carries a session that is over.
        self._report_call = self._heartbeat_call = 0
        self._register_call = self._next_call()
        held = self.held()._replace(dispatch_seq=0)
        return [
            Register(
                self._register_call,
                delay_us,
                self.worker_id,
                self._host.instance,
                self._host.starts,
                self._cluster_id if held.attempts else b"",
                held,
                self._reports.acknowledged_seq,
                self._departure.tell(),
                self._fault,
                passes_on,
            )
        ]

    def _leave_session(self, sentence: str) -> list[Action]:
        """It ended with the manager that gave it, or with its lead."""
        # Sessions in which nothing else is answered do not follow each other in a tight loop.
        delay_us = _retry_delay(self._vain_sessions - 1) if self._vain_sessions else 0
        self._vain_sessions += 1
        return [*self._contact.passed_on(sentence), *self._register(delay_us)]

    def _refuse_term(self, term: int) -> list[Action]:
        sentence = (
            f"the manager leads in term {term}, and another has led in term {self._term}; if it is "
            "right all the same, as after a return to an older log, start this worker again"
        )
        actions = self._lost(Failure.UNREACHABLE, sentence)
        delay_us = _retry_delay(self._register_failures)
        self._register_failures += 1
        return actions + self._register(delay_us, passes_on=True)

    def _register_failed(self, failure: Failure, sentence: str) -> list[Action]:
        if failure == Failure.ELSEWHERE:
            return [*self._contact.passed_on(sentence), *self._register()]
        actions: list[Action] = []
        if failure == Failure.UNREACHABLE:
            actions += self._lost(failure, sentence)
            delay_us = _retry_delay(self._register_failures)
        else:
            message = f"the manager refuses this worker: {sentence}; tasks run on, asking again"
            actions += [*self._contact.back(), Say(Level.ERROR, message)]
            delay_us = RETRY_REFUSED_US
        self._register_failures += 1
        return actions + self._register(delay_us)

    def _reports_failed(self, failure: Failure, sentence: str) -> list[Action]:
        actions: list[Action] = []
        if failure == Failure.REFUSED:
            actions.append(Say(Level.ERROR, f"the manager refuses reports: {sentence}"))
        delay_us = RETRY_REFUSED_US
        if failure == Failure.UNREACHABLE:
            delay_us = _retry_delay(self._report_failures)
        self._report_failures += 1
        if failure == Failure.UNREGISTERED:
            # A session that took no report is not asked for again in a tight loop.
            repeated = self._report_failures - 2
            delay_us = _retry_delay(repeated) if repeated >= 0 else 0
            return actions + self._session_failed(failure, delay_us)
        # Without a session the batch goes out as soon as there is one.
        return actions + self._send_reports(delay_us)

    def _session_failed(self, failure: Failure, delay_us: int = 0) -> list[Action]:
        if failure != Failure.UNREGISTERED or not self.session:
            # Without a session a registration is on its way already.
            return []
        message = "the manager does not know this session: registering again"
        return [Say(Level.INFO, message), *self._register(delay_us)]

    def _send_reports(self, delay_us: int = 0) -> list[Action]:
        """Send what has gathered, unless a batch is on its way."""
        if not self.session or self._report_call:
            return []
        batch = self._reports.batch()
        if batch is None:
            return []
        self._report_call = self._next_call()
        return [SendReports(self._report_call, delay_us, self.session, *batch)]

    def _lost(self, failure: Failure, sentence: str) -> list[Action]:
        if failure != Failure.UNREACHABLE:
            return self._contact.back()
        then = "tasks run on, trying again"
        if self._departure.is_draining:
            then += f"; {_ENDS_WITH_MANAGER}"
        return self._contact.lost(sentence, then)

    def _go_on_leaving(self) -> list[Action]:
        """Whatever is next of a leave, once there is nothing to wait for."""
        if not self.session:
            return []
        if self._departure.is_unknown:
            return self.heartbeat_due()
        if not self._reports.is_empty:
            return []
        if self._departure.is_draining:
            # Nobody leaves quietly: a manager that is away is waited for.
            if self._mirror or self._contact.is_lost:
                return []
            return [Say(Level.INFO, "drained: nothing is left here"), *self.leave(DRAINED_GRACE_MS)]
        if not self._departure.take_good_bye():
            return []
        self._deregister_call = self._next_call()
        return [Deregister(self._deregister_call, self.session, self._mirror.dispatch_seq)]


def _retry_delay(failures: int) -> int:
    # 2 s is reached at the fifth; the shift is bounded as the failures of a night are not.
    return min(RETRY_FIRST_US << min(failures, 10), RETRY_MAX_US)
