"""The agent's core and the host's bookkeeping between a simple manager and a bad network.

Messages get lost, doubled and late, agents and hosts die. The manager here keeps only what
the rules between the two demand; whatever happens, it hears of every attempt's end once, in
order, or sees a new instance that does not list it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from random import Random
from typing import TypeAlias

import pytest

from tests.worker.builders import batch, key, launch
from titan.model import AttemptKey, Held, ReportKind, Stop, StopMode
from titan.worker.agent import actions
from titan.worker.agent.core import Core, Failure, HostState, Verdict
from titan.worker.host import actions as host_actions
from titan.worker.host.bookkeeping import Bookkeeping
from titan.worker.host.records import Record, recover
from titan.worker.messages import Exit, Report

Call: TypeAlias = actions.Register | actions.SendReports | actions.SendHeartbeat
Answer: TypeAlias = Callable[[], list[actions.Action]]

TASKS = 80
STEPS = 400


class Cluster:
    """One worker and its manager, with everything that is on its way between them."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.is_calm = False
        # The manager.
        self.session = b""
        self.sessions = 0
        self.instance = b""
        self.report_seq = 0
        self.dispatch_seq = 0
        self.wanted = {key(index=index) for index in range(TASKS)}
        self.cancelled: set[AttemptKey] = set()
        self.ends: dict[AttemptKey, Report | None] = {}
        self.held: set[AttemptKey] = set()
        self.sent: set[AttemptKey] = set()
        # The host.
        self.instances = 0
        self.journal: list[Record] = []
        self.processes: dict[AttemptKey, None] = {}
        self.spawned: set[AttemptKey] = set()
        # Messages and calls on their way; the host's link keeps its order.
        self.to_host: list[actions.Action] = []
        self.to_agent: list[Report] = []
        # With the agent that made them: one that died hears no answer.
        self.calls: list[tuple[Core, Call]] = []
        self.start_host()
        self.start_agent()

    # The worker ------------------------------------------------------------------------------

    def start_host(self) -> None:
        self.instances += 1
        # What ran is killed before anything is said.
        self.processes.clear()
        self.host_queue: deque[host_actions.Action] = deque()
        self.book = Bookkeeping(recover(self.journal))
        self.journal = list(self.book.records())

    def start_agent(self) -> None:
        """A new agent, or a new host: both mean a new link."""
        self.core = Core(b"W")
        self.connect()

    def connect(self) -> None:
        self.to_host.clear()
        self.to_agent.clear()
        state = HostState(
            instance=b"%d" % self.instances,
            cluster_id=self.book.cluster_id,
            live=tuple(self.book.live()),
            reports=tuple(self.book.reports),
            report_seq=self.book.last_report_seq,
        )
        self.act(self.core.host_connected(state))

    def act(self, todo: list[actions.Action]) -> None:
        for action in todo:
            match action:
                case (
                    actions.PassStart()
                    | actions.PassStop()
                    | actions.PassAcknowledged()
                    | actions.PassCluster()
                ):
                    self.to_host.append(action)
                case actions.Register() | actions.SendReports() | actions.SendHeartbeat():
                    self.calls.append((self.core, action))

    def host_do(self, todo: list[host_actions.Action]) -> None:
        self.host_queue.extend(todo)
        if len(self.host_queue) > len(todo):
            # The loop below is running: what follows from an action comes after those before.
            return
        while self.host_queue:
            action = self.host_queue[0]
            match action:
                case host_actions.Journal():
                    self.journal.append(action.record)
                case host_actions.Emit():
                    self.to_agent.append(action.report)
                case host_actions.Spawn():
                    assert action.key not in self.spawned, "an attempt was started twice"
                    self.spawned.add(action.key)
                    self.processes[action.key] = None
                    self.host_do(self.book.started(action.key, 100, 7, 1_000))
                case host_actions.Signal():
                    self.exit(action.key, Exit(None, action.signal))
            self.host_queue.popleft()

    def exit(self, attempt: AttemptKey, how: Exit) -> None:
        del self.processes[attempt]
        self.host_do(self.book.exited(attempt, how, 2_000))

    def host_reads(self) -> None:
        action = self.to_host.pop(0)
        match action:
            case actions.PassStart():
                self.host_do(self.book.start(action.batch))
            case actions.PassStop():
                self.host_do(self.book.stop(action.stops, 2_000))
            case actions.PassAcknowledged():
                self.host_do(self.book.acknowledge(action.report_seq))
            case actions.PassCluster():
                self.host_do(self.book.join(action.cluster_id))

    # The manager -----------------------------------------------------------------------------

    def register(self, action: actions.Register) -> None:
        if action.instance != self.instance:
            listed = {held.key for held in action.held.attempts}
            for attempt in sorted(self.sent - listed):
                # Lost with the instance before. What was sent may have run there, whether or
                # not its start was told: it must not be sent again under the same key.
                self.ends.setdefault(attempt, None)
            self.sent = listed
            self.instance = action.instance
            self.report_seq = 0
        # Not only of a new instance: a late registration may have come in between.
        self.report_seq = max(self.report_seq, action.acknowledged_seq)
        self.sessions += 1
        self.session = b"S%d" % self.sessions
        self.dispatch_seq = 0
        self.see(action.held)

    def see(self, held: Held) -> None:
        """Attempts that are held and not known to be over are what a manager counts on."""
        self.held = {attempt.key for attempt in held.attempts} - set(self.ends)

    def take_reports(self, action: actions.SendReports) -> int:
        assert action.first_seq <= self.report_seq + 1, "a report is missing"
        assert action.last_seq >= action.first_seq
        for report in action.reports:
            if report.seq > self.report_seq and report.kind != ReportKind.STARTED:
                self.take_end(report)
        self.report_seq = max(self.report_seq, action.last_seq)
        return self.report_seq

    def take_end(self, report: Report) -> None:
        known = self.ends.get(report.key)
        if known is None:
            self.ends[report.key] = report
            self.held.discard(report.key)
            return
        # A host that died before it had the acknowledgement tells it again, a stop that was
        # overtaken by the acknowledgement finds nothing. Neither may tell of another run.
        assert report.start_us == 0 or report._replace(seq=known.seq) == known

    def dispatch(self) -> None:
        """Level-triggered: what should be there and, as far as is known, is not."""
        if not self.session:
            return
        missing = sorted(self.wanted - set(self.ends) - self.held)
        stops = [attempt for attempt in sorted(self.cancelled) if attempt not in self.ends]
        self.dispatch_seq += 1
        session, seq = self.session, self.dispatch_seq
        deliver: Callable[[], tuple[Verdict, list[actions.Action]]]
        if self.chance(0.5) and stops:
            mode = StopMode.CANCEL if self.is_calm else self.random.choice(list(StopMode))
            todo = tuple(Stop(attempt, mode, 0) for attempt in stops)
            deliver = partial(self.core.stop, session, seq, todo)
        else:
            indexes = [attempt.index for attempt in missing[: self.random.randint(1, 5)]]
            self.sent |= {key(index=index) for index in indexes}
            what = batch(launch(), indexes=indexes, slots=self.random.randint(1, 4))
            deliver = partial(self.core.start, session, seq, what)
        for _ in range(1 + self.chance(0.2)):
            if not self.lost():
                _, answer = deliver()
                self.act(answer)

    # The network ------------------------------------------------------------------------------

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def lost(self) -> bool:
        return not self.is_calm and self.chance(0.2)

    def deliver(self) -> None:
        """One of the calls on their way arrives, and its answer, or neither, or only the call."""
        core, call = self.calls.pop(self.random.randrange(len(self.calls)))
        if not self.is_calm and self.chance(0.1):
            # Once more, later.
            self.calls.append((core, call))
        answer: Answer = partial(core.failed, call.call, Failure.UNREACHABLE, "lost")
        if not self.lost():
            arrived = self.serve(core, call)
            if not self.lost():
                answer = arrived
        if core is self.core:
            self.act(answer())

    def serve(self, core: Core, call: Call) -> Answer:
        """What the manager makes of a call; its answer, not yet given."""
        if isinstance(call, actions.Register):
            self.register(call)
            return partial(
                core.registered,
                call.call,
                worker_id=b"W",
                session=self.session,
                cluster_id=b"C",
                heartbeat_interval_ms=3_000,
            )
        if call.session != self.session:
            return partial(core.failed, call.call, Failure.UNREGISTERED, "")
        if isinstance(call, actions.SendReports):
            return partial(core.reports_taken, call.call, self.take_reports(call))
        if call.held.dispatch_seq == self.dispatch_seq:
            self.see(call.held)
        return partial(core.heartbeat_taken, call.call)

    # Time -------------------------------------------------------------------------------------

    def step(self) -> None:
        choices: list[Callable[[], None]] = [
            self.dispatch,
            lambda: self.act(self.core.heartbeat_due()),
        ]
        if self.to_host:
            choices += [self.host_reads] * 3
        if self.to_agent:
            choices += [self.agent_reads] * 3
        if self.calls:
            choices += [self.deliver] * 4
        if self.processes:
            choices += [self.one_exits] * 2
        if not self.is_calm and self.chance(0.05):
            choices = [self.start_agent, self.host_dies, self.manager_dies, self.one_is_cancelled]
        self.random.choice(choices)()
        self.book.check_invariants()
        assert list(recover(self.journal).ends) == [
            report for report in self.book.reports if report.kind != ReportKind.STARTED
        ]

    def agent_reads(self) -> None:
        count = self.random.randint(1, len(self.to_agent))
        reports, self.to_agent[:] = self.to_agent[:count], self.to_agent[count:]
        self.act(self.core.host_reported(reports))

    def one_exits(self) -> None:
        attempt = self.random.choice(list(self.processes))
        self.exit(attempt, Exit(self.random.randint(0, 1), None))

    def host_dies(self) -> None:
        self.act(self.core.host_lost())
        self.start_host()
        self.connect()

    def manager_dies(self) -> None:
        """What it knew is durable, but for the session."""
        self.session = b""

    def one_is_cancelled(self) -> None:
        self.cancelled.add(key(index=self.random.randrange(TASKS)))


@pytest.mark.parametrize("seed", range(60))
def test_every_attempt_ends_once_whatever_the_network_does(seed: int) -> None:
    cluster = Cluster(Random(seed))
    for _ in range(STEPS):
        cluster.step()
    cluster.is_calm = True
    for _ in range(40 * STEPS):
        if (
            set(cluster.ends) >= cluster.wanted
            and cluster.book.is_idle
            and not cluster.core.unacknowledged_count
        ):
            break
        cluster.step()
    assert set(cluster.ends) >= cluster.wanted
    assert cluster.book.is_idle
    assert cluster.core.held().attempts == ()
    assert cluster.core.unacknowledged_count == 0
