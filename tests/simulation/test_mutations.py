"""A simulation that finds nothing proves nothing: each of these mistakes it must find."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest

from tests.simulation.cluster import SimulationFailed, run
from tests.simulation.manager import ManagerProcess
from tests.simulation.plan import Plan, random_plan
from tests.simulation.test_scenarios import SCENARIOS
from tests.wal.fake_fs import FakeFileSystem
from titan.manager import clock
from titan.manager.kernel import (
    Kernel,
    desk,
    drain,
    identity,
    reports,
    retries,
    silence,
    submit,
    workers,
)
from titan.manager.kernel.outbox import Outbox
from titan.model import Reason, ReportKind, State
from titan.scheduler import preemption
from titan.state import job_changes
from titan.state.request_table import RequestTable
from titan.worker.agent.core import Core, HostState
from titan.worker.host import bookkeeping
from titan.worker.host.actions import Purpose, StartTimer, Suspend
from titan.worker.host.bookkeeping import Bookkeeping
from titan.worker.host.slots import Slots
from titan.worker.host.timers import Timers
from titan.worker.host.verdict import judge

# After the named scenarios, which find most.
SEEDS_MAX = 60


@contextmanager
def changed(*places: tuple[Any, Any, Any]) -> Iterator[None]:
    """With these attributes, or entries of dicts, replaced."""
    with pytest.MonkeyPatch.context() as patch:
        for owner, name, value in places:
            if isinstance(owner, dict):
                patch.setitem(owner, name, value)
            else:
                patch.setattr(owner, name, value)
        yield


def find_attempt_of_any_number(desk: Any, outbox: Any, key: Any) -> Any:
    job = reports.find_job(desk, key)
    return job.active.get(key.index) if job else None


def allow_all(slots: Slots, class_id: int, _: int) -> None:
    allow(slots, class_id, 1 << 30)


allow = Slots.allow
host_connected = Core.host_connected
recover_book = Bookkeeping.__init__
admit = Core._admit
reports_taken = Core.reports_taken
timer_over = Bookkeeping.timer_over
perform_timer = Timers.perform
answer_call = ManagerProcess._answer
check_silence = silence.check_silence
end_reported = reports._OUTCOMES[ReportKind.ENDED]
start_kernel = Kernel.start
sync = FakeFileSystem.fdatasync


def connect_without_ends(core: Core, host: HostState) -> Any:
    fields = {name: getattr(host, name) for name in ("instance", "cluster_id", "live")}
    return host_connected(core, HostState(**fields, reports=(), report_seq=host.report_seq))


def recover_without_ends(book: Bookkeeping, recovered: Any = None) -> None:
    recover_book(book, recovered and recovered._replace(ends=()))


def admit_batches_again(core: Core, session: bytes, dispatch_seq: int) -> Any:
    core._mirror.dispatch_seq = dispatch_seq - 1
    return admit(core, session, dispatch_seq)


def take_without_the_batches(core: Core, call: int, report_seq: int, dispatch_seq: int) -> Any:
    return reports_taken(core, call, report_seq)


def lose_forgetting_the_cancel(desk: Any, attempt: Any, detail: str) -> None:
    desk.end_attempt(
        attempt,
        state=State.LOST,
        reason=Reason.WORKER_LOST,
        task_state=State.PENDING,
        detail=detail,
    )


def ring_grace_only(book: Bookkeeping, timer: StartTimer) -> Any:
    return timer_over(book, timer) if timer.purpose is Purpose.GRACE else []


def judge_by_the_exit(how: Any, _doom: Any, *, is_cancelled: bool) -> Any:
    return judge(how, None, is_cancelled=is_cancelled)


def perform_without_pauses(timers: Timers, action: Any, now: float) -> None:
    if not isinstance(action, Suspend):
        perform_timer(timers, action, now)


def was_lost_whatever_came_then(desk: Any, outbox: Outbox, key: Any) -> bool:
    job = reports.find_job(desk, key)
    record = job.ended.find(key.index, key.attempt) if job is not None and job.ended else None
    return record is not None and record.state == State.LOST and record.worker == outbox.worker


def count_the_end_of_a_superseded_attempt(desk: Any, outbox: Outbox, report: Any) -> None:
    if was_lost_whatever_came_then(desk, outbox, report.key):
        reports._end_lost(desk, report)
    else:
        end_reported(desk, outbox, report)


def adopt_what_was_replaced(desk: Any, outbox: Outbox, key: Any) -> bool:
    return was_lost_whatever_came_then(desk, outbox, key)


def check_silence_too_soon(desk: Any) -> None:
    settings = desk.settings
    desk.settings = replace(settings, heartbeat_timeout_us=settings.heartbeat_timeout_us // 2)
    check_silence(desk)
    desk.settings = settings


def start_as_if_nobody_were_heard(kernel: Kernel, **how: Any) -> None:
    start_kernel(kernel, **how)
    for number in kernel.heard_us:
        kernel.heard_us[number] -= kernel.settings.heartbeat_timeout_us


def answer_reports_at_once(process: Any, method: str, request: Any, reply: Any) -> None:
    if method == "ReportTaskStatus":
        process.when_durable = lambda lsn, action: action()
    answer_call(process, method, request, reply)
    vars(process).pop("when_durable", None)


def tell_wall_time(_: clock.Clock) -> int:
    wall_clock: Any = vars(clock)["time"]
    return int(wall_clock.time_ns() // 1000)


def sync_now_and_then(disk: FakeFileSystem, fd: int) -> None:
    if len(disk.calls) % 3:
        sync(disk, fd)


def sync_come_what_may(disk: FakeFileSystem, fd: int) -> None:
    with suppress(OSError):
        sync(disk, fd)


def nothing(*_: Any) -> None:
    return None


MISTAKES: dict[str, tuple[tuple[Any, Any, Any], ...]] = {
    "what is not durable is let out": (
        (ManagerProcess, "when_durable", lambda process, lsn, action: action()),
    ),
    "a report counts for whatever attempt runs": (
        (reports, "find_attempt", find_attempt_of_any_number),
        (workers, "find_attempt", find_attempt_of_any_number),
    ),
    "the host starts more than the slots": ((Slots, "allow", allow_all),),
    "an agent forgets the ends that its host tells it": (
        (Core, "host_connected", connect_without_ends),
    ),
    "a host forgets the ends of the one before it": (
        (Bookkeeping, "__init__", recover_without_ends),
    ),
    "a batch that comes twice is done twice": ((Core, "_admit", admit_batches_again),),
    "a late batch brings back what has ended": ((Core, "reports_taken", take_without_the_batches),),
    "whatever a heartbeat does not list was held": (
        (Outbox, "was_held", lambda outbox, attempt, held: True),
    ),
    "the end of an attempt counts that another has replaced": (
        (reports._OUTCOMES, ReportKind.ENDED, count_the_end_of_a_superseded_attempt),
    ),
    "an attempt is adopted that another has replaced": (
        (reports, "may_be_adopted", adopt_what_was_replaced),
        (workers, "may_be_adopted", adopt_what_was_replaced),
    ),
    "a worker is lost after half the timeout": (
        (silence, "check_silence", check_silence_too_soon),
    ),
    "a manager that starts waits for nobody": ((Kernel, "start", start_as_if_nobody_were_heard),),
    "time in which the manager stood still is silence": (
        (clock.TurnClock, "note_turn", lambda turns, interval_us: True),
    ),
    "the manager's time is the wall clock's": ((clock.Clock, "now_us", tell_wall_time),),
    "the late call of a dead host counts": (
        (identity, "_is_earlier", lambda desk, number, command: False),
    ),
    "the answer to a recall is ignored": ((reports._OUTCOMES, ReportKind.RECALLED, nothing),),
    "a worker is not told what is to end": ((desk.Desk, "stop_attempt", nothing),),
    "reports are acknowledged before they are durable": (
        (ManagerProcess, "_answer", answer_reports_at_once),
    ),
    "request ids are not in snapshots": ((RequestTable, "load", nothing),),
    "every third sync is skipped": ((FakeFileSystem, "fdatasync", sync_now_and_then),),
    "a sync that failed is taken for one that was done": (
        (FakeFileSystem, "fdatasync", sync_come_what_may),
    ),
    "directories are not synced": ((FakeFileSystem, "fsync_directory", nothing),),
    "a request id is not looked up": ((submit, "find_earlier", nothing),),
    "the log does not sync": ((FakeFileSystem, "fdatasync", nothing),),
    "a cancel is forgotten when the worker is lost": (
        (desk.Desk, "lose_attempt", lose_forgetting_the_cancel),
    ),
    "what a new instance does not list is still waited for": ((workers, "_lose_absent", nothing),),
    "a time limit is not kept": ((Bookkeeping, "timer_over", ring_grace_only),),
    "what ran into its time limit is judged by how it exits": (
        (bookkeeping, "judge", judge_by_the_exit),
    ),
    "what waits on a draining worker is left there": ((drain, "recall_waiting", nothing),),
    "a suspended task's time limit runs on": ((Timers, "perform", perform_without_pauses),),
    "a worker is not told who stands still": ((desk.Desk, "wish", nothing),),
    "a retry costs nothing": ((retries, "_used", lambda job, index: 0),),
    "whatever a task waits for has happened once it ended": (
        (job_changes, "is_met", lambda condition, state: True),
    ),
    "anybody makes room for anybody": (
        (preemption, "_may_be_stopped", lambda attempt, job_class, jobs: True),
    ),
    "what is to run at most once runs on without a lease": (
        (Bookkeeping, "check_lease", lambda book, boottime_us, now_us: []),
    ),
    "what may have begun is given out again": (
        (desk.Desk, "_may_have_begun", lambda desk, attempt: False),
    ),
    "what runs and does not count is let run": ((desk.Desk, "stop_stray", nothing),),
}


LATE = SCENARIOS["batches come later than those that repeat them"]

# Where those are found for which all plans up to there would take seconds.
FOUND_BY = {
    "a batch that comes twice is done twice": replace(LATE, seed=2),
    "a late batch brings back what has ended": replace(LATE, seed=8),
    "directories are not synced": random_plan(11),
    "every third sync is skipped": SCENARIOS["a sync fails, and power later"],
    "a sync that failed is taken for one that was done": SCENARIOS["a sync fails, and power later"],
    "the log does not sync": SCENARIOS["a sync fails, and power later"],
    "a suspended task's time limit runs on": SCENARIOS[
        "a task is suspended for longer than its time limit"
    ],
}


def run_all(first: Plan | None) -> None:
    # What it found once may be found elsewhere by now: all others are run as well.
    if first is not None:
        run(first)
    for plan in SCENARIOS.values():
        run(plan)
    for seed in range(SEEDS_MAX):
        run(replace(LATE, seed=seed))
        run(random_plan(seed))


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_simulation_finds_the_mistake(mistake: str) -> None:
    with changed(*MISTAKES[mistake]), pytest.raises(SimulationFailed) as failed:
        run_all(FOUND_BY.get(mistake))
    # It is the mistake that was found, not that it is made in a way that does not fit any more.
    assert not isinstance(failed.value.__cause__, AttributeError | NameError | TypeError)
