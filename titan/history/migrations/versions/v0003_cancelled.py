"""A table of tasks that were cancelled while they waited, which have no attempt that ended so."""

from typing import Any, Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0003"
down_revision: Final[Any] = "0002"


def upgrade() -> None:
    """Makes the table, with the jobs that ended before the first attempt so far."""
    op.create_table(
        "cancelled",
        sa.Column(
            "job_id", sa.BigInteger(), primary_key=True, autoincrement=False, comment="of which job"
        ),
        sa.Column(
            "lsn",
            sa.BigInteger(),
            primary_key=True,
            autoincrement=False,
            comment="the record of the log that has it, or one by which it had happened; 0: it was imported",
        ),
        sa.Column(
            "place",
            sa.Integer(),
            primary_key=True,
            autoincrement=False,
            comment="which event of that record; -1: it is not known",
        ),
        sa.Column("tasks", sa.BigInteger(), nullable=False, comment="how many were cancelled then"),
        sa.Column("name", sa.Text(), nullable=False, comment="the job's"),
        sa.Column("user_name", sa.Text(), nullable=False, comment="who submitted the job"),
        sa.Column(
            "reason",
            sa.Text(),
            nullable=False,
            comment="CANCELLED, DEPENDENCY_FAILED or DEADLINE",
        ),
        sa.Column("submit_time", sa.Double(), nullable=False, comment="Unix seconds: the job's"),
        sa.Column(
            "end_time",
            sa.Double(),
            nullable=False,
            comment="Unix seconds, by the manager's clock",
        ),
        sa.Column("cpus", sa.Double(), nullable=False, comment="asked for, for each task"),
        sa.Column(
            "memory_bytes",
            sa.BigInteger(),
            nullable=False,
            comment="asked for, for each task; 0: none was",
        ),
        comment="A row for each time that tasks of a job were cancelled while they waited, one for all of them. Those that had been tried before have their attempts as well.",
    )
    op.create_index("cancelled_by_end", "cancelled", ["end_time"])
    op.create_index("cancelled_by_user", "cancelled", ["user_name", "end_time"])
    # Of jobs that were tried, too, nobody noted when their other tasks were cancelled.
    op.execute(
        "INSERT INTO cancelled (job_id, lsn, place, tasks, name, user_name, reason, submit_time,"
        " end_time, cpus, memory_bytes)"
        # By where the log was read to it had happened: what is read again from before tells it.
        " SELECT job_id, CASE WHEN job_id < 0 THEN 0 ELSE coalesce((SELECT lsn FROM log_position),"
        " 0) END, CASE WHEN job_id < 0 THEN 0 ELSE -1 END, tasks_cancelled, name, user_name,"
        " coalesce(reason, 'CANCELLED'), submit_time, end_time, cpus, memory_bytes FROM jobs"
        " WHERE state = 'CANCELLED' AND attempts = 0 AND end_time IS NOT NULL"
    )
