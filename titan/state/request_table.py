"""Which request ids were answered, with what: so that a repeated submit submits nothing twice.

Up to a million are remembered, each as bytes under bytes: they cost little memory, nothing
in a search for garbage, and come out of a snapshot as they are.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final, NamedTuple

# How long and how many request ids are remembered.
KEPT_US: Final = 24 * 3600 * 1_000_000
KEPT: Final = 1_000_000
# Those that may go do so some at a time: to find the oldest costs a walk over what went since.
SLACK_US: Final = 60 * 1_000_000
SLACK: Final = 10_000

_VALUE: Final = struct.Struct("<qqq")


class Request(NamedTuple):
    """What a request id stands for."""

    content: bytes
    """A hash: the same id with other content is an error."""
    first_job_id: int
    jobs: int
    time_us: int


class RequestTable:
    """Request ids by user, the oldest first. Changed by the state's apply alone."""

    def __init__(self) -> None:
        self._entries: dict[bytes, bytes] = {}
        self._oldest_us = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, user: str, request_id: bytes) -> Request | None:
        """What was answered, None for an id that is not known (any more)."""
        value = self._entries.get(_key(user, request_id))
        return None if value is None else _unpack(value)

    def add(self, user: str, request_id: bytes, request: Request) -> None:
        """One was answered; those that are too old or too many are forgotten."""
        if not self._entries:
            self._oldest_us = request.time_us
        content, first_job_id, jobs, time_us = request
        packed = _VALUE.pack(first_job_id, jobs, time_us) + content
        self._entries[_key(user, request_id)] = packed
        is_old = self._oldest_us < time_us - KEPT_US - SLACK_US
        if is_old or len(self._entries) > KEPT + SLACK:
            self._forget(time_us - KEPT_US)

    def entries(self) -> Iterable[tuple[bytes, bytes]]:
        """All as packed keys and values, the oldest first."""
        return self._entries.items()

    def load(self, entries: Iterator[tuple[bytes, bytes]]) -> None:
        """More, in the same form and order, into a table that is being filled."""
        self._entries.update(entries)
        self._note_oldest()

    def _forget(self, until_us: int) -> None:
        over = max(len(self._entries) - KEPT, 0)
        count = over
        for value in islice(self._entries.values(), over, None):
            if _unpack(value).time_us > until_us:
                break
            count += 1
        for key in list(islice(self._entries, count)):
            del self._entries[key]
        self._note_oldest()

    def _note_oldest(self) -> None:
        oldest = next(iter(self._entries.values()), None)
        self._oldest_us = _unpack(oldest).time_us if oldest is not None else 0


def _key(user: str, request_id: bytes) -> bytes:
    # A request id has one length, so what is before it is the user.
    return user.encode() + request_id


def _unpack(value: bytes) -> Request:
    first_job_id, jobs, time_us = _VALUE.unpack_from(value)
    return Request(value[_VALUE.size :], first_job_id, jobs, time_us)
