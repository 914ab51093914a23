"""What the tables should have, said by what users see of a state that forgets nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa

import wal
from titan import events as ev
from titan.history.database import open_for_writing, url_of
from titan.history.projection import WORKER_EVENTS as KINDS
from titan.history.projection import Projection
from titan.history.schema import (
    ATTEMPTS,
    CANCELLED,
    JOBS,
    METADATA,
    RUNNING,
    WORKER_EVENTS,
    WORKERS,
)
from titan.history.store import Place, Store
from titan.model import State, WorkerState
from titan.queries.views import attempt_messages, job_message
from titan.rpc.v1 import types_pb2
from titan.scheduler.summary import Known
from titan.state.cluster import ClusterState

CLUSTER_ID = bytes(range(16))
LOG_ID = b"L" * 16
FACTS = (JOBS, ATTEMPTS, CANCELLED, RUNNING, WORKERS, WORKER_EVENTS)

Rows = dict[str, list[dict[str, Any]]]


def place(lsn: int) -> Place:
    """A position of no real log."""
    return Place(CLUSTER_ID, wal.Position(LOG_ID, lsn, lsn), lsn)


def project(store: Store, records: Sequence[bytes], ends: Iterable[int] = ()) -> None:
    """Writes a history; a batch ends behind each of those records, and at the end."""
    store.write_anew(place(0), [])
    projection = Projection(ClusterState())
    last, wanted = 0, {*ends, len(records)}
    for lsn, payload in enumerate(records, 1):
        projection.apply(lsn, payload)
        if lsn in wanted:
            store.write(projection.take_batch(), place(last), place(lsn))
            last = lsn


def read_rows(engine: sa.Engine, but: Sequence[str] = ()) -> Rows:
    """All that is known, by table, in the order of the keys."""
    with engine.begin() as connection:
        return {
            table.name: [
                {name: value for name, value in row.items() if name not in but}
                for row in connection.execute(
                    sa.select(table).order_by(*table.primary_key)
                ).mappings()
            ]
            for table in METADATA.sorted_tables
            if table in FACTS
        }


def rows_at(url: str, directory: Any, but: Sequence[str] = ()) -> Rows:
    """The same of a database that nobody has open here."""
    engine = open_for_writing(url_of(url, directory))
    try:
        return read_rows(engine, but)
    finally:
        engine.dispose()


def expected_rows(records: Sequence[bytes]) -> Rows:
    """The same, from the messages that users get, in a state that forgets no job."""
    state = ClusterState()
    lsns: dict[tuple[int, int, int], int] = {}
    names: dict[tuple[int, int, int], str] = {}
    since: dict[tuple[int, int, int], int] = {}
    happened = []
    cancelled = []
    for lsn, payload in enumerate(records, 1):
        time_us, events = ev.decode_record(payload)
        state.begin_record(lsn, time_us)
        for number, event in enumerate(events):
            if isinstance(event, ev.JobsForgotten):
                continue
            job = state.jobs.live.get(getattr(event, "job_id", 0))
            waited = _cancelled_tasks(job)
            state.apply(event)
            tasks = _cancelled_tasks(job) - waited
            if tasks:
                cancelled.append(_cancelled(state, number, event, tasks))
            if isinstance(event, ev.AttemptEnded | ev.Recalled):
                key = (event.job_id, event.index, event.attempt)
                job = state.jobs[event.job_id]
                assert job.ended is not None
                ended = job.ended.find(event.index, event.attempt)
                assert ended is not None
                _, since[key] = max(
                    (
                        (each.attempt, each.end_us)
                        for each in job.ended.of_index(event.index)
                        if each.attempt < event.attempt and each.state != State.RECALLED
                    ),
                    default=(0, job.submit_us),
                )
                lsns[key], names[key] = lsn, state.get_worker(ended.worker).name
            elif type(event) in KINDS:
                happened.append(_worker_event(state, number, event))
    known = Known()
    jobs, attempts, running = [], [], []
    for job_id, job in state.jobs.items():
        message = job_message(state, job, known)
        jobs.append(_job(message, job))
        ended_states = frozenset(State) - {State.SCHEDULED, State.RUNNING}
        for each in attempt_messages(state, job, (), ended_states):
            key = (job_id, each.index, each.attempt)
            attempts.append(_attempt(message, each, names[key], since[key], lsns[key]))
        under_way = attempt_messages(state, job, (), frozenset([State.RUNNING]))
        running += [_running(message, each) for each in under_way]
    attempts.sort(key=lambda row: (row["job_id"], row["task_index"], row["attempt"]))
    workers = [_worker(each) for each in state.workers.values()]
    return {
        "jobs": jobs,
        "attempts": attempts,
        "cancelled": sorted(cancelled, key=lambda row: (row["job_id"], row["lsn"], row["place"])),
        "running": running,
        "workers": workers,
        "worker_events": happened,
    }


def _cancelled_tasks(job: Any) -> int:
    """How many were cancelled while they waited."""
    return len(job.cancelled) if job is not None and job.cancelled is not None else 0


def _cancelled(state: ClusterState, number: int, event: Any, tasks: int) -> dict[str, Any]:
    job = state.jobs[event.job_id]
    return {
        "job_id": job.job_id,
        "lsn": state.lsn,
        "place": number,
        "tasks": tasks,
        "name": job.name,
        "user_name": job.user,
        "reason": {
            "CancelRequested": "CANCELLED",
            "DependencyFailed": "DEPENDENCY_FAILED",
            "DeadlinePassed": "DEADLINE",
        }[type(event).__name__],
        "submit_time": job.submit_us / 1e6,
        "end_time": state.time_us / 1e6,
        "cpus": job.demand.cpus_milli / 1000,
        "memory_bytes": job.demand.memory_bytes,
    }


def _job(message: Any, job: Any) -> dict[str, Any]:
    has_ended = job.has_ended
    tasks = message.tasks
    return {
        "job_id": message.job_id,
        "name": message.name,
        "user_name": message.user,
        "command": json.dumps([word.decode() for word in message.command]),
        "cwd": message.cwd.decode(),
        "cpus": message.resources.cpus_milli / 1000,
        "memory_bytes": message.resources.memory_bytes,
        "resources": json.dumps(dict(message.resources.named), sort_keys=True),
        "priority": message.priority,
        "time_limit_seconds": message.time_limit_ms / 1000 or None,
        "array": ",".join(_indexes(range(each.start, each.stop, each.step))
                          for each in message.array) or None,
        "tasks": tasks.pending + tasks.scheduled + tasks.running + tasks.completed + tasks.failed
        + tasks.cancelled,
        "tasks_completed": tasks.completed,
        "tasks_failed": tasks.failed,
        "tasks_cancelled": tasks.cancelled,
        "attempts": message.attempts_total,
        "state": State(message.state).name,
        "reason": _reason(message) if has_ended else None,
        "exit_code": message.exit_code if message.HasField("exit_code") else None,
        "signal": message.signal if message.HasField("signal") else None,
        "submit_time": message.submit_us / 1e6,
        "start_time": message.start_us / 1e6 or None,
        "end_time": message.end_us / 1e6 if has_ended else None,
        "submit_lsn": job.submit_lsn,
    }  # fmt: skip


def _reason(message: Any) -> str | None:
    name = types_pb2.Reason.Name(message.reason).removeprefix("REASON_")
    return None if name == "UNSPECIFIED" else name


def _indexes(each: range) -> str:
    if len(each) == 1:
        return str(each[0])
    return f"{each[0]}-{each[-1]}" + (f":{each.step}" if each.step > 1 else "")


def _attempt(job: Any, message: Any, worker: str, since_us: int, lsn: int) -> dict[str, Any]:
    ran = bool(message.start_us)
    return {
        "job_id": job.job_id,
        "task_index": message.index,
        "attempt": message.attempt,
        "name": job.name,
        "user_name": job.user,
        "worker": worker,
        "state": State(message.state).name,
        "reason": _reason(message),
        "detail": message.detail or None,
        "exit_code": message.exit_code if message.HasField("exit_code") else None,
        "signal": message.signal if message.HasField("signal") else None,
        "submit_time": job.submit_us / 1e6,
        "start_time": message.start_us / 1e6 if ran else None,
        "end_time": message.end_us / 1e6,
        "wait_seconds": max(0, message.start_us - since_us) / 1e6 if ran else None,
        "run_seconds": max(0, message.end_us - message.start_us) / 1e6 if ran else None,
        "cpu_user_seconds": message.cpu_user_us / 1e6,
        "cpu_system_seconds": message.cpu_system_us / 1e6,
        "max_rss_bytes": message.max_rss_bytes,
        "cpus": job.resources.cpus_milli / 1000,
        "memory_bytes": job.resources.memory_bytes,
        "stdout_path": message.stdout_path.decode() if ran else None,
        "stderr_path": message.stderr_path.decode() if ran else None,
        "lsn": lsn,
    }


def _running(job: Any, message: Any) -> dict[str, Any]:
    return {
        "job_id": job.job_id,
        "task_index": message.index,
        "attempt": message.attempt,
        "name": job.name,
        "user_name": job.user,
        "worker": message.worker,
        "submit_time": job.submit_us / 1e6,
        "start_time": message.start_us / 1e6,
        "cpus": job.resources.cpus_milli / 1000,
        "memory_bytes": job.resources.memory_bytes,
    }


def _worker(worker: Any) -> dict[str, Any]:
    return {
        "number": worker.number,
        "worker_id": worker.worker_id.hex(),
        "name": worker.name,
        "address": worker.address,
        "state": WorkerState(worker.state).name,
        "draining": worker.drain is not None or worker.is_stopping,
        "cpus": worker.capacity.cpus_milli / 1000,
        "memory_bytes": worker.capacity.memory_bytes,
        "resources": json.dumps(dict(worker.capacity.named), sort_keys=True),
        "labels": json.dumps(dict(worker.labels), sort_keys=True),
        "version": worker.version,
    }


def _worker_event(state: ClusterState, number: int, event: Any) -> dict[str, Any]:
    words = type(event).__name__.removeprefix("Worker").upper()
    return {
        "lsn": state.lsn,
        "place": number,
        "time": state.time_us / 1e6,
        "number": event.worker,
        "worker": state.get_worker(event.worker).name,
        "event": words,
        "cpus": 0.0
        if words in ("LOST", "DEREGISTERED")
        or state.get_worker(event.worker).state >= WorkerState.DISCONNECTED
        else state.get_worker(event.worker).capacity.cpus_milli / 1000,
        "reason": event._asdict().get("reason", ""),
        "user_name": event._asdict().get("user", ""),
    }
