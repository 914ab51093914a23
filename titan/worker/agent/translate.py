"""Between the generated messages of the wire and the worker's own: nothing is decided here."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Final, cast

from titan.checks import (
    NAME_LENGTH_MAX,
    check_command,
    check_directory,
    check_execution,
    check_resources,
    check_script,
    check_secret_names,
    check_secret_values,
    check_time_limit,
    check_variables,
)
from titan.errors import InvalidJob
from titan.model import (
    GRACE_MS_MAX,
    SIGNAL_MAX,
    SIGTERM,
    TIME_LIMIT_MS_MAX,
    AttemptKey,
    Held,
    HeldState,
    Resources,
    State,
    Stop,
    StopMode,
    named_resources,
)
from titan.rpc.execution import execution_of_message
from titan.rpc.v1 import manager_pb2, task_pb2, types_pb2, worker_pb2
from titan.worker.agent import actions
from titan.worker.agent.node import Statistics
from titan.worker.agent.usage import Usage
from titan.worker.host.direct_book import LIVE_MAX, is_direct
from titan.worker.messages import (
    Description,
    Environment,
    Fetched,
    Launch,
    Report,
    Start,
    StartBatch,
    Variables,
)


class BadMessage(Exception):
    """What was sent makes no sense; the text says what."""


def start_batch_of(request: task_pb2.StartTaskRequest) -> StartBatch:
    """The batch of a StartTask. Raises BadMessage."""
    batch = StartBatch(
        tuple(map(_environment_of, request.environments)),
        _launches_of(request.specs),
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
    return tuple(map(_stop_of, request.stops))


def _stop_of(stop: task_pb2.TaskStop) -> Stop:
    if not 0 <= stop.time_limit_ms <= TIME_LIMIT_MS_MAX:
        raise BadMessage(f"{stop.time_limit_ms} ms is no time limit: they are 0 to ten years")
    try:
        mode = StopMode(stop.mode)
    except ValueError as error:
        raise BadMessage(str(error)) from error
    signal = stop.signal or SIGTERM
    return Stop(key_of(stop.key), mode, stop.grace_ms, signal, stop.time_limit_ms)


def direct_launches_of(
    request: task_pb2.StartTaskRequest,
) -> tuple[tuple[Environment, ...], tuple[Launch, ...]]:
    """What a StartTask without a session wants started. Raises BadMessage."""
    if request.starts or request.slots or request.dispatch_seq:
        raise BadMessage("without a session there are no starts, slots and dispatch_seq")
    if not 0 < len(request.specs) <= LIVE_MAX:
        raise BadMessage(f"without a session there are 1 to {LIVE_MAX} specs")
    environments = tuple(map(_environment_of, request.environments)) or (Environment((), ()),)
    try:
        for environment in environments:
            check_variables((*environment.exported, *environment.chosen))
            names = tuple(name for name, _ in environment.secrets)
            check_secret_names(names, environment.chosen)
            check_secret_values(environment.secrets)
        launches = tuple(map(_direct_launch_of, request.specs))
        if any(launch.environment >= len(environments) for launch in launches):
            raise BadMessage("a spec names an environment that is not in the request")
        for launch in launches:
            script = environments[launch.environment].script
            check_script(launch.execution, launch.command, script)
    except InvalidJob as error:
        raise BadMessage(str(error)) from error
    return environments, launches


def _direct_launch_of(spec: task_pb2.TaskSpec) -> Launch:
    if spec.epoch or spec.job_id or spec.class_id or spec.array_count:
        raise BadMessage("epoch, job_id, class_id and array_count are the worker's to give")
    (launch,) = _launches_of([spec])
    if launch.at_most_once:
        raise BadMessage("without a session nothing runs a second time: leave at_most_once out")
    if launch.execution.run_as:
        raise BadMessage("without a session nobody's name is proven: leave run_as out")
    if launch.named:
        raise BadMessage("without a session there are no named resources: the manager gives them")
    check_command(launch.command)
    check_directory(launch.cwd or b"/")
    check_time_limit(
        launch.time_limit_ms, launch.grace_ms, launch.end_signal, launch.end_signal_before_ms
    )
    # A program need not say what it uses; what it says must be possible.
    asked = Resources(spec.resources.cpus_milli or 1, spec.resources.memory_bytes)
    check_resources(asked)
    check_execution(launch.execution, asked)
    name = spec.name or os.path.basename(launch.command[0]).decode(errors="replace")
    return launch._replace(job_name=name[:NAME_LENGTH_MAX])


def direct_stops_of(request: task_pb2.StopTaskRequest) -> tuple[Stop, ...]:
    """What a StopTask without a session wants stopped. Raises BadMessage."""
    if request.dispatch_seq:
        raise BadMessage("without a session there is no dispatch_seq")
    stops = stops_of(request)
    for stop in stops:
        if stop.mode is not StopMode.CANCEL:
            raise BadMessage("without a session only STOP_CANCEL can be asked for")
        if not 0 <= stop.grace_ms <= GRACE_MS_MAX:
            raise BadMessage("a grace is 0 to one day")
        if not 1 <= stop.signal <= SIGNAL_MAX:
            raise BadMessage(f"{stop.signal} is no signal: they are 1 to {SIGNAL_MAX}")
        if not is_direct(stop.key):
            raise BadMessage(
                f"task {stop.key.job_id}.{stop.key.index} is its manager's to stop: use "
                "`titan cancel`"
            )
    return stops


def status_message(
    found: Description, paths: tuple[bytes, bytes], usage: Usage | None
) -> task_pb2.TaskStatus:
    """What is told of an attempt; `usage` is what its processes use, while it runs."""
    end = found.end
    message = task_pb2.TaskStatus(
        key=key_message(found.key),
        command=found.command,
        cwd=found.cwd,
        stdout_path=paths[0],
        stderr_path=paths[1],
        state=types_pb2.RUNNING if found.state is HeldState.RUNNING else types_pb2.SCHEDULED,
        pid=found.pid,
        start_us=found.start_us,
    )
    if usage is not None:
        message.cpu_user_us, message.cpu_system_us = usage.cpu_user_us, usage.cpu_system_us
        message.rss_bytes, message.max_rss_bytes = usage.rss_bytes, usage.max_rss_bytes
        message.processes = usage.processes
    if end is not None:
        message.state = _state_of_end(end)
        message.reason = cast("types_pb2.Reason.ValueType", int(end.reason))
        message.detail = end.detail
        message.end_us = end.end_us
        message.cpu_user_us, message.cpu_system_us = end.cpu_user_us, end.cpu_system_us
        message.max_rss_bytes = end.max_rss_bytes
        if end.exit_code is not None:
            message.exit_code = end.exit_code
        if end.signal is not None:
            message.signal = end.signal
    return message


def _state_of_end(end: Report) -> types_pb2.State.ValueType:
    state = State.RECALLED if end.state is None else end.state
    return cast("types_pb2.State.ValueType", int(state))


def key_of(key: types_pb2.AttemptKey) -> AttemptKey:
    """The key in Titan's own type."""
    return AttemptKey(key.epoch, key.job_id, key.index, key.attempt)


def resources_message(resources: Resources) -> types_pb2.Resources:
    """Resources on the wire."""
    return types_pb2.Resources(
        cpus_milli=resources.cpus_milli,
        memory_bytes=resources.memory_bytes,
        named=dict(resources.named),
    )


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
        fault=action.fault,
        wait_ms=action.wait_ms,
    )


def fetched_of(answer: worker_pb2.HeartbeatResponse) -> Fetched:
    """What the answer to a heartbeat brings. Raises BadMessage."""
    fetched = Fetched(answer.cannot_call, answer.waited)
    if answer.HasField("start"):
        batch = start_batch_of(answer.start)
        return fetched._replace(dispatch_seq=answer.start.dispatch_seq, start=batch)
    if answer.HasField("stop"):
        stops = stops_of(answer.stop)
        return fetched._replace(dispatch_seq=answer.stop.dispatch_seq, stops=stops)
    return fetched


def held(value: Held) -> worker_pb2.Held:
    """The list of attempts held."""
    return worker_pb2.Held(
        attempts=[
            worker_pb2.HeldAttempt(
                key=key_message(attempt.key),
                state=cast("worker_pb2.HeldState.ValueType", int(attempt.state)),
                start_us=attempt.start_us,
            )
            for attempt in value.attempts
        ],
        dispatch_seq=value.dispatch_seq,
        report_seq=value.report_seq,
    )


def key_message(key: AttemptKey) -> types_pb2.AttemptKey:
    """The key on the wire."""
    epoch, job_id, index, attempt = key
    return types_pb2.AttemptKey(epoch=epoch, job_id=job_id, index=index, attempt=attempt)


_NO_STATE: Final = types_pb2.STATE_UNSPECIFIED


def _report(report: Report) -> worker_pb2.TaskReport:
    return worker_pb2.TaskReport(
        seq=report.seq,
        key=key_message(report.key),
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


def _launches_of(specs: Iterable[task_pb2.TaskSpec]) -> tuple[Launch, ...]:
    try:
        return tuple(map(_launch_of, specs))
    except ValueError as error:
        raise BadMessage(f"a spec is run in no known way: {error}") from error


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
        named_resources(spec.resources.named.items()),
        spec.at_most_once,
        spec.user,
        spec.traced,
    )


def _environment_of(message: types_pb2.Environment) -> Environment:
    return Environment(
        _variables_of(message.exported),
        _variables_of(message.set),
        message.script,
        _variables_of(message.secrets),
        message.secrets_fault,
    )


def _variables_of(variables: Iterable[types_pb2.Variable]) -> Variables:
    return tuple((each.name, each.value) for each in variables)
