"""Brings the outboxes' batches to the workers.

One call is under way for each worker; what gathers meanwhile goes in the next.
"""

from __future__ import annotations

import asyncio
import logging
import random
from typing import Final

import grpc
import grpc.aio

from titan.manager.kernel.outbox import Batch, Outbox
from titan.manager.shell import Shell
from titan.model import StopMode
from titan.rpc import access
from titan.rpc.channel import open_aio_channel
from titan.rpc.execution import execution_message
from titan.rpc.v1 import task_pb2, task_pb2_grpc, types_pb2
from titan.state.cluster import ClusterState

_log = logging.getLogger("titan.dispatch")

CALL_SECONDS: Final = 10.0
BACKOFF_SECONDS_MIN: Final = 0.05
BACKOFF_SECONDS_MAX: Final = 2.0


class Dispatcher:
    """A line to each worker that has called in; lines end with their sessions."""

    def __init__(self) -> None:
        self._shell: Shell | None = None
        self._lines: dict[bytes, _Line] = {}

    def bind(self, shell: Shell) -> None:
        """Whose outboxes they are; before the first `wake`."""
        self._shell = shell

    def wake(self, outbox: Outbox) -> None:
        """The outbox has something to send."""
        assert self._shell is not None
        line = self._lines.get(outbox.session)
        if line is None:
            line = self._lines[outbox.session] = _Line(outbox, self._shell)
            line.task.add_done_callback(lambda _: self._lines.pop(outbox.session, None))
        line.wake()

    async def close(self) -> None:
        """Ends all lines."""
        tasks = [line.task for line in self._lines.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Line:
    """The calls of one session, in order."""

    def __init__(self, outbox: Outbox, shell: Shell) -> None:
        self._outbox = outbox
        self._shell = shell
        self._woken = asyncio.Event()
        self._backoff_seconds = 0.0
        self.task = asyncio.create_task(self._run())

    def wake(self) -> None:
        self._woken.set()

    @property
    def _is_current(self) -> bool:
        return self._shell.kernel.sessions.get(self._outbox.session) is self._outbox

    async def _run(self) -> None:
        async with open_aio_channel(self._outbox.address) as channel:
            stub = task_pb2_grpc.TaskServiceStub(channel)
            while self._is_current:
                batch = self._outbox.next_batch(self._shell.kernel.state)
                if batch is None:
                    self._woken.clear()
                    # Looks up now and then so that it ends with its session.
                    await _wait(self._woken, CALL_SECONDS)
                elif not await self._send(stub, batch):
                    await asyncio.sleep(self._backoff_seconds * random.uniform(0.5, 1.0))

    async def _send(self, stub: task_pb2_grpc.TaskServiceAsyncStub, batch: Batch) -> bool:
        state = self._shell.kernel.state
        metadata = access.metadata(self._outbox.token)
        try:
            if batch.stops:
                stop_request = stop_request_of(self._outbox.session, batch)
                await self._shell.wait_durable(self._shell.lsn)
                await stub.StopTask(stop_request, timeout=CALL_SECONDS, metadata=metadata)
            else:
                start_request = start_request_of(state, self._outbox.session, batch)
                await self._shell.wait_durable(self._shell.lsn)
                await stub.StartTask(start_request, timeout=CALL_SECONDS, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            self._outbox.failed(batch, state)
            self._backoff_seconds = min(
                max(self._backoff_seconds * 2, BACKOFF_SECONDS_MIN), BACKOFF_SECONDS_MAX
            )
            _log.warning(
                "a batch did not get through worker=%s address=%s status=%s detail=%r",
                state.get_worker(self._outbox.worker).name,
                self._outbox.address,
                error.code().name,
                error.details(),
            )
            return False
        self._outbox.acknowledged(batch)
        self._backoff_seconds = 0.0
        return True


def start_request_of(
    state: ClusterState, session: bytes, batch: Batch
) -> task_pb2.StartTaskRequest:
    """The message of a batch of starts; what tasks share is in it once."""
    request = task_pb2.StartTaskRequest(session=session, dispatch_seq=batch.dispatch_seq)
    specs: dict[int, int] = {}
    environments: dict[bytes, int] = {}
    for attempt in batch.starts:
        spec = specs.get(attempt.job_id)
        if spec is None:
            spec = specs[attempt.job_id] = len(specs)
            _add_spec(state, request, attempt.job_id, environments)
        request.starts.add(spec=spec, index=attempt.index, attempt=attempt.attempt)
    for class_id, slots in batch.slots.items():
        request.slots.add(class_id=class_id, slots=slots)
    return request


def stop_request_of(session: bytes, batch: Batch) -> task_pb2.StopTaskRequest:
    """The message of a batch of stops."""
    request = task_pb2.StopTaskRequest(session=session, dispatch_seq=batch.dispatch_seq)
    for stop in batch.stops:
        recall = stop.mode is StopMode.RECALL
        request.stops.add(
            key=types_pb2.AttemptKey(**stop.key._asdict()),
            mode=task_pb2.STOP_RECALL if recall else task_pb2.STOP_CANCEL,
            grace_ms=stop.grace_ms,
            signal=stop.signal,
        )
    return request


def _add_spec(
    state: ClusterState,
    request: task_pb2.StartTaskRequest,
    job_id: int,
    environments: dict[bytes, int],
) -> None:
    job = state.get_job(job_id)
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
        class_id=job.job_class.class_id,
        array_count=job.tasks_total if job.is_array else 0,
        time_limit_ms=job.time_limit_ms,
        grace_ms=job.grace_ms,
        end_signal=job.end_signal,
        end_signal_before_ms=job.end_signal_before_ms,
        execution=execution_message(job.execution),
    )


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
