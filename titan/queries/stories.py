"""Where in the log the story of a job lies, and how far it was told.

The manager knows it of a job that it remembers, lookback of one of the past; between them a
story goes to and fro as it stands after each page.
"""

from __future__ import annotations

from typing import NamedTuple

import msgpack

from titan.errors import InvalidJob
from titan.model import IndexRange
from titan.queries.requests import selector_of
from titan.queries.selection import JobForgotten, select_job
from titan.rpc.v1 import manager_pb2
from titan.state.cluster import ClusterState


class Story(NamedTuple):
    """A job's story, or the part of it that is still to be told."""

    job_id: int
    indexes: tuple[IndexRange, ...] = ()
    """Empty: all tasks."""
    after_lsn: int = 0
    told: int = 0
    """So many events of the record behind that one were told."""
    last_lsn: int = 0
    """0: to the end of the log, or of the story."""
    limit: int = 0
    """At most so many events; 0: all."""
    since_lsn: int = 0
    """Behind which record it was to begin."""
    has_begun: bool = False
    """Whether something of it was told."""
    are_indexes_unchecked: bool = False
    """Whether the job has such tasks only the log can tell."""

    def pack(self) -> bytes:
        """As bytes."""
        packed: bytes = msgpack.packb(self)
        return packed


def unpack_story(packed: bytes) -> Story:
    """The story again."""
    job_id, indexes, *rest = msgpack.unpackb(packed)
    return Story(job_id, tuple(IndexRange(*each) for each in indexes), *rest)


def find_story(state: ClusterState, request: manager_pb2.GetEventsRequest) -> Story:
    """The story up to that state of the job that is meant there. Raises NotFound, InvalidJob."""
    if min(request.after_lsn, request.limit) < 0:
        raise InvalidJob("an LSN and a limit must not be negative")
    selector = selector_of(request.job)
    after_lsn, last_lsn = request.after_lsn, state.lsn
    is_forgotten = False
    try:
        job = select_job(state, selector)
    except JobForgotten as forgotten:
        job_id, is_forgotten = forgotten.job_id, True
    else:
        job_id = job.job_id
        after_lsn = max(after_lsn, job.submit_lsn - 1)
        if job.has_ended:
            last_lsn = min(last_lsn, job.changed_lsn)
    return Story(
        job_id=job_id,
        indexes=selector.indexes,
        after_lsn=after_lsn,
        last_lsn=last_lsn,
        limit=request.limit,
        since_lsn=after_lsn,
        are_indexes_unchecked=is_forgotten and bool(selector.indexes),
    )
