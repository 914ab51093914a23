"""Rows into a database, and how far the log was read, in one transaction: each event counts once.

One process writes: `projector.py` holds a lock for it, and each transaction looks whether somebody
else has written all the same. Imports write rows of their own beside it; see `database.writing`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

import wal
from titan.history.database import migrate, writing
from titan.history.projection import Batch
from titan.history.rows import Row
from titan.history.schema import (
    ATTEMPTS,
    CANCELLED,
    JOBS,
    LOG_POSITION,
    RUNNING,
    WORKER_EVENTS,
    WORKERS,
)

# So many keys stand in one statement: SQLite of old takes 999 values.
_KEYS_AT_ONCE: Final = 900

_WRITTEN: Final = (JOBS, ATTEMPTS, CANCELLED, RUNNING, WORKERS, WORKER_EVENTS, LOG_POSITION)


class Place(NamedTuple):
    """How far a history has come."""

    cluster_id: bytes
    position: wal.Position
    time_us: int


class HistoryMoved(Exception):
    """Somebody else has written into the same tables meanwhile."""


class Store:
    """The tables of one database. Raises `database.Unavailable` where it does not answer."""

    def __init__(self, engine: sa.Engine) -> None:
        """Connects to nothing yet."""
        self._engine = engine
        insert = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}[engine.dialect.name]
        self._upserts = {table: _upsert(insert, table) for table in _WRITTEN}
        # What a state that was loaded says again; when it was told stays as it is.
        self._merges = {**self._upserts, ATTEMPTS: _upsert(insert, ATTEMPTS, but=("lsn",))}

        # Of SQLite's file: one that is removed could be written to for ever, for nobody.
        self._inode = 0

    def migrate(self) -> None:
        """Makes the tables, or brings older ones up to date. Raises HistoryRefused."""
        migrate(self._engine)
        self._inode = self._find_inode()

    def close(self) -> None:
        """Ends the connection; the next call makes another."""
        self._engine.dispose()

    def find_place(self) -> Place | None:
        """How far it has come; None: nothing was written yet."""
        with writing(self._engine) as connection:
            return _find_place(connection)

    def write(self, batch: Batch, start: Place, end: Place) -> None:
        """Writes what happened from `start` to `end`; nothing if that is done already.

        So it may be called again when it is not known whether it was. Raises HistoryMoved.
        """
        if self._find_inode() != self._inode:
            raise HistoryMoved("its file was removed, and has to be made anew")
        with writing(self._engine) as connection:
            found = _find_place(connection, lock=True)
            if found == end:
                return
            if found != start:
                raise HistoryMoved(f"the history was at {start}, and is at {found}")
            _delete(connection, ATTEMPTS, batch.revived)
            _delete(connection, RUNNING, batch.stopped)
            self._put(connection, batch, self._upserts)
            self._put_place(connection, end)

    def write_anew(self, base: Place, known: Iterable[Batch]) -> None:
        """Goes on from `base`, where the log was left or is another one by now.

        What came after it goes, as the log tells it again, but for what was imported: that came at
        0. What a state of that moment knows is put in; what it does not know any more stays: the
        log will never tell it again. Jobs that had not ended and have been forgotten since are
        UNKNOWN.
        """
        lsn = base.position.lsn
        with writing(self._engine) as connection:
            _find_place(connection, lock=True)
            connection.execute(sa.delete(JOBS).where(JOBS.c.submit_lsn > lsn))
            connection.execute(sa.delete(ATTEMPTS).where(ATTEMPTS.c.lsn > lsn))
            connection.execute(sa.delete(CANCELLED).where(CANCELLED.c.lsn > lsn))
            connection.execute(sa.delete(RUNNING))
            connection.execute(sa.delete(WORKER_EVENTS).where(WORKER_EVENTS.c.lsn > lsn))
            # Those that end in what is read next are told of then.
            open_jobs = sa.select(JOBS.c.job_id).where(JOBS.c.end_time.is_(None))
            left = set(connection.scalars(open_jobs))
            for batch in known:
                left.difference_update(batch.jobs)
                batch.cancelled = _not_told(connection, batch.cancelled)
                batch.worker_events = _changed(connection, batch.worker_events)
                self._put(connection, batch, self._merges)
            for keys in _parts(sorted(left)):
                ended = sa.update(JOBS).where(JOBS.c.job_id.in_(keys))
                connection.execute(ended.values(state="UNKNOWN", end_time=None))
            self._put_place(connection, base)

    def _find_inode(self) -> int:
        """0: there is no such file."""
        if self._engine.dialect.name != "sqlite":
            return 0
        try:
            return os.stat(str(self._engine.url.database)).st_ino
        except FileNotFoundError:
            return 0

    def _put(self, connection: sa.Connection, batch: Batch, statements: dict[Any, Any]) -> None:
        rows: tuple[tuple[sa.Table, Sequence[Row]], ...] = (
            (WORKERS, [*batch.workers.values()]),
            (JOBS, [*batch.jobs.values()]),
            (ATTEMPTS, [*batch.attempts.values()]),
            (CANCELLED, batch.cancelled),
            (RUNNING, [*batch.running.values()]),
            (WORKER_EVENTS, batch.worker_events),
        )
        for table, each in rows:
            if each:
                connection.execute(statements[table], each)

    def _put_place(self, connection: sa.Connection, place: Place) -> None:
        row = {
            "id": 1,
            "cluster_id": place.cluster_id.hex(),
            "log_id": place.position.log_id.hex(),
            "lsn": place.position.lsn,
            "chain": place.position.chain,
            "time": place.time_us / 1e6,
        }
        connection.execute(self._upserts[LOG_POSITION], row)


def _upsert(insert: Any, table: sa.Table, but: Sequence[str] = ()) -> Any:
    statement = insert(table)
    changes = {
        column.name: statement.excluded[column.name]
        for column in table.columns
        if not column.primary_key and column.name not in but
    }
    return statement.on_conflict_do_update(index_elements=[*table.primary_key], set_=changes)


def _find_place(connection: sa.Connection, *, lock: bool = False) -> Place | None:
    query = sa.select(LOG_POSITION)
    row = connection.execute(query.with_for_update() if lock else query).one_or_none()
    if row is None:
        return None
    position = wal.Position(bytes.fromhex(row.log_id), row.lsn, row.chain)
    return Place(bytes.fromhex(row.cluster_id), position, round(row.time * 1e6))


def _delete(
    connection: sa.Connection, table: sa.Table, keys: Iterable[tuple[int, int, int]]
) -> None:
    wanted = [{"b_job": job, "b_index": index, "b_attempt": number} for job, index, number in keys]
    if wanted:
        gone = sa.delete(table).where(
            table.c.job_id == sa.bindparam("b_job"),
            table.c.task_index == sa.bindparam("b_index"),
            table.c.attempt == sa.bindparam("b_attempt"),
        )
        connection.execute(gone, wanted)


def _not_told(connection: sa.Connection, rows: Sequence[Row]) -> list[Row]:
    """Of what a state knows of tasks that were cancelled, a row for a job: what is not there."""
    c = CANCELLED.c
    told: dict[int, int] = {}
    for keys in _parts([row["job_id"] for row in rows]):
        sums = sa.select(c.job_id, sa.func.sum(c.tasks)).where(c.job_id.in_(keys))
        for job_id, tasks in connection.execute(sums.group_by(c.job_id)):
            told[job_id] = int(tasks)
    left = [{**row, "tasks": row["tasks"] - told.get(row["job_id"], 0)} for row in rows]
    return [row for row in left if row["tasks"] > 0]


def _changed(connection: sa.Connection, rows: Sequence[Row]) -> list[Row]:
    """Of what a state knows of workers, a row for each: what is not so by the last event there."""
    if not rows:
        return []
    e = WORKER_EVENTS.c
    in_order = sa.select(e.number, e.cpus).order_by(e.lsn, e.place)
    offered = {row.number: row.cpus for row in connection.execute(in_order)}
    return [row for row in rows if row["cpus"] != offered.get(row["number"], 0)]


def _parts(keys: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(keys), _KEYS_AT_ONCE):
        yield keys[start : start + _KEYS_AT_ONCE]
