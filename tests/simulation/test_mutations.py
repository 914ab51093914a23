"""A simulation that finds nothing proves nothing: each of these mistakes it must find."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from tests.simulation.cluster import SimulationFailed, run
from tests.simulation.manager import ManagerProcess
from tests.simulation.plan import random_plan
from tests.simulation.test_scenarios import SCENARIOS
from tests.wal.fake_fs import FakeFileSystem
from titan.manager.kernel import desk, drain, reports, retries, submit, workers
from titan.manager.kernel.outbox import Outbox
from titan.model import Reason, State
from titan.scheduler import preemption
from titan.state import job_changes
from titan.worker.agent.core import Core, HostState
from titan.worker.host import bookkeeping
from titan.worker.host.actions import Purpose, StartTimer, Suspend
from titan.worker.host.bookkeeping import Bookkeeping
from titan.worker.host.timers import Timers
from titan.worker.host.verdict import judge

# After the named scenarios; the rarest shows in one seed of ten.
SEEDS_MAX = 60


@contextmanager
def changed(*places: tuple[Any, str, Any]) -> Iterator[None]:
    """With these attributes replaced."""
    with pytest.MonkeyPatch.context() as patch:
        for owner, name, value in places:
            patch.setattr(owner, name, value)
        yield


def find_attempt_of_any_number(desk: Any, outbox: Any, key: Any) -> Any:
    job = reports.find_job(desk, key)
    return job.active.get(key.index) if job else None


def start_all_waiting(book: Any, queue: Any, actions: list[Any]) -> None:
    queue.allowed, allowed = queue.live, queue.allowed
    start_waiting(book, queue, actions)
    queue.allowed = allowed


start_waiting = Bookkeeping._start_waiting
host_connected = Core.host_connected
recover_book = Bookkeeping.__init__
admit = Core._admit
reports_taken = Core.reports_taken
timer_over = Bookkeeping.timer_over
perform_timer = Timers.perform


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


def nothing(*_: Any) -> None:
    return None


MISTAKES: dict[str, tuple[tuple[Any, str, Any], ...]] = {
    "what is not durable is let out": (
        (ManagerProcess, "when_durable", lambda process, lsn, action: action()),
    ),
    "a report counts for whatever attempt runs": (
        (reports, "find_attempt", find_attempt_of_any_number),
        (workers, "find_attempt", find_attempt_of_any_number),
    ),
    "the host starts more than the slots": ((Bookkeeping, "_start_waiting", start_all_waiting),),
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


def run_all() -> None:
    for plan in SCENARIOS.values():
        run(plan)
    late = SCENARIOS["batches come later than those that repeat them"]
    for seed in range(SEEDS_MAX):
        run(replace(late, seed=seed))
        run(random_plan(seed))


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_simulation_finds_the_mistake(mistake: str) -> None:
    with changed(*MISTAKES[mistake]), pytest.raises(SimulationFailed):
        run_all()
