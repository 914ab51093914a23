"""A submit's requests from Python values. Pure: ids, users and environments are arguments.

A bulk submit is cut into requests that the manager takes: each of them is accepted
whole or not at all.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Final

from titan import units
from titan.client.jobspec import JobSpec, environment_of, to_message
from titan.client.scripts import script_of
from titan.errors import InvalidJob
from titan.rpc.v1 import manager_pb2, types_pb2

# What the manager takes in one request.
JOBS_MAX: Final = 10_000
REQUEST_BYTES_MAX: Final = 16 * 1024 * 1024
REQUEST_ID_BYTES: Final = 16
REQUEST_ID_LENGTH_MAX: Final = 64
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
    for each in specs:
        spec = each
        if spec.script is not None:
            # A file is read once, or the name could be that of one and the text that of another.
            spec = replace(spec, script=script_of(spec.script))
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
