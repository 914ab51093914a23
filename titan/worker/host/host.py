"""The task host: a small process of one thread, parent of every task, without gRPC.

It decides nothing itself: `bookkeeping.py` does. Here are its processes, clock, socket
and journal. One turn of the loop: wait; read the agent; reap what ended; perform the
actions; write the journal; send the reports. It outlives the agent, and ends when there
is nothing to be kept, or without an agent for too long.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import selectors
import signal
import time
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Final, assert_never

from titan.logs import LogLine
from titan.model import AttemptKey, ReportKind, Sandbox
from titan.worker import directory, processes, protocol
from titan.worker.host import actions as host_actions
from titan.worker.host import journal as host_journal
from titan.worker.host.bookkeeping import Bookkeeping
from titan.worker.host.children import Children
from titan.worker.host.confinement import Confinement
from titan.worker.host.describing import described
from titan.worker.host.direct_book import TOO_MANY
from titan.worker.host.link import HostLink
from titan.worker.host.output_watch import OutputWatch
from titan.worker.host.recovery import take_over
from titan.worker.host.sandbox import Sandboxes
from titan.worker.host.spawn import LaunchError, make_private
from titan.worker.host.standstill import Standstill
from titan.worker.host.timers import Timers
from titan.worker.messages import Environment, Report, merged
from titan.worker.signals import SIGCONT, SIGSTOP

# With nothing to keep, the host waits so long for an agent that is being restarted.
IDLE_SECONDS: Final = 10.0
# What tasks get between SIGTERM and SIGKILL when the host itself has to end.
GRACE_MS: Final = 10_000
# A spawn takes about half a millisecond: so many, then the agent and the ends get their turn.
SPAWNS_PER_TURN: Final = 16
# Those that are known again when another batch brings them, with the scripts in them.
_ENVIRONMENTS_MAX: Final = 256
_SCRIPT_BYTES_MAX: Final = 16 << 20
# A message, a call and a flush of the manager's log cost far more than the report in them, so
# reports wait for each other where nobody waits for them. An end that leaves a slot empty goes at
# once, a start waits for an end that may be near, which makes one report of both ...
START_WAITS_SECONDS: Final = 0.003
# ... and while others wait here, all wait: for a part of the work that was sent ahead.
BUSY_WAITS_SECONDS: Final = 0.05
# Shorter than this the loop can't wait.
WAITS_SECONDS_MIN: Final = 0.001
# epoll(7) counts milliseconds in 31 bits, which are 24 days, and a time limit may be years.
WAIT_SECONDS_MAX: Final = 86_400.0
# So late at most a lease that ran out while the machine slept is found when it is awake again.
LEASE_LOOK_SECONDS: Final = 1.0

_log = logging.getLogger("titan.worker.host")


class Host:
    """The process of one directory. `run` returns when it is not needed any more."""

    def __init__(self, path: Path) -> None:
        """Takes up what a dead host left. Raises DirectoryError, OSError."""
        self._path = path
        self._lock = directory.Lock(path / "host.lock", "another task host")
        self._selector = selectors.DefaultSelector()
        # An agent may connect from here on and waits for its welcome.
        listener = directory.listen(path)
        self._link = HostLink(listener, self._selector, self._receive)
        self._instance = os.urandom(16)
        self._boot_id = processes.boot_id()
        journal = path / host_journal.NAME
        self._journal = host_journal.HostJournal(journal)
        self._is_journal_failing = False
        output = os.fsencode(path / "output")
        with contextlib.suppress(OSError):
            # Where there is no room it is made with the first task.
            make_private(output)
        tag = directory.group_tag(path)
        recovered = take_over(journal, self._boot_id, output, tag)
        self._book = Bookkeeping(recovered)
        self._starts = 1 + (recovered.starts if recovered else 0)
        self._confinement = Confinement.choose(tag, self._selector)
        _log.info("limits %s", self._confinement.description)
        self._rewrite_journal()
        # The tasks of the host before this one, which had files there, have ended.
        scripts = os.fsencode(path / directory.SCRIPTS_NAME)
        # Before there are children, and signals of theirs.
        self._sandboxes = Sandboxes.find(os.fsencode(path))
        self._children = Children(output, scripts, self._confinement, self._sandboxes)
        self._standstill = Standstill(self._children.stop_moving)
        self._outputs = OutputWatch(output)
        self._actions: deque[host_actions.Action] = deque()
        # Those to be sent, and when at the latest, on the monotonic clock.
        self._reports: list[Report] = []
        self._reports_due = math.inf
        self._environments: dict[Environment, Environment] = {}
        self._script_bytes = 0
        # On the monotonic clock.
        self._timers = Timers(self._book.is_live)
        self._detach_seconds = IDLE_SECONDS
        self._alone_since: float | None = time.monotonic()
        # Only who asked for it waits for what is left to be reported.
        self._leaves_with_agent = False
        self._has_left = False
        self._wakeup = self._catch_signals()

    def run(self) -> None:
        """Serve until there is nothing to be kept and no agent. Raises OSError."""
        while not self._is_over():
            ready_now = self._selector.select(self._wait_seconds())
            # First of all: it may have stood still for long.
            self._check_lease()
            for ready, events in ready_now:
                ready.data(events)
            self._reap()
            self._ring()
            self._perform()
            self._flush_journal()
            if self._reports and time.monotonic() >= self._reports_due:
                self._send_reports()
            self._link.flush()
            self._compact_journal()
        self._close()

    # The agent --------------------------------------------------------------------------------

    def _receive(self, message: protocol.Message) -> None:
        match message:
            case protocol.Hello():
                self._greet(message)
            case protocol.StartTasks():
                environments = tuple(map(self._intern, message.batch.environments))
                batch = message.batch._replace(environments=environments)
                self._do(self._book.start(batch, _now_us()))
            case protocol.StopTasks():
                self._do(self._book.stop(message.stops, _now_us()))
            case protocol.Acknowledge():
                self._do(self._book.acknowledge(message.report_seq))
            case protocol.Cluster():
                self._do(self._book.join(message.cluster_id))
            case protocol.Lease():
                boottime_us = processes.boottime_us()
                self._do(self._book.renew_lease(message.until_us, boottime_us, _now_us()))
            case protocol.Leave():
                self._leaves_with_agent = True
                self._do(self._book.leave(message.grace_ms, _now_us()))
            case protocol.StartDirect():
                self._start_direct(message)
            case protocol.OfferDevices():
                self._do(self._book.offer_devices(message.devices))
            case protocol.Describe():
                self._link.send(described(self._book, message))
            case _:
                _log.warning("ignored %s, which a host does not get", type(message).__name__)

    def _greet(self, hello: protocol.Hello) -> None:
        version = (protocol.VERSION_MAJOR, protocol.VERSION_MINOR, os.getpid())
        if hello.major != protocol.VERSION_MAJOR or self._book.is_leaving:
            sentence = f"the task host (pid {os.getpid()}) is stopping its tasks"
            if hello.major != protocol.VERSION_MAJOR:
                sentence = (
                    f"the task host of {self._path} (pid {os.getpid()}) speaks version "
                    f"{version[0]}.{version[1]}, this agent {hello.major}.{hello.minor}: use the "
                    "older Titan, or stop the tasks and the host first"
                )
            self._link.greet(protocol.Refused(*version, sentence, self._book.is_leaving))
            return
        self._children.meet(
            hello.worker_name, hello.manager, hello.script_directory, hello.run_as_policy
        )
        self._detach_seconds = hello.detach_limit_ms / 1000
        self._do(self._book.offer_devices(hello.devices))
        self._outputs.set_cap(hello.output_max_bytes, time.monotonic())
        # It holds reports that are still to be emitted, too: the agent passes over repeats.
        self._link.greet(
            protocol.Welcome(
                *version,
                self._instance,
                self._book.cluster_id,
                tuple(self._book.live()),
                tuple(self._book.reports),
                self._book.last_report_seq,
                tuple(self._book.direct.live()),
                self._confinement.description,
                self._starts,
                (Sandbox.BUBBLEWRAP,) if self._sandboxes is not None else (),
            )
        )

    def _start_direct(self, message: protocol.StartDirect) -> None:
        environments = tuple(map(self._intern, message.environments))
        keys, actions = self._book.start_direct(message.launches, environments)
        is_full = not keys and not self._book.is_leaving
        what = TOO_MANY if is_full else "this worker is leaving"
        sentence = "" if keys else f"{what}; nothing was started"
        answer = protocol.DirectStarted(message.number, tuple(keys), sentence, is_full)
        self._link.send(answer)
        self._do(actions)

    def _intern(self, environment: Environment) -> Environment:
        """The equal one that is there already: a job comes in many batches."""
        if environment.secrets:
            # They are not kept for longer than their tasks.
            return environment
        known = self._environments.get(environment)
        if known is None:
            self._environments[environment] = known = environment
            self._script_bytes += len(known.script)
            while (
                len(self._environments) > _ENVIRONMENTS_MAX
                or self._script_bytes > _SCRIPT_BYTES_MAX
            ):
                oldest = next(iter(self._environments))
                del self._environments[oldest]
                self._script_bytes -= len(oldest.script)
        return known

    # Processes --------------------------------------------------------------------------------

    def _do(self, actions: Iterable[host_actions.Action]) -> None:
        self._actions.extend(actions)

    def _perform(self) -> None:
        """Perform actions in order, those that follow from them included, up to so many spawns."""
        spawned = 0
        signals: list[tuple[AttemptKey, int]] = []
        ticks = processes.now_ticks()
        while self._actions and spawned < SPAWNS_PER_TURN:
            action = self._actions.popleft()
            match action:
                case host_actions.Journal():
                    self._journal.append(action.record, ticks)
                case host_actions.Emit():
                    self._report(action)
                case host_actions.Spawn():
                    self._spawn(action)
                    spawned += 1
                case host_actions.Signal():
                    signals.append((action.key, action.signal))
                case host_actions.StartTimer() | host_actions.DropLimit():
                    self._timers.perform(action, time.monotonic())
                case host_actions.Suspend() | host_actions.Resume():
                    signals.append((action.key, self._hold(action)))
                case host_actions.TellDirectEnd():
                    self._link.send(protocol.DirectEnded(action.key))
                case host_actions.Left():
                    self._has_left = True
                    self._send_reports()
                    self._link.send(protocol.LeftAll())
                case _:
                    assert_never(action)
        if spawned:
            self._children.rest()
        if signals:
            self._children.signal(signals)

    def _hold(self, action: host_actions.Suspend | host_actions.Resume) -> int:
        """Its time stands still, or goes on; the signal that is to be sent with it."""
        now = time.monotonic()
        self._timers.perform(action, now)
        if isinstance(action, host_actions.Resume):
            self._standstill.remove(action.key)
            return SIGCONT
        self._standstill.add(action.key, now)
        return SIGSTOP

    def _report(self, action: host_actions.Emit) -> None:
        wait_seconds = min(action.wait_us / 1e6, BUSY_WAITS_SECONDS)
        if wait_seconds < WAITS_SECONDS_MIN:
            wait_seconds = 0.0
        if action.report.kind == ReportKind.STARTED:
            is_busy = self._book.has_waiting
            wait_seconds = BUSY_WAITS_SECONDS if is_busy else START_WAITS_SECONDS
        self._reports.append(action.report)
        self._reports_due = min(self._reports_due, time.monotonic() + wait_seconds)

    def _send_reports(self) -> None:
        if self._reports:
            self._link.send(protocol.Reports(merged(self._reports)))
        self._reports.clear()
        self._reports_due = math.inf

    def _spawn(self, action: host_actions.Spawn) -> None:
        # Its intent, at the latest, is on file before there is a process.
        self._flush_journal()
        now_us = _now_us()
        if action.launch.at_most_once:
            self._do(self._book.check_lease(processes.boottime_us(), now_us))
            if not self._book.may_begin(action.key):
                self._do(self._book.not_leased(action.key, now_us))
                return
        try:
            process = self._children.spawn(action)
        except LaunchError as error:
            self._do(self._book.not_launched(action.key, str(error), now_us))
        else:
            now = time.monotonic()
            self._timers.begin(action.key, now)
            self._outputs.add(action.key, now)
            if _log.isEnabledFor(logging.DEBUG):
                self._tell("task started", action.key, pid=process.pid)
            self._do(self._book.started(*process, now_us))

    def _reap(self) -> None:
        ended = self._children.reap(self._book.is_stopping)
        now_us = _now_us()
        now = time.monotonic()
        for key, how in ended:
            if _log.isEnabledFor(logging.DEBUG):
                self._tell("task ended", key, exit_code=how.exit_code, signal=how.signal)
            self._timers.end(key)
            self._standstill.remove(key)
            if doom := self._outputs.finish(key, now):
                self._do(self._book.condemn(key, doom))
            self._do(self._book.exited(key, how, now_us))

    def _tell(self, message: str, key: AttemptKey, **fields: object) -> None:
        _log.debug(
            LogLine(
                message,
                job=key.job_id,
                task=key.index,
                attempt=key.attempt,
                worker=self._children.worker_name,
                **fields,
            )
        )

    # Time --------------------------------------------------------------------------------------

    def _ring(self) -> None:
        """What is due by now."""
        now = time.monotonic()
        for timer in self._timers.take_due(now):
            self._do(self._book.timer_over(timer))
        if now >= self._standstill.next_look:
            self._standstill.look(now)
        if now >= self._children.next_sweep:
            self._children.sweep()
        dooms = list(self._outputs.look(now))
        if now >= self._confinement.next_look:
            dooms += self._confinement.look()
        for key, doom in dooms:
            self._do(self._book.condemn(key, doom))
        if self._link.is_connected:
            self._alone_since = None
        elif self._alone_since is None:
            self._alone_since = now
        elif now >= self._alone_since + self._detach_seconds and not self._book.is_leaving:
            if self._book.live_count:
                _log.warning("no agent for %g s: stopping the tasks", self._detach_seconds)
            self._do(self._book.leave(GRACE_MS, _now_us()))

    def _check_lease(self) -> None:
        if self._book.lease_due_us is not None:
            self._do(self._book.check_lease(processes.boottime_us(), _now_us()))

    def _lease_due(self) -> float:
        """When to look at the lease again, on the monotonic clock."""
        due_us = self._book.lease_due_us
        if due_us is None:
            return math.inf
        # epoll(7) does not count the time that a machine sleeps, and the lease does.
        left = (due_us - processes.boottime_us()) / 1e6
        return time.monotonic() + min(left, LEASE_LOOK_SECONDS)

    def _wait_seconds(self) -> float | None:
        """How long the loop may wait for something to happen, None: for ever."""
        if self._actions:
            return 0.0
        due = min(
            *(self._timers.next_due, self._reports_due, self._outputs.next_due, self._lease_due()),
            *(self._confinement.next_look, self._children.next_sweep, self._standstill.next_look),
        )
        if self._alone_since is not None:
            if self._book.is_idle:
                due = min(due, self._alone_since + IDLE_SECONDS)
            if not self._book.is_leaving:
                due = min(due, self._alone_since + self._detach_seconds)
        elif not self._link.is_connected:
            return 0.0
        if due == math.inf:
            return None
        return min(max(0.0, due - time.monotonic()), WAIT_SECONDS_MAX)

    def _is_over(self) -> bool:
        if self._actions:
            return False
        if self._has_left:
            return not (self._leaves_with_agent and self._link.is_connected)
        if self._alone_since is None or not self._book.is_idle:
            return False
        return time.monotonic() >= self._alone_since + IDLE_SECONDS

    def _catch_signals(self) -> int:
        reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
            # The wake-up descriptor tells; the handler only has to be there.
            signal.signal(number, _ignore)
        self._selector.register(reader, selectors.EVENT_READ, self._wake)
        return reader

    def _wake(self, _events: int) -> None:
        numbers = os.read(self._wakeup, 4096)
        if signal.SIGTERM in numbers or signal.SIGINT in numbers:
            _log.warning("told to end: stopping the tasks")
            self._do(self._book.leave(GRACE_MS, _now_us()))

    # Journal ------------------------------------------------------------------------------------

    def _flush_journal(self) -> None:
        """Write it, if it can be written: a full disk must not end the tasks."""
        try:
            self._journal.flush()
        except OSError as error:
            if not self._is_journal_failing:
                self._is_journal_failing = True
                _log.error("cannot write host.journal: %s; going on", error)
        else:
            if self._is_journal_failing:
                self._is_journal_failing = False
                _log.info("host.journal is written again")

    def _compact_journal(self) -> None:
        if self._journal.wants_compaction and not self._is_journal_failing:
            try:
                self._rewrite_journal()
            except OSError as error:
                self._journal.postpone_compaction()
                _log.warning("cannot compact host.journal: %s", error)

    def _rewrite_journal(self) -> None:
        pid = os.getpid()
        header = host_journal.Header(
            host_journal.FORMAT,
            self._instance,
            self._boot_id,
            self._confinement.bases,
            pid,
            processes.find_start_ticks(pid) or 0,
            self._starts,
        )
        self._journal.rewrite(header, self._book.records(), processes.now_ticks())

    def _close(self) -> None:
        self._flush_journal()
        self._link.close()
        self._children.close()
        if self._sandboxes is not None:
            self._sandboxes.close()
        self._confinement.close()
        (self._path / directory.SOCKET_NAME).unlink(missing_ok=True)
        signal.set_wakeup_fd(-1)
        self._selector.close()
        os.close(self._wakeup)
        self._journal.close()
        self._lock.release()


def _ignore(_number: int, _frame: object) -> None:
    pass


def _now_us() -> int:
    return time.time_ns() // 1000
