"""Between the generated messages of the wire and the worker's own: nothing is decided here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, cast

from titan.model import AttemptKey, Held, Stop, StopMode
from titan.rpc.execution import execution_of_message
from titan.rpc.v1 import manager_pb2, task_pb2, types_pb2, worker_pb2
from titan.worker import actions
from titan.worker.messages import Environment, Launch, Report, Start, StartBatch, Variables
from titan.worker.node import Statistics


class BadMessage(Exception):
    """The manager sent what makes no sense; the text says what."""


def start_batch_of(request: task_pb2.StartTaskRequest) -> StartBatch:
    """The batch of a StartTask. Raises BadMessage."""
    batch = StartBatch(
        tuple(
            Environment(_variables_of(each.exported), _variables_of(each.set))
            for each in request.environments
        ),
        tuple(map(_launch_of, request.specs)),
        tuple(Start(each.spec, each.index, each.attempt) for each in request.starts),
        tuple((each.class_id, each.slots) for each in request.slots),
    )
    launch_count, environment_count = len(batch.launches), len(batch.environments)
    if any(launch.environment >= environment_count for launch in batch.launches):
        raise BadMessage("a spec names an environment that is not in the batch")
    if any(start.launch >= launch_count for start in batch.starts):
        raise BadMessage("a start names a spec that is not in the batch")
    return batch


def stops_of(request: task_pb2.StopTaskRequest) -> tuple[Stop, ...]:
    """The stops of a StopTask. Raises BadMessage."""
    try:
        return tuple(
            Stop(key_of(each.key), StopMode(each.mode), each.grace_ms) for each in request.stops
        )
    except ValueError as error:
        raise BadMessage(str(error)) from error


def key_of(key: types_pb2.AttemptKey) -> AttemptKey:
    """The key in Titan's own type."""
    return AttemptKey(key.epoch, key.job_id, key.index, key.attempt)


def report_request(action: actions.SendReports) -> worker_pb2.ReportTaskStatusRequest:
    """The call that the action asks for."""
    return worker_pb2.ReportTaskStatusRequest(
        session=action.session,
        first_seq=action.first_seq,
        last_seq=action.last_seq,
        reports=map(_report, action.reports),
    )


def heartbeat_request(
    action: actions.SendHeartbeat, statistics: Statistics
) -> worker_pb2.HeartbeatRequest:
    """The call that the action asks for."""
    return worker_pb2.HeartbeatRequest(
        session=action.session,
        held=held(action.held),
        statistics=manager_pb2.NodeStatistics(**statistics._asdict()),
        stopping=action.is_stopping,
    )


def held(value: Held) -> worker_pb2.Held:
    """The list of attempts held."""
    return worker_pb2.Held(
        attempts=[
            worker_pb2.HeldAttempt(
                key=_key(attempt.key),
                state=cast("worker_pb2.HeldState.ValueType", int(attempt.state)),
                start_us=attempt.start_us,
            )
            for attempt in value.attempts
        ],
        dispatch_seq=value.dispatch_seq,
        report_seq=value.report_seq,
    )


def _key(key: AttemptKey) -> types_pb2.AttemptKey:
    epoch, job_id, index, attempt = key
    return types_pb2.AttemptKey(epoch=epoch, job_id=job_id, index=index, attempt=attempt)


_NO_STATE: Final = types_pb2.STATE_UNSPECIFIED


def _report(report: Report) -> worker_pb2.TaskReport:
    return worker_pb2.TaskReport(
        seq=report.seq,
        key=_key(report.key),
        kind=cast("worker_pb2.ReportKind.ValueType", int(report.kind)),
        state=_NO_STATE
        if report.state is None
        else cast("types_pb2.State.ValueType", int(report.state)),
        reason=cast("types_pb2.Reason.ValueType", int(report.reason)),
        exit_code=report.exit_code,
        signal=report.signal,
        start_us=report.start_us,
        end_us=report.end_us,
        cpu_user_us=report.cpu_user_us,
        cpu_system_us=report.cpu_system_us,
        max_rss_bytes=report.max_rss_bytes,
        detail=report.detail,
    )


def _launch_of(spec: task_pb2.TaskSpec) -> Launch:
    return Launch(
        spec.epoch,
        spec.job_id,
        spec.name,
        tuple(spec.command),
        spec.cwd,
        spec.environment,
        spec.resources.cpus_milli,
        spec.resources.memory_bytes,
        spec.class_id,
        spec.array_count,
        spec.time_limit_ms,
        spec.grace_ms,
        spec.end_signal,
        spec.end_signal_before_ms,
        execution_of_message(spec.execution),
    )


def _variables_of(variables: Iterable[types_pb2.Variable]) -> Variables:
    return tuple((each.name, each.value) for each in variables)
