"""The tables, as `titan history` and people with an SQL shell see them.

Times are Unix seconds, to the microsecond; NULL is what there is none of. Where a name of the rest
of Titan is a word of SQL it is another one here: an unquoted `user` would be the database's own
user in PostgreSQL, without an error, and `index` none at all. So it is user_name and task_index.
A change of this file needs a migration; `tests/history` compares them.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    text,
)

METADATA: Final = MetaData()


def _key(name: str, kind: Any, comment: str) -> Column[Any]:
    return Column(name, kind, primary_key=True, autoincrement=False, comment=comment)


def _some(name: str, kind: Any, comment: str) -> Column[Any]:
    return Column(name, kind, nullable=False, comment=comment)


def _maybe(name: str, kind: Any, comment: str) -> Column[Any]:
    return Column(name, kind, nullable=True, comment=comment)


JOBS: Final = Table(
    "jobs",
    METADATA,
    _key("job_id", BigInteger, "as users name it; below 0: it was imported"),
    _some("name", Text, "as it was submitted"),
    _some("user_name", Text, "who submitted it"),
    _some("command", Text, "program and arguments, a JSON list"),
    _some("cwd", Text, "the directory that its tasks start in"),
    _some("cpus", Double, "asked for, for each task"),
    _some("memory_bytes", BigInteger, "asked for, for each task; 0: none was"),
    _some("resources", Text, "named ones asked for, for each task: a JSON object"),
    _some("priority", BigInteger, "higher goes first; the last one it had"),
    _maybe("time_limit_seconds", Double, "the last one it had; NULL: none"),
    _maybe("array", Text, "its indexes, as 0-9:2,20; NULL: it is a plain job"),
    _some("tasks", BigInteger, "how many it has"),
    _some("tasks_completed", BigInteger, "of these, so far"),
    _some("tasks_failed", BigInteger, "of these, so far"),
    _some("tasks_cancelled", BigInteger, "of these, so far"),
    _some("attempts", BigInteger, "how many were made at all its tasks so far"),
    _some("state", Text, "PENDING, SCHEDULED, RUNNING, COMPLETED, FAILED, CANCELLED; or UNKNOWN: "
          "the log of its end was gone before it was read, or what was imported does not say"),
    _maybe("reason", Text, "why it ended so; of an array: its failed task of the lowest index"),
    _maybe("exit_code", Integer, "of that task; 0 for a job that COMPLETED"),
    _maybe("signal", Integer, "that ended that task"),
    _some("submit_time", Double, "Unix seconds, by the manager's clock"),
    _maybe("start_time", Double, "Unix seconds: the first start of a task"),
    _maybe("end_time", Double, "Unix seconds: the last end of a task; NULL: it goes on"),
    _some("submit_lsn", BigInteger, "the record of the log that has its submit; 0: it was "
          "imported"),
    Index("jobs_by_submit", "submit_time"),
    Index("jobs_by_user", "user_name", "submit_time"),
    # Few of many: those that go on.
    Index(
        "jobs_open",
        "job_id",
        sqlite_where=text("end_time IS NULL"),
        postgresql_where=text("end_time IS NULL"),
    ),
    comment="A row for each job that was accepted, from its submit on.",
)  # fmt: skip

ATTEMPTS: Final = Table(
    "attempts",
    METADATA,
    _key("job_id", BigInteger, "of which job"),
    _key("task_index", BigInteger, "at which of its tasks; 0 for a plain job"),
    _key("attempt", BigInteger, "which try at that task, from 1"),
    _some("name", Text, "the job's"),
    _some("user_name", Text, "who submitted the job"),
    _some("worker", Text, "the name of the worker at that time"),
    _some("state", Text, "COMPLETED, FAILED, CANCELLED; LOST: with its worker; RECALLED: taken "
          "back before it started; UNKNOWN: what was imported does not say"),
    _maybe("reason", Text, "EXIT, SIGNAL, TIMEOUT, OOM, OUTPUT_LIMIT, LAUNCH_ERROR, WORKER_LOST, "
           "CANCELLED, PREEMPTED, …; NULL: there is none"),
    _maybe("detail", Text, "a sentence about it; NULL: there is none"),
    _maybe("exit_code", Integer, "NULL: it did not exit"),
    _maybe("signal", Integer, "that ended it"),
    _some("submit_time", Double, "Unix seconds: the job's"),
    _maybe("start_time", Double, "Unix seconds, by the worker's clock; NULL: it never ran"),
    _some("end_time", Double, "Unix seconds"),
    _maybe("wait_seconds", Double, "from the job's submit to this start; of a task that was "
           "tried before, from the end of that attempt, but for RECALLED ones; NULL: it never ran"),
    _maybe("run_seconds", Double, "from start to end; NULL: it never ran"),
    _some("cpu_user_seconds", Double, "used by it and all its processes; 0 also where what was "
          "imported does not say, as with the next two"),
    _some("cpu_system_seconds", Double, "used by it and all its processes"),
    _some("max_rss_bytes", BigInteger, "the most memory that it had at once"),
    _some("cpus", Double, "asked for"),
    _some("memory_bytes", BigInteger, "asked for; 0: none was"),
    _maybe("stdout_path", Text, "on the worker; NULL: it never ran"),
    _maybe("stderr_path", Text, "on the worker; NULL: it never ran"),
    _some("lsn", BigInteger, "the record of the log that tells its end, or one by which it had; "
          "0: it was imported"),
    Index("attempts_by_end", "end_time"),
    Index("attempts_by_user", "user_name", "end_time"),
    Index("attempts_by_worker", "worker", "end_time"),
    Index("attempts_by_state", "state", "end_time"),
    comment="A row for each attempt that ended.",
)  # fmt: skip

CANCELLED: Final = Table(
    "cancelled",
    METADATA,
    _key("job_id", BigInteger, "of which job"),
    _key("lsn", BigInteger, "the record of the log that has it, or one by which it had happened; "
         "0: it was imported"),
    _key("place", Integer, "which event of that record; -1: it is not known"),
    _some("tasks", BigInteger, "how many were cancelled then"),
    _some("name", Text, "the job's"),
    _some("user_name", Text, "who submitted the job"),
    _some("reason", Text, "CANCELLED, DEPENDENCY_FAILED or DEADLINE"),
    _some("submit_time", Double, "Unix seconds: the job's"),
    _some("end_time", Double, "Unix seconds, by the manager's clock"),
    _some("cpus", Double, "asked for, for each task"),
    _some("memory_bytes", BigInteger, "asked for, for each task; 0: none was"),
    Index("cancelled_by_end", "end_time"),
    Index("cancelled_by_user", "user_name", "end_time"),
    comment="A row for each time that tasks of a job were cancelled while they waited, one for all "
    "of them. Those that had been tried before have their attempts as well.",
)  # fmt: skip

RUNNING: Final = Table(
    "running",
    METADATA,
    _key("job_id", BigInteger, "of which job"),
    _key("task_index", BigInteger, "at which of its tasks; 0 for a plain job"),
    _key("attempt", BigInteger, "which try at that task, from 1"),
    _some("name", Text, "the job's"),
    _some("user_name", Text, "who submitted the job"),
    _some("worker", Text, "the name of the worker"),
    _some("submit_time", Double, "Unix seconds: the job's"),
    _some("start_time", Double, "Unix seconds, by the worker's clock"),
    _some("cpus", Double, "asked for"),
    _some("memory_bytes", BigInteger, "asked for; 0: none was"),
    comment="A row for each attempt that runs, as far as the log was read.",
)

WORKERS: Final = Table(
    "workers",
    METADATA,
    _key("number", Integer, "as the manager counts them"),
    _some("worker_id", Text, "32 hexadecimal digits; the same for ever"),
    _some("name", Text, "what it calls itself"),
    _some("address", Text, "where it is called; empty: it is not"),
    _some("state", Text, "HEALTHY, UNHEALTHY, DISCONNECTED or DEREGISTERED"),
    _some("draining", Boolean, "whether it gets no new tasks"),
    _some("cpus", Double, "offered"),
    _some("memory_bytes", BigInteger, "offered"),
    _some("resources", Text, "named ones offered: a JSON object"),
    _some("labels", Text, "a JSON object"),
    _some("version", Text, "of Titan"),
    comment="A row for each worker that ever called in, as it was last.",
)

WORKER_EVENTS: Final = Table(
    "worker_events",
    METADATA,
    _key("lsn", BigInteger, "the record of the log that has it"),
    _key("place", Integer, "which event of that record; below 0: it was found so by then"),
    _some("time", Double, "Unix seconds, by the manager's clock"),
    _some("number", Integer, "of which worker"),
    _some("worker", Text, "its name at that time"),
    _some(
        "event",
        Text,
        "REGISTERED, HEALTHY, UNHEALTHY, LOST, DRAINING, UNDRAINED, DEREGISTERED; "
        "or FOUND: the log of what had happened before was gone",
    ),
    _some("cpus", Double, "what it offered from then on; 0: it was gone"),
    _some("reason", Text, "where somebody gave one"),
    _some("user_name", Text, "who drained or undrained it; empty: it did itself"),
    Index("worker_events_by_time", "time"),
    comment="What happened to workers, but for their heartbeats.",
)

LOG_POSITION: Final = Table(
    "log_position",
    METADATA,
    _key("id", Integer, "1: there is one row"),
    _some("cluster_id", Text, "whose history it is, 32 hexadecimal digits"),
    _some("log_id", Text, "which log was read, 32 hexadecimal digits"),
    _some("lsn", BigInteger, "the last record that the tables have"),
    _some("chain", BigInteger, "the checksum of the log up to there"),
    _some("time", Double, "Unix seconds: of that record"),
    comment="How far the log was read, in the same transaction as what was read there.",
)

IMPORTS: Final = Table(
    "imports",
    METADATA,
    _key("import_id", Integer, "from 1"),
    _some("source", Text, "mini-slurm or swf"),
    _some("file", Text, "as it was named"),
    _maybe("digest", Text, "SHA-256 of an SWF file's lines; NULL: its jobs are known one by one"),
    _some("time", Double, "Unix seconds: when it was imported"),
    _some("jobs", BigInteger, "how many came from it"),
    _some("first_job_id", BigInteger, "the job number n of the file has this less n as job_id"),
    _some("last_job_id", BigInteger, "the lowest job_id of it"),
    comment="A row for each file of another scheduler's jobs that was imported.",
)
