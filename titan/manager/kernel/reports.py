"""Reports of task hosts, and what each means: the table of report × state → outcome.

    the attempt is …                      STARTED        ENDED              RECALLED
    current, SCHEDULED                    TaskStarted    AttemptEnded       Recalled
    current, RUNNING                      repeat         AttemptEnded       impossible, ignored
    LOST here, its task PENDING           Adopted (1)    its end counts (2) ignored
    ended, or unknown                     stop it (3)    repeat             repeat
    superseded by another attempt         stop it        ignored            ignored

1. Only where its worker still has the room; else it is stopped.
2. Unless it ended because we had it stopped: then the task goes on waiting.
3. Unless it is a repeat: an end that we know is not followed by a start.

Every report is acknowledged once its outcome is durable, ignored ones too: nobody
waits for anything else to become of them.
"""

from __future__ import annotations

from titan import events as ev
from titan.errors import Refused
from titan.manager.kernel.commands import Report, ReportTasks
from titan.manager.kernel.desk import Desk
from titan.manager.kernel.outbox import Outbox
from titan.model import AttemptKey, Reason, ReportKind, State
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
    desk.heard_us[outbox.worker] = desk.turned_us
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
    if job is None or job.ended is None or key.index not in job.pending:
        return False
    record = job.ended.find(key.index, key.attempt)
    return record is not None and record.state == State.LOST and record.worker == outbox.worker


def may_be_adopted(desk: Desk, outbox: Outbox, key: AttemptKey) -> bool:
    """Whether a running attempt that was given up may count again."""
    if not was_lost(desk, outbox, key):
        return False
    job = desk.state.get_job(key.job_id)
    return desk.state.get_worker(outbox.worker).has_room(job.demand)


def has_ended(desk: Desk, key: AttemptKey) -> bool:
    """Whether that very attempt is known to have ended other than with its worker."""
    job = find_job(desk, key)
    record = job.ended.find(key.index, key.attempt) if job and job.ended else None
    return record is not None and record.state != State.LOST


def adopt(desk: Desk, key: AttemptKey, start_us: int) -> None:
    """An attempt that was given up counts again."""
    desk.emit(ev.Adopted(key.job_id, key.index, key.attempt, start_us))


def _started(desk: Desk, outbox: Outbox, report: Report) -> None:
    key = report.key
    attempt = find_attempt(desk, outbox, key)
    if attempt is not None:
        if attempt.state is State.SCHEDULED:
            desk.emit(ev.TaskStarted(key.job_id, key.index, key.attempt, report.start_us))
            outbox.arrived(attempt)
        return
    if may_be_adopted(desk, outbox, key):
        adopt(desk, key, report.start_us)
    elif not has_ended(desk, key):
        desk.stop_stray(outbox, key)


def _ended(desk: Desk, outbox: Outbox, report: Report) -> None:
    key = report.key
    attempt = find_attempt(desk, outbox, key)
    if attempt is None:
        if was_lost(desk, outbox, key) and report.state is not State.CANCELLED:
            _end_lost(desk, report)
        return
    state, reason, task_state = report.state, report.reason, report.state
    if attempt.cancel_requested:
        state, reason, task_state = State.CANCELLED, Reason.CANCELLED, State.CANCELLED
    elif state is State.CANCELLED:
        # Nobody wished its task gone: it was stopped while it counted as superseded.
        task_state = State.PENDING
    desk.end_attempt(
        attempt,
        state=state,
        reason=reason,
        task_state=task_state,
        detail=report.detail,
        report=report,
    )


def _end_lost(desk: Desk, report: Report) -> None:
    """The end of an attempt that was given up counts: its task need not run again."""
    key = report.key
    desk.emit(
        ev.AttemptEnded(
            key.job_id, key.index, key.attempt, report.state, report.reason, report.exit_code,
            report.signal, report.start_us, report.end_us, report.cpu_user_us,
            report.cpu_system_us, report.max_rss_bytes, report.detail, report.state,
        )
    )  # fmt: skip


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
    class_id = desk.state.get_job(key.job_id).job_class.class_id
    desk.emit(ev.Recalled(key.job_id, key.index, key.attempt))
    outbox.forget(attempt, key, class_id)
    desk.schedule_wanted = True


_OUTCOMES = {
    ReportKind.STARTED: _started,
    ReportKind.ENDED: _ended,
    ReportKind.RECALLED: _recalled,
}
