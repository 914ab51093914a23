"""A submit's requests from Python values. Pure: ids, users and environments are arguments.

A bulk submit is cut into requests that the manager takes: each of them is accepted
whole or not at all. Jobs that name each other go in one request.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Final

from titan import units
from titan.client.dependencies import References, check_tasks, names_specs, positions_waited_for
from titan.client.jobspec import JobSpec, environment_of, name_jobs, named_jobs, to_message
from titan.client.order import check_order
from titan.client.scripts import script_of
from titan.client.tracing import NO_TRACE, TRACE_VARIABLES, Trace
from titan.errors import InvalidJob
from titan.rpc.v1 import manager_pb2, types_pb2

# What the manager takes in one request.
JOBS_MAX: Final = 10_000
# And so many different environments with secrets.
SECRETS_MAX: Final = 256
REQUEST_BYTES_MAX: Final = 12 * 1024 * 1024
REQUEST_ID_BYTES: Final = 16
REQUEST_ID_LENGTH_MAX: Final = 64
# A chunk is closed well below the limit; only a single job may come closer to it.
_CHUNK_BYTES: Final = 8 * 1024 * 1024
_HEX_ID = r"[0-9a-fA-F]{32}"


def parse_request_id(text: str | bytes) -> bytes:
    """16 bytes: themselves, from 32 hex digits, or the BLAKE2b hash of any other short text."""
    if isinstance(text, bytes):
        if len(text) != REQUEST_ID_BYTES:
            raise InvalidJob(f"a request id is {REQUEST_ID_BYTES} bytes, or text")
        return text
    if re.fullmatch(_HEX_ID, text):
        return bytes.fromhex(text)
    if not 0 < len(text) <= REQUEST_ID_LENGTH_MAX:
        raise InvalidJob(f"a request id has 1 to {REQUEST_ID_LENGTH_MAX} characters")
    encoded = text.encode("utf-8", "surrogateescape")
    return _digest(encoded)


def submit_requests(
    specs: Iterable[JobSpec],
    *,
    user: str,
    request_id: bytes,
    environ: Mapping[bytes, bytes],
    trace: Trace = NO_TRACE,
    at_once: bool = False,
) -> Iterator[manager_pb2.SubmitJobRequest]:
    """The jobs in as few requests as hold them, in order; the first carries `request_id`.

    Later ones carry ids derived from it, so that repeating the whole repeats each of
    them. Equal environments are sent once a request. All jobs belong to `trace`. With `at_once`,
    or when a job names another one of them, there is one request, and InvalidJob if it would be
    too large for the manager. Raises InvalidJob.
    """
    if isinstance(specs, Collection):
        # Before anything is sent. Of others it is seen when they come.
        at_once = at_once or any(names_specs(named_jobs(spec)) for spec in specs)
    if trace.parent:
        # Tasks get it from there. In what is exported it would make another environment of each
        # program's, to be kept in the log.
        environ = {name: value for name, value in environ.items() if name not in TRACE_VARIABLES}
    chunk = _Chunk(user, request_id, 0, trace)
    for each in specs:
        if names_specs(named_jobs(each)):
            at_once = True
            if chunk.number:
                raise InvalidJob(f"{_TOGETHER}; give them as a list, and nothing is sent of more")
        spec = each
        if spec.script is not None:
            # A file is read once, or the name could be that of one and the text that of another.
            spec = replace(spec, script=script_of(spec.script))
        job, environment = to_message(spec), environment_of(spec, environ)
        if at_once and len(chunk.jobs) == JOBS_MAX:
            raise InvalidJob(f"{_TOGETHER}: there are more than {JOBS_MAX:,}")
        if not at_once and chunk.jobs and not chunk.has_room(job, environment):
            yield chunk.request()
            chunk = _Chunk(user, request_id, chunk.number + 1, trace)
        chunk.add(each, job, environment)
        if at_once and chunk.size_bytes > REQUEST_BYTES_MAX:
            raise InvalidJob(_too_large(chunk.size_bytes))
    if chunk.jobs:
        yield chunk.request()


_TOGETHER: Final = (
    f"jobs that name each other are accepted together, at most {JOBS_MAX:,} in one request"
)


def _too_large(size_bytes: int) -> str:
    return (
        f"jobs that are accepted together take {units.format_size(size_bytes)} with their "
        f"environments; {units.format_size(REQUEST_BYTES_MAX)} is the most: pass large data in "
        "files, and export less"
    )


class _Chunk:
    """The jobs of one request."""

    def __init__(self, user: str, request_id: bytes, number: int, trace: Trace) -> None:
        self._trace = trace
        # In the manager's log each of the jobs names it.
        self._trace_bytes = len(trace.parent) + len(trace.state)
        self.number = number
        self.jobs: list[manager_pb2.JobSpec] = []
        self.size_bytes = 0
        self._user = user
        self._request_id = request_id if number == 0 else _derived_id(request_id, number)
        self._places: dict[bytes, int] = {}
        self._environments: list[types_pb2.Environment] = []
        # How many of them have secrets.
        self._secrets = 0
        # They are kept: an id() is one object's only as long as that is there.
        self._specs: list[JobSpec] = []

    def has_room(self, job: manager_pb2.JobSpec, environment: types_pb2.Environment) -> bool:
        size_bytes = self.size_bytes + job.ByteSize() + environment.ByteSize()
        # One that is here already takes no place.
        if (
            environment.secrets
            and self._secrets >= SECRETS_MAX
            and environment.SerializeToString(deterministic=True) not in self._places
        ):
            return False
        return len(self.jobs) < JOBS_MAX and size_bytes <= _CHUNK_BYTES

    def add(
        self, spec: JobSpec, job: manager_pb2.JobSpec, environment: types_pb2.Environment
    ) -> None:
        key = environment.SerializeToString(deterministic=True)
        if key not in self._places:
            self._places[key] = len(self._environments)
            self._environments.append(environment)
            self._secrets += bool(environment.secrets)
            self.size_bytes += len(key)
        job.environment = self._places[key]
        if not names_specs(named_jobs(spec)):
            name_jobs(job, spec, References(self._user, own=len(self.jobs)))
        self.jobs.append(job)
        self._specs.append(spec)
        self.size_bytes += job.ByteSize() + self._trace_bytes

    def request(self) -> manager_pb2.SubmitJobRequest:
        self._name_each_other()
        request = manager_pb2.SubmitJobRequest(
            request_id=self._request_id,
            user=self._user,
            environments=self._environments,
            jobs=self.jobs,
            trace_parent=self._trace.parent,
            trace_state=self._trace.state,
        )
        if request.ByteSize() > REQUEST_BYTES_MAX and len(self.jobs) > 1:
            raise InvalidJob(_too_large(request.ByteSize()))
        if request.ByteSize() > REQUEST_BYTES_MAX:
            raise InvalidJob(
                f"a job of {units.format_size(request.ByteSize())} with its environment; "
                f"{units.format_size(REQUEST_BYTES_MAX)} is the most: pass large data in a file"
            )
        return request

    def _name_each_other(self) -> None:
        """What could be said only when all of them were there."""
        naming = [n for n, spec in enumerate(self._specs) if names_specs(named_jobs(spec))]
        if not naming:
            return
        positions: dict[int, int] = {}
        for position, spec in enumerate(self._specs):
            positions[id(spec)] = -1 if id(spec) in positions else position
        for own in naming:
            references = References(self._user, positions, own)
            name_jobs(self.jobs[own], self._specs[own], references)
        check_order([job.name for job in self.jobs], [positions_waited_for(j) for j in self.jobs])
        check_tasks(self.jobs)


def _derived_id(request_id: bytes, number: int) -> bytes:
    counted = request_id + number.to_bytes(8, "big")
    return _digest(counted)


def _digest(data: bytes) -> bytes:
    from hashlib import blake2b  # noqa: PLC0415 - it loads OpenSSL, and most ids are drawn

    return blake2b(data, digest_size=REQUEST_ID_BYTES).digest()
