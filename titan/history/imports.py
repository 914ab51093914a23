"""Jobs of other schedulers into the tables, all of a file or none, and each of them once.

Job ids of an import go down from its `first_job_id`: the job number n has that less n. A file that
does not change, as a workload's, is known again by its digest; of a database that grows each job
is, by its number and its submit.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Final

import sqlalchemy as sa

from titan.history.database import (
    BUSY_SECONDS,
    HistoryRefused,
    Unavailable,
    migrate,
    reason_of,
    writing,
)
from titan.history.imported import (
    ImportedJob,
    imported_attempt_row,
    imported_cancelled_row,
    imported_job_row,
)
from titan.history.rows import text
from titan.history.schema import ATTEMPTS, CANCELLED, IMPORTS, JOBS

_ROWS_AT_ONCE: Final = 2_000


class AlreadyImported(Exception):
    """The same file was, earlier; nothing was changed."""

    def __init__(self, at_time: float, jobs: int) -> None:
        """When, in Unix seconds, and how many jobs came."""
        super().__init__(at_time, jobs)
        self.at_time = at_time
        self.jobs = jobs


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import has done."""

    jobs: int
    known: int
    """Jobs that were there from an earlier import."""


def import_jobs(
    engine: sa.Engine,
    source: str,
    file_name: str,
    jobs: Iterable[ImportedJob],
    *,
    digest: str | None = None,
    on_progress: Callable[[int], object] = lambda _: None,
) -> Imported:
    """Writes them in one transaction, beside a process that writes the history.

    Without a digest jobs that are there already are passed over. `on_progress` hears how many were
    read. Raises AlreadyImported, HistoryRefused, and what reading the jobs raises.
    """
    try:
        migrate(engine, patience_seconds=BUSY_SECONDS)
        with writing(engine, patience_seconds=BUSY_SECONDS) as connection:
            return _write(connection, source, file_name, jobs, digest, on_progress)
    except Unavailable as error:
        raise HistoryRefused(f"the history does not take it: {reason_of(error)}") from error
    except sa.exc.SQLAlchemyError as error:
        raise HistoryRefused(f"the history cannot be written: {reason_of(error)}") from error


def _write(
    connection: sa.Connection,
    source: str,
    file_name: str,
    jobs: Iterable[ImportedJob],
    digest: str | None,
    on_progress: Callable[[int], object],
) -> Imported:
    i = IMPORTS.c
    if connection.dialect.name == "postgresql":
        # Another import would take the same ids; the table may be read meanwhile.
        connection.exec_driver_sql(f"LOCK TABLE {IMPORTS.name} IN SHARE ROW EXCLUSIVE MODE")
    if digest is not None:
        earlier = sa.select(i.time, i.jobs).where(i.source == source, i.digest == digest)
        found = connection.execute(earlier).first()
        if found is not None:
            raise AlreadyImported(found.time, found.jobs)
    lowest, last_import = connection.execute(
        sa.select(sa.func.min(i.last_job_id), sa.func.max(i.import_id))
    ).one()
    # Somebody may have removed rows of either table.
    lowest_job = connection.scalar(sa.select(sa.func.min(JOBS.c.job_id)))
    first_job_id = min(lowest or 0, lowest_job or 0, 0) - 1
    known = _known(connection, source) if digest is None else set()
    written = passed = highest_number = 0
    rest = iter(jobs)
    while part := list(islice(rest, _ROWS_AT_ONCE)):
        new = [job for job in part if (job.number, job.submit) not in known]
        passed += len(part) - len(new)
        written += len(new)
        if new:
            rows = [(job, first_job_id - job.number) for job in new]
            highest_number = max(highest_number, *(job.number for job in new))
            connection.execute(sa.insert(JOBS), [imported_job_row(*each) for each in rows])
            attempts = [imported_attempt_row(*each) for each in rows if each[0].start is not None]
            cancelled = [imported_cancelled_row(*each) for each in rows if each[0].start is None]
            for table, ended in ((ATTEMPTS, attempts), (CANCELLED, cancelled)):
                if ended:
                    connection.execute(sa.insert(table), ended)
        on_progress(written + passed)
    if written:
        row = {
            "import_id": (last_import or 0) + 1,
            "source": source,
            "file": text(file_name),
            "digest": digest,
            "time": time.time(),
            "jobs": written,
            "first_job_id": first_job_id,
            "last_job_id": first_job_id - highest_number,
        }
        connection.execute(sa.insert(IMPORTS), row)
    return Imported(written, passed)


def _known(connection: sa.Connection, source: str) -> set[tuple[int, float]]:
    """Numbers and submits of what came from there."""
    i, j = IMPORTS.c, JOBS.c
    query = (
        sa.select(i.first_job_id - j.job_id, j.submit_time)
        .select_from(IMPORTS)
        .join(JOBS, j.job_id.between(i.last_job_id, i.first_job_id))
        .where(i.source == source)
    )
    return {(number, submit) for number, submit in connection.execute(query)}
