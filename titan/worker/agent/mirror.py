"""What the task host will hold once it has read all that was passed to it. Pure.

An attempt is in it from its start batch until the report of its end is acknowledged, so a
heartbeat can say what is held without asking the host.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from titan.model import AttemptKey, Held, HeldAttempt, HeldState, ReportKind
from titan.worker.messages import Report, StartBatch


class Mirror:
    """The attempts held, and up to which batch and which report that is true."""

    def __init__(self, live: Iterable[HeldAttempt] = (), report_seq: int = 0) -> None:
        """Of a host that holds these, and has made so many reports."""
        self._attempts = {attempt.key: attempt for attempt in live}
        self.dispatch_seq = 0
        self.report_seq = report_seq
        # Ends that the manager knows, of attempts which a batch that it had made before may still
        # bring again: up to which batch. Empty unless batches are late.
        self._over: dict[AttemptKey, int] = {}

    def __len__(self) -> int:
        return len(self._attempts)

    def find(self, key: AttemptKey) -> HeldAttempt | None:
        """The attempt, if it is held."""
        return self._attempts.get(key)

    def keys(self) -> Collection[AttemptKey]:
        """Of all attempts held."""
        return self._attempts.keys()

    def held(self) -> Held:
        """All of it."""
        return Held(tuple(self._attempts.values()), self.dispatch_seq, self.report_seq)

    def begin_session(self) -> None:
        """Batches are counted anew, and none from before comes any more."""
        self.dispatch_seq = 0
        self._over.clear()

    def begin_batch(self, dispatch_seq: int) -> None:
        """The manager's next batch has come."""
        self.dispatch_seq = dispatch_seq
        if self._over:
            self._over = {key: seq for key, seq in self._over.items() if seq >= dispatch_seq}

    def start(self, batch: StartBatch) -> StartBatch:
        """Take the batch up; what is to be passed on of it: not what is known to have ended."""
        starts = []
        for start in batch.starts:
            launch = batch.launches[start.launch]
            key = AttemptKey(launch.epoch, launch.job_id, start.task_index, start.attempt)
            if key in self._over:
                continue
            starts.append(start)
            if key not in self._attempts:
                self._attempts[key] = HeldAttempt(key, HeldState.QUEUED, 0)
        return batch if len(starts) == len(batch.starts) else batch._replace(starts=tuple(starts))

    def note(self, report: Report) -> None:
        """The host has made this report."""
        self.report_seq = report.seq
        is_start = report.kind == ReportKind.STARTED
        state = HeldState.RUNNING if is_start else HeldState.ENDED
        self._attempts[report.key] = HeldAttempt(report.key, state, report.start_us)

    def acknowledged(self, report: Report, dispatch_seq: int) -> None:
        """The manager knows it; batches up to that one may bring its attempt once more."""
        if report.kind != ReportKind.STARTED:
            self._attempts.pop(report.key, None)
            if dispatch_seq > self.dispatch_seq:
                self._over[report.key] = dispatch_seq
