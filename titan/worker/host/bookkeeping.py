"""What the task host decides: who runs, who waits, what is reported, what is written down.

Pure: no clock, no processes, no files. Messages and exits go in, actions come out, to be
performed by a shell, whose duties stand in `actions.py`.

Who may run is `slots.py`, what devices it gets `devices.py`, what one attempt is told `attempt.py`,
what runs only while the manager is heard `lease.py`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Final

from titan.model import (
    AttemptKey,
    HeldAttempt,
    HeldState,
    Reason,
    ReportKind,
    State,
    Stop,
    StopMode,
)
from titan.worker.host.actions import (
    Action,
    Emit,
    Journal,
    Left,
    Spawn,
    StartTimer,
    TellDirectEnd,
)
from titan.worker.host.attempt import Attempt
from titan.worker.host.devices import Devices
from titan.worker.host.direct_book import LIVE_MAX, DirectBook, is_direct
from titan.worker.host.lease import OVER, Lease
from titan.worker.host.records import (
    AcknowledgedRecord,
    ClusterRecord,
    EndRecord,
    ForgottenRecord,
    IntentRecord,
    ProcessRecord,
    Record,
    Recovered,
)
from titan.worker.host.slots import Slots
from titan.worker.host.verdict import Doom, judge
from titan.worker.messages import Environment, Exit, Launch, OfferedDevices, Report, StartBatch

# What has an effect on an attempt that is not known here.
_KEEPS_FROM_STARTING: Final = (StopMode.CANCEL, StopMode.RECALL)


class Bookkeeping:
    """The table of attempts of one host instance.

    Every method returns what is to be done, in order. All take O(1) per attempt they
    name. `now_us` is wall-clock time and may step: only reports carry it.
    """

    def __init__(self, recovered: Recovered | None = None) -> None:
        """Starts empty, or with the unacknowledged ends of the instance before it."""
        self.cluster_id = b""
        self.is_leaving = False
        self.last_report_seq = 0
        self._attempts: dict[AttemptKey, Attempt] = {}
        self._slots = Slots()
        self._devices = Devices()
        # Classes that may run more and wait for devices, the first one first.
        self._short: dict[int, None] = {}
        self._lease = Lease()
        # Unacknowledged, by number. Those that end an attempt are also found by its key.
        self._reports: deque[Report] = deque()
        self._ended: dict[AttemptKey, Report] = {}
        # What clients started by themselves.
        self.direct = DirectBook(recovered.direct if recovered else ())
        if recovered is not None:
            self.cluster_id = recovered.cluster_id
            for report in recovered.ends:
                self._add_report(report._replace(seq=self._next_seq()))

    # Reading ------------------------------------------------------------------------------------

    @property
    def reports(self) -> Sequence[Report]:
        """The unacknowledged reports in order; the last has number `last_report_seq`."""
        return self._reports

    @property
    def live_count(self) -> int:
        """How many attempts wait or run."""
        return len(self._attempts)

    @property
    def is_idle(self) -> bool:
        """Nothing waits, runs or is unacknowledged: the host is not needed."""
        return not self._attempts and not self._reports

    @property
    def has_waiting(self) -> bool:
        """Whether attempts wait for others to end. O(classes)."""
        return self._slots.has_waiting

    @property
    def lease_due_us(self) -> int | None:
        """When `check_lease` has to be called, on CLOCK_BOOTTIME; None: nothing depends on it."""
        return self._lease.due_us

    def may_begin(self, key: AttemptKey) -> bool:
        """Whether one that runs at most once may be spawned, as of the last `check_lease`."""
        return self._lease.is_valid and not self.is_stopping(key)

    def is_live(self, key: AttemptKey) -> bool:
        """Whether it waits or runs."""
        return key in self._attempts

    def is_stopping(self, key: AttemptKey) -> bool:
        """Whether it was told to end."""
        attempt = self._attempts.get(key)
        return attempt is not None and attempt.stop_signal != 0

    def live(self) -> Iterator[HeldAttempt]:
        """The manager's attempts that wait or run; those that ended unacknowledged: `reports`."""
        for attempt in self._attempts.values():
            if is_direct(attempt.key):
                continue
            state = HeldState.RUNNING if attempt.start_us else HeldState.QUEUED
            yield HeldAttempt(attempt.key, state, attempt.start_us)

    def known_keys(self) -> Iterable[AttemptKey]:
        """Of all that waits, runs, or has ended and is remembered; in no order. O(all)."""
        managers = (key for key in self._attempts if not is_direct(key))
        return chain(managers, self._ended, self.direct.keys())

    def find(self, key: AttemptKey) -> Attempt | None:
        """The attempt, if it waits or runs."""
        return self._attempts.get(key)

    def find_end(self, key: AttemptKey) -> Report | None:
        """How it ended, as long as that is remembered."""
        return self._ended.get(key) or self.direct.find_end(key)

    def records(self) -> Iterator[Record]:
        """What a fresh journal must hold in place of all that was written so far."""
        if self.cluster_id:
            yield ClusterRecord(self.cluster_id)
        yield from self.direct.records()
        for report in self._ended.values():
            yield EndRecord(report)
        for attempt in self._attempts.values():
            if attempt.is_started:
                yield IntentRecord(attempt.key)
            if attempt.process is not None:
                yield attempt.process

    # The agent's messages -----------------------------------------------------------------------

    def join(self, cluster_id: bytes) -> list[Action]:
        """The cluster that attempts come from now."""
        if cluster_id == self.cluster_id:
            return []
        self.cluster_id = cluster_id
        return [Journal(ClusterRecord(cluster_id))]

    def offer_devices(self, offered: OfferedDevices) -> list[Action]:
        """What starts from now on gets devices of these."""
        self._devices.offer(offered)
        actions: list[Action] = []
        self._start_short(actions)
        return actions

    def renew_lease(self, until_us: int, boottime_us: int, now_us: int) -> list[Action]:
        """What comes from now on and is to run at most once may run until then."""
        # A host that stood still first gives up what the manager may have given up meanwhile.
        actions = self.check_lease(boottime_us, now_us)
        self._lease.renew(until_us, boottime_us)
        return actions

    def check_lease(self, boottime_us: int, now_us: int) -> list[Action]:
        """It is so late: without a lease what runs at most once is stopped or handed back."""
        actions: list[Action] = []
        if not self._lease.runs_out(boottime_us):
            return actions
        attempts = [self._attempts[key] for key in self._lease.attempts]
        for attempt in attempts:
            if attempt.is_started:
                # One that has no process yet gets none any more.
                actions += attempt.condemn(OVER, 0)
            else:
                self._remove(attempt)
                self._hand_back(attempt.key, now_us, actions)
        for class_id in dict.fromkeys(each.launch.class_id for each in attempts):
            self._start_waiting(class_id, actions)
        return actions

    def start(self, batch: StartBatch, now_us: int = 0) -> list[Action]:
        """Queue the attempts and start those that may run.

        An attempt that is held, or ended unacknowledged, is ignored: it came twice.
        While leaving all are: the manager will place them elsewhere. Without a lease those
        that run at most once are handed back, at `now_us`.
        """
        if self.is_leaving:
            return []
        touched: dict[int, None] = {}
        actions: list[Action] = []
        for start in batch.starts:
            launch = batch.launches[start.launch]
            key = AttemptKey(launch.epoch, launch.job_id, start.task_index, start.attempt)
            if key in self._attempts or key in self._ended:
                continue
            if launch.at_most_once and not self._lease.is_valid:
                self._hand_back(key, now_us, actions)
                continue
            self._add(key, launch, batch.environments)
            touched[launch.class_id] = None
        for class_id, slots in batch.slots:
            self._slots.allow(class_id, slots)
            touched[class_id] = None
        for class_id in touched:
            self._start_waiting(class_id, actions)
        # All intents first: they are then one write to the journal.
        actions.sort(key=_is_spawn)
        return actions

    def start_direct(
        self, launches: Sequence[Launch], environments: Sequence[Environment]
    ) -> tuple[list[AttemptKey], list[Action]]:
        """Start programs now, whatever else runs; the manager is not told of them.

        Returns their keys: none when it is leaving, or when there would be too many.
        """
        if self.is_leaving or self.direct.live_count + len(launches) > LIVE_MAX:
            return [], []
        keys: list[AttemptKey] = []
        actions: list[Action] = []
        for given in launches:
            key, launch = self.direct.add(given)
            keys.append(key)
            record = self.direct.find(key)
            assert record is not None, key
            actions.append(Journal(record))
            self._add(key, launch, environments)
            self._slots.allow(launch.class_id, 1)
            self._start_waiting(launch.class_id, actions)
        actions.sort(key=_is_spawn)
        return keys, actions

    def stop(self, stops: Iterable[Stop], now_us: int) -> list[Action]:
        """What is wished of attempts, whether they wait, run, ended or were never here."""
        actions: list[Action] = []
        for stop in stops:
            attempt = self._attempts.get(stop.key)
            if attempt is None:
                is_over = stop.key in self._ended or is_direct(stop.key)
                if stop.mode in _KEEPS_FROM_STARTING and not is_over:
                    self._end_unstarted(stop, now_us, "never started here", actions)
            elif stop.mode is StopMode.LIMIT:
                actions += attempt.change_limit(stop.time_limit_ms)
            elif stop.mode is StopMode.RESUME:
                actions += attempt.resume()
            elif not attempt.is_started:
                self._remove(attempt)
                self._end_unstarted(stop, now_us, "cancelled before it started", actions)
                self._start_waiting(attempt.launch.class_id, actions)
            elif stop.mode is StopMode.SUSPEND:
                actions += attempt.suspend()
            elif stop.mode is StopMode.CANCEL:
                actions += attempt.cancel(stop.grace_ms, stop.signal)
        return actions

    def acknowledge(self, report_seq: int) -> list[Action]:
        """The manager has every report up to this one: they are forgotten."""
        reports = self._reports
        if not reports or reports[0].seq > report_seq:
            return []
        while reports and reports[0].seq <= report_seq:
            report = reports.popleft()
            if report.kind != ReportKind.STARTED:
                del self._ended[report.key]
        return [Journal(AcknowledgedRecord(report_seq))]

    def leave(self, grace_ms: int, now_us: int = 0) -> list[Action]:
        """Drop what waits, stop what runs, report no end any more; then `Left`.

        What waits and runs at most once is handed back, at `now_us`: the manager would take
        it for something that may have begun.
        Again, with a shorter grace: the first grace to run out counts.
        """
        self.is_leaving = True
        actions: list[Action] = []
        for attempt in list(self._attempts.values()):
            if attempt.is_started:
                # How a client's own program ended is known afterwards.
                attempt.is_cancelled |= is_direct(attempt.key) and attempt.doom is None
                actions += attempt.terminate(grace_ms)
            else:
                self._remove(attempt)
                if attempt.launch.at_most_once:
                    self._hand_back(attempt.key, now_us, actions)
        if not self._attempts:
            actions.append(Left())
        return actions

    # What became of actions ---------------------------------------------------------------------

    def started(self, key: AttemptKey, pid: int, start_ticks: int, now_us: int) -> list[Action]:
        """It was spawned."""
        attempt = self._attempts[key]
        assert attempt.is_started, f"{key} still waits"
        assert attempt.process is None, f"{key} started twice"
        process = ProcessRecord(key, pid, start_ticks)
        following = attempt.begin(process, now_us)
        actions: list[Action] = [Journal(process)]
        if not (self.is_leaving or is_direct(key)):
            report = Report(self._next_seq(), ReportKind.STARTED, key, start_us=now_us)
            self._add_report(report)
            actions.append(Emit(report))
        return actions + following

    def not_launched(self, key: AttemptKey, detail: str, now_us: int) -> list[Action]:
        """It could not be spawned, for the reason in the sentence `detail`."""
        attempt = self._attempts[key]
        assert attempt.is_started, f"{key} still waits"
        assert attempt.process is None, f"{key} is running"
        report = Report(
            self._next_seq(),
            ReportKind.ENDED,
            key,
            State.CANCELLED if attempt.is_cancelled else State.FAILED,
            Reason.CANCELLED if attempt.is_cancelled else Reason.LAUNCH_ERROR,
            end_us=now_us,
            detail=detail,
        )
        return self._ended_with(attempt, report)

    def not_leased(self, key: AttemptKey, now_us: int) -> list[Action]:
        """It was not spawned, as it might not begin by then: it is the manager's again."""
        attempt = self._attempts[key]
        if attempt.is_cancelled:
            return self.not_launched(key, "cancelled before it started", now_us)
        assert attempt.process is None, f"{key} is running"
        if self.is_leaving:
            self._remove(attempt)
            actions: list[Action] = []
            self._hand_back(key, now_us, actions)
            return actions if self._attempts else [*actions, Left()]
        report = Report(self._next_seq(), ReportKind.RECALLED, key, end_us=now_us)
        return self._ended_with(attempt, report)

    def exited(self, key: AttemptKey, how: Exit, now_us: int) -> list[Action]:
        """Its main process has ended, and the rest of its group was killed."""
        attempt = self._attempts[key]
        assert attempt.process is not None, f"{key} is not running"
        state, reason, detail = judge(how, attempt.doom, is_cancelled=attempt.is_cancelled)
        report = Report(
            self._next_seq(),
            ReportKind.ENDED,
            key,
            state,
            reason,
            how.exit_code,
            how.signal,
            attempt.start_us,
            # The clock may have been set back while it ran.
            max(now_us, attempt.start_us),
            how.cpu_user_us,
            how.cpu_system_us,
            how.max_rss_bytes,
            detail,
        )
        return self._ended_with(attempt, report)

    def timer_over(self, timer: StartTimer) -> list[Action]:
        """The time of a `StartTimer` has passed."""
        attempt = self._attempts.get(timer.key)
        return [] if attempt is None else attempt.timer_over(timer)

    def condemn(self, key: AttemptKey, doom: Doom) -> list[Action]:
        """It broke a limit that is no timer: it is killed, and has FAILED for that reason."""
        attempt = self._attempts.get(key)
        return [] if attempt is None else attempt.condemn(doom, 0)

    # Helpers ------------------------------------------------------------------------------------

    def _ended_with(self, attempt: Attempt, report: Report) -> list[Action]:
        self._remove(attempt, report.end_us - report.start_us if report.start_us else 0)
        actions: list[Action]
        if is_direct(attempt.key):
            kept = self.direct.end(report)
            actions = [Journal(EndRecord(kept)), TellDirectEnd(attempt.key)]
            return [*actions, Left()] if self.is_leaving and not self._attempts else actions
        if self.is_leaving:
            actions = [Journal(ForgottenRecord(attempt.key))]
            return actions if self._attempts else [*actions, Left()]
        self._add_report(report)
        following: list[Action] = []
        class_id = attempt.launch.class_id
        # Who waits for devices comes before its own class, which could take them for ever.
        self._start_short(following)
        self._start_waiting(class_id, following)
        # Half the time that those who wait behind each slot take.
        wait_us = self._slots.busy_us(class_id) // 2
        return [Journal(EndRecord(report)), Emit(report, wait_us), *following]

    def _end_unstarted(self, stop: Stop, now_us: int, detail: str, actions: list[Action]) -> None:
        if self.is_leaving:
            return
        if stop.mode == StopMode.CANCEL:
            report = Report(
                self._next_seq(),
                ReportKind.ENDED,
                stop.key,
                State.CANCELLED,
                Reason.CANCELLED,
                end_us=now_us,
                detail=detail,
            )
        else:
            self._hand_back(stop.key, now_us, actions)
            return
        self._add_report(report)
        actions += (Journal(EndRecord(report)), Emit(report))

    def _hand_back(self, key: AttemptKey, now_us: int, actions: list[Action]) -> None:
        """It never started here and never will."""
        report = Report(self._next_seq(), ReportKind.RECALLED, key, end_us=now_us)
        self._add_report(report)
        actions += (Journal(EndRecord(report)), Emit(report))

    def _next_seq(self) -> int:
        """The number of the report that is added next."""
        return self.last_report_seq + 1

    def _add_report(self, report: Report) -> None:
        assert report.seq == self.last_report_seq + 1, f"report {report.seq} out of order"
        self.last_report_seq = report.seq
        self._reports.append(report)
        if report.kind != ReportKind.STARTED:
            self._ended[report.key] = report

    def _add(self, key: AttemptKey, launch: Launch, environments: Sequence[Environment]) -> None:
        environment = environments[launch.environment]
        self._attempts[key] = Attempt(key, launch, environment, launch.time_limit_ms)
        self._slots.add(launch.class_id, key)
        if launch.at_most_once:
            self._lease.attempts[key] = None

    def _remove(self, attempt: Attempt, run_us: int = 0) -> None:
        del self._attempts[attempt.key]
        self._lease.attempts.pop(attempt.key, None)
        if attempt.is_started:
            self._slots.end(attempt.launch.class_id, run_us)
            self._devices.give_back(attempt.key)
        else:
            self._slots.drop(attempt.launch.class_id, attempt.key)

    def _start_short(self, actions: list[Action]) -> None:
        """Devices may have become free."""
        for class_id in list(self._short):
            self._start_waiting(class_id, actions)

    def _start_waiting(self, class_id: int, actions: list[Action]) -> None:
        while (key := self._slots.find_next(class_id)) is not None:
            attempt = self._attempts[key]
            named = attempt.launch.named
            if not self._devices.suffice(named):
                self._short[class_id] = None
                return
            self._slots.start(class_id, key)
            attempt.is_started = True
            devices = self._devices.take(key, named)
            actions.append(Journal(IntentRecord(key)))
            actions.append(Spawn(key, attempt.launch, attempt.environment, devices))
        self._short.pop(class_id, None)

    def check_invariants(self) -> None:
        """Raises AssertionError where the tables contradict each other. O(everything)."""
        counts = self._slots.counts()
        for class_id, (waiting, running, allowed) in counts.items():
            members = [a for a in self._attempts.values() if a.launch.class_id == class_id]
            assert running == sum(attempt.is_started for attempt in members), class_id
            assert waiting == len(members) - running, class_id
            assert allowed <= len(members), class_id
            if not self.is_leaving and class_id not in self._short:
                assert running >= allowed, class_id
        assert {a.launch.class_id for a in self._attempts.values()} == set(counts)
        for class_id in () if self.is_leaving else self._short:
            key = self._slots.find_next(class_id)
            assert key is not None, class_id
            assert not self._devices.suffice(self._attempts[key].launch.named), key
        under_lease = [each for each in self._attempts.values() if each.launch.at_most_once]
        assert {each.key for each in under_lease} == set(self._lease.attempts)
        assert self._lease.is_valid or all(each.stop_signal for each in under_lease)
        had = [
            (name, each)
            for got in self._devices.held().values()
            for name, ids in got
            for each in ids
        ]
        assert len(had) == len(set(had)), had
        assert all(self._attempts[key].is_started for key in self._devices.held())
        assert not set(self._attempts) & set(self._ended)
        for attempt in self._attempts.values():
            assert not (attempt.is_suspended and attempt.stop_signal), attempt.key
            assert attempt.is_started or not attempt.is_suspended, attempt.key
        numbers = [report.seq for report in self._reports]
        first = self.last_report_seq - len(numbers) + 1
        assert numbers == list(range(first, self.last_report_seq + 1))
        over = {report.key for report in self._reports if report.kind != ReportKind.STARTED}
        assert over == set(self._ended)


def _is_spawn(action: Action) -> bool:
    return isinstance(action, Spawn)
