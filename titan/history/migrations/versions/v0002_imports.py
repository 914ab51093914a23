"""Jobs of other schedulers: a table of what was imported, and what columns say of such jobs."""

from typing import Any, Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0002"
down_revision: Final[Any] = "0001"

COMMENTS: Final = (
    ("jobs", "job_id", "as users name it; below 0: it was imported"),
    (
        "jobs",
        "state",
        "PENDING, SCHEDULED, RUNNING, COMPLETED, FAILED, CANCELLED; or UNKNOWN: the log of its end was gone before it was read, or what was imported does not say",
    ),
    (
        "jobs",
        "submit_lsn",
        "the record of the log that has its submit; 0: it was imported",
    ),
    (
        "attempts",
        "state",
        "COMPLETED, FAILED, CANCELLED; LOST: with its worker; RECALLED: taken back before it started; UNKNOWN: what was imported does not say",
    ),
    (
        "attempts",
        "cpu_user_seconds",
        "used by it and all its processes; 0 also where what was imported does not say, as with the next two",
    ),
    (
        "attempts",
        "lsn",
        "the record of the log that tells its end, or one by which it had; 0: it was imported",
    ),
)


def upgrade() -> None:
    """Makes the table; SQLite has no comments."""
    op.create_table(
        "imports",
        sa.Column(
            "import_id", sa.Integer(), primary_key=True, autoincrement=False, comment="from 1"
        ),
        sa.Column("source", sa.Text(), nullable=False, comment="mini-slurm or swf"),
        sa.Column("file", sa.Text(), nullable=False, comment="as it was named"),
        sa.Column(
            "digest",
            sa.Text(),
            nullable=True,
            comment="SHA-256 of an SWF file's lines; NULL: its jobs are known one by one",
        ),
        sa.Column(
            "time", sa.Double(), nullable=False, comment="Unix seconds: when it was imported"
        ),
        sa.Column("jobs", sa.BigInteger(), nullable=False, comment="how many came from it"),
        sa.Column(
            "first_job_id",
            sa.BigInteger(),
            nullable=False,
            comment="the job number n of the file has this less n as job_id",
        ),
        sa.Column(
            "last_job_id", sa.BigInteger(), nullable=False, comment="the lowest job_id of it"
        ),
        comment="A row for each file of another scheduler's jobs that was imported.",
    )
    if op.get_bind().dialect.name == "postgresql":
        for table, column, comment in COMMENTS:
            op.alter_column(table, column, comment=comment)
