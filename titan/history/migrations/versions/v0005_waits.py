"""Attempts after the first wait from the end of the one before on, not from the submit."""

from typing import Any, Final

from alembic import op

revision: Final = "0005"
down_revision: Final[Any] = "0004"


def upgrade() -> None:
    """Also of what was written; SQLite has no comments."""
    before = (
        "(SELECT max(b.end_time) FROM attempts b WHERE b.job_id = attempts.job_id"
        " AND b.task_index = attempts.task_index AND b.attempt < attempts.attempt"
        " AND b.state <> 'RECALLED')"
    )
    op.execute(
        "UPDATE attempts SET wait_seconds ="
        f" CASE WHEN start_time > {before} THEN start_time - {before} ELSE 0 END"
        f" WHERE attempt > 1 AND wait_seconds IS NOT NULL AND {before} IS NOT NULL"
    )
    if op.get_bind().dialect.name == "postgresql":
        op.alter_column(
            "attempts",
            "wait_seconds",
            comment="from the job's submit to this start; of a task that was tried before, from the end of that attempt, but for RECALLED ones; NULL: it never ran",
        )
