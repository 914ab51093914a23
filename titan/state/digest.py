"""The state in one canonical form, and a digest of it.

Two states have the same digest when every later event would find them the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import msgpack

from titan.state.attempts import Attempt
from titan.state.cluster import ClusterState
from titan.state.job import Job
from titan.state.worker import ClassOnWorker, Worker


def digest(state: ClusterState) -> str:
    """32 hexadecimal digits. Costs a walk over the whole state."""
    return _digest(_parts(state))


def digest_of(state: ClusterState, jobs: Iterable[int], workers: Iterable[int]) -> str:
    """The same of these jobs and workers alone, as far as there are such, and of what is counted.

    Costs by them and by how many jobs there are.
    """
    job_parts = [_job(state.get_job(each)) for each in jobs if each in state.jobs]
    worker_parts = [_worker(state.workers[each]) for each in workers if each in state.workers]
    return _digest((_counts(state), *job_parts, *worker_parts))


def _digest(parts: Iterable[Any]) -> str:
    hasher = hashlib.blake2b(digest_size=16)
    packer = msgpack.Packer(use_bin_type=True)
    for part in parts:
        hasher.update(packer.pack(part))
    return hasher.hexdigest()


def _counts(state: ClusterState) -> Any:
    return (
        state.lsn,
        state.time_us,
        state.cluster_id,
        state.epoch,
        state.version,
        state.next_job_id,
        state.next_worker,
        state.next_class,
        state.round_robin,
        state.task_counts,
        state.job_counts,
        list(state.live_jobs),
        list(state.jobs.ended_ids()),
        state.jobs.ended_weight,
        sorted(state.last_job_of.items()),
        sorted(state.usage.user_cpus_milli.items()),
        state.policy,
        sorted(state.holds.items()),
        sorted((job_id, sorted(tasks.items())) for job_id, tasks in state.doomed.items()),
        sorted(state.overfailed),
        sorted(
            (job_id, index, sorted(others.items()))
            for job_id, by_index in state.dependents.items()
            for index, others in by_index.items()
        ),
    )


def _parts(state: ClusterState) -> Any:
    yield _counts(state)
    yield from (_job(job) for job in state.jobs.values())
    yield from (_worker(worker) for worker in state.workers.values())
    for each in state.classes.values():
        yield (
            each.class_id, each.key, each.run_us, each.samples, each.jobs, each.strays,
            list(each.pending_jobs), sorted(each.hosts),
        )  # fmt: skip
    yield from state.requests.entries()
    yield sorted(state.environment_jobs.items())
    yield from sorted(tuple(each) for each in state.environments.values())


def _job(job: Job) -> Any:
    return (
        job.job_id, job.epoch, job.name, job.command, job.cwd, job.environment, job.array,
        job.job_class.class_id, job.submit_us, job.submit_lsn, job.start_us, job.end_us,
        job.ended_us,
        _ranges(job.pending.ranges), _ranges(job.cancelled.ranges) if job.cancelled else [],
        [_attempt(each) for _, each in sorted(job.active.items())],
        bytes(job.ended.data) if job.ended else b"",
        sorted((job.ended.details or {}).items()) if job.ended else [],
        sorted((job.attempts_made or {}).items()), job.attempts_total, job.cancel_requested,
        job.lowest_failed, job.counts, job.changed_lsn,
        job.time_limit_ms, job.grace_ms, job.end_signal, job.end_signal_before_ms,
        job.execution,
        job.scheduling, job.cut_short,
        job.waits.fields() if job.waits is not None and not job.has_ended else None,
    )  # fmt: skip


def _attempt(each: Attempt) -> Any:
    return (
        each.job_id, each.index, each.attempt, each.worker, each.ahead, each.assigned_us,
        each.state, each.start_us, each.cancel_grace_ms, each.cancel_signal,
        each.recall_requested, each.job_class.class_id, each.limit_ms, each.since_us,
        each.preempt_grace_ms, each.suspended, each.was_suspended, each.limit_changed,
    )  # fmt: skip


def _worker(worker: Worker) -> Any:
    return (
        worker.number, worker.worker_id, worker.state, worker.last_heard_us, worker.instance,
        worker.boot_id, worker.name, worker.address, worker.labels, worker.version,
        worker.output_directory, worker.limits, worker.drain, worker.is_stopping, worker.fault,
        worker.capacity,
        worker.free, list(worker.attempts), sorted(worker.suspended), worker.exclusive,
        worker.limited, worker.preemptible,
        [(class_id, _class_here(here)) for class_id, here in sorted(worker.classes.items())],
    )  # fmt: skip


def _class_here(here: ClassOnWorker) -> Any:
    return here.slots, list(here.unstarted), list(here.ahead)


def _ranges(ranges: list[range]) -> Any:
    return [(each.start, each.stop, each.step) for each in ranges]
