"""Calls to the manager that wait by awaiting; `session.py` is the same for threads.

Everything that decides is in `retry.py` and `cursors.py`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from typing import Self, TypeAlias, TypeVar

import grpc
import grpc.aio

from titan.client import retry
from titan.client.connection import (
    NOTHING_SAID,
    Access,
    Credentials,
    Notice,
    Outage,
    failure_of,
    manager_addresses,
)
from titan.client.cursors import EventsCursor, OutputCursor, WatchCursor
from titan.client.lines import Line, Lines
from titan.client.output import OutputChunk
from titan.client.requests import page_request
from titan.errors import AccessDenied
from titan.rpc.channel import open_aio_channel
from titan.rpc.v1 import history_pb2, manager_pb2, manager_pb2_grpc

_DEADLINE = grpc.StatusCode.DEADLINE_EXCEEDED

Request = TypeVar("Request")
Response = TypeVar("Response")
_Stub: TypeAlias = "manager_pb2_grpc.ManagerServiceAsyncStub"
_Line: TypeAlias = "Line[grpc.aio.Channel, _Stub]"
_Call: TypeAlias = "grpc.aio.UnaryUnaryMultiCallable[Request, Response]"


def _open_line(address: str, access: Access) -> tuple[grpc.aio.Channel, _Stub]:
    channel = open_aio_channel(address, access.files)
    return channel, manager_pb2_grpc.ManagerServiceStub(channel)


class AioSession:
    """Connections to a cluster's managers, of which one is called at a time.

    For the running loop and any number of its tasks.
    """

    def __init__(
        self,
        manager: str | None = None,
        *,
        given: Credentials = NOTHING_SAID,
        retry_for_seconds: float = retry.RETRY_FOR_SECONDS,
        notice: Notice | None = None,
    ) -> None:
        """Connects at the first call. Raises ValueError for what is no address, or can't be called
        with what there is to prove who calls."""
        addresses = manager_addresses(manager)
        self._policy = retry.Policy(",".join(addresses), retry_for_seconds)
        self._lines = Lines(addresses, given, _open_line)
        self._outage = Outage(self._policy.address, notice)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def address(self) -> str:
        """Of the manager that is called now."""
        return self._lines.current.address

    def retry_for_ever(self) -> None:
        """From now on no outage of the manager ends a call; the notice tells of it."""
        self._policy = self._policy._replace(retry_for_seconds=retry.FOR_EVER)

    async def close(self) -> None:
        """Ends the connections, and with them every stream."""
        for channel in self._lines.channels():
            await channel.close()

    async def submit(self, request: manager_pb2.SubmitJobRequest) -> manager_pb2.SubmitJobResponse:
        """Submits; safe to repeat for its request id."""
        return await self._call(
            lambda stub: stub.SubmitJob, request, retry.safe_with(request.request_id)
        )

    async def status(
        self, request: manager_pb2.GetJobStatusRequest
    ) -> manager_pb2.GetJobStatusResponse:
        """Asks for a job."""
        return await self._call(
            lambda stub: stub.GetJobStatus, request, is_past=request.HasField("at")
        )

    async def list_jobs(
        self,
        wanted: manager_pb2.JobFilter,
        limit: int,
        at: manager_pb2.Moment | None = None,
        *,
        stale: bool = False,
    ) -> manager_pb2.ListJobsResponse:
        """At most `limit` jobs, over as many pages as they take.

        `stale`: a manager that stands by may answer, a little late; so elsewhere.
        """
        whole = manager_pb2.ListJobsResponse()
        last_job_id = 0
        while True:
            left = limit - len(whole.jobs)
            request = page_request(
                wanted, limit=left, last_job_id=last_job_id, at=at, stale=stale, lsn=whole.lsn
            )
            page = await self.page(request)
            if at is not None:
                # A time may mean a later record by then.
                at = manager_pb2.Moment(lsn=page.lsn)
            whole.MergeFrom(page)
            whole.more = page.more
            if not page.more or not page.jobs or len(whole.jobs) >= limit:
                return whole
            last_job_id = page.jobs[-1].job_id

    async def page(self, request: manager_pb2.ListJobsRequest) -> manager_pb2.ListJobsResponse:
        """A page of jobs."""
        return await self._call(lambda stub: stub.ListJobs, request, is_past=request.HasField("at"))

    async def cancel(self, request: manager_pb2.CancelJobRequest) -> manager_pb2.CancelJobResponse:
        """Cancels; repeating it changes nothing."""
        return await self._call(lambda stub: stub.CancelJob, request, "it is safe to repeat")

    async def hold(self, request: manager_pb2.HoldJobRequest) -> manager_pb2.ChangeJobResponse:
        """Holds jobs or releases them; repeating it changes nothing."""
        return await self._call(lambda stub: stub.HoldJob, request, "it is safe to repeat")

    async def suspend(
        self, request: manager_pb2.SuspendJobRequest
    ) -> manager_pb2.ChangeJobResponse:
        """Suspends jobs or resumes them; repeating it changes nothing."""
        return await self._call(lambda stub: stub.SuspendJob, request, "it is safe to repeat")

    async def update(self, request: manager_pb2.UpdateJobRequest) -> manager_pb2.ChangeJobResponse:
        """Changes what jobs ask for; repeating it changes nothing."""
        return await self._call(lambda stub: stub.UpdateJob, request, "it is safe to repeat")

    async def requeue(
        self, request: manager_pb2.RequeueJobRequest
    ) -> manager_pb2.RequeueJobResponse:
        """Puts jobs back to the queue; safe to repeat for its request id."""
        return await self._call(
            lambda stub: stub.RequeueJob, request, retry.safe_with(request.request_id)
        )

    async def why(self, request: manager_pb2.ExplainJobRequest) -> manager_pb2.ExplainJobResponse:
        """Why a task waits, or how it came to be where it is."""
        return await self._call(
            lambda stub: stub.ExplainJob, request, is_past=request.HasField("at")
        )

    async def plan(self, request: manager_pb2.PlanJobsRequest) -> manager_pb2.PlanJobsResponse:
        """Where jobs would go."""
        return await self._call(lambda stub: stub.PlanJobs, request)

    async def policy(self) -> manager_pb2.PolicyResponse:
        """How tasks are ordered and placed."""
        return await self._call(lambda stub: stub.GetPolicy, manager_pb2.GetPolicyRequest())

    async def set_policy(self, request: manager_pb2.SetPolicyRequest) -> manager_pb2.PolicyResponse:
        """Sets the policy; repeating it changes nothing."""
        return await self._call(lambda stub: stub.SetPolicy, request, "it is safe to repeat")

    async def drain(
        self, request: manager_pb2.DrainWorkerRequest
    ) -> manager_pb2.DrainWorkerResponse:
        """Drains workers or lifts their drains; repeating it changes nothing."""
        return await self._call(lambda stub: stub.DrainWorker, request, "it is safe to repeat")

    async def workers(
        self, at: manager_pb2.Moment | None = None, *, stale: bool = False
    ) -> manager_pb2.ListWorkersResponse:
        """All workers."""
        request = manager_pb2.ListWorkersRequest(at=at, allow_stale=stale)
        return await self._call(lambda stub: stub.ListWorkers, request, is_past=at is not None)

    async def stats(
        self, at: manager_pb2.Moment | None = None, *, stale: bool = False
    ) -> manager_pb2.GetStatsResponse:
        """The cluster in numbers."""
        request = manager_pb2.GetStatsRequest(at=at, allow_stale=stale)
        return await self._call(lambda stub: stub.GetStats, request, is_past=at is not None)

    async def tasks(self, request: manager_pb2.ListTasksRequest) -> manager_pb2.ListTasksResponse:
        """The states of a job's tasks."""
        return await self._call(
            lambda stub: stub.ListTasks, request, is_past=request.HasField("at")
        )

    async def workflow(
        self, request: manager_pb2.GetWorkflowRequest
    ) -> manager_pb2.GetWorkflowResponse:
        """The jobs that hang together with one."""
        return await self._call(
            lambda stub: stub.GetWorkflow, request, is_past=request.HasField("at")
        )

    async def log_range(self) -> manager_pb2.GetLogRangeResponse:
        """Which moments of the past can be asked about."""
        request = manager_pb2.GetLogRangeRequest()
        return await self._call(lambda stub: stub.GetLogRange, request, is_past=True)

    async def events(
        self, request: manager_pb2.GetEventsRequest
    ) -> AsyncGenerator[manager_pb2.GetEventsResponse, None]:
        """All that happened to a job, in pages."""
        cursor = EventsCursor(request)
        repeats = retry.Repeats(self._policy, time.monotonic(), is_stream=True)
        while True:
            line = await self._ready(repeats)
            stream = line.stub.GetEvents(cursor.request(), metadata=line.access.metadata())
            try:
                async for response in stream:
                    self._answered(line, repeats)
                    yield cursor.take(response)
            except grpc.RpcError as error:
                failure = failure_of(error)
            else:
                return
            finally:
                stream.cancel()
            await self._pause(line, repeats, failure)

    async def history(
        self, request: history_pb2.GetHistoryRequest
    ) -> list[history_pb2.GetHistoryResponse]:
        """The pages of one answer; what fails in between is asked again from its start."""
        repeats = retry.Repeats(self._policy, time.monotonic())
        while True:
            line = await self._ready(repeats)
            stream = line.stub.GetHistory(
                request, timeout=retry.PAST_SECONDS, metadata=line.access.metadata()
            )
            try:
                return [page async for page in stream]
            except grpc.RpcError as error:
                failure = failure_of(error)
            finally:
                stream.cancel()
            await self._pause(line, repeats, failure)

    async def watch(
        self,
        cursor: WatchCursor,
        *,
        end: float | None = None,
        retry_for_seconds: float | None = None,
    ) -> AsyncGenerator[list[manager_pb2.Job], None]:
        """Changed jobs, for ever or until the monotonic clock shows `end`.

        Without an answer for `retry_for_seconds` it raises; None: for what the session was given.
        """
        policy = self._policy
        if retry_for_seconds is not None:
            policy = policy._replace(retry_for_seconds=retry_for_seconds)
        repeats = retry.Repeats(policy, time.monotonic(), is_stream=True)
        while end is None or time.monotonic() < end:
            line = await self._ready(repeats)
            left = None if end is None else max(0.0, end - time.monotonic())
            stream = line.stub.WatchJobs(
                cursor.request(), timeout=left, metadata=line.access.metadata()
            )
            failure = retry.Failure(grpc.StatusCode.UNAVAILABLE, "the watch was ended")
            try:
                async for response in stream:
                    self._answered(line, repeats)
                    yield cursor.take(response)
            except grpc.RpcError as error:
                failure = failure_of(error)
                if failure.status is retry.CUT_WATCH and not failure.is_busy:
                    continue
            finally:
                stream.cancel()
            is_out_of_time = end is not None and failure.status is _DEADLINE
            if not is_out_of_time:
                await self._pause(line, repeats, failure)

    async def output(
        self, cursor: OutputCursor, *, patience_seconds: float = 0
    ) -> AsyncGenerator[OutputChunk, None]:
        """What a task wrote and, if the cursor follows, writes.

        A worker that is away is waited for so long before OutputUnavailable is raised.
        """
        repeats = retry.Repeats(self._policy, time.monotonic(), is_stream=True)
        patience = retry.WorkerPatience(patience_seconds)
        while True:
            line = await self._ready(repeats)
            stream = line.stub.StreamOutput(cursor.request(), metadata=line.access.metadata())
            try:
                async for response in stream:
                    patience.received()
                    self._answered(line, repeats)
                    chunk = cursor.take(response)
                    if chunk is not None:
                        yield chunk
                    if cursor.is_over(response):
                        return
            except grpc.RpcError as error:
                failure = failure_of(error)
            else:
                if cursor.is_finished():
                    return
                continue
            finally:
                stream.cancel()
            if failure.status is grpc.StatusCode.UNAUTHENTICATED or failure.leader is not None:
                await self._pause(line, repeats, failure)
                continue
            was_away = failure.status in retry.TRANSIENT and await self._was_away(line)
            pause = patience.pause_after(failure, time.monotonic(), manager_was_away=was_away)
            await asyncio.sleep(pause)

    async def _was_away(self, line: _Line) -> bool:
        """Waits until a manager answers, and tells whether it took more than one try, or is
        another."""
        repeats = retry.Repeats(self._policy, time.monotonic())
        await self._repeat(lambda stub: stub.GetStats, manager_pb2.GetStatsRequest(), repeats)
        return repeats.failures > 0 or self._lines.current is not line

    async def _call(
        self,
        method: Callable[[_Stub], _Call[Request, Response]],
        request: Request,
        repeat_hint: str = "",
        *,
        is_past: bool = False,
    ) -> Response:
        repeats = retry.Repeats(
            self._policy,
            time.monotonic(),
            repeat_hint=repeat_hint,
            answer_seconds=retry.PAST_SECONDS if is_past else retry.ATTEMPT_SECONDS,
        )
        return await self._repeat(method, request, repeats)

    async def _repeat(
        self,
        method: Callable[[_Stub], _Call[Request, Response]],
        request: Request,
        repeats: retry.Repeats,
    ) -> Response:
        while True:
            line = await self._ready(repeats)
            call = method(line.stub)(
                request,
                timeout=repeats.attempt_seconds(time.monotonic()),
                metadata=line.access.metadata(),
            )
            try:
                response = await self._answer(line, call)
            except grpc.RpcError as error:
                await self._pause(line, repeats, failure_of(error))
            except retry.LedElsewhere as elsewhere:
                await self._pause(line, repeats, elsewhere.failure)
            else:
                self._lines.answered(line, repeats)
                self._outage.ended()
                return response

    async def _answer(
        self, line: _Line, call: grpc.aio.UnaryUnaryCall[Request, Response]
    ) -> Response:
        """Waits for it. Raises grpc.RpcError; LedElsewhere, when another manager leads by now."""
        if not self._lines.addresses.are_several:
            return await call
        answer = asyncio.ensure_future(_await(call))
        try:
            while not (await asyncio.wait((answer,), timeout=retry.LOOK_SECONDS))[0]:
                await self._look(line)
            return await answer
        finally:
            answer.cancel()

    async def _look(self, line: _Line) -> None:
        """Raises LedElsewhere."""
        for other in self._lines.others(line):
            try:
                answer = await other.stub.GetStats(
                    manager_pb2.GetStatsRequest(allow_stale=True),
                    timeout=retry.LOOK_SECONDS,
                    metadata=other.access.metadata(),
                )
            except (grpc.RpcError, AccessDenied):
                continue
            leader = retry.leader_told_by(other.address, answer, line.address)
            if leader in self._lines.addresses.all:
                raise retry.LedElsewhere(line.address, leader)

    def _answered(self, line: _Line, repeats: retry.Repeats) -> None:
        """A stream gave something."""
        repeats.succeeded(time.monotonic())
        self._lines.answered(line, repeats)
        self._outage.ended()

    async def _pause(self, line: _Line, repeats: retry.Repeats, failure: retry.Failure) -> None:
        """Waits before the next try, or raises. A restarted manager has another token."""
        answers = self._outage.answers
        if failure.status is grpc.StatusCode.UNAUTHENTICATED:
            pause = repeats.pause_after_refusal(
                is_renewed=line.access.renew(), is_final=line.access.files is not None
            )
            if pause is not None:
                await asyncio.sleep(pause)
                return
            failure = self._lines.refused(line, line.access.denied(failure.details))
        else:
            try:
                await asyncio.to_thread(self._lines.explain, line, failure)
            except AccessDenied as error:
                failure = self._lines.refused(line, error)
        failure, at_once = self._lines.failed(line, failure, repeats)
        await self._wait(repeats, failure, answers, at_once=at_once)

    async def _wait(
        self,
        repeats: retry.Repeats,
        failure: retry.Failure,
        answers: int,
        *,
        at_once: bool = False,
    ) -> None:
        pause = repeats.pause_after(failure, time.monotonic(), at_once=at_once)
        if not at_once:
            is_endless = self._policy.retry_for_seconds == retry.FOR_EVER
            self._outage.note(failure, answers=answers, is_endless=is_endless)
        await asyncio.sleep(pause)
        self._lines.current.access.renew()

    async def _ready(self, repeats: retry.Repeats) -> _Line:
        """The manager to call, that could be connected to. Raises TitanError."""
        while not self._lines.is_ready:
            answers = self._outage.answers
            failure = await asyncio.to_thread(self._lines.reach, repeats)
            if failure is not None:
                await self._wait(repeats, failure, answers)
        return self._lines.current


async def _await(call: grpc.aio.UnaryUnaryCall[Request, Response]) -> Response:
    return await call
