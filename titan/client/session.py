"""Calls to the manager that wait by blocking; `aio_session.py` is the same for asyncio.

Everything that decides is in `retry.py` and `cursors.py`.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from typing import Self, TypeVar, cast

import grpc

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
from titan.rpc.channel import open_channel, split_address
from titan.rpc.stub import manager_stub
from titan.rpc.v1 import history_pb2, manager_pb2

_DEADLINE = grpc.StatusCode.DEADLINE_EXCEEDED

Request = TypeVar("Request")
Response = TypeVar("Response")


class Session:
    """A connection to one manager. For one thread at a time but for `close`."""

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
        self._channel = open_channel(self.address, self._access.files)
        self._stub = manager_stub(self._channel)
        self._was_reached = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection, and with it every stream."""
        self._channel.close()

    def submit(self, request: manager_pb2.SubmitJobRequest) -> manager_pb2.SubmitJobResponse:
        """Submits; safe to repeat for its request id."""
        return self._call(self._stub.SubmitJob, request, retry.safe_with(request.request_id))

    def status(self, request: manager_pb2.GetJobStatusRequest) -> manager_pb2.GetJobStatusResponse:
        """Asks for a job."""
        return self._call(self._stub.GetJobStatus, request, is_past=request.HasField("at"))

    def list_jobs(
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
            page = self._call(self._stub.ListJobs, request, is_past=at is not None)
            if at is not None:
                # A time may mean a later record by then.
                at = manager_pb2.Moment(lsn=page.lsn)
            whole.MergeFrom(page)
            whole.more = page.more
            if not page.more or not page.jobs or len(whole.jobs) >= limit:
                return whole
            last_job_id = page.jobs[-1].job_id

    def cancel(self, request: manager_pb2.CancelJobRequest) -> manager_pb2.CancelJobResponse:
        """Cancels; repeating it changes nothing."""
        return self._call(self._stub.CancelJob, request, "it is safe to repeat")

    def hold(self, request: manager_pb2.HoldJobRequest) -> manager_pb2.ChangeJobResponse:
        """Holds jobs or releases them; repeating it changes nothing."""
        return self._call(self._stub.HoldJob, request, "it is safe to repeat")

    def suspend(self, request: manager_pb2.SuspendJobRequest) -> manager_pb2.ChangeJobResponse:
        """Suspends jobs or resumes them; repeating it changes nothing."""
        return self._call(self._stub.SuspendJob, request, "it is safe to repeat")

    def update(self, request: manager_pb2.UpdateJobRequest) -> manager_pb2.ChangeJobResponse:
        """Changes what jobs ask for; repeating it changes nothing."""
        return self._call(self._stub.UpdateJob, request, "it is safe to repeat")

    def requeue(self, request: manager_pb2.RequeueJobRequest) -> manager_pb2.RequeueJobResponse:
        """Puts jobs back to the queue; safe to repeat for its request id."""
        return self._call(self._stub.RequeueJob, request, retry.safe_with(request.request_id))

    def why(self, request: manager_pb2.ExplainJobRequest) -> manager_pb2.ExplainJobResponse:
        """Why a task waits, or how it came to be where it is."""
        return self._call(self._stub.ExplainJob, request, is_past=request.HasField("at"))

    def plan(self, request: manager_pb2.PlanJobsRequest) -> manager_pb2.PlanJobsResponse:
        """Where jobs would go."""
        return self._call(self._stub.PlanJobs, request)

    def policy(self) -> manager_pb2.PolicyResponse:
        """How tasks are ordered and placed."""
        return self._call(self._stub.GetPolicy, manager_pb2.GetPolicyRequest())

    def set_policy(self, request: manager_pb2.SetPolicyRequest) -> manager_pb2.PolicyResponse:
        """Sets the policy; repeating it changes nothing."""
        return self._call(self._stub.SetPolicy, request, "it is safe to repeat")

    def drain(self, request: manager_pb2.DrainWorkerRequest) -> manager_pb2.DrainWorkerResponse:
        """Drains workers or lifts their drains; repeating it changes nothing."""
        return self._call(self._stub.DrainWorker, request, "it is safe to repeat")

    def step_down(self, request: manager_pb2.StepDownRequest) -> manager_pb2.StepDownResponse:
        """Has another manager lead; repeating it changes nothing, where it names a term."""
        return self._call(self._stub.StepDown, request, "it is safe to repeat")

    def workers(
        self, at: manager_pb2.Moment | None = None, *, stale: bool = False
    ) -> manager_pb2.ListWorkersResponse:
        """All workers."""
        request = manager_pb2.ListWorkersRequest(at=at, allow_stale=stale)
        return self._call(self._stub.ListWorkers, request, is_past=at is not None)

    def stats(
        self, at: manager_pb2.Moment | None = None, *, stale: bool = False
    ) -> manager_pb2.GetStatsResponse:
        """The cluster in numbers."""
        request = manager_pb2.GetStatsRequest(at=at, allow_stale=stale)
        return self._call(self._stub.GetStats, request, is_past=at is not None)

    def tasks(self, request: manager_pb2.ListTasksRequest) -> manager_pb2.ListTasksResponse:
        """The states of a job's tasks."""
        return self._call(self._stub.ListTasks, request, is_past=request.HasField("at"))

    def workflow(self, request: manager_pb2.GetWorkflowRequest) -> manager_pb2.GetWorkflowResponse:
        """The jobs that hang together with one."""
        return self._call(self._stub.GetWorkflow, request, is_past=request.HasField("at"))

    def log_range(self) -> manager_pb2.GetLogRangeResponse:
        """Which moments of the past can be asked about."""
        request = manager_pb2.GetLogRangeRequest()
        return self._call(self._stub.GetLogRange, request, is_past=True)

    def events(
        self, request: manager_pb2.GetEventsRequest
    ) -> Iterator[manager_pb2.GetEventsResponse]:
        """All that happened to a job, in pages."""
        self._reach()
        cursor = EventsCursor(request)
        repeats = retry.Repeats(self._policy, time.monotonic())
        while True:
            stream = self._stub.GetEvents(cursor.request(), metadata=self._access.metadata())
            try:
                for response in stream:
                    repeats.succeeded(time.monotonic())
                    yield cursor.take(response)
            except grpc.RpcError as error:
                failure = failure_of(error)
            else:
                return
            finally:
                stream.cancel()
            self._pause(repeats, failure)

    def history(
        self, request: history_pb2.GetHistoryRequest
    ) -> list[history_pb2.GetHistoryResponse]:
        """The pages of one answer; what fails in between is asked again from its start."""
        self._reach()
        repeats = retry.Repeats(self._policy, time.monotonic())
        while True:
            stream = self._stub.GetHistory(
                request, timeout=retry.PAST_SECONDS, metadata=self._access.metadata()
            )
            try:
                return list(stream)
            except grpc.RpcError as error:
                failure = failure_of(error)
            finally:
                stream.cancel()
            self._pause(repeats, failure)

    def watch(
        self, cursor: WatchCursor, *, end: float | None = None
    ) -> Iterator[list[manager_pb2.Job]]:
        """Changed jobs, for ever or until the monotonic clock shows `end`."""
        self._reach()
        repeats = retry.Repeats(self._policy, time.monotonic())
        while end is None or time.monotonic() < end:
            left = None if end is None else max(0.0, end - time.monotonic())
            stream = self._stub.WatchJobs(
                cursor.request(), timeout=left, metadata=self._access.metadata()
            )
            failure = retry.Failure(grpc.StatusCode.UNAVAILABLE, "the watch was ended")
            try:
                for response in stream:
                    repeats.succeeded(time.monotonic())
                    yield cursor.take(response)
            except grpc.RpcError as error:
                failure = failure_of(error)
                if failure.status is retry.CUT_WATCH and not failure.is_busy:
                    continue
            finally:
                stream.cancel()
            is_out_of_time = end is not None and failure.status is _DEADLINE
            if not is_out_of_time:
                self._pause(repeats, failure)

    def output(self, cursor: OutputCursor, *, patience_seconds: float = 0) -> Iterator[OutputChunk]:
        """What a task wrote and, if the cursor follows, writes.

        A worker that is away is waited for so long before OutputUnavailable is raised.
        """
        self._reach()
        repeats = retry.Repeats(self._policy, time.monotonic())
        patience = retry.WorkerPatience(patience_seconds)
        while True:
            stream = self._stub.StreamOutput(cursor.request(), metadata=self._access.metadata())
            try:
                for response in stream:
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
                self._pause(repeats, failure)
                continue
            was_away = failure.status in retry.TRANSIENT and self._was_away()
            pause = patience.pause_after(failure, time.monotonic(), manager_was_away=was_away)
            time.sleep(pause)

    def _was_away(self) -> bool:
        """Waits until the manager answers, and tells whether it took more than one try."""
        repeats = retry.Repeats(self._policy, time.monotonic())
        self._repeat(self._stub.GetStats, manager_pb2.GetStatsRequest(), repeats)
        return repeats.failures > 0

    def _call(
        self,
        method: grpc.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        repeat_hint: str = "",
        *,
        is_past: bool = False,
    ) -> Response:
        self._reach()
        repeats = retry.Repeats(
            self._policy,
            time.monotonic(),
            repeat_hint=repeat_hint,
            answer_seconds=retry.PAST_SECONDS if is_past else retry.ATTEMPT_SECONDS,
        )
        return self._repeat(method, request, repeats)

    def _repeat(
        self,
        method: grpc.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        repeats: retry.Repeats,
    ) -> Response:
        while True:
            try:
                response = method(
                    request,
                    timeout=repeats.attempt_seconds(time.monotonic()),
                    metadata=self._access.metadata(),
                )
            except grpc.RpcError as error:
                self._pause(repeats, failure_of(error))
            else:
                return response

    def _pause(self, repeats: retry.Repeats, failure: retry.Failure) -> None:
        """Waits before the next try, or raises. A restarted manager has another token."""
        if failure.status is grpc.StatusCode.UNAUTHENTICATED:
            pause = repeats.pause_after_refusal(
                is_renewed=self._access.renew(), is_final=self._access.files is not None
            )
            if pause is None:
                raise self._access.denied(failure.details)
            time.sleep(pause)
            return
        self._access.explain(failure)
        pause = repeats.pause_after(failure, time.monotonic())
        if failure.is_still_reading:
            self._outage.is_reading(failure.details)
        elif failure.is_busy:
            self._outage.is_busy(failure.details)
        time.sleep(pause)
        self._access.renew()

    def _reach(self) -> None:
        """The first connection, made once by hand: it tells a refusal at once, and why."""
        if self._was_reached:
            return
        try:
            host, port = split_address(self.address)
            # As bytes: names on this machine are ASCII, and the codec for others is slow to load.
            address = (cast("str", host.encode()), port)
            socket.create_connection(address, retry.CONNECT_SECONDS).close()
        except OSError as error:
            raise connect_error(self.address, error) from error
        self._was_reached = True
