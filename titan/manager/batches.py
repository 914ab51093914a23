"""Batches of an outbox as messages, however they get to the worker."""

from __future__ import annotations

from typing import cast

from titan.manager.kernel.outbox import Batch
from titan.rpc.execution import execution_message
from titan.rpc.v1 import task_pb2, types_pb2
from titan.state.cluster import ClusterState
from titan.trace_context import Sampler


def start_request_of(
    state: ClusterState, session: bytes, batch: Batch, sampler: Sampler | None = None
) -> tuple[task_pb2.StartTaskRequest, dict[int, bytes]]:
    """The message of a batch of starts; what tasks share is in it once.

    With a sampler, what becomes of tasks is exported as traces. Of secrets it has the names; with
    it come, by the environment's place, the ids of those whose values it lacks.
    """
    request = task_pb2.StartTaskRequest(session=session, dispatch_seq=batch.dispatch_seq)
    # An update gives a job another class; what was assigned before keeps the one that it had.
    specs: dict[tuple[int, int], int] = {}
    environments: dict[bytes, int] = {}
    for attempt in batch.starts:
        class_id = attempt.job_class.class_id
        spec = specs.get((attempt.job_id, class_id))
        if spec is None:
            spec = specs[attempt.job_id, class_id] = len(specs)
            _add_spec(state, request, attempt.job_id, class_id, environments, sampler)
        request.starts.add(spec=spec, index=attempt.index, attempt=attempt.attempt)
    for class_id, slots in batch.slots.items():
        request.slots.add(class_id=class_id, slots=slots)
    secret_ids = {
        place: secret_id
        for digest, place in environments.items()
        if (secret_id := state.environments[digest].secret_id)
    }
    return request, secret_ids


def stop_request_of(session: bytes, batch: Batch) -> task_pb2.StopTaskRequest:
    """The message of a batch of stops."""
    request = task_pb2.StopTaskRequest(session=session, dispatch_seq=batch.dispatch_seq)
    for stop in batch.stops:
        request.stops.add(
            key=types_pb2.AttemptKey(**stop.key._asdict()),
            mode=cast("task_pb2.StopMode.ValueType", int(stop.mode)),
            grace_ms=stop.grace_ms,
            signal=stop.signal,
            time_limit_ms=stop.time_limit_ms,
        )
    return request


def _add_spec(
    state: ClusterState,
    request: task_pb2.StartTaskRequest,
    job_id: int,
    class_id: int,
    environments: dict[bytes, int],
    sampler: Sampler | None,
) -> None:
    job = state.get_job(job_id)
    execution = job.execution
    if sampler is not None:
        context = sampler.context_of(execution.trace_parent, job.epoch, job_id)
        execution = execution._replace(trace_parent=context.header())
    environment = environments.get(job.environment)
    if environment is None:
        environment = environments[job.environment] = len(environments)
        stored = state.environments[job.environment]
        message = request.environments.add()
        for name, value in stored.exported:
            message.exported.add(name=name, value=value)
        for name, value in stored.set:
            message.set.add(name=name, value=value)
        message.script = stored.script
        for name in stored.secret_names:
            message.secrets.add(name=name)
    request.specs.add(
        epoch=job.epoch,
        job_id=job_id,
        name=job.name,
        user=job.user,
        command=job.command,
        cwd=job.cwd,
        environment=environment,
        resources=types_pb2.Resources(
            cpus_milli=job.demand.cpus_milli,
            memory_bytes=job.demand.memory_bytes,
            named=dict(job.demand.named),
        ),
        class_id=class_id,
        array_count=job.tasks_total if job.is_array else 0,
        time_limit_ms=job.time_limit_ms,
        grace_ms=job.grace_ms,
        end_signal=job.end_signal,
        end_signal_before_ms=job.end_signal_before_ms,
        execution=execution_message(execution),
        at_most_once=job.job_class.at_most_once,
        traced=sampler is not None,
    )
