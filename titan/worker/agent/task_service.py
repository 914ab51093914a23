"""What the worker serves to its manager and its user. Translates and asks; decides nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Protocol

import grpc
import grpc.aio

from titan.errors import InvalidJob
from titan.model import Stop
from titan.rpc.reading import READ_AT_ONCE, Guarding
from titan.rpc.v1 import manager_pb2, task_pb2, task_pb2_grpc
from titan.worker.agent import translate
from titan.worker.agent.callers import Callers
from titan.worker.agent.capacity import Offer, is_empty
from titan.worker.agent.core import Verdict
from titan.worker.agent.host_questions import HostQuestions, NotNow, TooMany
from titan.worker.agent.output_stream import NoOutput, OutputStreams
from titan.worker.agent.task_status import TaskStatuses
from titan.worker.messages import StartBatch


class NoSuchTask(Exception):
    """Nothing of that key is here; the text is a sentence for people."""


class TaskKeeper(Protocol):
    """What the service needs of the agent."""

    async def start(self, session: bytes, dispatch_seq: int, batch: StartBatch) -> Verdict:
        """Start tasks, once per batch."""
        ...

    async def stop(self, session: bytes, dispatch_seq: int, stops: tuple[Stop, ...]) -> Verdict:
        """Stop attempts, once per batch."""
        ...

    @property
    def offer(self) -> Offer:
        """What the worker offers now."""
        ...

    async def change_offer(self, offer: Offer) -> bool:
        """From now on it offers this. Whether the manager knows it already. Raises NotNow."""
        ...


class TaskService(task_pb2_grpc.TaskServiceServicer):
    """The servicer. Who may call is for `callers.py` to say, before it is read what.

    Calls with a session are the manager's and go to the agent; those without one are a
    user's own and go to the task host.
    """

    def __init__(
        self,
        keeper: TaskKeeper,
        questions: HostQuestions,
        outputs: OutputStreams,
        statuses: TaskStatuses,
    ) -> None:
        self._keeper = keeper
        self._questions = questions
        self._outputs = outputs
        self._statuses = statuses

    async def StartTask(  # noqa: N802 - the wire's name
        self,
        request: task_pb2.StartTaskRequest,
        context: grpc.aio.ServicerContext[task_pb2.StartTaskRequest, task_pb2.StartTaskResponse],
    ) -> task_pb2.StartTaskResponse:
        try:
            if not request.session:
                return await self._start_direct(request)
            batch = translate.start_batch_of(request)
        except (translate.BadMessage, NotNow) as error:
            await context.abort(_status_of(error), str(error))
        verdict = await self._keeper.start(request.session, request.dispatch_seq, batch)
        await _check(verdict, context)
        return task_pb2.StartTaskResponse()

    async def StopTask(  # noqa: N802 - the wire's name
        self,
        request: task_pb2.StopTaskRequest,
        context: grpc.aio.ServicerContext[task_pb2.StopTaskRequest, task_pb2.StopTaskResponse],
    ) -> task_pb2.StopTaskResponse:
        try:
            if not request.session:
                return await self._stop_direct(request)
            stops = translate.stops_of(request)
        except (translate.BadMessage, NotNow) as error:
            await context.abort(_status_of(error), str(error))
        except NoSuchTask as error:
            await context.abort(grpc.StatusCode.NOT_FOUND, str(error))
        verdict = await self._keeper.stop(request.session, request.dispatch_seq, stops)
        await _check(verdict, context)
        return task_pb2.StopTaskResponse()

    async def GetTaskStatus(  # noqa: N802 - the wire's name
        self,
        request: task_pb2.GetTaskStatusRequest,
        context: grpc.aio.ServicerContext[
            task_pb2.GetTaskStatusRequest, task_pb2.GetTaskStatusResponse
        ],
    ) -> task_pb2.GetTaskStatusResponse:
        try:
            return await self._statuses.get(request)
        except (translate.BadMessage, NotNow) as error:
            await context.abort(_status_of(error), str(error))
            raise AssertionError from error

    async def UpdateWorker(  # noqa: N802 - the wire's name
        self,
        request: task_pb2.UpdateWorkerRequest,
        context: grpc.aio.ServicerContext[
            task_pb2.UpdateWorkerRequest, task_pb2.UpdateWorkerResponse
        ],
    ) -> task_pb2.UpdateWorkerResponse:
        if is_empty(request):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "there is nothing to change")
        try:
            offer = self._keeper.offer.changed(request)
            is_registered = await self._keeper.change_offer(offer)
        except InvalidJob as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except NotNow as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
        return task_pb2.UpdateWorkerResponse(
            capacity=translate.resources_message(offer.capacity),
            labels=dict(offer.labels),
            registered=is_registered,
        )

    async def StreamOutput(  # noqa: N802 - the wire's name
        self,
        request: task_pb2.ReadOutputRequest,
        context: grpc.aio.ServicerContext[
            task_pb2.ReadOutputRequest, manager_pb2.StreamOutputResponse
        ],
    ) -> AsyncIterator[manager_pb2.StreamOutputResponse]:
        try:
            async for response in self._outputs.read(request):
                yield response
        except NoOutput as error:
            await context.abort(grpc.StatusCode.NOT_FOUND, str(error))

    async def _start_direct(self, request: task_pb2.StartTaskRequest) -> task_pb2.StartTaskResponse:
        environments, launches = translate.direct_launches_of(request)
        keys = await self._questions.start(environments, launches)
        return task_pb2.StartTaskResponse(keys=map(translate.key_message, keys))

    async def _stop_direct(self, request: task_pb2.StopTaskRequest) -> task_pb2.StopTaskResponse:
        stops = translate.direct_stops_of(request)
        if stops:
            keys = [stop.key for stop in stops]
            found = await self._questions.describe(keys, None, len(keys))
            known = {each.key for each in found.descriptions}
            unknown = [str(key.job_id) for key in keys if key not in known]
            if unknown and not found.is_cut:
                raise NoSuchTask(f"no program {', '.join(unknown)} was started here")
            self._questions.stop(stops)
        return task_pb2.StopTaskResponse()


def add_task_service(server: grpc.aio.Server, service: TaskService, callers: Callers) -> None:
    """Has the server serve it; the call of who may not make it is not read."""
    guarding: Any = Guarding(server, callers.lets_in, at_once=READ_AT_ONCE)
    task_pb2_grpc.add_TaskServiceServicer_to_server(service, guarding)


def _status_of(error: translate.BadMessage | NotNow) -> grpc.StatusCode:
    if isinstance(error, TooMany):
        return grpc.StatusCode.RESOURCE_EXHAUSTED
    if isinstance(error, NotNow):
        return grpc.StatusCode.UNAVAILABLE
    return grpc.StatusCode.INVALID_ARGUMENT


async def _check(verdict: Verdict, context: grpc.aio.ServicerContext[Any, Any]) -> None:
    if verdict in (Verdict.UNKNOWN_SESSION, Verdict.REGISTERING):
        await context.abort(
            grpc.StatusCode.FAILED_PRECONDITION, "this is not the session of this worker"
        )
    if verdict == Verdict.LEAVING:
        await context.abort(grpc.StatusCode.UNAVAILABLE, "this worker is leaving")
