"""Reports of task hosts, and what each means: the table of report × state → outcome.

    the attempt is …                      STARTED        ENDED              RECALLED
    current, SCHEDULED                    TaskStarted    AttemptEnded       Recalled
    current, RUNNING                      repeat         AttemptEnded       impossible, ignored
    LOST here, its task PENDING           Adopted (1)    its end counts (2) ignored
    lost here, its task ended by that     stop it        ignored (4)        ignored
    ended, or unknown                     stop it (3)    repeat             repeat
    superseded by another attempt         stop it        ignored            ignored

1. Only where its worker still has the room; else it is stopped.
2. Unless it ended because we had it stopped, or failed with retries left: then the task goes on
   waiting for the next try.
3. Unless it is a repeat: an end that we know is not followed by a start.
4. What may have begun and runs at most once, or was lost too often, has FAILED with its worker:
   a task ends once, however late its worker tells that it completed.

Every report is acknowledged once its outcome is durable, ignored ones too: nobody
waits for anything else to become of them.
"""

from __future__ import annotations

from typing import NamedTuple

from titan import events as ev
from titan.errors import Refused
from titan.manager.kernel.commands import Report, ReportTasks
from titan.manager.kernel.desk import Desk
from titan.manager.kernel.outbox import Outbox
from titan.manager.kernel.retries import has_retry, retry_delay_us
from titan.manager.kernel.suspend import suspend_attempt
from titan.model import AttemptKey, Reason, ReportKind, State, StopMode
from titan.state.attempts import Attempt
from titan.state.job import Job


def apply_reports(desk: Desk, command: ReportTasks) -> int:
    """Applies what is new of the batch and returns the number up to which all is.

    Raises Refused when the worker has to register again.
    """
    outbox = desk.sessions.get(command.session)
    if outbox is None:
        raise Refused("the session is not known; register again")
    if command.first_seq > outbox.applied_seq + 1:
        raise Refused(
            f"reports {outbox.applied_seq + 1} to {command.first_seq - 1} are missing; "
            "register again"
        )
    # Whoever reports is alive.
    desk.hear(outbox.worker)
    for report in command.reports:
        if report.seq > outbox.applied_seq:
            _OUTCOMES[report.kind](desk, outbox, report)
    outbox.applied_seq = max(outbox.applied_seq, command.last_seq)
    return outbox.applied_seq


def find_attempt(desk: Desk, outbox: Outbox, key: AttemptKey) -> Attempt | None:
    """The attempt of that key if it is under way on the session's worker."""
    job = find_job(desk, key)
    attempt = job.active.get(key.index) if job else None
    if attempt is None or attempt.attempt != key.attempt or attempt.worker != outbox.worker:
        return None
    return attempt


def find_job(desk: Desk, key: AttemptKey) -> Job | None:
    """The job of that key, None where another job has its number now."""
    job: Job | None = desk.state.jobs.get(key.job_id)
    return job if job is not None and job.epoch == key.epoch else None


def was_lost(desk: Desk, outbox: Outbox, key: AttemptKey) -> bool:
    """Whether the attempt was given up with the session's worker while its task waits again."""
    job = find_job(desk, key)
    if job is None or job.ended is None or not job.is_pending(key.index):
        return False
    record = job.ended.find(key.index, key.attempt)
    return record is not None and record.state == State.LOST and record.worker == outbox.worker


def may_be_adopted(desk: Desk, outbox: Outbox, key: AttemptKey) -> bool:
    """Whether a running attempt that was given up may count again."""
    if not was_lost(desk, outbox, key):
        return False
    job = desk.state.get_job(key.job_id)
    return desk.state.get_worker(outbox.worker).admits(job.job_class)


def has_ended(desk: Desk, key: AttemptKey) -> bool:
    """Whether that very attempt is known to have ended other than with its worker."""
    job = find_job(desk, key)
    record = job.ended.find(key.index, key.attempt) if job and job.ended else None
    return record is not None and record.reason != Reason.WORKER_LOST


def adopt(desk: Desk, key: AttemptKey, start_us: int) -> None:
    """An attempt that was given up counts again."""
    desk.note_return(key, start_us)
    desk.emit(ev.Adopted(key.job_id, key.index, key.attempt, start_us, takes_back_loss=True))
    job = desk.state.get_job(key.job_id)
    attempt = job.active[key.index]
    desk.wish(attempt, StopMode.LIMIT)
    if job.is_suspended:
        suspend_attempt(desk, attempt)
    else:
        # It may stand still by a wish that was made before it was given up.
        desk.wish(attempt, StopMode.RESUME)


def _started(desk: Desk, outbox: Outbox, report: Report) -> None:
    key = report.key
    attempt = find_attempt(desk, outbox, key)
    if attempt is not None:
        if attempt.state is State.SCHEDULED:
            desk.note_start(attempt, report.start_us)
            desk.emit(ev.TaskStarted(key.job_id, key.index, key.attempt, report.start_us))
            outbox.arrived(attempt)
            if desk.state.get_job(key.job_id).is_suspended and not attempt.is_given_up:
                suspend_attempt(desk, attempt)
        return
    if may_be_adopted(desk, outbox, key):
        adopt(desk, key, report.start_us)
    elif not has_ended(desk, key):
        desk.stop_stray(outbox, key)


def _ended(desk: Desk, outbox: Outbox, report: Report) -> None:
    key = report.key
    attempt = find_attempt(desk, outbox, key)
    if attempt is None:
        if was_lost(desk, outbox, key) and not _goes_on(desk, report):
            _end_lost(desk, report)
        return
    end = _judge(desk, attempt, report)
    desk.end_attempt(
        attempt,
        state=end.state,
        reason=end.reason,
        task_state=end.task_state,
        detail=end.detail,
        report=report,
        not_before_us=end.not_before_us,
        charge=end.charge,
    )


def _goes_on(desk: Desk, report: Report) -> bool:
    """Whether the task of an attempt that had been given up waits on, however that ended."""
    if report.state is State.FAILED:
        return has_retry(desk.state.get_job(report.key.job_id), report)
    return report.state is State.CANCELLED


class _End(NamedTuple):
    """What an end means for an attempt and its task."""

    state: State
    reason: Reason
    task_state: State
    detail: str
    not_before_us: int = 0
    charge: int = ev.CHARGE_NOTHING


def _judge(desk: Desk, attempt: Attempt, report: Report) -> _End:
    """What a worker's report of an end means: for its user's wishes, and for the retries left."""
    state, reason, detail = report.state, report.reason, report.detail
    if attempt.cancel_requested:
        job = desk.state.get_job(attempt.job_id)
        if job.cut_short == (Reason.DEADLINE, 0) and not job.cancel_requested:
            return _End(State.CANCELLED, Reason.DEADLINE, State.CANCELLED, detail)
        return _End(State.CANCELLED, Reason.CANCELLED, State.CANCELLED, detail)
    if state is State.CANCELLED:
        if attempt.job_class.at_most_once and report.start_us:
            # Whoever stopped it: it has begun.
            return _End(state, reason, state, detail)
        # Nobody wished its task gone: it was stopped for others, or while it was superseded.
        reason = Reason.PREEMPTED if attempt.preempted else reason
        return _End(state, reason, State.PENDING, detail)
    if state is State.FAILED:
        delay_us = retry_delay_us(desk, attempt, report)
        if delay_us:
            due_us = max(desk.now_us, desk.state.time_us) + delay_us
            return _End(state, reason, State.PENDING, detail, due_us, ev.CHARGE_RETRY)
    return _End(state, reason, state, detail)


def _end_lost(desk: Desk, report: Report) -> None:
    """The end of an attempt that was given up counts: its task need not run again."""
    key = report.key
    desk.note_return(key, report.start_us)
    desk.emit(
        ev.AttemptEnded(
            key.job_id, key.index, key.attempt, report.state, report.reason, report.exit_code,
            report.signal, report.start_us, report.end_us, report.cpu_user_us,
            report.cpu_system_us, report.max_rss_bytes, report.detail, report.state,
        )
    )  # fmt: skip
    # Others may have waited for it.
    desk.schedule_wanted = True


def _recalled(desk: Desk, outbox: Outbox, report: Report) -> None:
    key = report.key
    attempt = find_attempt(desk, outbox, key)
    if attempt is None or attempt.state is not State.SCHEDULED:
        return
    if attempt.cancel_requested:
        desk.end_attempt(
            attempt, state=State.CANCELLED, reason=Reason.CANCELLED, task_state=State.CANCELLED
        )
        return
    desk.emit(ev.Recalled(key.job_id, key.index, key.attempt))
    outbox.forget(attempt, key, attempt.job_class.class_id)
    desk.schedule_wanted = True


_OUTCOMES = {
    ReportKind.STARTED: _started,
    ReportKind.ENDED: _ended,
    ReportKind.RECALLED: _recalled,
}
