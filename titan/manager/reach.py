"""Questions to workers, whether they are called or call."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
import grpc.aio

from titan.manager.dispatch import Dispatcher, open_worker_channel
from titan.manager.kernel.outbox import Outbox
from titan.manager.pull import OutputGone, Unanswered
from titan.manager.shell import Shell
from titan.rpc import access
from titan.rpc.v1 import manager_pb2, task_pb2, task_pb2_grpc


class Reach:
    """Asks the workers that have called in."""

    def __init__(self, shell: Shell, dispatcher: Dispatcher) -> None:
        self._shell = shell
        self._dispatcher = dispatcher

    async def read_output(
        self, outbox: Outbox, request: task_pb2.ReadOutputRequest
    ) -> AsyncIterator[manager_pb2.StreamOutputResponse]:
        """What a task wrote. Raises OutputGone where there is none, Unanswered, NotLeader."""
        if outbox.is_fetched:
            async for chunk in self._dispatcher.pull_line(outbox).read_output(request):
                yield chunk
            return
        try:
            async with self._open(outbox) as channel:
                stub = task_pb2_grpc.TaskServiceStub(channel)
                self._shell.check_leads()
                metadata = access.metadata(outbox.token)
                async for chunk in stub.StreamOutput(request, metadata=metadata):
                    yield chunk
        except grpc.aio.AioRpcError as error:
            if error.code() == grpc.StatusCode.NOT_FOUND:
                raise OutputGone(error.details() or "") from error
            raise Unanswered(f"at {outbox.address}: {error.details()}") from error

    async def get_status(
        self, outbox: Outbox, request: task_pb2.GetTaskStatusRequest
    ) -> task_pb2.GetTaskStatusResponse:
        """What tasks do at the moment, as long as the caller waits for it.

        Raises Unanswered, NotLeader.
        """
        if outbox.is_fetched:
            return await self._dispatcher.pull_line(outbox).get_status(request)
        try:
            async with self._open(outbox) as channel:
                stub = task_pb2_grpc.TaskServiceStub(channel)
                self._shell.check_leads()
                return await stub.GetTaskStatus(request, metadata=access.metadata(outbox.token))
        except grpc.aio.AioRpcError as error:
            raise Unanswered(f"at {outbox.address}: {error.details()}") from error

    def _open(self, outbox: Outbox) -> grpc.aio.Channel:
        return open_worker_channel(self._shell, outbox, self._dispatcher.files)
