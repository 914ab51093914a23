"""The spans of jobs and of their attempts, from the events. Pure, and knows no OpenTelemetry.

    job                          from the submit to the end of its last task
    ├─ submit                    the moment at which it was accepted
    └─ attempt                   one for each attempt of each of its tasks
       ├─ queued                 until it was assigned to a worker
       ├─ dispatched             until it started there
       ├─ running                until it ended there: the parent of what the task traces itself
       └─ reported               until the manager knew it

An attempt is told once it has ended, its job once all have, so a span is told when it is over. The
times of a worker are by its clock; where that goes wrong none of them runs backwards here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from titan import events as ev
from titan.model import Reason, State
from titan.state.attempts import Attempt
from titan.state.cluster import ClusterState
from titan.state.job import Job
from titan.trace_context import Sampler, Span, TraceContext, parse_parent, span_id_of

_FAILED: Final = (State.FAILED, State.LOST)

Attributes = dict[str, str | int]


class SpanData(NamedTuple):
    """A span that is over. Times are in microseconds since the epoch."""

    context: TraceContext
    """Its trace and its own id."""
    parent: TraceContext | None
    trace_state: str
    name: str
    start_us: int
    end_us: int
    attributes: Attributes
    error: str | None = None
    """A sentence where it failed."""


class Spans:
    """The spans of what happens to one state, which it applies the records to."""

    def __init__(self, state: ClusterState, sampler: Sampler) -> None:
        """The state changes by `apply` alone from now on."""
        self.state = state
        self._sampler = sampler

    def apply(self, lsn: int, time_us: int, events: Sequence[ev.Event]) -> list[SpanData]:
        """The spans that are over by that record. Raises IllegalEvent."""
        state = self.state
        state.begin_record(lsn, time_us)
        spans: list[SpanData] = []
        # Those that end are packed, and what they were is here still.
        touched: dict[int, Job | None] = {}
        for event in events:
            job_id: int | None = getattr(event, "job_id", None)
            if job_id is not None:
                touched.setdefault(job_id, state.live_jobs.get(job_id))
            if isinstance(event, ev.AttemptEnded | ev.Recalled):
                job = state.live_jobs[event.job_id]
                attempt = job.active.get(event.index)
                state.apply(event)
                spans += self._spans_of_attempt(job, event, attempt)
            else:
                state.apply(event)
        for job_id, job_before in touched.items():
            # No event touches a job that has ended.
            if job_id not in state.live_jobs:
                spans += self._spans_of_job(job_before or state.get_job(job_id))
        return spans

    def _spans_of_job(self, job: Job) -> list[SpanData]:
        root = self._context_of(job)
        if not root.is_sampled:
            return []
        attributes: Attributes = {
            **_named(job),
            "titan.job.tasks": job.tasks_total,
            "titan.state": job.state.name,
        }
        failed = job.counts[State.FAILED - 1]
        parent = parse_parent(job.execution.trace_parent)
        trace_state = job.execution.trace_state
        error = f"{failed} of {job.tasks_total} tasks failed" if job.state is State.FAILED else None
        end_us = max(job.submit_us, job.end_us, job.ended_us)
        submit = _own(root, job, Span.SUBMIT)
        return [
            SpanData(
                root,
                parent,
                trace_state,
                "job",
                job.submit_us,
                end_us,
                attributes,
                error,
            ),
            SpanData(
                submit, root, trace_state, "submit", job.submit_us, job.submit_us, _named(job)
            ),
        ]

    def _spans_of_attempt(
        self, job: Job, event: ev.AttemptEnded | ev.Recalled, attempt: Attempt | None
    ) -> list[SpanData]:
        state = self.state
        root = self._context_of(job)
        if not root.is_sampled:
            return []
        assert job.ended is not None
        ended = job.ended.last()
        begin_us = self._pending_since(job, event.index, event.attempt)
        # Of one that was given up and ran after all, the assignment is not known any more.
        known_us = attempt.assigned_us if attempt is not None else ended.start_us
        assigned_us = max(begin_us, known_us)
        end_us = max(assigned_us, ended.start_us, ended.end_us, state.time_us)
        end = State(ended.state)
        attributes: Attributes = {
            **_named(job),
            "titan.task.index": event.index,
            "titan.task.attempt": event.attempt,
            "titan.worker": state.get_worker(ended.worker).name,
            "titan.state": end.name,
        }
        if ended.reason:
            attributes["titan.reason"] = Reason(ended.reason).name
        if ended.exit_code >= 0:
            attributes["titan.exit_code"] = ended.exit_code
        if ended.signal > 0:
            attributes["titan.signal"] = ended.signal
        steps = [(Span.QUEUED, begin_us, assigned_us)]
        if ended.start_us:
            started_us = max(assigned_us, ended.start_us)
            exited_us = max(started_us, ended.end_us)
            steps += [
                (Span.DISPATCHED, assigned_us, started_us),
                (Span.RUNNING, started_us, exited_us),
                (Span.REPORTED, exited_us, end_us),
            ]
        else:
            steps.append((Span.DISPATCHED, assigned_us, end_us))
        error = None
        if end in _FAILED:
            error = _why(job, event, end)
        own = _own(root, job, Span.ATTEMPT, event.index, event.attempt)
        trace_state = job.execution.trace_state
        spans = [
            SpanData(own, root, trace_state, "attempt", begin_us, end_us, attributes, error),
        ]
        for span, from_us, until_us in steps:
            context = _own(root, job, span, event.index, event.attempt)
            has_failed = error if span is Span.RUNNING else None
            name = span.name.lower()
            spans.append(
                SpanData(context, own, trace_state, name, from_us, until_us, attributes, has_failed)
            )
        return spans

    def _pending_since(self, job: Job, index: int, attempt: int) -> int:
        """When the task began to wait for that attempt."""
        before = job.ended.find(index, attempt - 1) if job.ended and attempt > 1 else None
        return max(job.submit_us, before.end_us) if before is not None else job.submit_us

    def _context_of(self, job: Job) -> TraceContext:
        return self._sampler.context_of(job.execution.trace_parent, job.epoch, job.job_id)


def _own(
    root: TraceContext, job: Job, span: Span, index: int = 0, attempt: int = 0
) -> TraceContext:
    """That span, in the trace of the job's own."""
    return root._replace(span_id=span_id_of(job.epoch, job.job_id, span, index, attempt))


def _named(job: Job) -> Attributes:
    return {"titan.job.id": job.job_id, "titan.job.name": job.name, "titan.user": job.user}


def _why(job: Job, event: ev.AttemptEnded | ev.Recalled, end: State) -> str:
    detail = event.detail if isinstance(event, ev.AttemptEnded) else ""
    return detail or end.name
