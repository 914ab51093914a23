"""Random histories of a task host: whatever comes in whatever order, the rules hold."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.worker.builders import batch, key, launch
from titan.model import AttemptKey, Reason, ReportKind, State, Stop, StopMode
from titan.worker.host.actions import (
    Action,
    DropLimit,
    Emit,
    Journal,
    Left,
    Purpose,
    Resume,
    Signal,
    Spawn,
    StartTimer,
    Suspend,
    TellDirectEnd,
)
from titan.worker.host.bookkeeping import Bookkeeping
from titan.worker.host.describing import describe
from titan.worker.host.direct_book import is_direct
from titan.worker.host.records import Record, recover
from titan.worker.host.verdict import Doom
from titan.worker.messages import Exit, Report
from titan.worker.signals import SIGKILL

indexes = st.integers(0, 5)
jobs = st.integers(1, 4)
counts = st.integers(0, 4)


def class_of(attempt: AttemptKey) -> int:
    """Jobs 1 and 2 are of one class, job 3 is of another, and job 4 runs at most once."""
    return {3: 2, 4: 3}.get(attempt.job_id, 1)


class HostMachine(RuleBasedStateMachine):
    """The shell, with invented processes."""

    def __init__(self) -> None:
        super().__init__()
        self.book = Bookkeeping()
        self.journal: list[Record] = []
        self.reports: list[Report] = []
        self.over: dict[AttemptKey, Report] = {}
        self.to_spawn: list[AttemptKey] = []
        self.processes: dict[AttemptKey, int] = {}
        self.killed: set[AttemptKey] = set()
        self.timers: list[StartTimer] = []
        self.suspended: set[AttemptKey] = set()
        # What they were given last; what had none is not here.
        self.limits: dict[AttemptKey, int] = {}
        # What clients started, by key, and how that ended.
        self.direct: dict[AttemptKey, Report | None] = {}
        # Which of the two came first to a running attempt.
        self.told_to_end: dict[AttemptKey, Reason] = {}
        self.acknowledged = 0
        self.now_us = 1_000
        self.has_left = False
        # How many of each class may run, by a second and slow reckoning.
        self.allowed = {1: 0, 2: 0, 3: 0}
        # What job 4 runs under, and what was about to be spawned when it was over.
        self.boottime_us = 0
        self.until_us = 0
        self.too_late: set[AttemptKey] = set()
        # Those that there are, which are for job 3 alone, and who has which.
        self.gpus = ["0", "1"]
        self.devices: dict[AttemptKey, str] = {}
        self.book.offer_devices((("gpu", tuple(self.gpus)),))

    def do(self, actions: list[Action], slots: dict[int, int] | None = None) -> None:
        self.now_us += 1
        self.perform(actions)
        for class_id in self.allowed:
            live = sum(class_of(held.key) == class_id for held in self.book.live())
            wanted = (slots or {}).get(class_id, self.allowed[class_id])
            self.allowed[class_id] = min(wanted, live)
            running = sum(
                class_of(attempt) == class_id
                for attempt in [*self.processes, *self.to_spawn]
                if not is_direct(attempt)
            )
            is_short = class_id == 2 and not set(self.gpus) - set(self.devices.values())
            if not self.book.is_leaving and not is_short:
                assert running >= self.allowed[class_id], "one that may run waits"
            spawned = [each.key for each in actions if isinstance(each, Spawn)]
            if any(class_of(each) == class_id for each in spawned if not is_direct(each)):
                assert running <= self.allowed[class_id], "one was started that may not run"

    def perform(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Journal():
                    self.journal.append(action.record)
                case Emit():
                    self.note(action.report)
                case TellDirectEnd():
                    assert self.direct[action.key] is None, "ended twice"
                    self.direct[action.key] = self.book.find_end(action.key)
                    assert self.direct[action.key] is not None
                case Spawn():
                    assert action.key not in self.processes
                    assert action.key not in self.over
                    self.to_spawn.append(action.key)
                    self.note_devices(action)
                case Signal():
                    assert action.key in self.processes
                    if action.signal == SIGKILL:
                        self.killed.add(action.key)
                case StartTimer() | DropLimit() | Suspend() | Resume():
                    self.keep_time(action)
                case Left():
                    self.has_left = True
                    assert not self.processes

    def keep_time(self, action: StartTimer | DropLimit | Suspend | Resume) -> None:
        assert self.is_started(action.key)
        match action:
            case StartTimer():
                if action.purpose is not Purpose.GRACE:
                    self.drop_timers(action.key, action.purpose)
                self.timers.append(action)
            case DropLimit():
                self.drop_timers(action.key, Purpose.LIMIT, Purpose.WARNING)
            case Suspend():
                assert action.key in self.processes
                assert action.key not in self.suspended
                self.suspended.add(action.key)
            case Resume():
                self.suspended.remove(action.key)

    def drop_timers(self, attempt: AttemptKey, *purposes: Purpose) -> None:
        self.timers = [
            each for each in self.timers if each.key != attempt or each.purpose not in purposes
        ]

    def note_devices(self, action: Spawn) -> None:
        if action.key.job_id != 3:
            assert action.devices == ((("gpu", ()),) if self.gpus else ())
            return
        ((name, (device,)),) = action.devices
        free = [each for each in self.gpus if each not in self.devices.values()]
        assert (name, device) == ("gpu", free[0])
        self.devices[action.key] = device

    def note(self, report: Report) -> None:
        assert not is_direct(report.key)
        assert report.seq == (self.reports[-1].seq + 1 if self.reports else 1)
        self.reports.append(report)
        if report.kind != ReportKind.STARTED:
            assert report.key not in self.over, "ended twice"
            assert report.start_us <= report.end_us
            self.over[report.key] = report
            if report.kind is ReportKind.RECALLED:
                assert report.key not in self.processes
            elif report.key in self.told_to_end:
                assert report.reason == self.told_to_end[report.key]
                is_cancelled = report.reason == Reason.CANCELLED
                assert report.state is (State.CANCELLED if is_cancelled else State.FAILED)

    @rule(job=jobs, chosen=st.lists(indexes, max_size=4), slots=counts)
    def start(self, job: int, chosen: list[int], slots: int) -> None:
        # The manager does not send again what it knows to be over.
        fresh = [index for index in chosen if not self.is_forgotten(key(job, index))]
        class_id = class_of(key(job))
        shared = launch(job_id=job, class_id=class_id)
        if job == 2:
            shared = shared._replace(time_limit_ms=90, end_signal=10, end_signal_before_ms=30)
        if job == 3:
            shared = shared._replace(named=(("gpu", 1),))
        if job == 4:
            shared = shared._replace(at_most_once=True)
        todo = batch(shared, indexes=fresh, slots=slots)
        self.do(self.book.start(todo), {class_id: slots})

    @rule(count=st.integers(1, 2))
    def start_direct(self, count: int) -> None:
        keys, actions = self.book.start_direct([launch()] * count, batch(launch()).environments)
        assert len(keys) == (0 if self.book.is_leaving else count)
        assert not any(each in self.direct for each in keys)
        self.direct.update(dict.fromkeys(keys))
        self.do(actions)
        # Whatever else runs or waits.
        assert set(keys) <= set(self.to_spawn)

    @rule(number=st.integers(0, 9), grace=st.integers(0, 1))
    def stop_direct(self, number: int, grace: int) -> None:
        attempt = AttemptKey(0, -1 - number, 0, 1)
        if self.is_started(attempt):
            self.told_to_end.setdefault(attempt, Reason.CANCELLED)
        self.do(self.book.stop([Stop(attempt, StopMode.CANCEL, grace)], self.now_us))

    def is_forgotten(self, attempt: AttemptKey) -> bool:
        return attempt in self.over and self.over[attempt].seq <= self.acknowledged

    @rule(launches=st.booleans())
    def spawn(self, launches: bool) -> None:
        if not self.to_spawn:
            return
        attempt = self.to_spawn[0]
        if attempt.job_id == 4:
            self.look_at_the_lease()
        self.to_spawn.remove(attempt)
        if attempt.job_id == 4:
            if not self.book.may_begin(attempt):
                self.do(self.book.not_leased(attempt, self.now_us))
                return
            assert attempt not in self.too_late
            assert self.boottime_us < self.until_us
        if launches:
            self.processes[attempt] = 100 + len(self.journal)
            pid = self.processes[attempt]
            self.do(self.book.started(attempt, pid, 7, self.now_us))
        else:
            self.devices.pop(attempt, None)
            self.do(self.book.not_launched(attempt, "no", self.now_us))

    @rule(after_us=st.integers(0, 3), lasts_us=st.integers(0, 5))
    def renew_the_lease(self, after_us: int, lasts_us: int) -> None:
        self.boottime_us += after_us
        self.lose_the_lease()
        until_us = self.boottime_us + lasts_us
        self.do(self.book.renew_lease(until_us, self.boottime_us, self.now_us))
        self.until_us = max(self.until_us, until_us)

    @rule(after_us=st.integers(0, 3))
    def look_at_the_lease(self, after_us: int = 0) -> None:
        self.boottime_us += after_us
        self.lose_the_lease()
        self.do(self.book.check_lease(self.boottime_us, self.now_us))
        if self.boottime_us >= self.until_us:
            assert all(each in self.killed for each in self.processes if each.job_id == 4)
            assert all(each in self.too_late for each in self.to_spawn if each.job_id == 4)
            assert self.book.lease_due_us is None

    def lose_the_lease(self) -> None:
        if self.boottime_us < self.until_us:
            return
        for attempt in [*self.processes, *self.to_spawn]:
            if attempt.job_id == 4:
                self.told_to_end.setdefault(attempt, Reason.WORKER_LOST)
        self.too_late.update(each for each in self.to_spawn if each.job_id == 4)

    @rule(gpus=st.lists(st.sampled_from("0123"), max_size=3, unique=True))
    def offer_devices(self, gpus: list[str]) -> None:
        self.gpus = gpus
        self.do(self.book.offer_devices((("gpu", tuple(gpus)),)))

    @rule(number=st.integers(0, 9), code=st.integers(0, 1))
    def exit(self, number: int, code: int) -> None:
        if self.processes:
            attempt = list(self.processes)[number % len(self.processes)]
            del self.processes[attempt]
            self.suspended.discard(attempt)
            self.devices.pop(attempt, None)
            how = Exit(None, 9) if attempt in self.killed else Exit(code, None)
            self.do(self.book.exited(attempt, how, self.now_us))

    @rule(job=jobs, index=indexes, mode=st.sampled_from(StopMode), grace=st.integers(0, 1))
    def stop(self, job: int, index: int, mode: StopMode, grace: int) -> None:
        attempt = key(job, index)
        if not self.is_forgotten(attempt):
            if mode is StopMode.CANCEL and self.is_started(attempt):
                self.told_to_end.setdefault(attempt, Reason.CANCELLED)
            self.do(self.book.stop([Stop(attempt, mode, grace)], self.now_us))
            if mode is StopMode.LIMIT:
                self.limits.pop(attempt, None)
                assert not self.has_timer(attempt, Purpose.LIMIT)
            if attempt in self.processes and not self.book.is_stopping(attempt):
                assert attempt not in self.suspended or mode is not StopMode.RESUME
                assert attempt in self.suspended or mode is not StopMode.SUSPEND

    @rule(job=jobs, index=indexes, limit=st.integers(1, 3))
    def change_limit(self, job: int, index: int, limit: int) -> None:
        attempt = key(job, index)
        self.do(
            self.book.stop([Stop(attempt, StopMode.LIMIT, 0, time_limit_ms=limit)], self.now_us)
        )
        if self.book.is_live(attempt):
            self.limits[attempt] = limit

    def has_timer(self, attempt: AttemptKey, purpose: Purpose) -> bool:
        return any(each.key == attempt and each.purpose is purpose for each in self.timers)

    def is_started(self, attempt: AttemptKey) -> bool:
        return attempt in self.processes or attempt in self.to_spawn

    @rule(number=st.integers(0, 9))
    def ring(self, number: int) -> None:
        # The time of what stands still does so, too.
        due = [
            each
            for each in self.timers
            if each.purpose is Purpose.GRACE or each.key not in self.suspended
        ]
        if not due:
            return
        timer = due[number % len(due)]
        attempt, purpose = timer.key, timer.purpose
        self.timers.remove(timer)
        if purpose is Purpose.LIMIT and attempt in self.processes:
            self.told_to_end.setdefault(attempt, Reason.TIMEOUT)
        self.do(self.book.timer_over(timer))
        if purpose is Purpose.GRACE and attempt in self.processes:
            assert attempt in self.killed
        if purpose is Purpose.LIMIT and attempt in self.processes:
            assert self.book.is_stopping(attempt)

    @rule(job=jobs, index=indexes)
    def write_too_much(self, job: int, index: int) -> None:
        attempt = key(job, index)
        if attempt in self.processes:
            self.told_to_end.setdefault(attempt, Reason.OUTPUT_LIMIT)
            self.do(self.book.condemn(attempt, Doom(Reason.OUTPUT_LIMIT, "too much")))
            assert attempt in self.killed

    @rule(back=st.integers(0, 5))
    def acknowledge(self, back: int) -> None:
        seq = len(self.reports) - back
        self.do(self.book.acknowledge(seq))
        self.acknowledged = max(self.acknowledged, seq)

    @rule(grace=st.integers(0, 1))
    def leave(self, grace: int) -> None:
        # Rarely: nothing of interest comes after it.
        if len(self.journal) > 15:
            self.do(self.book.leave(grace))

    @invariant()
    def tables_agree(self) -> None:
        self.book.check_invariants()

    @invariant()
    def what_was_told_to_end_does_not_stand_still(self) -> None:
        assert self.suspended <= set(self.processes)
        assert not any(map(self.book.is_stopping, self.suspended))

    @invariant()
    def a_limit_that_was_given_counts(self) -> None:
        for attempt, limit in self.limits.items():
            if attempt in self.processes and not self.book.is_stopping(attempt):
                assert StartTimer(attempt, limit, Purpose.LIMIT) in self.timers

    @invariant()
    def what_clients_started_is_known_and_is_not_the_managers(self) -> None:
        live = [each for each, end in self.direct.items() if end is None]
        assert sorted(self.book.direct.live()) == sorted(live)
        assert not any(is_direct(held.key) for held in self.book.live())
        for attempt in self.direct:
            found = describe(self.book, attempt)
            assert found is not None
            assert found.end == self.direct[attempt]

    @invariant()
    def nothing_is_forgotten_before_it_is_acknowledged(self) -> None:
        expected = [report for report in self.reports if report.seq > self.acknowledged]
        assert list(self.book.reports) == expected
        assert self.book.last_report_seq == len(self.reports)

    @invariant()
    def the_journal_tells_the_same(self) -> None:
        ends = [r for r in self.reports if r.kind != ReportKind.STARTED]
        for records in (self.journal, list(self.book.records())):
            recovered = recover(records)
            assert list(recovered.ends) == [r for r in ends if r.seq > self.acknowledged]
            assert {each.record.key: each.end for each in recovered.direct} == self.direct
            unfinished = {each.key: each.process for each in recovered.unfinished}
            assert set(unfinished) == {*self.processes, *self.to_spawn}
            for attempt, pid in self.processes.items():
                process = unfinished[attempt]
                assert process is not None
                assert process.pid == pid

    @invariant()
    def what_is_over_holds_nothing(self) -> None:
        live = {held.key for held in self.book.live()}
        assert not live & set(self.over)
        assert {*self.processes, *self.to_spawn} <= {*live, *self.book.direct.live()}


TestHostHistories = HostMachine.TestCase
TestHostHistories.settings = settings(max_examples=150, stateful_step_count=40)
