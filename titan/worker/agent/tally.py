"""Counts what an agent hears, for metrics. Pure: how long things took it is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from titan.metrics.histogram import LONG_SECONDS, SHORT_SECONDS, Histogram
from titan.model import AttemptKey, HeldAttempt, HeldState, Reason, ReportKind, State
from titan.worker.messages import Report


class Tally:
    """Each field rises and never falls, from the start of the agent on."""

    def __init__(self) -> None:
        # Up to which report of the host it has counted; -1: there was no host yet.
        self._report_seq = -1
        self.starts = 0
        self._ends: dict[tuple[int, int], int] = {}
        self.run_seconds = Histogram(LONG_SECONDS)
        self.heartbeat_seconds = Histogram(SHORT_SECONDS)
        """From sending one that the manager need not wait with to its answer."""
        self._failures: dict[str, int] = {}

    @property
    def ends(self) -> Iterator[tuple[State, Reason, int]]:
        """How many attempts ended so; where there was none, nothing."""
        for (state, reason), count in self._ends.items():
            yield State(state), Reason(reason), count

    @property
    def failures(self) -> dict[str, int]:
        """How many calls to the manager failed, by what that means."""
        return dict(self._failures)

    def note_host(
        self,
        reports: Sequence[Report],
        report_seq: int,
        find_held: Callable[[AttemptKey], HeldAttempt | None],
    ) -> None:
        """A host was taken up that has made so many reports, of which it tells these again.

        Those of the first one are from before the agent.
        """
        if self._report_seq >= 0:
            self.note_reports(reports, find_held)
        self._report_seq = report_seq

    def note_reports(
        self, reports: Sequence[Report], find_held: Callable[[AttemptKey], HeldAttempt | None]
    ) -> None:
        """The task host made these; `find_held` tells what was known before. No report counts
        twice."""
        reports = [report for report in reports if report.seq > self._report_seq]
        if not reports:
            return
        self._report_seq = reports[-1].seq
        started = set()
        for report in reports:
            match report.kind:
                case ReportKind.STARTED:
                    self.starts += 1
                    started.add(report.key)
                case ReportKind.ENDED:
                    self._note_end(report.state or State.FAILED, report.reason)
                    if report.start_us:
                        held = find_held(report.key)
                        was_told = held is not None and held.state is HeldState.RUNNING
                        # Of a short task the end alone may be told.
                        self.starts += not was_told and report.key not in started
                        ran_us = max(report.end_us - report.start_us, 0)
                        self.run_seconds.observe(ran_us / 1e6)
                case ReportKind.RECALLED:
                    self._note_end(State.RECALLED, Reason.NONE)

    def note_failure(self, failure: str) -> None:
        """A call to the manager failed."""
        self._failures[failure] = self._failures.get(failure, 0) + 1

    def _note_end(self, state: State, reason: Reason) -> None:
        key = (int(state), int(reason))
        self._ends[key] = self._ends.get(key, 0) + 1
