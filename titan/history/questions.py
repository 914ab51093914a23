"""What is asked of the tables: attempts, sums over them, and what stands out among them.

Answers are rows with the names that `titan … --json` has for the same things. Functions that take a
connection give them one after another, for a caller who passes them on in parts.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from heapq import merge
from itertools import islice
from typing import Any, Final

import sqlalchemy as sa

from titan.accounting import (
    NEVER_STARTED,
    QUARTER_SECONDS,
    TITAN,
    HistoryRows,
    Row,
    Usage,
    Wanted,
    attempt_view,
    total_views,
)
from titan.history.database import (
    HistoryRefused,
    Unavailable,
    check_form,
    reason_of,
    round_down,
)
from titan.history.rows import text
from titan.history.schema import ATTEMPTS, CANCELLED, IMPORTS, JOBS, LOG_POSITION
from titan.history.usage import measure_usage
from titan.model import State

# Rows that are fetched at once: neither one by one, nor all before the first is passed on.
_FETCHED_ROWS: Final = 1_000
# Of 64 bits.
_NUMBER_MAX: Final = (1 << 63) - 1


class Questions:
    """Asks one database, one question at a time. Raises HistoryRefused where it can't answer."""

    def __init__(self, engine: sa.Engine) -> None:
        """Of `database.open_for_reading`."""
        self._engine = engine
        self._asked: Any = None

    def list_attempts(self, wanted: Wanted, limit: int, *, slowest: bool = False) -> HistoryRows:
        """At most so many, the last ended first; or those that ran longest.

        Among the former is a row for tasks that were cancelled together while they waited: without
        an attempt and, of an array, without an index.
        """
        with self.asked() as connection:
            lsn, time = find_place(connection)
            rows = [
                attempt_view(row)
                for row in select_attempts(connection, wanted, limit + 1, slowest=slowest)
            ]
        return HistoryRows(rows[:limit], len(rows) > limit, lsn, time)

    def most_failing(self, wanted: Wanted, limit: int) -> HistoryRows:
        """The names under which most attempts FAILED, by user."""
        with self.asked() as connection:
            lsn, time = find_place(connection)
            rows = list(select_failing(connection, wanted, limit + 1))
        return HistoryRows(rows[:limit], len(rows) > limit, lsn, time)

    def totals(self, wanted: Wanted, by: str) -> HistoryRows:
        """Sums by user, local day (of the end) or worker; most cpu time first, days in order."""
        with self.asked() as connection:
            lsn, time = find_place(connection)
            rows = total_views(select_sums(connection, wanted, by), by)
        return HistoryRows(rows, False, lsn, time)

    def usage(self, since: float, until: float, count: int) -> Usage:
        """How busy the cluster was, in so many slots of time."""
        with self.asked() as connection:
            return measure_usage(connection, since, until, count)

    @contextmanager
    def asked(self) -> Iterator[sa.Connection]:
        """A connection to tables of this version, whose errors become sentences."""
        try:
            with self._engine.connect() as connection:
                self._asked = connection.connection.driver_connection
                try:
                    check_form(connection)
                    yield connection
                finally:
                    self._asked = None
        except Unavailable as error:
            raise HistoryRefused(f"the history does not answer: {reason_of(error)}") from error
        except sa.exc.SQLAlchemyError as error:
            raise HistoryRefused(f"the history cannot be read: {reason_of(error)}") from error

    def interrupt(self) -> None:
        """Has the statement that runs now, if one does, fail soon. For any thread."""
        asked = self._asked
        if asked is None:
            return
        if self._engine.dialect.name == "sqlite":
            # It may be closed by now.
            with suppress(sqlite3.Error):
                asked.interrupt()
        else:
            asked.cancel()


def find_place(connection: sa.Connection) -> tuple[int, float]:
    """The last record of the log that the tables have, and its time; what is read after it may be
    a little further."""
    row = connection.execute(sa.select(LOG_POSITION.c.lsn, LOG_POSITION.c.time)).first()
    return (row.lsn, row.time) if row is not None else (0, 0.0)


def select_attempts(
    connection: sa.Connection, wanted: Wanted, limit: int, *, slowest: bool = False
) -> Iterator[Row]:
    """Columns of at most so many attempts, the last ended first, or those that ran longest.

    Among the former are tasks that were cancelled while they waited, as `list_attempts` has them.
    """
    a = ATTEMPTS.c
    order = [a.run_seconds.desc()] if slowest else [_end(ATTEMPTS, wanted).desc()]
    query = (
        _of_jobs(ATTEMPTS)
        .where(*conditions(wanted))
        .order_by(*order, a.job_id.desc(), a.task_index.desc(), a.attempt.desc())
        .limit(min(limit, _NUMBER_MAX))
    )
    if slowest:
        query = query.where(a.start_time.is_not(None))
    found: Iterator[Row] = ({**row._asdict(), "tasks": 1} for row in fetched(connection, query))
    if slowest or not _may_have_waited(wanted):
        return found
    waited = _select_cancelled(connection, wanted, limit)
    by_end = merge(found, waited, key=lambda row: (row["end_time"], row["job_id"]), reverse=True)
    return islice(by_end, min(limit, _NUMBER_MAX))


def _select_cancelled(connection: sa.Connection, wanted: Wanted, limit: int) -> Iterator[Row]:
    c = CANCELLED.c
    query = (
        _of_jobs(CANCELLED)
        .where(*_chosen(CANCELLED, wanted))
        .order_by(_end(CANCELLED, wanted).desc(), c.job_id.desc(), c.lsn.desc(), c.place.desc())
        .limit(min(limit, _NUMBER_MAX))
    )
    return (_cancelled(row) for row in fetched(connection, query))


def select_failing(connection: sa.Connection, wanted: Wanted, limit: int) -> Iterator[Row]:
    """The names under which most attempts FAILED, by user."""
    a = ATTEMPTS.c
    failed = _count(a.state == "FAILED")
    query = (
        sa.select(
            _unsorted(a.name).label("name"),
            _unsorted(a.user_name).label("user"),
            failed.label("failed"),
            sa.func.count().label("attempts"),
            sa.func.max(a.end_time).label("last_end_time"),
        )
        .where(*conditions(wanted))
        .group_by(_unsorted(a.name), _unsorted(a.user_name))
        .having(failed > 0)
        .order_by(failed.desc(), sa.literal_column("1"), sa.literal_column("2"))
        .limit(min(limit, _NUMBER_MAX))
    )
    return (row._asdict() for row in fetched(connection, query))


def select_sums(connection: sa.Connection, wanted: Wanted, by: str) -> Iterator[Row]:
    """What `accounting.total_views` takes."""
    a = ATTEMPTS.c
    key: sa.ColumnElement[Any]
    if by == "day":
        key = round_down(a.end_time / QUARTER_SECONDS, connection.dialect.name)
    else:
        key = _unsorted({"user": a.user_name, "worker": a.worker}[by])
    query = sa.select(key.label("key"), *_SUMS).where(*conditions(wanted)).group_by(key)
    return (row._asdict() for row in fetched(connection, query))


def fetched(
    connection: sa.Connection, query: sa.Select[*tuple[Any, ...]]
) -> Iterator[sa.Row[*tuple[Any, ...]]]:
    """The query's rows, which need not all be in memory at once, nor be read to their end."""
    with connection.execution_options(yield_per=_FETCHED_ROWS).execute(query) as found:
        yield from found


def conditions(wanted: Wanted) -> list[sa.ColumnElement[bool]]:
    """On attempts."""
    states, state = wanted.states, ATTEMPTS.c.state
    return [
        *_chosen(ATTEMPTS, wanted),
        state.in_(states) if states else state != NEVER_STARTED,
    ]


def whose(table: sa.Table, wanted: Wanted) -> list[sa.ColumnElement[bool]]:
    """On attempts, on those that run, or, without a worker, on what was cancelled."""
    found: list[sa.ColumnElement[bool]] = [
        table.c[column] == text(value)
        for column, value in (
            ("user_name", wanted.user),
            ("name", wanted.name),
            ("worker", wanted.worker),
        )
        if value is not None
    ]
    if wanted.job_id is not None:
        # Whoever asks may write any number.
        is_one = -_NUMBER_MAX <= wanted.job_id <= _NUMBER_MAX
        found.append(table.c.job_id == wanted.job_id if is_one else sa.false())
    return found


def _may_have_waited(wanted: Wanted) -> bool:
    """Whether tasks that were cancelled while they waited are among what is wanted."""
    return wanted.worker is None and (not wanted.states or State.CANCELLED.name in wanted.states)


def _chosen(table: sa.Table, wanted: Wanted) -> list[sa.ColumnElement[bool]]:
    """By what attempts and tasks that never became one have in common."""
    t = table.c
    found: list[sa.ColumnElement[bool]] = []
    if wanted.since is not None:
        found.append(t.end_time >= wanted.since)
    if wanted.until is not None:
        found.append(t.end_time < wanted.until)
    found += whose(table, wanted)
    if wanted.source == TITAN:
        found.append(t.job_id > 0)
    elif wanted.source is not None:
        imported = sa.exists().where(IMPORTS.c.source == wanted.source, _is_of_import(table))
        # Those that list attempts have the same table beside them.
        found += [t.job_id < 0, imported.correlate(table)]
    return found


def _of_jobs(table: sa.Table) -> sa.Select[*tuple[Any, ...]]:
    """Its rows, with what is to be told of their jobs."""
    t = table.c
    return (
        sa.select(
            *(column.label(name) for name, column in _told(table).items()),
            JOBS.c.array.is_not(None).label("is_array"),
            sa.func.coalesce(IMPORTS.c.source, TITAN).label("source"),
            (IMPORTS.c.first_job_id - t.job_id).label("source_job"),
        )
        .join(JOBS, JOBS.c.job_id == t.job_id)
        .outerjoin(IMPORTS, sa.and_(t.job_id < 0, _is_of_import(table)))
    )


def _cancelled(row: sa.Row[*tuple[Any, ...]]) -> Row:
    """With the columns that an attempt has, None where there is nothing to tell."""
    found: Row = {**_NO_ATTEMPT, **row._asdict()}
    found["index"] = None if found["is_array"] else 0
    found["state"] = State.CANCELLED.name
    found["wait_seconds"] = max(found["end_time"] - found["submit_time"], 0.0)
    return found


def _is_of_import(table: sa.Table) -> sa.ColumnElement[bool]:
    return table.c.job_id.between(IMPORTS.c.last_job_id, IMPORTS.c.first_job_id)


def _end(table: sa.Table, wanted: Wanted) -> sa.ColumnElement[float]:
    """What its rows come in the order of. Of one job's SQLite would go through all ends for it."""
    end: sa.ColumnElement[float] = table.c.end_time
    return end if wanted.job_id is None else end + sa.literal_column("0")


def _count(condition: sa.ColumnElement[bool]) -> sa.ColumnElement[int]:
    return sa.func.coalesce(sa.func.sum(sa.case((condition, 1), else_=0)), 0)


def _sum(value: Any) -> sa.ColumnElement[float]:
    return sa.func.coalesce(sa.func.sum(value), 0)


def _sums() -> Sequence[sa.ColumnElement[Any]]:
    a = ATTEMPTS.c
    used = a.cpu_user_seconds + a.cpu_system_seconds
    # What was imported may not say what it used.
    is_used_known = sa.or_(a.job_id > 0, used > 0)
    is_peak_known = sa.and_(a.memory_bytes > 0, sa.or_(a.job_id > 0, a.max_rss_bytes > 0))
    asked_memory = sa.case((is_peak_known, a.run_seconds * a.memory_bytes), else_=0.0)
    used_memory = sa.case((is_peak_known, a.run_seconds * a.max_rss_bytes), else_=0.0)
    return (
        sa.func.count().label("attempts"),
        _count(a.state == "COMPLETED").label("completed"),
        _count(a.state == "FAILED").label("failed"),
        _sum(a.run_seconds).label("run_seconds"),
        _sum(a.run_seconds * a.cpus).label("cpu_seconds"),
        _sum(used).label("used_cpu_seconds"),
        _sum(sa.case((is_used_known, a.run_seconds * a.cpus), else_=0.0)).label(
            "known_cpu_seconds"
        ),
        _sum(asked_memory).label("byte_seconds"),
        _sum(used_memory).label("used_byte_seconds"),
    )


_SUMS: Final = _sums()


def _unsorted(column: sa.ColumnElement[str]) -> sa.ColumnElement[str]:
    """The same, but for SQLite, which would go through the whole index of a column that it groups
    by, in place of the last day's rows."""
    return column.concat(sa.literal_column("''"))


# See schema.py.
_AS_TITAN: Final = {"user_name": "user", "task_index": "index"}
_NOT_TOLD: Final = ("lsn", "place")


def _told(table: sa.Table) -> dict[str, sa.Column[Any]]:
    """What is told of its rows, as the rest of Titan names it."""
    columns = (each for each in table.columns if each.name not in _NOT_TOLD)
    return {_AS_TITAN.get(each.name, each.name): each for each in columns}


_NO_ATTEMPT: Final[Row] = dict.fromkeys(_told(ATTEMPTS))
