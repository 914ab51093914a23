"""Questions to the history from Python values. Pure but for the clock."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime
from typing import TypedDict, Unpack

from titan import units
from titan.accounting import Wanted
from titan.errors import InvalidJob
from titan.rpc.history import filter_message
from titan.rpc.v1 import history_pb2

# Unix seconds, a datetime, or text as for --since: 14:02, 2026-11-20, 7d for a week ago.
Time = float | str | datetime


class Filter(TypedDict, total=False):
    """Which attempts; those that are left out choose all."""

    user: str | None
    name: str | None
    worker: str | None
    state: Sequence[str]
    """COMPLETED, FAILED, CANCELLED, LOST, RECALLED, UNKNOWN; without: all but RECALLED."""
    job: int | None
    source: str | None
    """titan, mini-slurm or swf."""


def history_request(
    since: Time | None,
    until: Time | None,
    *,
    attempts: history_pb2.AttemptsQuestion | None = None,
    totals: history_pb2.TotalsQuestion | None = None,
    most_failing: history_pb2.FailingQuestion | None = None,
    usage: history_pb2.UsageQuestion | None = None,
    timeline: history_pb2.TimelineQuestion | None = None,
    **which: Unpack[Filter],
) -> history_pb2.GetHistoryRequest:
    """One of the questions about what ended then. Raises InvalidJob."""
    wanted = Wanted(
        since=_seconds(since),
        until=_seconds(until),
        user=which.get("user"),
        name=which.get("name"),
        worker=which.get("worker"),
        states=tuple(each.upper() for each in which.get("state", ())),
        job_id=which.get("job"),
        source=which.get("source"),
    )
    return history_pb2.GetHistoryRequest(
        filter=filter_message(wanted),
        attempts=attempts,
        totals=totals,
        most_failing=most_failing,
        usage=usage,
        timeline=timeline,
    )


def attempts_question(limit: int, *, slowest: bool) -> history_pb2.AttemptsQuestion:
    """Raises InvalidJob; so do the next ones."""
    return history_pb2.AttemptsQuestion(limit=_number(limit), slowest=slowest)


def failing_question(limit: int) -> history_pb2.FailingQuestion:
    """Names under which most FAILED."""
    return history_pb2.FailingQuestion(limit=_number(limit))


def usage_question(slots: int) -> history_pb2.UsageQuestion:
    """How busy it was, in so many parts."""
    return history_pb2.UsageQuestion(slots=_number(slots, 31))


def timeline_question(limit: int) -> history_pb2.TimelineQuestion:
    """What ran."""
    return history_pb2.TimelineQuestion(limit=_number(limit))


def _number(number: int, bits: int = 63) -> int:
    """What the wire holds; whether it makes sense the manager says."""
    if not -(1 << bits) <= number < 1 << bits:
        raise InvalidJob(f"{number} is too large a number")
    return number


def _seconds(at: Time | None) -> float | None:
    if isinstance(at, str):
        try:
            return units.parse_since(at, time.time())
        except ValueError as error:
            raise InvalidJob(str(error)) from error
    return at.timestamp() if isinstance(at, datetime) else at
