"""The part of ManagerService that shows much at once: tasks, workflows, and what the log holds.

They change nothing. What takes a while is done in steps, between which the loop turns.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any, TypeVar

from google.protobuf.message import Message

from titan.manager.past import FORGOTTEN, NOW_DEADLINE_SECONDS, PastDesk
from titan.manager.shell import Shell
from titan.queries.requests import check_moment
from titan.queries.selection import JobForgotten
from titan.queries.tasks import list_tasks
from titan.queries.workflow import get_workflow
from titan.rpc.v1 import manager_pb2

Response = TypeVar("Response", bound=Message)


class OverviewService:
    """Three handlers of ManagerService."""

    def __init__(self, shell: Shell, past: PastDesk) -> None:
        self._shell = shell
        self._past = past

    async def ListTasks(  # noqa: N802  (gRPC's names)
        self, request: manager_pb2.ListTasksRequest
    ) -> manager_pb2.ListTasksResponse:
        """The states of a job's tasks."""
        if request.HasField("at"):
            return await self._ask("ListTasks", request, manager_pb2.ListTasksResponse)
        try:
            return await in_steps(list_tasks(self._shell.kernel.state, request))
        except JobForgotten as forgotten:
            wanted = manager_pb2.ListTasksRequest()
            wanted.CopyFrom(request)
            wanted.job.job_id = forgotten.job_id
            await self._shell.wait_durable(self._shell.lsn)
            reply = await self._past.ask(
                "ListForgottenTasks",
                wanted.SerializeToString(),
                about=FORGOTTEN,
                seconds=NOW_DEADLINE_SECONDS,
            )
            response = manager_pb2.ListTasksResponse.FromString(reply)
            response.lsn = self._shell.lsn
            return response

    async def GetWorkflow(  # noqa: N802
        self, request: manager_pb2.GetWorkflowRequest
    ) -> manager_pb2.GetWorkflowResponse:
        """A job and those that it hangs together with."""
        if request.HasField("at"):
            return await self._ask("GetWorkflow", request, manager_pb2.GetWorkflowResponse)
        return await in_steps(get_workflow(self._shell.kernel.state, request))

    async def GetLogRange(  # noqa: N802
        self, request: manager_pb2.GetLogRangeRequest
    ) -> manager_pb2.GetLogRangeResponse:
        """Which moments of the past can be asked about."""
        await self._shell.wait_durable(self._shell.lsn)
        reply = await self._past.ask("GetLogRange", request.SerializeToString())
        return manager_pb2.GetLogRangeResponse.FromString(reply)

    async def _ask(self, method: str, request: Any, response_class: type[Response]) -> Response:
        check_moment(request.at)
        await self._shell.wait_durable(self._shell.lsn)
        about = request.at.SerializeToString()
        reply = await self._past.ask(method, request.SerializeToString(), about=about)
        return response_class.FromString(reply)


async def in_steps(steps: Generator[None, None, Response]) -> Response:
    """What they come to; the loop turns between two of them."""
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            answer: Response = stop.value
            return answer
        await asyncio.sleep(0)
