"""What the worker serves to its manager. Translates and asks the agent; decides nothing."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final, Protocol

import grpc
import grpc.aio

from titan.model import AttemptKey, HeldAttempt, HeldState, Stop
from titan.rpc import access
from titan.rpc.v1 import manager_pb2, task_pb2, task_pb2_grpc
from titan.worker import translate
from titan.worker.core import Verdict
from titan.worker.messages import StartBatch
from titan.worker.output import OutputFile

# How often a followed file is looked at: what is written is seen within it.
FOLLOW_SECONDS: Final = 0.05

_SUFFIXES: Final = {manager_pb2.STDOUT: b"out", manager_pb2.STDERR: b"err"}


class TaskKeeper(Protocol):
    """What the service needs of the agent."""

    async def start(self, session: bytes, dispatch_seq: int, batch: StartBatch) -> Verdict:
        """Start tasks, once per batch."""
        ...

    async def stop(self, session: bytes, dispatch_seq: int, stops: tuple[Stop, ...]) -> Verdict:
        """Stop attempts, once per batch."""
        ...

    def find_held(self, key: AttemptKey) -> HeldAttempt | None:
        """The attempt, if it is held."""
        ...


class TaskService(task_pb2_grpc.TaskServiceServicer):
    """The servicer. Every call must carry the token that the manager got at registration."""

    def __init__(self, keeper: TaskKeeper, token: str, output_directory: Path) -> None:
        self._keeper = keeper
        self._token = token
        self._output_directory = os.fsencode(output_directory)

    async def StartTask(  # noqa: N802 - the wire's name
        self,
        request: task_pb2.StartTaskRequest,
        context: grpc.aio.ServicerContext[task_pb2.StartTaskRequest, task_pb2.StartTaskResponse],
    ) -> task_pb2.StartTaskResponse:
        await self._check_token(context)
        try:
            batch = translate.start_batch_of(request)
        except translate.BadMessage as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        verdict = await self._keeper.start(request.session, request.dispatch_seq, batch)
        await _check(verdict, context)
        return task_pb2.StartTaskResponse()

    async def StopTask(  # noqa: N802 - the wire's name
        self,
        request: task_pb2.StopTaskRequest,
        context: grpc.aio.ServicerContext[task_pb2.StopTaskRequest, task_pb2.StopTaskResponse],
    ) -> task_pb2.StopTaskResponse:
        await self._check_token(context)
        try:
            stops = translate.stops_of(request)
        except translate.BadMessage as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        verdict = await self._keeper.stop(request.session, request.dispatch_seq, stops)
        await _check(verdict, context)
        return task_pb2.StopTaskResponse()

    async def StreamOutput(  # noqa: N802 - the wire's name
        self,
        request: task_pb2.ReadOutputRequest,
        context: grpc.aio.ServicerContext[
            task_pb2.ReadOutputRequest, manager_pb2.StreamOutputResponse
        ],
    ) -> AsyncIterator[manager_pb2.StreamOutputResponse]:
        await self._check_token(context)
        key = translate.key_of(request.key)
        offsets = {
            manager_pb2.STDOUT: request.stdout_offset,
            manager_pb2.STDERR: request.stderr_offset,
        }
        files = {
            stream: OutputFile(self._output_directory, key, suffix, offsets[stream])
            for stream, suffix in _SUFFIXES.items()
            if not request.streams or stream in request.streams
        }
        try:
            is_there = any(file.open() for file in files.values())
            if not is_there and self._keeper.find_held(key) is None:
                sentence = (
                    f"no output of attempt {key.attempt} of task {key.job_id}.{key.index} here"
                )
                await context.abort(grpc.StatusCode.NOT_FOUND, sentence)
            if request.tail_lines > 0:
                for file in files.values():
                    await asyncio.to_thread(file.seek_tail, request.tail_lines)
            async for response in self._read(request, key, files):
                yield response
        finally:
            for file in files.values():
                file.close()

    async def _read(
        self,
        request: task_pb2.ReadOutputRequest,
        key: AttemptKey,
        files: dict[manager_pb2.OutputStream.ValueType, OutputFile],
    ) -> AsyncIterator[manager_pb2.StreamOutputResponse]:
        while True:
            # Asked before reading: what an ended attempt wrote is all there.
            held = self._keeper.find_held(key)
            is_over = held is None or held.state == HeldState.ENDED
            while True:
                grown = [(stream, file) for stream, file in files.items() if file.has_more()]
                for stream, file in grown:
                    offset = file.offset
                    data = await asyncio.to_thread(file.read)
                    yield manager_pb2.StreamOutputResponse(
                        stream=stream, offset=offset, data=data, attempt=key.attempt
                    )
                if not grown:
                    break
            if is_over or not request.follow:
                return
            await asyncio.sleep(FOLLOW_SECONDS)

    async def _check_token(self, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        if not access.is_granted(context.invocation_metadata(), self._token):
            await context.abort(
                grpc.StatusCode.UNAUTHENTICATED, "only the manager of this worker may call it"
            )


async def _check(verdict: Verdict, context: grpc.aio.ServicerContext[Any, Any]) -> None:
    if verdict in (Verdict.UNKNOWN_SESSION, Verdict.REGISTERING):
        await context.abort(
            grpc.StatusCode.FAILED_PRECONDITION, "this is not the session of this worker"
        )
    if verdict == Verdict.LEAVING:
        await context.abort(grpc.StatusCode.UNAVAILABLE, "this worker is leaving")
