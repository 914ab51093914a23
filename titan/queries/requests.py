"""What a message asks for, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from titan.errors import InvalidJob
from titan.model import IndexRange, State
from titan.queries.selection import JobFilter, JobSelector
from titan.rpc.v1 import manager_pb2, types_pb2

CHOICES_MAX: Final = 100


def selector_of(message: manager_pb2.JobSelector) -> JobSelector:
    """Which job is meant. Raises InvalidJob."""
    if message.WhichOneof("which") is None:
        raise InvalidJob("no job is named")
    return JobSelector(
        job_id=message.job_id,
        last_of_user=message.last_of_user,
        name=message.name,
        indexes=ranges_of(message.indexes),
    )


def check_moment(at: manager_pb2.Moment) -> None:
    """Raises InvalidJob for what names no moment."""
    which = at.WhichOneof("which")
    if which is None:
        raise InvalidJob("`at` names neither an LSN nor a time")
    if which == "lsn" and at.lsn < 1:
        raise InvalidJob(f"there is no LSN {at.lsn}: the first is 1")


def check_choices(values: Collection[int]) -> None:
    """Of states, streams and other words of a few. Raises InvalidJob for a flood of them."""
    if len(values) > CHOICES_MAX:
        raise InvalidJob(f"over {CHOICES_MAX} choices are named where there are but a few")


def filter_of(message: manager_pb2.JobFilter) -> JobFilter:
    """Which jobs are meant. Raises InvalidJob."""
    check_choices(message.states)
    if any(not State.PENDING <= each <= State.CANCELLED for each in message.states):
        raise InvalidJob("jobs are never in that state")
    return JobFilter(
        states=tuple(State(each) for each in message.states),
        user=message.user,
        name=message.name,
        all=message.all,
    )


def ranges_of(messages: Iterable[types_pb2.IndexRange]) -> tuple[IndexRange, ...]:
    """Ranges as they came."""
    return tuple(IndexRange(each.start, each.stop, each.step) for each in messages)
