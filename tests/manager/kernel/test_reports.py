"""The table of reports, row by row: what a report means by the state that its attempt is in.

The rows are those of `titan/manager/kernel/reports.py`; the sixth is that of an attempt
of another worker or another cluster's epoch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from tests.manager.builders import (
    START_US,
    TIMEOUT_US,
    FakeHost,
    Rig,
    check_refused,
    new_job,
    report,
)
from titan import events as ev
from titan.errors import Refused
from titan.manager.kernel.commands import Report, ReportTasks
from titan.model import AttemptKey, Reason, ReportKind, State, Stop, StopMode
from titan.state import digest

STARTED, ENDED, RECALLED = ReportKind.STARTED, ReportKind.ENDED, ReportKind.RECALLED


@dataclass
class Scene:
    """A job of one task, a worker, and an attempt that the next report is about."""

    rig: Rig = field(default_factory=Rig)

    def __post_init__(self) -> None:
        self.host: FakeHost = self.rig.worker(2)
        (self.job_id,) = self.rig.submit(new_job())
        self.key = AttemptKey(self.rig.epoch, self.job_id, 0, 1)

    def tell(self, kind: ReportKind, **fields: object) -> list[ev.Event]:
        """The next report of the host about the attempt; returns what came of it."""
        before = len(self.rig.records)
        seq = self.host.outbox.applied_seq + 1 if self.host.outbox else 1
        assert self.host.report(report(seq, self.key, kind, **fields)) == seq, "acknowledged"
        return [
            event for payload in self.rig.records[before:] for event in ev.decode_record(payload)[1]
        ]

    def stops(self) -> list[Stop]:
        """What the host is told to give up."""
        batch = self.host.next_batch()
        return batch.stops if batch else []


def scheduled() -> Scene:
    scene = Scene()
    scene.rig.schedule()
    scene.host.receive_all()
    assert scene.rig.task_state(scene.job_id) is State.SCHEDULED
    return scene


def running() -> Scene:
    scene = scheduled()
    scene.host.send_reports()
    assert scene.rig.task_state(scene.job_id) is State.RUNNING
    return scene


def lost() -> Scene:
    """The worker was given up while it ran the task, and has registered again without it."""
    scene = running()
    scene.rig.tick(TIMEOUT_US)
    assert scene.rig.task_state(scene.job_id) is State.PENDING
    scene.host.held.clear()
    scene.host.register()
    assert not scene.stops()
    return scene


def lost_without_room() -> Scene:
    """The same, and its room has gone to another task."""
    scene = lost()
    scene.rig.submit(new_job(cpus=2, priority=1))
    scene.rig.schedule()
    scene.host.receive_all()
    assert scene.rig.task_state(scene.job_id) is State.PENDING
    return scene


def ended() -> Scene:
    scene = running()
    scene.host.end(scene.key)
    scene.host.send_reports()
    assert scene.rig.task_state(scene.job_id) is State.COMPLETED
    return scene


def recalled() -> Scene:
    scene = scheduled()
    assert scene.tell(RECALLED)
    return scene


def unknown() -> Scene:
    scene = Scene()
    scene.key = scene.key._replace(job_id=99)
    return scene


def of_another_epoch() -> Scene:
    scene = running()
    scene.key = scene.key._replace(epoch=scene.key.epoch + 1)
    return scene


def superseded() -> Scene:
    """Another worker runs the second attempt."""
    scene = lost()
    other = scene.rig.worker(4)
    scene.host.outbox = scene.rig.kernel.sessions[scene.host.session]
    scene.rig.schedule()
    state = scene.rig.state.get_job(scene.job_id).active[0]
    assert state.attempt == 2
    for host in (other, scene.host):
        host.receive_all()
        if host.number == state.worker:
            host.send_reports()
    assert scene.rig.task_state(scene.job_id) is State.RUNNING
    return scene


def of_another_worker() -> Scene:
    """The attempt is current, on another worker than the one that reports."""
    scene = running()
    scene.host = scene.rig.worker(2)
    return scene


ONE_STOP = "is told to stop"
NOTHING = "nothing"

TABLE: list[tuple[Callable[[], Scene], ReportKind, type[ev.Event] | str, State | None]] = [
    (scheduled, STARTED, ev.TaskStarted, State.RUNNING),
    (scheduled, ENDED, ev.AttemptEnded, State.COMPLETED),
    (scheduled, RECALLED, ev.Recalled, State.PENDING),
    (running, STARTED, NOTHING, State.RUNNING),
    (running, ENDED, ev.AttemptEnded, State.COMPLETED),
    (running, RECALLED, NOTHING, State.RUNNING),
    (lost, STARTED, ev.Adopted, State.RUNNING),
    (lost, ENDED, ev.AttemptEnded, State.COMPLETED),
    (lost, RECALLED, NOTHING, State.PENDING),
    (lost_without_room, STARTED, ONE_STOP, State.PENDING),
    (lost_without_room, ENDED, ev.AttemptEnded, State.COMPLETED),
    (lost_without_room, RECALLED, NOTHING, State.PENDING),
    (ended, STARTED, NOTHING, State.COMPLETED),
    (ended, ENDED, NOTHING, State.COMPLETED),
    (ended, RECALLED, NOTHING, State.COMPLETED),
    (recalled, STARTED, NOTHING, State.PENDING),
    (recalled, ENDED, NOTHING, State.PENDING),
    (recalled, RECALLED, NOTHING, State.PENDING),
    (unknown, STARTED, ONE_STOP, None),
    (unknown, ENDED, NOTHING, None),
    (unknown, RECALLED, NOTHING, None),
    (of_another_epoch, STARTED, ONE_STOP, State.RUNNING),
    (of_another_epoch, ENDED, NOTHING, State.RUNNING),
    (of_another_epoch, RECALLED, NOTHING, State.RUNNING),
    (superseded, STARTED, ONE_STOP, State.RUNNING),
    (superseded, ENDED, NOTHING, State.RUNNING),
    (superseded, RECALLED, NOTHING, State.RUNNING),
    (of_another_worker, STARTED, ONE_STOP, State.RUNNING),
    (of_another_worker, ENDED, NOTHING, State.RUNNING),
    (of_another_worker, RECALLED, NOTHING, State.RUNNING),
]


@pytest.mark.parametrize(
    ("build", "kind", "expected", "task_state"),
    TABLE,
    ids=[f"{build.__name__}-{kind.name}" for build, kind, _, _ in TABLE],
)
def test_a_report_means_what_the_table_says(
    build: Callable[[], Scene],
    kind: ReportKind,
    expected: type[ev.Event] | str,
    task_state: State | None,
) -> None:
    scene = build()
    before = digest(scene.rig.state)
    events = scene.tell(kind)
    stops = scene.stops()
    if isinstance(expected, str):
        assert events == []
        assert digest(scene.rig.state) == before
    else:
        assert [type(each) for each in events] == [expected]
    wanted = [Stop(scene.key, StopMode.CANCEL, 0)] if expected == ONE_STOP else []
    if expected is ev.Adopted:
        # Whatever its worker was told of it before.
        wanted = [Stop(scene.key, mode, 0) for mode in (StopMode.LIMIT, StopMode.RESUME)]
    assert stops == wanted, "invariant 3: what counts no more is stopped on contact"
    if task_state is not None:
        assert scene.rig.task_state(scene.job_id) is task_state


@pytest.mark.parametrize("kind", ReportKind, ids=lambda each: each.name)
@pytest.mark.parametrize("build", dict.fromkeys(row[0] for row in TABLE), ids=lambda b: b.__name__)
def test_the_same_report_again_changes_nothing_invariant_2(
    build: Callable[[], Scene], kind: ReportKind
) -> None:
    scene = build()
    scene.tell(kind)
    scene.stops()
    before = digest(scene.rig.state)
    assert scene.tell(kind) == []
    assert digest(scene.rig.state) == before


def test_an_end_carries_all_its_numbers() -> None:
    scene = running()
    start_us = scene.rig.state.get_job(scene.job_id).active[0].start_us
    (event,) = scene.tell(
        ENDED, state=State.FAILED, reason=Reason.SIGNAL, exit_code=-1, signal=9,
        start_us=0, end_us=START_US + 77, cpu_user_us=5, cpu_system_us=6,
        max_rss_bytes=7, detail="killed",
    )  # fmt: skip
    assert event == ev.AttemptEnded(
        scene.job_id, 0, 1, State.FAILED, Reason.SIGNAL, -1, 9, start_us, START_US + 77,
        5, 6, 7, "killed", State.FAILED,
    )  # fmt: skip


def test_an_end_whose_start_was_not_told_tells_it() -> None:
    scene = scheduled()
    scene.tell(ENDED, start_us=START_US + 3, end_us=START_US + 4)
    assert scene.rig.state.get_job(scene.job_id).start_us == START_US + 3


def test_a_launch_error_ends_what_never_ran() -> None:
    scene = scheduled()
    fields = {"state": State.FAILED, "reason": Reason.LAUNCH_ERROR, "exit_code": -1, "start_us": 0}
    (event,) = scene.tell(ENDED, **fields, detail="no directory /x")
    assert isinstance(event, ev.AttemptEnded)
    job = scene.rig.state.get_job(scene.job_id)
    assert job.state is State.FAILED
    assert job.start_us == 0


@pytest.mark.parametrize("build", [scheduled, running])
@pytest.mark.parametrize("how", [State.COMPLETED, State.FAILED, State.CANCELLED])
def test_a_cancelled_task_ends_cancelled_however_it_ends(
    build: Callable[[], Scene], how: State
) -> None:
    scene = build()
    scene.rig.cancel(scene.job_id)
    (event,) = scene.tell(ENDED, state=how)
    assert isinstance(event, ev.AttemptEnded)
    assert (event.state, event.reason, event.task_state) == (
        State.CANCELLED, Reason.CANCELLED, State.CANCELLED,
    )  # fmt: skip
    assert scene.rig.task_state(scene.job_id) is State.CANCELLED


def test_a_cancelled_task_that_was_recalled_ends_cancelled() -> None:
    scene = scheduled()
    scene.rig.cancel(scene.job_id)
    scene.tell(RECALLED)
    assert scene.rig.task_state(scene.job_id) is State.CANCELLED


def test_a_task_that_nobody_cancelled_waits_again_when_its_attempt_was_stopped() -> None:
    scene = running()
    (event,) = scene.tell(ENDED, state=State.CANCELLED, reason=Reason.CANCELLED)
    assert isinstance(event, ev.AttemptEnded)
    assert event.task_state == State.PENDING
    scene.rig.schedule()
    assert scene.rig.state.get_job(scene.job_id).active[0].attempt == 2


def test_the_stopped_end_of_a_survivor_leaves_its_task_waiting() -> None:
    scene = lost()
    assert scene.tell(ENDED, state=State.CANCELLED, reason=Reason.CANCELLED) == []
    assert scene.rig.task_state(scene.job_id) is State.PENDING


def test_reports_that_came_before_are_acknowledged_and_not_applied_again() -> None:
    scene = scheduled()
    started = report(1, scene.key, STARTED)
    assert scene.host.report(started, report(2, scene.key, ENDED)) == 2
    lsn = scene.rig.state.lsn
    assert scene.host.report(started) == 2
    assert scene.host.report(started, report(2, scene.key, ENDED, state=State.FAILED)) == 2
    assert scene.rig.state.lsn == lsn
    assert scene.rig.task_state(scene.job_id) is State.COMPLETED


def test_merged_reports_may_be_left_out_of_a_batch() -> None:
    scene = scheduled()
    answer = scene.rig.do(
        ReportTasks(
            session=scene.host.session,
            first_seq=1,
            last_seq=5,
            reports=(report(4, scene.key, ENDED),),
        )
    )
    assert answer == 5
    assert scene.host.report(report(6, scene.key, STARTED)) == 6


ODD_KEYS = [(1, 1, 1 << 40, 1), (1, 1, 0, 1 << 40), (1, 1, -1, 1), (1, 1, 0, -1), (0, -1, 0, 0)]


@pytest.mark.parametrize("kind", ReportKind, ids=lambda each: each.name)
@pytest.mark.parametrize("numbers", ODD_KEYS, ids=str)
def test_a_report_of_impossible_numbers_changes_nothing_invariant_10(
    numbers: tuple[int, int, int, int], kind: ReportKind
) -> None:
    scene = ended()
    scene.key = AttemptKey(*numbers)
    assert scene.tell(kind) == []


@pytest.mark.parametrize(("first", "words"), [(2, "1 to 1 are"), (3, "1 to 2 are missing")])
def test_reports_with_a_hole_before_them_are_refused_by_number(first: int, words: str) -> None:
    scene = scheduled()
    command = ReportTasks(
        session=scene.host.session, first_seq=first, last_seq=first,
        reports=(report(first, scene.key, ENDED),),
    )  # fmt: skip
    check_refused(scene.rig, command, Refused, match=words)


def test_reports_of_an_unknown_session_are_refused() -> None:
    scene = scheduled()
    command = ReportTasks(
        session=b"?", first_seq=1, last_seq=1, reports=(Report(1, scene.key, STARTED),)
    )
    check_refused(scene.rig, command, Refused, match="register again")


def test_the_end_of_a_slot_passes_it_on_in_the_same_event() -> None:
    """Nothing but the AttemptEnded is in the record, and no pass is needed."""
    rig = Rig()
    host = rig.worker(1)
    for _ in range(2):
        rig.submit(new_job())
        rig.schedule()
        host.receive_all()
        rig.now_us += 1000
        host.end(host.running[0])
        host.send_reports()
    (job_id,) = rig.submit(new_job(array=[(0, 10)]))
    rig.schedule()
    host.receive_all()
    here = rig.state.get_worker(1).classes[1]
    assert (here.slots, len(here.ahead)) == (1, 9)
    host.send_reports()
    assert rig.task_state(job_id, 0) is State.RUNNING
    records = len(rig.records)
    host.end(host.running[0])
    assert [key.index for key in host.running] == [1], "the host did not wait for the manager"
    ended, started = host.unacknowledged
    host.report(ended)
    (payload,) = rig.records[records:]
    assert [type(each) for each in ev.decode_record(payload)[1]] == [ev.AttemptEnded]
    assert [index for _, index in here.unstarted] == [1]
    assert [index for _, index in here.ahead] == list(range(2, 10))
    host.report(started)
    assert rig.task_state(job_id, 1) is State.RUNNING
    assert rig.state.get_worker(1).free_cpus_milli == 0
