"""Requests from Python values. Pure. What submits is in `submission.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from titan import units
from titan.client.names import parse_job
from titan.client.signals import signal_number
from titan.errors import InvalidJob, reason_of
from titan.model import CPUS_MILLI_MAX, TASK_ENDS, TIME_LIMIT_MS_MAX, State
from titan.rpc.v1 import manager_pb2, types_pb2

PAGE_JOBS_MAX: Final = 1_000
# Between SIGTERM and SIGKILL.
GRACE_SECONDS: Final = 10.0
# What the wire holds.
_PRIORITY_MAX: Final = 2**31 - 1


def status_request(
    job: str | int,
    *,
    user: str,
    attempts: int,
    states: Sequence[str | State] = (),
    at: manager_pb2.Moment | None = None,
    stale: bool = False,
) -> manager_pb2.GetJobStatusRequest:
    """Asks for one job with at most so many attempts.

    `stale`: a manager that stands by may answer, a little late; so too elsewhere.
    """
    return manager_pb2.GetJobStatusRequest(
        job=job_selector(job, user),
        attempts_limit=attempts,
        attempt_states=[types_pb2.State.ValueType(parse_state(state)) for state in states],
        at=at,
        # What was is not measured.
        live=at is None,
        allow_stale=stale,
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
    mine: bool = False,
) -> manager_pb2.JobFilter:
    """Which jobs; those that have not ended, unless `all` or a state says otherwise.

    `mine`: the caller's own, who says that he is `user`.
    """
    wanted = [parse_state(state) for state in states]
    return manager_pb2.JobFilter(
        states=[types_pb2.State.ValueType(state) for state in wanted],
        user=user or "",
        name=name or "",
        all=all or any(state in TASK_ENDS for state in wanted),
        mine=mine,
    )


def filter_of(
    *, states: Sequence[str | State] = (), user: str | None = None, name: str | None = None
) -> manager_pb2.JobFilter | None:
    """As `job_filter`; None where nothing is asked for, since jobs are named then."""
    if not (states or user or name):
        return None
    return job_filter(states=states, user=user, name=name)


def cancel_request(
    jobs: Sequence[str | int],
    *,
    user: str,
    filter: manager_pb2.JobFilter | None = None,  # noqa: A002 - the wire's name
    grace: float | str,
    signal: str | int = "TERM",
) -> manager_pb2.CancelJobRequest:
    """Cancels those jobs, or with a filter all that match. Raises InvalidJob."""
    _check_one_of_both(jobs, filter)
    return manager_pb2.CancelJobRequest(
        jobs=[job_selector(job, user) for job in jobs],
        filter=filter,
        grace_ms=round(duration_seconds(grace) * 1000),
        signal=signal_number(signal, "write it as INT or USR1"),
        user=user,
    )


def hold_request(
    jobs: Sequence[str | int],
    *,
    user: str,
    filter: manager_pb2.JobFilter | None = None,  # noqa: A002 - the wire's name
    release: bool = False,
) -> manager_pb2.HoldJobRequest:
    """Holds those jobs, or with a filter all that match, or releases them. Raises InvalidJob."""
    return manager_pb2.HoldJobRequest(
        jobs=_whole_jobs(jobs, filter, user), filter=filter, user=user, release=release
    )


def suspend_request(
    jobs: Sequence[str | int],
    *,
    user: str,
    filter: manager_pb2.JobFilter | None = None,  # noqa: A002 - the wire's name
    resume: bool = False,
) -> manager_pb2.SuspendJobRequest:
    """Suspends those jobs, or with a filter all that match, or resumes them. Raises InvalidJob."""
    return manager_pb2.SuspendJobRequest(
        jobs=_whole_jobs(jobs, filter, user), filter=filter, user=user, resume=resume
    )


def update_request(
    jobs: Sequence[str | int],
    *,
    user: str,
    filter: manager_pb2.JobFilter | None = None,  # noqa: A002 - the wire's name
    priority: int | None = None,
    time_limit: float | str | None = None,
) -> manager_pb2.UpdateJobRequest:
    """Gives them another priority or time limit; "none" lifts the limit. Raises InvalidJob."""
    if priority is None and time_limit is None:
        raise InvalidJob("there is nothing to change: name a priority or a time limit")
    if priority is not None and abs(priority) > _PRIORITY_MAX:
        raise InvalidJob(f"a priority of {priority}; give -{_PRIORITY_MAX} to {_PRIORITY_MAX}")
    return manager_pb2.UpdateJobRequest(
        jobs=_whole_jobs(jobs, filter, user),
        filter=filter,
        user=user,
        priority=priority,
        time_limit_ms=None if time_limit is None else _time_limit_ms(time_limit),
    )


def requeue_request(
    jobs: Sequence[str | int], *, user: str, grace: float | str, request_id: bytes
) -> manager_pb2.RequeueJobRequest:
    """Puts jobs, or tasks of them, back to the queue. Raises InvalidJob."""
    if not jobs:
        raise InvalidJob("name the jobs to requeue")
    return manager_pb2.RequeueJobRequest(
        jobs=[job_selector(job, user) for job in jobs],
        user=user,
        grace_ms=round(duration_seconds(grace) * 1000),
        request_id=request_id,
    )


def why_request(
    job: str | int, *, user: str, at: manager_pb2.Moment | None = None
) -> manager_pb2.ExplainJobRequest:
    """Asks why a task waits, or how it came to be where it is."""
    return manager_pb2.ExplainJobRequest(job=job_selector(job, user), at=at)


def plan_request(submit: manager_pb2.SubmitJobRequest) -> manager_pb2.PlanJobsRequest:
    """Asks where the jobs of a submit would go."""
    return manager_pb2.PlanJobsRequest(user=submit.user, jobs=submit.jobs)


def policy_request(
    *,
    user: str,
    placement: str | None = None,
    order: str | None = None,
    fair_share: bool | None = None,
    preempt: str | None = None,
    reserve_after: float | str | None = None,
    user_limits: Mapping[str, float | str | None] | None = None,
) -> manager_pb2.SetPolicyRequest:
    """Sets what is not None. `user_limits` are cpus by user, 0 or None for no limit.

    The user "" is each who is not named. Which names there are the manager knows. Raises
    InvalidJob.
    """
    request = manager_pb2.SetPolicyRequest(
        placement=placement,
        order=order,
        fair_share=fair_share,
        preempt=preempt,
        reserve_after_ms=(
            None if reserve_after is None else round(duration_seconds(reserve_after) * 1000)
        ),
        user_limits=[
            manager_pb2.UserLimit(user=name, cpus_milli=_cpus_limit_milli(cpus))
            for name, cpus in sorted((user_limits or {}).items())
        ],
    )
    if not request.ByteSize():
        raise InvalidJob("there is nothing to set: name what is to change")
    request.user = user
    return request


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
    stale: bool = False,
    lsn: int = 0,
) -> manager_pb2.ListJobsRequest:
    """The page of a list that goes on behind `last_job_id`; 0: its first.

    None that is `stale` is older than the one before, which was of record `lsn`.
    """
    return manager_pb2.ListJobsRequest(
        filter=wanted,
        limit=min(limit, PAGE_JOBS_MAX),
        after_job_id=0 if wanted.all else last_job_id,
        before_job_id=last_job_id if wanted.all else 0,
        at=at,
        allow_stale=stale,
        at_least_lsn=lsn if stale and at is None else 0,
    )


def events_request(
    job: str | int, *, user: str, at: manager_pb2.Moment | None = None
) -> manager_pb2.GetEventsRequest:
    """Asks for all that happened to a job, or to some of its tasks."""
    return manager_pb2.GetEventsRequest(job=job_selector(job, user), at=at)


def tasks_request(
    job: str | int,
    *,
    user: str,
    first: int,
    count: int,
    at: manager_pb2.Moment | None = None,
    stale: bool = False,
) -> manager_pb2.ListTasksRequest:
    """Asks for the states of so many of a job's tasks behind the first so many."""
    selector = job_selector(job, user)
    return manager_pb2.ListTasksRequest(
        job=selector, first=first, count=count, at=at, allow_stale=stale
    )


def job_selector(job: str | int, user: str) -> manager_pb2.JobSelector:
    """As `parse_job`, with InvalidJob for what is no job."""
    try:
        return parse_job(job, user)
    except ValueError as error:
        raise InvalidJob(reason_of(error)) from error


def _check_one_of_both(jobs: Sequence[str | int], wanted: manager_pb2.JobFilter | None) -> None:
    if bool(jobs) == (wanted is not None):
        raise InvalidJob("name the jobs that are meant or filter them, one of both")


def _whole_jobs(
    jobs: Sequence[str | int], wanted: manager_pb2.JobFilter | None, user: str
) -> list[manager_pb2.JobSelector]:
    """Jobs that are named as a whole: what is wanted is true of all their tasks."""
    _check_one_of_both(jobs, wanted)
    selectors = [job_selector(job, user) for job in jobs]
    for job, selector in zip(jobs, selectors, strict=True):
        if selector.indexes:
            raise InvalidJob(
                f"{job!r} names tasks, and this is done to a job as a whole: "
                f"write {selector.job_id}"
            )
    return selectors


def _time_limit_ms(limit: float | str) -> int:
    """0: none."""
    if limit == "none":
        return 0
    limit_ms = round(duration_seconds(limit) * 1000)
    if not 0 < limit_ms <= TIME_LIMIT_MS_MAX:
        raise InvalidJob(f"a time limit of {limit!r}: give 1ms to 3650d, or none to lift it")
    return limit_ms


def _cpus_limit_milli(cpus: float | str | None) -> int:
    """0: not limited."""
    if isinstance(cpus, str):
        try:
            return units.parse_cpus_limit(cpus)
        except ValueError as error:
            raise InvalidJob(str(error)) from error
    milli = round((cpus or 0) * 1000)
    if not 0 <= milli <= CPUS_MILLI_MAX:
        raise InvalidJob(f"a limit of {cpus!r} cpus: give such as 8 or 0.5, or 0 for no limit")
    return milli


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
    except OverflowError:
        seconds = -1.0
    except ValueError as error:
        raise InvalidJob(str(error)) from error
    if not 0 <= seconds <= units.DURATION_SECONDS_MAX:
        raise InvalidJob(f"{duration!r} is no duration")
    return seconds
