"""Requests from Python values. Pure. What submits is in `submission.py`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from titan import units
from titan.client.names import parse_job
from titan.client.signals import signal_number
from titan.errors import InvalidJob
from titan.model import TASK_ENDS, State
from titan.rpc.v1 import manager_pb2, types_pb2

PAGE_JOBS_MAX: Final = 1_000
# Between SIGTERM and SIGKILL.
GRACE_SECONDS: Final = 10.0


def status_request(
    job: str | int,
    *,
    user: str,
    attempts: int,
    states: Sequence[str | State] = (),
    at: manager_pb2.Moment | None = None,
) -> manager_pb2.GetJobStatusRequest:
    """Asks for one job with at most so many attempts."""
    return manager_pb2.GetJobStatusRequest(
        job=job_selector(job, user),
        attempts_limit=attempts,
        attempt_states=[types_pb2.State.ValueType(parse_state(state)) for state in states],
        at=at,
        # What was is not measured.
        live=at is None,
    )


def whole_job_request(job_id: int) -> manager_pb2.GetJobStatusRequest:
    """Asks for a job without attempts."""
    return manager_pb2.GetJobStatusRequest(job=manager_pb2.JobSelector(job_id=job_id))


def job_filter(
    *,
    all: bool = False,  # noqa: A002 - the CLI's name
    states: Sequence[str | State] = (),
    user: str | None = None,
    name: str | None = None,
) -> manager_pb2.JobFilter:
    """Which jobs; those that have not ended, unless `all` or a state says otherwise."""
    wanted = [parse_state(state) for state in states]
    return manager_pb2.JobFilter(
        states=[types_pb2.State.ValueType(state) for state in wanted],
        user=user or "",
        name=name or "",
        all=all or any(state in TASK_ENDS for state in wanted),
    )


def cancel_request(
    jobs: Sequence[str | int],
    *,
    user: str,
    filter: manager_pb2.JobFilter | None = None,  # noqa: A002 - the wire's name
    grace: float | str,
    signal: str | int = "TERM",
) -> manager_pb2.CancelJobRequest:
    """Cancels those jobs, or with a filter all that match. Raises InvalidJob."""
    if bool(jobs) == (filter is not None):
        raise InvalidJob("name the jobs to cancel or filter them, one of both")
    return manager_pb2.CancelJobRequest(
        jobs=[job_selector(job, user) for job in jobs],
        filter=filter,
        grace_ms=round(duration_seconds(grace) * 1000),
        signal=signal_number(signal, "write it as INT or USR1"),
    )


def drain_request(
    workers: Sequence[str], *, user: str, reason: str = "", undrain: bool = False
) -> manager_pb2.DrainWorkerRequest:
    """Drains those workers, or lifts their drains. Raises InvalidJob."""
    if not workers or not all(workers):
        raise InvalidJob("name the workers that are meant")
    return manager_pb2.DrainWorkerRequest(
        workers=workers, undrain=undrain, reason=reason, user=user
    )


def page_request(
    wanted: manager_pb2.JobFilter,
    *,
    limit: int,
    last_job_id: int,
    at: manager_pb2.Moment | None = None,
) -> manager_pb2.ListJobsRequest:
    """The page of a list that goes on behind `last_job_id`; 0: its first."""
    return manager_pb2.ListJobsRequest(
        filter=wanted,
        limit=min(limit, PAGE_JOBS_MAX),
        after_job_id=0 if wanted.all else last_job_id,
        before_job_id=last_job_id if wanted.all else 0,
        at=at,
    )


def events_request(
    job: str | int, *, user: str, at: manager_pb2.Moment | None = None
) -> manager_pb2.GetEventsRequest:
    """Asks for all that happened to a job, or to some of its tasks."""
    return manager_pb2.GetEventsRequest(job=job_selector(job, user), at=at)


def job_selector(job: str | int, user: str) -> manager_pb2.JobSelector:
    """As `parse_job`, with InvalidJob for what is no job."""
    try:
        return parse_job(job, user)
    except ValueError as error:
        raise InvalidJob(str(error)) from error


def parse_state(state: str | State) -> State:
    """The state of that name, in any case. Raises InvalidJob."""
    try:
        return State[state.upper()] if isinstance(state, str) else State(state)
    except (KeyError, ValueError):
        names = ", ".join(known.name for known in State)
        raise InvalidJob(f"{state!r} is no state; one of {names}") from None


def duration_seconds(duration: float | str) -> float:
    """Seconds, or text with a unit. Raises InvalidJob."""
    try:
        seconds = units.parse_duration(duration) if isinstance(duration, str) else float(duration)
    except ValueError as error:
        raise InvalidJob(str(error)) from error
    if not 0 <= seconds <= units.DURATION_SECONDS_MAX:
        raise InvalidJob(f"{duration!r} is no duration")
    return seconds
