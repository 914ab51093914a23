"""How busy a cluster was: waits, ends, cpus in use and tasks that waited, over a stretch of time.

Sums over a million intervals come from one pass of the database: it adds them up by the two slots
of time that they begin and end in, and what lies in between follows from these sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final

import sqlalchemy as sa

from titan.accounting import NEVER_STARTED, SHARES, Usage
from titan.history.database import round_down
from titan.history.schema import ATTEMPTS, JOBS, RUNNING, WORKER_EVENTS, WORKERS
from titan.model import WorkerState

# What was imported ran elsewhere.
_IS_OWN: Final = ATTEMPTS.c.job_id > 0
_GONE: Final = (WorkerState.DISCONNECTED.name, WorkerState.DEREGISTERED.name)


class _Slots:
    """Equal parts of a stretch of time, and sums of intervals in each."""

    def __init__(self, since: float, until: float, count: int) -> None:
        self.since, self.until, self.count = since, until, count
        self.seconds = (until - since) / count

    def place(self, column: Any, dialect: str) -> sa.ColumnElement[int]:
        """The slot of a time, that of the nearest end for what lies outside."""
        offset = round_down((self.clipped(column) - self.since) / self.seconds, dialect)
        return sa.case((offset >= self.count, self.count - 1), else_=offset)

    def clipped(self, column: Any) -> sa.ColumnElement[float]:
        """Times outside count as those of the nearest end."""
        return sa.case(
            (column < self.since, self.since), (column > self.until, self.until), else_=column
        )

    def averages(self, sums: Sequence[tuple[int, int, float, float, float]]) -> list[float]:
        """Of intervals, by first and last slot: the sums of their weights, and of these times
        begin and end, in seconds after `since`."""
        steps = [0.0] * (self.count + 1)
        parts = [0.0] * self.count
        for first, last, weight, begin, end in sums:
            if first == last:
                parts[first] += end - begin
            else:
                parts[first] += weight * (first + 1) * self.seconds - begin
                parts[last] += end - weight * last * self.seconds
                steps[first + 1] += weight
                steps[last] -= weight
        found, whole = [], 0.0
        for step, part in zip(steps, parts, strict=False):
            whole += step
            # What cancels out leaves a trace of rounding.
            found.append(max(round(whole + part / self.seconds, 9), 0.0))
        return found


def measure_usage(connection: sa.Connection, since: float, until: float, count: int) -> Usage:
    """In so many slots."""
    slots = _Slots(since, until, count)
    ended, failed = _ends(connection, slots)
    a, r = ATTEMPTS.c, RUNNING.c
    in_time = (a.end_time >= since, a.state != NEVER_STARTED, _IS_OWN)
    ran = _intervals(connection, slots, a.start_time, a.end_time, a.cpus,
                     *in_time, a.start_time < until)  # fmt: skip
    ran += _intervals(connection, slots, r.start_time, sa.literal(until), r.cpus,
                      r.start_time < until)  # fmt: skip
    # It could start since then.
    since_then = a.start_time - a.wait_seconds
    waited = _intervals(connection, slots, since_then, a.start_time, sa.literal(1.0),
                        *in_time, a.start_time >= since, since_then < until)  # fmt: skip
    before = (
        sa.select(sa.func.max(a.end_time))
        .where(
            a.job_id == r.job_id,
            a.task_index == r.task_index,
            a.attempt < r.attempt,
            a.state != NEVER_STARTED,
        )
        .correlate(RUNNING)
        .scalar_subquery()
    )
    since_then = sa.func.coalesce(before, r.submit_time)
    waited += _intervals(connection, slots, since_then, r.start_time, sa.literal(1.0),
                         r.start_time >= since, since_then < until)  # fmt: skip
    waited += _still_waiting(connection, slots)
    return Usage(
        since=since,
        until=until,
        waits=_waits(connection, since, until),
        ended=tuple(ended),
        failed=tuple(failed),
        busy_cpus=tuple(slots.averages(ran)),
        cpus=tuple(_offered(connection, slots)),
        waiting=tuple(slots.averages(waited)),
    )


def _ends(connection: sa.Connection, slots: _Slots) -> tuple[list[int], list[int]]:
    a = ATTEMPTS.c
    place = slots.place(a.end_time, connection.dialect.name).label("place")
    failed = sa.func.sum(sa.case((a.state == "FAILED", 1), else_=0))
    query = (
        sa.select(place, sa.func.count(), failed)
        .where(
            a.end_time >= slots.since,
            a.end_time < slots.until,
            a.state != NEVER_STARTED,
            _IS_OWN,
        )
        .group_by(place)
    )
    ends, fails = [0] * slots.count, [0] * slots.count
    for number, ended, failed_count in connection.execute(query):
        ends[number], fails[number] = ended, int(failed_count)
    return ends, fails


def _intervals(
    connection: sa.Connection,
    slots: _Slots,
    begin: Any,
    end: Any,
    weight: Any,
    *conditions: sa.ColumnElement[bool],
) -> list[tuple[int, int, float, float, float]]:
    """What `_Slots.averages` takes, of those that begin before they end."""
    dialect = connection.dialect.name
    first = slots.place(begin, dialect).label("first")
    last = slots.place(end, dialect).label("last")
    begun, ended = slots.clipped(begin) - slots.since, slots.clipped(end) - slots.since
    query = (
        sa.select(
            first,
            last,
            sa.func.sum(weight),
            sa.func.sum(weight * begun),
            sa.func.sum(weight * ended),
        )
        .where(*conditions, begin < end)
        .group_by(first, last)
    )
    return [tuple(row) for row in connection.execute(query)]


def _still_waiting(
    connection: sa.Connection, slots: _Slots
) -> list[tuple[int, int, float, float, float]]:
    """Jobs with tasks that have not ended and do not run: they wait from the submit until now."""
    j, r = JOBS.c, RUNNING.c
    running = sa.select(r.job_id, sa.func.count().label("count")).group_by(r.job_id).subquery()
    left = (
        j.tasks
        - j.tasks_completed
        - j.tasks_failed
        - j.tasks_cancelled
        - sa.func.coalesce(running.c.count, 0)
    )
    query = (
        sa.select(j.submit_time, left)
        .select_from(JOBS.outerjoin(running, running.c.job_id == j.job_id))
        .where(j.end_time.is_(None), j.state != "UNKNOWN", j.submit_time < slots.until, left > 0)
    )
    rows = []
    for submit_time, count in connection.execute(query):
        begin = max(submit_time - slots.since, 0.0)
        first = min(int(begin / slots.seconds), slots.count - 1)
        end = slots.until - slots.since
        rows.append((first, slots.count - 1, float(count), count * begin, count * end))
    return rows


def _waits(connection: sa.Connection, since: float, until: float) -> tuple[float | None, ...]:
    a, r = ATTEMPTS.c, RUNNING.c
    waits = sa.union_all(
        sa.select(a.wait_seconds.label("wait")).where(
            a.end_time >= since,
            a.start_time >= since,
            a.start_time < until,
            a.attempt == 1,
            _IS_OWN,
        ),
        sa.select(
            sa.case((r.start_time > r.submit_time, r.start_time - r.submit_time), else_=0.0).label(
                "wait"
            )
        ).where(r.start_time >= since, r.start_time < until, r.attempt == 1),
    ).subquery()
    count = connection.scalar(sa.select(sa.func.count()).select_from(waits)) or 0
    if not count:
        return (None,) * len(SHARES)
    # The nearest rank: that many of a hundred waited no longer.
    ranks = [max(-(-count * round(share * 100) // 100), 1) for share in SHARES]
    in_order = sa.select(waits.c.wait).order_by(waits.c.wait).limit(1)
    return tuple(connection.scalar(in_order.offset(rank - 1)) for rank in ranks)


def _offered(connection: sa.Connection, slots: _Slots) -> list[float]:
    """By what workers said when they came, until they were gone."""
    e, w = WORKER_EVENTS.c, WORKERS.c
    there = sa.select(w.number, w.cpus).where(w.state.not_in(_GONE))
    now: dict[int, float] = {row.number: row.cpus for row in connection.execute(there)}
    by_worker: dict[int, list[tuple[float, float]]] = {}
    query = sa.select(e.number, e.time, e.cpus).order_by(e.lsn, e.place)
    for number, time, cpus in connection.execute(query):
        changes = by_worker.setdefault(number, [])
        if time < slots.until:
            changes.append((time, cpus))
    sums = []
    for number in {**now, **by_worker}:
        # One that the history found there has told nothing: it is taken to have been there.
        changes = by_worker.get(number, [(slots.since, now.get(number, 0.0))])
        for (begin, cpus), (end, _) in pairwise([*changes, (slots.until, 0.0)]):
            begun, ended = max(begin - slots.since, 0.0), end - slots.since
            if cpus and ended > begun:
                first, last = (
                    min(int(each / slots.seconds), slots.count - 1) for each in (begun, ended)
                )
                sums.append((first, last, cpus, cpus * begun, cpus * ended))
    return slots.averages(sums)
