"""Calls to the manager that wait by awaiting; `session.py` is the same for threads.

Everything that decides is in `retry.py` and `cursors.py`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from typing import Self, TypeVar

import grpc
import grpc.aio

from titan.client import retry
from titan.client.connection import (
    NOTHING_SAID,
    Access,
    Credentials,
    Notice,
    Outage,
    connect_error,
    failure_of,
    manager_address,
)
from titan.client.cursors import EventsCursor, OutputCursor, WatchCursor
from titan.client.output import OutputChunk
from titan.client.requests import page_request
from titan.rpc.channel import open_aio_channel, split_address
from titan.rpc.v1 import history_pb2, manager_pb2, manager_pb2_grpc

_DEADLINE = grpc.StatusCode.DEADLINE_EXCEEDED

Request = TypeVar("Request")
Response = TypeVar("Response")


class AioSession:
    """A connection to one manager, for the running loop and any number of its tasks."""

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
        self.address = manager_address(manager)
        self._policy = retry.Policy(self.address, retry_for_seconds)
        self._access = Access(self.address, given)
        self._outage = Outage(self.address, notice)
        self._channel = open_aio_channel(self.address, self._access.files)
        self._stub = manager_pb2_grpc.ManagerServiceStub(self._channel)
        self._was_reached = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def retry_for_ever(self) -> None:
        """From now on no outage of the manager ends a call; the notice tells of it."""
        self._policy = retry.Policy(self.address, retry.FOR_EVER)

    async def close(self) -> None:
        """Ends the connection, and with it every stream."""
        await self._channel.close()

    async def submit(self, request: manager_pb2.SubmitJobRequest) -> manager_pb2.SubmitJobResponse:
        """Submits; safe to repeat for its request id."""
        return await self._call(self._stub.SubmitJob, request, retry.safe_with(request.request_id))

    async def status(
        self, request: manager_pb2.GetJobStatusRequest
    ) -> manager_pb2.GetJobStatusResponse:
        """Asks for a job."""
        return await self._call(self._stub.GetJobStatus, request, is_past=request.HasField("at"))

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
        return await self._call(self._stub.ListJobs, request, is_past=request.HasField("at"))

    async def cancel(self, request: manager_pb2.CancelJobRequest) -> manager_pb2.CancelJobResponse:
        """Cancels; repeating it changes nothing."""
        return await self._call(self._stub.CancelJob, request, "it is safe to repeat")

    async def hold(self, request: manager_pb2.HoldJobRequest) -> manager_pb2.ChangeJobResponse:
        """Holds jobs or releases them; repeating it changes nothing."""
        return await self._call(self._stub.HoldJob, request, "it is safe to repeat")

    async def suspend(
        self, request: manager_pb2.SuspendJobRequest
    ) -> manager_pb2.ChangeJobResponse:
        """Suspends jobs or resumes them; repeating it changes nothing."""
        return await self._call(self._stub.SuspendJob, request, "it is safe to repeat")

    async def update(self, request: manager_pb2.UpdateJobRequest) -> manager_pb2.ChangeJobResponse:
        """Changes what jobs ask for; repeating it changes nothing."""
        return await self._call(self._stub.UpdateJob, request, "it is safe to repeat")

    async def requeue(
        self, request: manager_pb2.RequeueJobRequest
    ) -> manager_pb2.RequeueJobResponse:
        """Puts jobs back to the queue; safe to repeat for its request id."""
        return await self._call(self._stub.RequeueJob, request, retry.safe_with(request.request_id))

    async def why(self, request: manager_pb2.ExplainJobRequest) -> manager_pb2.ExplainJobResponse:
        """Why a task waits, or how it came to be where it is."""
        return await self._call(self._stub.ExplainJob, request, is_past=request.HasField("at"))

    async def plan(self, request: manager_pb2.PlanJobsRequest) -> manager_pb2.PlanJobsResponse:
        """Where jobs would go."""
        return await self._call(self._stub.PlanJobs, request)

    async def policy(self) -> manager_pb2.PolicyResponse:
        """How tasks are ordered and placed."""
        return await self._call(self._stub.GetPolicy, manager_pb2.GetPolicyRequest())

    async def set_policy(self, request: manager_pb2.SetPolicyRequest) -> manager_pb2.PolicyResponse:
        """Sets the policy; repeating it changes nothing."""
        return await self._call(self._stub.SetPolicy, request, "it is safe to repeat")

    async def drain(
        self, request: manager_pb2.DrainWorkerRequest
    ) -> manager_pb2.DrainWorkerResponse:
        """Drains workers or lifts their drains; repeating it changes nothing."""
        return await self._call(self._stub.DrainWorker, request, "it is safe to repeat")

    async def workers(
        self, at: manager_pb2.Moment | None = None, *, stale: bool = False
    ) -> manager_pb2.ListWorkersResponse:
        """All workers."""
        request = manager_pb2.ListWorkersRequest(at=at, allow_stale=stale)
        return await self._call(self._stub.ListWorkers, request, is_past=at is not None)

    async def stats(
        self, at: manager_pb2.Moment | None = None, *, stale: bool = False
    ) -> manager_pb2.GetStatsResponse:
        """The cluster in numbers."""
        request = manager_pb2.GetStatsRequest(at=at, allow_stale=stale)
        return await self._call(self._stub.GetStats, request, is_past=at is not None)

    async def tasks(self, request: manager_pb2.ListTasksRequest) -> manager_pb2.ListTasksResponse:
        """The states of a job's tasks."""
        return await self._call(self._stub.ListTasks, request, is_past=request.HasField("at"))

    async def workflow(
        self, request: manager_pb2.GetWorkflowRequest
    ) -> manager_pb2.GetWorkflowResponse:
        """The jobs that hang together with one."""
        return await self._call(self._stub.GetWorkflow, request, is_past=request.HasField("at"))

    async def log_range(self) -> manager_pb2.GetLogRangeResponse:
        """Which moments of the past can be asked about."""
        request = manager_pb2.GetLogRangeRequest()
        return await self._call(self._stub.GetLogRange, request, is_past=True)

    async def events(
        self, request: manager_pb2.GetEventsRequest
    ) -> AsyncGenerator[manager_pb2.GetEventsResponse, None]:
        """All that happened to a job, in pages."""
        await self._reach()
        cursor = EventsCursor(request)
        repeats = retry.Repeats(self._policy, time.monotonic())
        while True:
            stream = self._stub.GetEvents(cursor.request(), metadata=self._access.metadata())
            try:
                async for response in stream:
                    repeats.succeeded(time.monotonic())
                    yield cursor.take(response)
            except grpc.RpcError as error:
                failure = failure_of(error)
            else:
                return
            finally:
                stream.cancel()
            await self._pause(repeats, failure)

    async def history(
        self, request: history_pb2.GetHistoryRequest
    ) -> list[history_pb2.GetHistoryResponse]:
        """The pages of one answer; what fails in between is asked again from its start."""
        await self._reach()
        repeats = retry.Repeats(self._policy, time.monotonic())
        while True:
            stream = self._stub.GetHistory(
                request, timeout=retry.PAST_SECONDS, metadata=self._access.metadata()
            )
            try:
                return [page async for page in stream]
            except grpc.RpcError as error:
                failure = failure_of(error)
            finally:
                stream.cancel()
            await self._pause(repeats, failure)

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
        await self._reach()
        policy = self._policy
        if retry_for_seconds is not None:
            policy = retry.Policy(self.address, retry_for_seconds)
        repeats = retry.Repeats(policy, time.monotonic())
        while end is None or time.monotonic() < end:
            left = None if end is None else max(0.0, end - time.monotonic())
            stream = self._stub.WatchJobs(
                cursor.request(), timeout=left, metadata=self._access.metadata()
            )
            failure = retry.Failure(grpc.StatusCode.UNAVAILABLE, "the watch was ended")
            try:
                async for response in stream:
                    repeats.succeeded(time.monotonic())
                    self._outage.ended()
                    yield cursor.take(response)
            except grpc.RpcError as error:
                failure = failure_of(error)
                if failure.status is retry.CUT_WATCH and not failure.is_busy:
                    continue
            finally:
                stream.cancel()
            is_out_of_time = end is not None and failure.status is _DEADLINE
            if not is_out_of_time:
                await self._pause(repeats, failure)

    async def output(
        self, cursor: OutputCursor, *, patience_seconds: float = 0
    ) -> AsyncGenerator[OutputChunk, None]:
        """What a task wrote and, if the cursor follows, writes.

        A worker that is away is waited for so long before OutputUnavailable is raised.
        """
        await self._reach()
        repeats = retry.Repeats(self._policy, time.monotonic())
        patience = retry.WorkerPatience(patience_seconds)
        while True:
            stream = self._stub.StreamOutput(cursor.request(), metadata=self._access.metadata())
            try:
                async for response in stream:
                    patience.received()
                    repeats.succeeded(time.monotonic())
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
            if failure.status is grpc.StatusCode.UNAUTHENTICATED:
                await self._pause(repeats, failure)
                continue
            was_away = failure.status in retry.TRANSIENT and await self._was_away()
            pause = patience.pause_after(failure, time.monotonic(), manager_was_away=was_away)
            await asyncio.sleep(pause)

    async def _was_away(self) -> bool:
        """Waits until the manager answers, and tells whether it took more than one try."""
        repeats = retry.Repeats(self._policy, time.monotonic())
        await self._repeat(self._stub.GetStats, manager_pb2.GetStatsRequest(), repeats)
        return repeats.failures > 0

    async def _call(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        repeat_hint: str = "",
        *,
        is_past: bool = False,
    ) -> Response:
        await self._reach()
        repeats = retry.Repeats(
            self._policy,
            time.monotonic(),
            repeat_hint=repeat_hint,
            answer_seconds=retry.PAST_SECONDS if is_past else retry.ATTEMPT_SECONDS,
        )
        return await self._repeat(method, request, repeats)

    async def _repeat(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        repeats: retry.Repeats,
    ) -> Response:
        while True:
            try:
                response = await method(
                    request,
                    timeout=repeats.attempt_seconds(time.monotonic()),
                    metadata=self._access.metadata(),
                )
            except grpc.RpcError as error:
                await self._pause(repeats, failure_of(error))
            else:
                self._outage.ended()
                return response

    async def _pause(self, repeats: retry.Repeats, failure: retry.Failure) -> None:
        """Waits before the next try, or raises. A restarted manager has another token."""
        if failure.status is grpc.StatusCode.UNAUTHENTICATED:
            pause = repeats.pause_after_refusal(
                is_renewed=self._access.renew(), is_final=self._access.files is not None
            )
            if pause is None:
                raise self._access.denied(failure.details)
            await asyncio.sleep(pause)
            return
        await asyncio.to_thread(self._access.explain, failure)
        pause = repeats.pause_after(failure, time.monotonic())
        if failure.is_still_reading:
            self._outage.is_reading(failure.details)
        elif failure.is_busy:
            self._outage.is_busy(failure.details)
        elif self._policy.retry_for_seconds == retry.FOR_EVER:
            self._outage.began()
        await asyncio.sleep(pause)
        self._access.renew()

    async def _reach(self) -> None:
        """The first connection, made once by hand: it tells a refusal at once, and why."""
        if self._was_reached:
            return
        host, port = split_address(self.address)
        try:
            async with asyncio.timeout(retry.CONNECT_SECONDS):
                _, writer = await asyncio.open_connection(host, port)
            writer.close()
        except OSError as error:
            raise connect_error(self.address, error) from error
        self._was_reached = True
