"""Requests from Python values. Pure: ids, users and environments are arguments.

A bulk submit is cut into requests that the manager takes: each of them is accepted
whole or not at all.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from titan import units
from titan.client.jobspec import JobSpec, environment_of, to_message
from titan.client.names import parse_job
from titan.errors import InvalidJob
from titan.model import TASK_ENDS, State
from titan.rpc.v1 import manager_pb2, types_pb2

# What the manager takes in one request.
JOBS_MAX: Final = 10_000
REQUEST_BYTES_MAX: Final = 16 * 1024 * 1024
PAGE_JOBS_MAX: Final = 1_000
REQUEST_ID_BYTES: Final = 16
REQUEST_ID_LENGTH_MAX: Final = 64
# Between SIGTERM and SIGKILL.
GRACE_SECONDS: Final = 10.0
# A chunk is closed well below the limit; only a single job may come closer to it.
_CHUNK_BYTES: Final = 8 * 1024 * 1024
_HEX_ID = re.compile(r"[0-9a-fA-F]{32}")


def parse_request_id(text: str | bytes) -> bytes:
    """16 bytes: themselves, from 32 hex digits, or the BLAKE2b hash of any other short text."""
    if isinstance(text, bytes):
        if len(text) != REQUEST_ID_BYTES:
            raise InvalidJob(f"a request id is {REQUEST_ID_BYTES} bytes, or text")
        return text
    if _HEX_ID.fullmatch(text):
        return bytes.fromhex(text)
    if not 0 < len(text) <= REQUEST_ID_LENGTH_MAX:
        raise InvalidJob(f"a request id has 1 to {REQUEST_ID_LENGTH_MAX} characters")
    encoded = text.encode("utf-8", "surrogateescape")
    return hashlib.blake2b(encoded, digest_size=REQUEST_ID_BYTES).digest()


def submit_requests(
    specs: Iterable[JobSpec], *, user: str, request_id: bytes, environ: Mapping[bytes, bytes]
) -> Iterator[manager_pb2.SubmitJobRequest]:
    """The jobs in as few requests as hold them, in order; the first carries `request_id`.

    Later ones carry ids derived from it, so that repeating the whole repeats each of
    them. Equal environments are sent once a request. Raises InvalidJob.
    """
    chunk = _Chunk(user, request_id, 0)
    for spec in specs:
        job, environment = to_message(spec), environment_of(spec, environ)
        if chunk.jobs and not chunk.has_room(job, environment):
            yield chunk.request()
            chunk = _Chunk(user, request_id, chunk.number + 1)
        chunk.add(job, environment)
    if chunk.jobs:
        yield chunk.request()


class _Chunk:
    def __init__(self, user: str, request_id: bytes, number: int) -> None:
        self.number = number
        self.jobs: list[manager_pb2.JobSpec] = []
        self._user = user
        self._request_id = request_id if number == 0 else _derived_id(request_id, number)
        self._places: dict[bytes, int] = {}
        self._environments: list[types_pb2.Environment] = []
        self._size_bytes = 0

    def has_room(self, job: manager_pb2.JobSpec, environment: types_pb2.Environment) -> bool:
        size_bytes = self._size_bytes + job.ByteSize() + environment.ByteSize()
        return len(self.jobs) < JOBS_MAX and size_bytes <= _CHUNK_BYTES

    def add(self, job: manager_pb2.JobSpec, environment: types_pb2.Environment) -> None:
        key = environment.SerializeToString(deterministic=True)
        if key not in self._places:
            self._places[key] = len(self._environments)
            self._environments.append(environment)
            self._size_bytes += len(key)
        job.environment = self._places[key]
        self.jobs.append(job)
        self._size_bytes += job.ByteSize()

    def request(self) -> manager_pb2.SubmitJobRequest:
        request = manager_pb2.SubmitJobRequest(
            request_id=self._request_id,
            user=self._user,
            environments=self._environments,
            jobs=self.jobs,
        )
        if request.ByteSize() > REQUEST_BYTES_MAX:
            raise InvalidJob(
                f"a job of {units.format_size(request.ByteSize())} with its environment; "
                f"{units.format_size(REQUEST_BYTES_MAX)} is the most: pass large data in a file"
            )
        return request


def _derived_id(request_id: bytes, number: int) -> bytes:
    counted = request_id + number.to_bytes(8, "big")
    return hashlib.blake2b(counted, digest_size=REQUEST_ID_BYTES).digest()


def status_request(
    job: str | int, *, user: str, attempts: int, states: Sequence[str | State] = ()
) -> manager_pb2.GetJobStatusRequest:
    """Asks for one job with at most so many attempts."""
    return manager_pb2.GetJobStatusRequest(
        job=job_selector(job, user),
        attempts_limit=attempts,
        attempt_states=[types_pb2.State.ValueType(parse_state(state)) for state in states],
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
) -> manager_pb2.CancelJobRequest:
    """Cancels those jobs, or with a filter all that match. Raises InvalidJob."""
    if bool(jobs) == (filter is not None):
        raise InvalidJob("name the jobs to cancel or filter them, one of both")
    return manager_pb2.CancelJobRequest(
        jobs=[job_selector(job, user) for job in jobs],
        filter=filter,
        grace_ms=round(duration_seconds(grace) * 1000),
    )


def page_request(
    wanted: manager_pb2.JobFilter, *, limit: int, last_job_id: int
) -> manager_pb2.ListJobsRequest:
    """The page of a list that goes on behind `last_job_id`; 0: its first."""
    return manager_pb2.ListJobsRequest(
        filter=wanted,
        limit=min(limit, PAGE_JOBS_MAX),
        after_job_id=0 if wanted.all else last_job_id,
        before_job_id=last_job_id if wanted.all else 0,
    )


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
