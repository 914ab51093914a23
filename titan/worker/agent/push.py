"""Answers that a worker which cannot be called brings to its manager: output, and what tasks do.

Each question is asked again until its answer comes, under the same number: one that is being
answered is passed over.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final

import grpc
import grpc.aio

from titan.rpc.v1 import task_pb2, worker_pb2
from titan.worker.agent.host_questions import NotNow
from titan.worker.agent.manager_link import CallFailed, ManagerLink, OutputCall
from titan.worker.agent.output_stream import NoOutput, OutputStreams
from titan.worker.agent.task_status import TaskStatuses
from titan.worker.agent.translate import BadMessage

# Beyond it a question has to wait: the manager asks again, and gives up after a while.
AT_ONCE_MAX: Final = 256

_log = logging.getLogger("titan.worker")

Spawn = Callable[[Coroutine[Any, Any, None]], object]


class Pusher:
    """Answers the questions that come with the answers to heartbeats."""

    def __init__(
        self, manager: ManagerLink, outputs: OutputStreams, statuses: TaskStatuses, spawn: Spawn
    ) -> None:
        """`spawn` runs a coroutine until its end or that of the agent."""
        self._manager = manager
        self._outputs = outputs
        self._statuses = statuses
        self._spawn = spawn
        self._under_way: set[tuple[bytes, int]] = set()

    def answer(self, session: bytes, asked: worker_pb2.HeartbeatResponse) -> None:
        """Begin to answer what is not being answered yet."""
        for output in asked.outputs:
            if self._take(session, output.number):
                self._spawn(self._push_output(session, output.number, output.request))
        for status in asked.statuses:
            if self._take(session, status.number):
                self._spawn(self._push_status(session, status.number, status.request))

    def _take(self, session: bytes, number: int) -> bool:
        if (session, number) in self._under_way or len(self._under_way) >= AT_ONCE_MAX:
            return False
        self._under_way.add((session, number))
        return True

    async def _push_output(
        self, session: bytes, number: int, request: task_pb2.ReadOutputRequest
    ) -> None:
        try:
            call = self._manager.push_output()
            sending = asyncio.create_task(self._send(call, session, number, request))
            # It ends before all is sent when nobody reads it any more.
            ended = asyncio.create_task(call.code())
            try:
                await asyncio.wait({sending, ended}, return_when=asyncio.FIRST_COMPLETED)
                if sending.done():
                    await sending
                    await ended
            finally:
                sending.cancel()
                ended.cancel()
                await asyncio.gather(sending, ended, return_exceptions=True)
                call.cancel()
        except (CallFailed, grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
            _log.info("output that the manager asked for was not sent: %s", error)
        finally:
            self._under_way.discard((session, number))

    async def _send(
        self, call: OutputCall, session: bytes, number: int, request: task_pb2.ReadOutputRequest
    ) -> None:
        await call.write(worker_pb2.PushOutputRequest(session=session, number=number))
        end = worker_pb2.PushOutputEnd()
        try:
            async for chunk in self._outputs.read(request):
                await call.write(worker_pb2.PushOutputRequest(chunk=chunk))
        except NoOutput as error:
            end = worker_pb2.PushOutputEnd(failure=str(error), not_found=True)
        except OSError as error:
            end = worker_pb2.PushOutputEnd(failure=str(error))
        await call.write(worker_pb2.PushOutputRequest(end=end))
        await call.done_writing()

    async def _push_status(
        self, session: bytes, number: int, request: task_pb2.GetTaskStatusRequest
    ) -> None:
        try:
            status = await self._statuses.get(request)
            answer = worker_pb2.PushTaskStatusRequest(session=session, number=number, status=status)
            await self._manager.push_status(answer)
        except (BadMessage, NotNow, CallFailed) as error:
            _log.info("what tasks do was asked and not told: %s", error)
        finally:
            self._under_way.discard((session, number))
