"""Passes what tasks wrote from the worker that has it to whoever asks."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
import grpc.aio

from titan.errors import InvalidJob, NotFound, Refused
from titan.manager.feed import Watcher
from titan.manager.shell import Shell
from titan.model import TASK_ENDS, AttemptKey, State, task_name
from titan.rpc import access
from titan.rpc.channel import open_aio_channel
from titan.rpc.v1 import manager_pb2, task_pb2, task_pb2_grpc, types_pb2
from titan.state.job import Job


class OutputRelay:
    """Streams of output through one manager."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell

    async def stream(
        self, request: manager_pb2.StreamOutputRequest
    ) -> AsyncIterator[manager_pb2.StreamOutputResponse]:
        """What the attempt wrote; with `follow` on to the task's end over all attempts to come.

        Raises NotFound, InvalidJob, Refused where the worker is away.
        """
        if min(request.stdout_offset, request.stderr_offset, request.tail_lines) < 0:
            raise InvalidJob("offsets and the number of lines must not be negative")
        job: Job | None = self._shell.kernel.state.jobs.get(request.job_id)
        if job is None:
            raise NotFound(f"there is no job {request.job_id}")
        name = task_name(job.job_id, request.index, job.is_array)
        if job.find_task_state(request.index) is None:
            raise NotFound(f"there is no task {name}")
        watcher = Watcher(frozenset([job.job_id]))
        self._shell.feed.add(watcher)
        try:
            follows = request.follow and not request.attempt
            after = 0
            while True:
                place = _find_place(job, request.index, request.attempt, after)
                if place is not None:
                    attempt, number = place
                    async for chunk in self._read(request, job, attempt, number, after == 0):
                        yield chunk
                    after = attempt
                if not follows:
                    if place is None and request.attempt:
                        raise NotFound(f"task {name} has no attempt {request.attempt} that began")
                    return
                # It may have ended, and the end not be known here yet.
                while _find_place(job, request.index, 0, after) is None:
                    if job.find_task_state(request.index) in TASK_ENDS:
                        return
                    await watcher.wait_changed()
        finally:
            self._shell.feed.remove(watcher)

    async def _read(
        self,
        request: manager_pb2.StreamOutputRequest,
        job: Job,
        attempt: int,
        worker_number: int,
        is_first: bool,
    ) -> AsyncIterator[manager_pb2.StreamOutputResponse]:
        worker = self._shell.kernel.state.get_worker(worker_number)
        outbox = self._shell.kernel.outboxes.get(worker_number)
        name = task_name(job.job_id, request.index, job.is_array)
        if outbox is None:
            raise Refused(
                f"the output of {name} is on {worker.name}, which is {worker.state.name} "
                "or has not called in since the manager started"
            )
        wanted = task_pb2.ReadOutputRequest(
            key=types_pb2.AttemptKey(
                **AttemptKey(job.epoch, job.job_id, request.index, attempt)._asdict()
            ),
            streams=request.streams,
            stdout_offset=request.stdout_offset if is_first else 0,
            stderr_offset=request.stderr_offset if is_first else 0,
            tail_lines=request.tail_lines if is_first else 0,
            follow=request.follow,
        )
        try:
            async with open_aio_channel(outbox.address) as channel:
                stub = task_pb2_grpc.TaskServiceStub(channel)
                metadata = access.metadata(outbox.token)
                async for chunk in stub.StreamOutput(wanted, metadata=metadata):
                    chunk.attempt = attempt
                    yield chunk
        except grpc.aio.AioRpcError as error:
            if error.code() == grpc.StatusCode.NOT_FOUND:
                raise NotFound(
                    f"{worker.name} has no output of {name}: {error.details()}"
                ) from error
            raise Refused(
                f"the output of {name} is on {worker.name}, which does not answer at "
                f"{outbox.address}: {error.details()}"
            ) from error


def _find_place(job: Job, index: int, attempt: int, after: int) -> tuple[int, int] | None:
    """An attempt later than `after` that has begun and its worker's number: that, or the latest."""
    active = job.active.get(index)
    begun = [
        (record.attempt, record.worker)
        for record in (job.ended.of_index(index) if job.ended else ())
        if record.start_us
    ]
    if active is not None and active.state is State.RUNNING:
        begun.append((active.attempt, active.worker))
    chosen = [each for each in begun if each[0] > after and attempt in (0, each[0])]
    return max(chosen, default=None)
