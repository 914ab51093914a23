"""What ran when: a bar for each attempt that overlaps a stretch of time, ended or running."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, islice
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from titan.accounting import NEVER_STARTED, RUNNING, TITAN, Wanted
from titan.history import schema
from titan.history.questions import conditions, fetched, whose

# Of both tables. The end of what runs is NULL.
_OF_ATTEMPT: Final = ("job_id", "task_index", "attempt", "name", "user_name", "worker")


class Bar(NamedTuple):
    """An attempt."""

    job_id: int
    task_index: int
    attempt: int
    name: str
    user: str
    worker: str
    state: str
    start_time: float
    end_time: float | None
    """None: it runs."""


def select_bars(connection: sa.Connection, wanted: Wanted, limit: int) -> Iterator[Bar]:
    """At most so many: what runs, then what ended last. `wanted` has a `since` and an `until`."""
    assert wanted.since is not None
    assert wanted.until is not None
    parts: list[Iterator[Bar]] = []
    if _has_running(wanted):
        parts.append(_running(connection, wanted, limit))
    states = tuple(each for each in wanted.states if each != RUNNING)
    if states or not wanted.states:
        parts.append(_ended(connection, replace(wanted, states=states), limit))
    return islice(chain.from_iterable(parts), limit)


def _has_running(wanted: Wanted) -> bool:
    return wanted.source in (None, TITAN) and (not wanted.states or RUNNING in wanted.states)


def _running(connection: sa.Connection, wanted: Wanted, limit: int) -> Iterator[Bar]:
    r = schema.RUNNING.c
    query = (
        sa.select(*_columns(r), sa.literal(RUNNING), r.start_time, sa.null())
        .where(r.start_time < wanted.until, *whose(schema.RUNNING, wanted))
        .order_by(r.job_id, r.task_index)
        .limit(limit)
    )
    return (Bar(*row) for row in fetched(connection, query))


def _ended(connection: sa.Connection, wanted: Wanted, limit: int) -> Iterator[Bar]:
    a = schema.ATTEMPTS.c
    query = (
        sa.select(*_columns(a), a.state, a.start_time, a.end_time)
        # They may end after the stretch, too.
        .where(*conditions(replace(wanted, until=None)), a.start_time < wanted.until)
        .where(a.state != NEVER_STARTED)
        .order_by(a.end_time.desc(), a.job_id.desc(), a.task_index.desc(), a.attempt.desc())
        .limit(limit)
    )
    return (Bar(*row) for row in fetched(connection, query))


def _columns(of: Any) -> list[sa.ColumnElement[Any]]:
    return [of[name] for name in _OF_ATTEMPT]
