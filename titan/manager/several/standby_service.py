"""What a manager answers that stands by: who leads, and reads that may be a little old.

Those who call are found out and let in as by the leader. A read says with `allow_stale` that it may
be answered from what the standby has read of the log; the answer carries the LSN up to which that
is. With `at_least_lsn` it waits a little for that record. All else is the leader's.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias, TypeVar

import grpc
import grpc.aio
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from titan import __version__
from titan.errors import NotLeader, TitanError
from titan.manager import permissions
from titan.manager.entry import Context, Entry
from titan.manager.leadership import Leadership, not_leader
from titan.manager.overview_service import in_steps
from titan.manager.past import FORGOTTEN, NOW_DEADLINE_SECONDS, PastDesk
from titan.manager.several.standby_view import StandbyView
from titan.manager.user_service import check_script
from titan.queries import reads
from titan.queries.requests import check_moment
from titan.queries.selection import JobForgotten
from titan.queries.tasks import list_tasks
from titan.queries.workflow import get_workflow
from titan.rpc.reading import READ_AT_ONCE, ReadingHandlers
from titan.rpc.v1 import manager_pb2, worker_pb2

# Longer a standby is rarely behind, and the leader has the record.
LSN_SECONDS: Final = 2.0

Response = TypeVar("Response", bound=Message)
Answered: TypeAlias = Response | Awaitable[Response]


def standby_handlers(
    entry: Entry, view: StandbyView, leadership: Leadership, past: PastDesk | None = None
) -> tuple[grpc.GenericRpcHandler, ...]:
    """For both services. `past` asks about the log of this manager's own directory."""
    reading = StandbyReads(view, leadership, past)
    gate = _StandbyGate(entry, view, leadership, reading)
    return (
        gate.handlers(manager_pb2.DESCRIPTOR.services_by_name["ManagerService"]),
        gate.handlers(worker_pb2.DESCRIPTOR.services_by_name["WorkerService"]),
    )


class StandbyReads:
    """The handlers, a method for each RPC of ManagerService that may be answered here."""

    def __init__(self, view: StandbyView, leadership: Leadership, past: PastDesk | None) -> None:
        self._view = view
        self._leadership = leadership
        self._past = past

    def GetJobStatus(  # noqa: N802  (gRPC's names)
        self, request: manager_pb2.GetJobStatusRequest
    ) -> Answered[manager_pb2.GetJobStatusResponse]:
        """One job and some of its attempts; workers are not asked what these use."""
        if request.HasField("at"):
            return self._past_status(request)
        try:
            status = reads.get_job_status(self._view.state, request)
        except JobForgotten as forgotten:
            wanted = manager_pb2.GetJobStatusRequest()
            wanted.CopyFrom(request)
            wanted.job.job_id = forgotten.job_id
            return self._forgotten_status(wanted)
        check_script(status)
        return status

    def ListJobs(  # noqa: N802
        self, request: manager_pb2.ListJobsRequest
    ) -> Answered[manager_pb2.ListJobsResponse]:
        """A page of jobs."""
        if request.HasField("at"):
            return self._ask("ListJobs", request, manager_pb2.ListJobsResponse)
        return reads.list_jobs(self._view.state, request)

    def ListWorkers(  # noqa: N802
        self, request: manager_pb2.ListWorkersRequest
    ) -> Answered[manager_pb2.ListWorkersResponse]:
        """The workers as the log knows them, without what only the leader has heard."""
        if request.HasField("at"):
            return self._ask("ListWorkers", request, manager_pb2.ListWorkersResponse)
        return reads.list_workers(self._view.state)

    def GetStats(  # noqa: N802
        self, request: manager_pb2.GetStatsRequest
    ) -> Answered[manager_pb2.GetStatsResponse]:
        """The cluster in numbers, and what this manager is."""
        if request.HasField("at"):
            return self._ask("GetStats", request, manager_pb2.GetStatsResponse)
        stats = reads.get_stats(self._view.state)
        stats.version = __version__
        stats.started_us = self._view.started_us
        stats.now_us = self._view.now_us()
        stats.term, stats.leader = self._leadership.term, self._leadership.leader
        stats.stands_by = True
        return stats

    def ListTasks(  # noqa: N802
        self, request: manager_pb2.ListTasksRequest
    ) -> Answered[manager_pb2.ListTasksResponse]:
        """The states of a job's tasks."""
        if request.HasField("at"):
            return self._ask("ListTasks", request, manager_pb2.ListTasksResponse)
        return self._list_tasks(request)

    def GetWorkflow(  # noqa: N802
        self, request: manager_pb2.GetWorkflowRequest
    ) -> Answered[manager_pb2.GetWorkflowResponse]:
        """A job and those that it hangs together with."""
        if request.HasField("at"):
            return self._ask("GetWorkflow", request, manager_pb2.GetWorkflowResponse)
        return in_steps(get_workflow(self._view.state, request))

    async def _list_tasks(
        self, request: manager_pb2.ListTasksRequest
    ) -> manager_pb2.ListTasksResponse:
        try:
            return await in_steps(list_tasks(self._view.state, request))
        except JobForgotten as forgotten:
            wanted = manager_pb2.ListTasksRequest()
            wanted.CopyFrom(request)
            wanted.job.job_id = forgotten.job_id
            response = await self._ask_forgotten(
                "ListForgottenTasks", wanted, manager_pb2.ListTasksResponse
            )
            response.lsn = self._view.lsn
            return response

    async def _past_status(
        self, request: manager_pb2.GetJobStatusRequest
    ) -> manager_pb2.GetJobStatusResponse:
        status = await self._ask("GetJobStatus", request, manager_pb2.GetJobStatusResponse)
        check_script(status)
        return status

    async def _forgotten_status(
        self, wanted: manager_pb2.GetJobStatusRequest
    ) -> manager_pb2.GetJobStatusResponse:
        status = await self._ask_forgotten(
            "GetForgottenJob", wanted, manager_pb2.GetJobStatusResponse
        )
        check_script(status)
        status.lsn = self._view.lsn
        return status

    async def _ask(self, method: str, request: Any, response_class: type[Response]) -> Response:
        check_moment(request.at)
        about = request.at.SerializeToString()
        reply = await self._desk().ask(method, request.SerializeToString(), about=about)
        return response_class.FromString(reply)

    async def _ask_forgotten(
        self, method: str, wanted: Message, response_class: type[Response]
    ) -> Response:
        reply = await self._desk().ask(
            method, wanted.SerializeToString(), about=FORGOTTEN, seconds=NOW_DEADLINE_SECONDS
        )
        return response_class.FromString(reply)

    def _desk(self) -> PastDesk:
        """Raises NotLeader where this manager has no log to look into."""
        if self._past is None:
            raise not_leader(self._leadership)
        return self._past


class _StandbyGate:
    """The one way in and out, as `gate.py` is of a manager that leads."""

    def __init__(
        self, entry: Entry, view: StandbyView, leadership: Leadership, reading: StandbyReads
    ) -> None:
        self._entry = entry
        self._view = view
        self._leadership = leadership
        self._reading = reading

    def handlers(self, service: ServiceDescriptor) -> grpc.GenericRpcHandler:
        """All methods of a service."""
        served = {method.name: self._handler(method) for method in service.methods}
        handlers = grpc.method_handlers_generic_handler(service.full_name, served)
        return ReadingHandlers(
            handlers, guard=self._lets_in, at_once=READ_AT_ONCE, whose=self._entry.whose
        )

    def _handler(self, method: MethodDescriptor) -> grpc.RpcMethodHandler[Any, Any]:
        name = method.name
        request_class: Any = GetMessageClass(method.input_type)
        response_class: Any = GetMessageClass(method.output_type)
        parse, serialize = request_class.FromString, response_class.SerializeToString
        handler = getattr(self._reading, name, None)
        if handler is not None:
            call = self._unary(name, handler)
            return grpc.unary_unary_rpc_method_handler(call, parse, serialize)
        make: Any = (
            grpc.unary_stream_rpc_method_handler
            if method.server_streaming
            else grpc.unary_unary_rpc_method_handler
        )
        unread: grpc.RpcMethodHandler[Any, Any] = make(_unread, parse, serialize)
        return unread

    def _lets_in(self, method: str, context: Context) -> bool:
        """Whether the call is to be read: not if it is the leader's."""
        if not self._entry.lets_in(method, context):
            return False
        if hasattr(self._reading, method):
            return True
        self._entry.send_away(method, context, not_leader(self._leadership))
        return False

    def _unary(
        self, method: str, handler: Callable[[Any], Any]
    ) -> Callable[[Any, Context], Awaitable[Any]]:
        async def call(request: Any, context: Context) -> Any:
            with self._entry.measure(method, context):
                try:
                    permissions.sign(request)
                    if not request.allow_stale:
                        raise not_leader(self._leadership)
                    await self._wait_lsn(request.at_least_lsn)
                    answer = handler(request)
                    reply = await answer if inspect.isawaitable(answer) else answer
                    self._check_open()
                except TitanError as error:
                    return self._entry.refuse(method, context, error)
                return reply

        return call

    async def _wait_lsn(self, lsn: int) -> None:
        """Until the state has that record. Raises NotLeader: the leader has it, or nobody."""
        try:
            async with asyncio.timeout(LSN_SECONDS):
                await self._view.wait_lsn(lsn)
        except TimeoutError:
            raise NotLeader(
                f"this manager stands by and has read up to {self._view.lsn}, before {lsn}",
                leader=self._leadership.leader,
            ) from None
        self._check_open()

    def _check_open(self) -> None:
        """Raises NotLeader once the state is that of a manager that has just begun to lead."""
        if self._view.is_closed:
            raise not_leader(self._leadership)


async def _unread(request: object, context: object) -> None:
    """In place of a handler: no call gets so far."""
    raise AssertionError((request, context))
