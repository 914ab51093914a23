"""Drains: a worker gets no new tasks, what runs there runs on, what waits there comes back."""

from __future__ import annotations

from typing import Final

from titan import events as ev
from titan.checks import check_user
from titan.errors import InvalidJob
from titan.manager.kernel.commands import DrainWorkers
from titan.manager.kernel.desk import Desk
from titan.model import State
from titan.queries.worker_selection import select_worker
from titan.state.worker import Drain, Worker

WORKERS_MAX: Final = 1_000
# As of the other sentences that the log keeps.
REASON_LENGTH_MAX: Final = 300


def drain_workers(desk: Desk, command: DrainWorkers) -> list[int]:
    """Drains all that are meant, or lifts their drains, or changes nothing.

    Returns their numbers. Raises NotFound, Refused for a name of several workers, InvalidJob.
    """
    if not 0 < len(command.workers) <= WORKERS_MAX:
        raise InvalidJob(f"name the workers that are meant, 1 to {WORKERS_MAX}")
    check_user(command.user)
    if len(command.reason) > REASON_LENGTH_MAX:
        raise InvalidJob(f"the reason of a drain has at most {REASON_LENGTH_MAX} characters")
    chosen = {each.number: each for each in (select_worker(desk.state, w) for w in command.workers)}
    for worker in chosen.values():
        if command.drains:
            _drain(desk, worker, Drain(command.reason, command.user))
        elif worker.drain is not None:
            desk.emit(ev.WorkerUndrained(worker.number, command.user, False))
    # A drain makes room, too: for those behind a head that only that worker could have taken.
    desk.schedule_wanted = True
    return list(chosen)


def heed_stop(desk: Desk, worker: Worker, *, is_stopping: bool) -> None:
    """A worker says whether it takes no new tasks since it is to end: its own drain."""
    if is_stopping is worker.is_stopping:
        return
    if is_stopping:
        desk.emit(ev.WorkerDraining(worker.number, "", "", True))
        recall_waiting(desk, worker)
    else:
        desk.emit(ev.WorkerUndrained(worker.number, "", True))
    desk.schedule_wanted = True


def recall_waiting(desk: Desk, worker: Worker) -> None:
    """What has not started on the worker is to run elsewhere."""
    for attempt in list(worker.attempts.values()):
        if attempt.state is State.SCHEDULED and not attempt.is_given_up:
            desk.emit(ev.RecallRequested(attempt.job_id, attempt.index, attempt.attempt))
            desk.stop_attempt(attempt)


def _drain(desk: Desk, worker: Worker, drain: Drain) -> None:
    if worker.drain != drain:
        desk.emit(ev.WorkerDraining(worker.number, drain.reason, drain.user, False))
    recall_waiting(desk, worker)
