"""What workers send into the kernel's commands, and what is wrong with it."""

from __future__ import annotations

from titan.errors import InvalidJob
from titan.manager.kernel import commands
from titan.manager.translate import resources_of
from titan.model import (
    SIGNAL_MAX,
    TIME_US_MAX,
    AttemptKey,
    Held,
    HeldAttempt,
    HeldState,
    Reason,
    ReportKind,
    Sandbox,
    State,
)
from titan.rpc.v1 import types_pb2, worker_pb2

# A sentence for people; the log keeps it for ever.
DETAIL_LENGTH_MAX = 300
REPORT_BYTES_MAX = 8 * 1024 * 1024
# What it was sent, and what ended there and is not acknowledged; beyond it something is wrong.
HELD_MAX = 100_000
EXIT_CODE_MAX = 255


def register_command(
    request: worker_pb2.RegisterWorkerRequest, *, new_worker_id: bytes, session: bytes
) -> commands.RegisterWorker:
    """A registration. Raises InvalidJob."""
    return commands.RegisterWorker(
        worker_id=request.worker_id,
        instance=request.instance,
        boot_id=request.boot_id,
        name=request.name,
        address=request.address,
        token=request.token,
        capacity=resources_of(request.capacity),
        labels=tuple(sorted(request.labels.items())),
        version=request.version,
        output_directory=request.output_directory,
        cluster_id=request.cluster_id,
        held=held_of(request.held),
        acknowledged_seq=request.acknowledged_seq,
        new_worker_id=new_worker_id,
        session=session,
        is_stopping=request.stopping,
        fault=request.fault[:DETAIL_LENGTH_MAX],
        limits=request.limits[:DETAIL_LENGTH_MAX],
        host_starts=request.host_starts,
        takes_secrets=request.takes_secrets,
        run_as=tuple(sorted((each.user, each.account) for each in request.run_as)),
        # A newer worker may have more.
        sandboxes=tuple(Sandbox(each) for each in sorted(request.sandboxes) if each in _SANDBOXES),
    )


def held_of(message: worker_pb2.Held) -> Held:
    """What a task host holds. Raises InvalidJob."""
    if len(message.attempts) > HELD_MAX:
        raise InvalidJob(f"a worker holds at most {HELD_MAX} attempts")
    try:
        attempts = tuple(
            HeldAttempt(_key(each.key), HeldState(each.state), _time(each.start_us))
            for each in message.attempts
        )
    except ValueError as error:
        raise InvalidJob(f"an attempt is held in no known state: {error}") from error
    return Held(attempts, message.dispatch_seq, message.report_seq)


def heartbeat_command(request: worker_pb2.HeartbeatRequest) -> commands.Heartbeat:
    """A heartbeat. Raises InvalidJob."""
    return commands.Heartbeat(
        session=request.session,
        held=held_of(request.held),
        is_stopping=request.stopping,
        fault=request.fault[:DETAIL_LENGTH_MAX],
    )


def report_command(request: worker_pb2.ReportTaskStatusRequest) -> commands.ReportTasks:
    """Reports. Raises InvalidJob."""
    if request.ByteSize() > REPORT_BYTES_MAX:
        raise InvalidJob(f"reports of more than {REPORT_BYTES_MAX} bytes in one call")
    return commands.ReportTasks(
        session=request.session,
        first_seq=request.first_seq,
        last_seq=request.last_seq,
        reports=tuple(map(_report, request.reports)),
        size_bytes=request.ByteSize(),
    )


def _report(message: worker_pb2.TaskReport) -> commands.Report:
    kind = _KINDS.get(message.kind)
    if kind is None:
        raise InvalidJob("a report of no known kind")
    if kind is not ReportKind.ENDED:
        start_us = _time(message.start_us)
        return commands.Report(message.seq, _key(message.key), kind, start_us=start_us)
    state, reason = _ENDS.get(message.state), _REASONS.get(message.reason)
    if state is None or reason is None:
        raise InvalidJob("a report of an end in no known state or for no known reason")
    signal = message.signal if message.HasField("signal") else -1
    if message.HasField("signal") and not 1 <= signal <= SIGNAL_MAX:
        raise InvalidJob("a report of an end by no known signal")
    if message.HasField("exit_code") and not 0 <= message.exit_code <= EXIT_CODE_MAX:
        raise InvalidJob(f"a report of an exit code beyond 0 to {EXIT_CODE_MAX}")
    if min(message.cpu_user_us, message.cpu_system_us, message.max_rss_bytes) < 0:
        raise InvalidJob("a report of an end that used less than nothing")
    return commands.Report(
        message.seq,
        _key(message.key),
        kind,
        state,
        reason,
        message.exit_code if message.HasField("exit_code") else -1,
        signal,
        _time(message.start_us),
        max(_time(message.end_us), message.start_us),
        message.cpu_user_us,
        message.cpu_system_us,
        message.max_rss_bytes,
        message.detail[:DETAIL_LENGTH_MAX],
    )


def _time(time_us: int) -> int:
    if not 0 <= time_us <= TIME_US_MAX:
        raise InvalidJob(f"a worker tells of the time {time_us}, which is none")
    return time_us


_SANDBOXES = [each.value for each in Sandbox if each is not Sandbox.NONE]
_KINDS = {kind.value: kind for kind in ReportKind}
_ENDS = {state.value: state for state in (State.COMPLETED, State.FAILED, State.CANCELLED)}
_REASONS = {reason.value: reason for reason in Reason}


def _key(message: types_pb2.AttemptKey) -> AttemptKey:
    return AttemptKey(message.epoch, message.job_id, message.index, message.attempt)
