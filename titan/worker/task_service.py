"""What the worker serves to its manager. Translates and asks the agent; decides nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Protocol

import grpc
import grpc.aio

from titan.model import Stop
from titan.rpc import access
from titan.rpc.v1 import manager_pb2, task_pb2, task_pb2_grpc
from titan.worker import translate
from titan.worker.core import Verdict
from titan.worker.messages import StartBatch
from titan.worker.output_stream import NoOutput, OutputStreams


class TaskKeeper(Protocol):
    """What the service needs of the agent."""

    async def start(self, session: bytes, dispatch_seq: int, batch: StartBatch) -> Verdict:
        """Start tasks, once per batch."""
        ...

    async def stop(self, session: bytes, dispatch_seq: int, stops: tuple[Stop, ...]) -> Verdict:
        """Stop attempts, once per batch."""
        ...


class TaskService(task_pb2_grpc.TaskServiceServicer):
    """The servicer. Every call must carry the token of the worker's access file."""

    def __init__(self, keeper: TaskKeeper, token: str, outputs: OutputStreams) -> None:
        self._keeper = keeper
        self._token = token
        self._outputs = outputs

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
        try:
            async for response in self._outputs.read(request):
                yield response
        except NoOutput as error:
            await context.abort(grpc.StatusCode.NOT_FOUND, str(error))

    async def _check_token(self, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        if not access.is_granted(context.invocation_metadata(), self._token):
            await context.abort(
                grpc.StatusCode.UNAUTHENTICATED,
                f"{access.no_token_text('worker')}; send it as {access.METADATA_KEY}",
            )


async def _check(verdict: Verdict, context: grpc.aio.ServicerContext[Any, Any]) -> None:
    if verdict in (Verdict.UNKNOWN_SESSION, Verdict.REGISTERING):
        await context.abort(
            grpc.StatusCode.FAILED_PRECONDITION, "this is not the session of this worker"
        )
    if verdict == Verdict.LEAVING:
        await context.abort(grpc.StatusCode.UNAVAILABLE, "this worker is leaving")
