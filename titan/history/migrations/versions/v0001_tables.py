"""The first form of the tables."""

from typing import Any, Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0001"
down_revision: Final[Any] = None


def upgrade() -> None:
    """Makes the tables."""
    op.create_table(
        "jobs",
        sa.Column(
            "job_id",
            sa.BigInteger(),
            primary_key=True,
            autoincrement=False,
            comment="as users name it",
        ),
        sa.Column("name", sa.Text(), nullable=False, comment="as it was submitted"),
        sa.Column("user_name", sa.Text(), nullable=False, comment="who submitted it"),
        sa.Column(
            "command", sa.Text(), nullable=False, comment="program and arguments, a JSON list"
        ),
        sa.Column(
            "cwd", sa.Text(), nullable=False, comment="the directory that its tasks start in"
        ),
        sa.Column("cpus", sa.Double(), nullable=False, comment="asked for, for each task"),
        sa.Column(
            "memory_bytes",
            sa.BigInteger(),
            nullable=False,
            comment="asked for, for each task; 0: none was",
        ),
        sa.Column(
            "resources",
            sa.Text(),
            nullable=False,
            comment="named ones asked for, for each task: a JSON object",
        ),
        sa.Column(
            "priority",
            sa.BigInteger(),
            nullable=False,
            comment="higher goes first; the last one it had",
        ),
        sa.Column(
            "time_limit_seconds",
            sa.Double(),
            nullable=True,
            comment="the last one it had; NULL: none",
        ),
        sa.Column(
            "array",
            sa.Text(),
            nullable=True,
            comment="its indexes, as 0-9:2,20; NULL: it is a plain job",
        ),
        sa.Column("tasks", sa.BigInteger(), nullable=False, comment="how many it has"),
        sa.Column("tasks_completed", sa.BigInteger(), nullable=False, comment="of these, so far"),
        sa.Column("tasks_failed", sa.BigInteger(), nullable=False, comment="of these, so far"),
        sa.Column("tasks_cancelled", sa.BigInteger(), nullable=False, comment="of these, so far"),
        sa.Column(
            "attempts",
            sa.BigInteger(),
            nullable=False,
            comment="how many were made at all its tasks so far",
        ),
        sa.Column(
            "state",
            sa.Text(),
            nullable=False,
            comment="PENDING, SCHEDULED, RUNNING, COMPLETED, FAILED, CANCELLED; or UNKNOWN: the log of its end was gone before it was read",
        ),
        sa.Column(
            "reason",
            sa.Text(),
            nullable=True,
            comment="why it ended so; of an array: its failed task of the lowest index",
        ),
        sa.Column(
            "exit_code",
            sa.Integer(),
            nullable=True,
            comment="of that task; 0 for a job that COMPLETED",
        ),
        sa.Column("signal", sa.Integer(), nullable=True, comment="that ended that task"),
        sa.Column(
            "submit_time",
            sa.Double(),
            nullable=False,
            comment="Unix seconds, by the manager's clock",
        ),
        sa.Column(
            "start_time",
            sa.Double(),
            nullable=True,
            comment="Unix seconds: the first start of a task",
        ),
        sa.Column(
            "end_time",
            sa.Double(),
            nullable=True,
            comment="Unix seconds: the last end of a task; NULL: it goes on",
        ),
        sa.Column(
            "submit_lsn",
            sa.BigInteger(),
            nullable=False,
            comment="the record of the log that has its submit",
        ),
        comment="A row for each job that was accepted, from its submit on.",
    )
    op.create_index("jobs_by_submit", "jobs", ["submit_time"])
    op.create_index("jobs_by_user", "jobs", ["user_name", "submit_time"])
    op.create_index(
        "jobs_open",
        "jobs",
        ["job_id"],
        sqlite_where=sa.text("end_time IS NULL"),
        postgresql_where=sa.text("end_time IS NULL"),
    )
    op.create_table(
        "attempts",
        sa.Column(
            "job_id", sa.BigInteger(), primary_key=True, autoincrement=False, comment="of which job"
        ),
        sa.Column(
            "task_index",
            sa.BigInteger(),
            primary_key=True,
            autoincrement=False,
            comment="at which of its tasks; 0 for a plain job",
        ),
        sa.Column(
            "attempt",
            sa.BigInteger(),
            primary_key=True,
            autoincrement=False,
            comment="which try at that task, from 1",
        ),
        sa.Column("name", sa.Text(), nullable=False, comment="the job's"),
        sa.Column("user_name", sa.Text(), nullable=False, comment="who submitted the job"),
        sa.Column(
            "worker", sa.Text(), nullable=False, comment="the name of the worker at that time"
        ),
        sa.Column(
            "state",
            sa.Text(),
            nullable=False,
            comment="COMPLETED, FAILED, CANCELLED; LOST: with its worker; RECALLED: taken back before it started",
        ),
        sa.Column(
            "reason",
            sa.Text(),
            nullable=True,
            comment="EXIT, SIGNAL, TIMEOUT, OOM, OUTPUT_LIMIT, LAUNCH_ERROR, WORKER_LOST, CANCELLED, PREEMPTED, …; NULL: there is none",
        ),
        sa.Column(
            "detail", sa.Text(), nullable=True, comment="a sentence about it; NULL: there is none"
        ),
        sa.Column("exit_code", sa.Integer(), nullable=True, comment="NULL: it did not exit"),
        sa.Column("signal", sa.Integer(), nullable=True, comment="that ended it"),
        sa.Column("submit_time", sa.Double(), nullable=False, comment="Unix seconds: the job's"),
        sa.Column(
            "start_time",
            sa.Double(),
            nullable=True,
            comment="Unix seconds, by the worker's clock; NULL: it never ran",
        ),
        sa.Column("end_time", sa.Double(), nullable=False, comment="Unix seconds"),
        sa.Column(
            "wait_seconds",
            sa.Double(),
            nullable=True,
            comment="from the job's submit to this start; NULL: it never ran",
        ),
        sa.Column(
            "run_seconds",
            sa.Double(),
            nullable=True,
            comment="from start to end; NULL: it never ran",
        ),
        sa.Column(
            "cpu_user_seconds",
            sa.Double(),
            nullable=False,
            comment="used by it and all its processes",
        ),
        sa.Column(
            "cpu_system_seconds",
            sa.Double(),
            nullable=False,
            comment="used by it and all its processes",
        ),
        sa.Column(
            "max_rss_bytes",
            sa.BigInteger(),
            nullable=False,
            comment="the most memory that it had at once",
        ),
        sa.Column("cpus", sa.Double(), nullable=False, comment="asked for"),
        sa.Column(
            "memory_bytes", sa.BigInteger(), nullable=False, comment="asked for; 0: none was"
        ),
        sa.Column(
            "stdout_path", sa.Text(), nullable=True, comment="on the worker; NULL: it never ran"
        ),
        sa.Column(
            "stderr_path", sa.Text(), nullable=True, comment="on the worker; NULL: it never ran"
        ),
        sa.Column(
            "lsn",
            sa.BigInteger(),
            nullable=False,
            comment="the record of the log that tells its end, or one by which it had",
        ),
        comment="A row for each attempt that ended.",
    )
    op.create_index("attempts_by_end", "attempts", ["end_time"])
    op.create_index("attempts_by_state", "attempts", ["state", "end_time"])
    op.create_index("attempts_by_user", "attempts", ["user_name", "end_time"])
    op.create_index("attempts_by_worker", "attempts", ["worker", "end_time"])
    op.create_table(
        "running",
        sa.Column(
            "job_id", sa.BigInteger(), primary_key=True, autoincrement=False, comment="of which job"
        ),
        sa.Column(
            "task_index",
            sa.BigInteger(),
            primary_key=True,
            autoincrement=False,
            comment="at which of its tasks; 0 for a plain job",
        ),
        sa.Column(
            "attempt",
            sa.BigInteger(),
            primary_key=True,
            autoincrement=False,
            comment="which try at that task, from 1",
        ),
        sa.Column("name", sa.Text(), nullable=False, comment="the job's"),
        sa.Column("user_name", sa.Text(), nullable=False, comment="who submitted the job"),
        sa.Column("worker", sa.Text(), nullable=False, comment="the name of the worker"),
        sa.Column("submit_time", sa.Double(), nullable=False, comment="Unix seconds: the job's"),
        sa.Column(
            "start_time", sa.Double(), nullable=False, comment="Unix seconds, by the worker's clock"
        ),
        sa.Column("cpus", sa.Double(), nullable=False, comment="asked for"),
        sa.Column(
            "memory_bytes", sa.BigInteger(), nullable=False, comment="asked for; 0: none was"
        ),
        comment="A row for each attempt that runs, as far as the log was read.",
    )
    op.create_table(
        "workers",
        sa.Column(
            "number",
            sa.Integer(),
            primary_key=True,
            autoincrement=False,
            comment="as the manager counts them",
        ),
        sa.Column(
            "worker_id",
            sa.Text(),
            nullable=False,
            comment="32 hexadecimal digits; the same for ever",
        ),
        sa.Column("name", sa.Text(), nullable=False, comment="what it calls itself"),
        sa.Column(
            "address", sa.Text(), nullable=False, comment="where it is called; empty: it is not"
        ),
        sa.Column(
            "state",
            sa.Text(),
            nullable=False,
            comment="HEALTHY, UNHEALTHY, DISCONNECTED or DEREGISTERED",
        ),
        sa.Column("draining", sa.Boolean(), nullable=False, comment="whether it gets no new tasks"),
        sa.Column("cpus", sa.Double(), nullable=False, comment="offered"),
        sa.Column("memory_bytes", sa.BigInteger(), nullable=False, comment="offered"),
        sa.Column(
            "resources", sa.Text(), nullable=False, comment="named ones offered: a JSON object"
        ),
        sa.Column("labels", sa.Text(), nullable=False, comment="a JSON object"),
        sa.Column("version", sa.Text(), nullable=False, comment="of Titan"),
        comment="A row for each worker that ever called in, as it was last.",
    )
    op.create_table(
        "worker_events",
        sa.Column(
            "lsn",
            sa.BigInteger(),
            primary_key=True,
            autoincrement=False,
            comment="the record of the log that has it",
        ),
        sa.Column(
            "place",
            sa.Integer(),
            primary_key=True,
            autoincrement=False,
            comment="which event of that record",
        ),
        sa.Column(
            "time", sa.Double(), nullable=False, comment="Unix seconds, by the manager's clock"
        ),
        sa.Column("number", sa.Integer(), nullable=False, comment="of which worker"),
        sa.Column("worker", sa.Text(), nullable=False, comment="its name at that time"),
        sa.Column(
            "event",
            sa.Text(),
            nullable=False,
            comment="REGISTERED, HEALTHY, UNHEALTHY, LOST, DRAINING, UNDRAINED or DEREGISTERED",
        ),
        sa.Column(
            "cpus",
            sa.Double(),
            nullable=False,
            comment="what it offered from then on; 0: it was gone",
        ),
        sa.Column("reason", sa.Text(), nullable=False, comment="where somebody gave one"),
        sa.Column(
            "user_name",
            sa.Text(),
            nullable=False,
            comment="who drained or undrained it; empty: it did itself",
        ),
        comment="What happened to workers, but for their heartbeats.",
    )
    op.create_index("worker_events_by_time", "worker_events", ["time"])
    op.create_table(
        "log_position",
        sa.Column(
            "id", sa.Integer(), primary_key=True, autoincrement=False, comment="1: there is one row"
        ),
        sa.Column(
            "cluster_id",
            sa.Text(),
            nullable=False,
            comment="whose history it is, 32 hexadecimal digits",
        ),
        sa.Column(
            "log_id", sa.Text(), nullable=False, comment="which log was read, 32 hexadecimal digits"
        ),
        sa.Column(
            "lsn", sa.BigInteger(), nullable=False, comment="the last record that the tables have"
        ),
        sa.Column(
            "chain", sa.BigInteger(), nullable=False, comment="the checksum of the log up to there"
        ),
        sa.Column("time", sa.Double(), nullable=False, comment="Unix seconds: of that record"),
        comment="How far the log was read, in the same transaction as what was read there.",
    )
