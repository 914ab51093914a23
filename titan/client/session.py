"""Calls to the manager that wait by blocking; `aio_session.py` is the same for asyncio.

Everything that decides is in `retry.py` and `cursors.py`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Self, TypeAlias, TypeVar

import grpc

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
from titan.rpc.channel import open_channel
from titan.rpc.stub import manager_stub
from titan.rpc.v1 import history_pb2, manager_pb2

if TYPE_CHECKING:
    from titan.rpc.v1 import manager_pb2_grpc

_DEADLINE = grpc.StatusCode.DEADLINE_EXCEEDED

Request = TypeVar("Request")
Response = TypeVar("Response")
_Stub: TypeAlias = "manager_pb2_grpc.ManagerServiceStub"
_Line: TypeAlias = "Line[grpc.Channel, _Stub]"
_Call: TypeAlias = "grpc.UnaryUnaryMultiCallable[Request, Response]"


def _open_line(address: str, access: Access) -> tuple[grpc.Channel, _Stub]:
    channel = open_channel(address, access.files)
    return channel, manager_stub(channel)


class Session:
    """Connections to a cluster's managers, of which one is called at a time.

    For one thread at a time but for `close`.
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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def address(self) -> str:
        """Of the manager that is called now."""
        return self._lines.current.address

    def close(self) -> None:
        """Ends the connections, and with them every stream."""
        for channel in self._lines.channels():
            channel.close()

    def submit(self, request: manager_pb2.SubmitJobRequest) -> manager_pb2.SubmitJobResponse:
        """Submits; safe to repeat for its request id."""
        return self._call(lambda stub: stub.SubmitJob, request, retry.safe_with(request.request_id))

    def status(self, request: manager_pb2.GetJobStatusRequest) -> manager_pb2.GetJobStatusResponse:
        """Asks for a job."""
        return self._call(lambda stub: stub.GetJobStatus, request, is_past=request.HasField("at"))

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
            page = self._call(lambda stub: stub.ListJobs, request, is_past=at is not None)
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
        return self._call(lambda stub: stub.CancelJob, request, "it is safe to repeat")

    def hold(self, request: manager_pb2.HoldJobRequest) -> manager_pb2.ChangeJobResponse:
        """Holds jobs or releases them; repeating it changes nothing."""
        return self._call(lambda stub: stub.HoldJob, request, "it is safe to repeat")

    def suspend(self, request: manager_pb2.SuspendJobRequest) -> manager_pb2.ChangeJobResponse:
        """Suspends jobs or resumes them; repeating it changes nothing."""
        return self._call(lambda stub: stub.SuspendJob, request, "it is safe to repeat")

    def update(self, request: manager_pb2.UpdateJobRequest) -> manager_pb2.ChangeJobResponse:
        """Changes what jobs ask for; repeating it changes nothing."""
        return self._call(lambda stub: stub.UpdateJob, request, "it is safe to repeat")

    def requeue(self, request: manager_pb2.RequeueJobRequest) -> manager_pb2.RequeueJobResponse:
        """Puts jobs back to the queue; safe to repeat for its request id."""
        return self._call(
            lambda stub: stub.RequeueJob, request, retry.safe_with(request.request_id)
        )

    def why(self, request: manager_pb2.ExplainJobRequest) -> manager_pb2.ExplainJobResponse:
        """Why a task waits, or how it came to be where it is."""
        return self._call(lambda stub: stub.ExplainJob, request, is_past=request.HasField("at"))

    def plan(self, request: manager_pb2.PlanJobsRequest) -> manager_pb2.PlanJobsResponse:
        """Where jobs would go."""
        return self._call(lambda stub: stub.PlanJobs, request)

    def policy(self) -> manager_pb2.PolicyResponse:
        """How tasks are ordered and placed."""
        return self._call(lambda stub: stub.GetPolicy, manager_pb2.GetPolicyRequest())

    def set_policy(self, request: manager_pb2.SetPolicyRequest) -> manager_pb2.PolicyResponse:
        """Sets the policy; repeating it changes nothing."""
        return self._call(lambda stub: stub.SetPolicy, request, "it is safe to repeat")

    def drain(self, request: manager_pb2.DrainWorkerRequest) -> manager_pb2.DrainWorkerResponse:
        """Drains workers or lifts their drains; repeating it changes nothing."""
        return self._call(lambda stub: stub.DrainWorker, request, "it is safe to repeat")

    def step_down(self, request: manager_pb2.StepDownRequest) -> manager_pb2.StepDownResponse:
        """Has another manager lead; repeating it changes nothing, where it names a term."""
        return self._call(lambda stub: stub.StepDown, request, "it is safe to repeat")

    def workers(
        self, at: manager_pb2.Moment | None = None, *, stale: bool = False
    ) -> manager_pb2.ListWorkersResponse:
        """All workers."""
        request = manager_pb2.ListWorkersRequest(at=at, allow_stale=stale)
        return self._call(lambda stub: stub.ListWorkers, request, is_past=at is not None)

    def stats(
        self, at: manager_pb2.Moment | None = None, *, stale: bool = False
    ) -> manager_pb2.GetStatsResponse:
        """The cluster in numbers."""
        request = manager_pb2.GetStatsRequest(at=at, allow_stale=stale)
        return self._call(lambda stub: stub.GetStats, request, is_past=at is not None)

    def tasks(self, request: manager_pb2.ListTasksRequest) -> manager_pb2.ListTasksResponse:
        """The states of a job's tasks."""
        return self._call(lambda stub: stub.ListTasks, request, is_past=request.HasField("at"))

    def workflow(self, request: manager_pb2.GetWorkflowRequest) -> manager_pb2.GetWorkflowResponse:
        """The jobs that hang together with one."""
        return self._call(lambda stub: stub.GetWorkflow, request, is_past=request.HasField("at"))

    def log_range(self) -> manager_pb2.GetLogRangeResponse:
        """Which moments of the past can be asked about."""
        request = manager_pb2.GetLogRangeRequest()
        return self._call(lambda stub: stub.GetLogRange, request, is_past=True)

    def events(
        self, request: manager_pb2.GetEventsRequest
    ) -> Iterator[manager_pb2.GetEventsResponse]:
        """All that happened to a job, in pages."""
        cursor = EventsCursor(request)
        repeats = retry.Repeats(self._policy, time.monotonic(), is_stream=True)
        while True:
            line = self._ready(repeats)
            stream = line.stub.GetEvents(cursor.request(), metadata=line.access.metadata())
            try:
                for response in stream:
                    self._answered(line, repeats)
                    yield cursor.take(response)
            except grpc.RpcError as error:
                failure = failure_of(error)
            else:
                return
            finally:
                stream.cancel()
            self._pause(line, repeats, failure)

    def history(
        self, request: history_pb2.GetHistoryRequest
    ) -> list[history_pb2.GetHistoryResponse]:
        """The pages of one answer; what fails in between is asked again from its start."""
        repeats = retry.Repeats(self._policy, time.monotonic())
        while True:
            line = self._ready(repeats)
            stream = line.stub.GetHistory(
                request, timeout=retry.PAST_SECONDS, metadata=line.access.metadata()
            )
            try:
                return list(stream)
            except grpc.RpcError as error:
                failure = failure_of(error)
            finally:
                stream.cancel()
            self._pause(line, repeats, failure)

    def watch(
        self, cursor: WatchCursor, *, end: float | None = None
    ) -> Iterator[list[manager_pb2.Job]]:
        """Changed jobs, for ever or until the monotonic clock shows `end`."""
        repeats = retry.Repeats(self._policy, time.monotonic(), is_stream=True)
        while end is None or time.monotonic() < end:
            line = self._ready(repeats)
            left = None if end is None else max(0.0, end - time.monotonic())
            stream = line.stub.WatchJobs(
                cursor.request(), timeout=left, metadata=line.access.metadata()
            )
            failure = retry.Failure(grpc.StatusCode.UNAVAILABLE, "the watch was ended")
            try:
                for response in stream:
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
                self._pause(line, repeats, failure)

    def output(self, cursor: OutputCursor, *, patience_seconds: float = 0) -> Iterator[OutputChunk]:
        """What a task wrote and, if the cursor follows, writes.

        A worker that is away is waited for so long before OutputUnavailable is raised.
        """
        repeats = retry.Repeats(self._policy, time.monotonic(), is_stream=True)
        patience = retry.WorkerPatience(patience_seconds)
        while True:
            line = self._ready(repeats)
            stream = line.stub.StreamOutput(cursor.request(), metadata=line.access.metadata())
            try:
                for response in stream:
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
                self._pause(line, repeats, failure)
                continue
            was_away = failure.status in retry.TRANSIENT and self._was_away(line)
            pause = patience.pause_after(failure, time.monotonic(), manager_was_away=was_away)
            time.sleep(pause)

    def _was_away(self, line: _Line) -> bool:
        """Waits until a manager answers, and tells whether it took more than one try, or is
        another."""
        repeats = retry.Repeats(self._policy, time.monotonic())
        self._repeat(lambda stub: stub.GetStats, manager_pb2.GetStatsRequest(), repeats)
        return repeats.failures > 0 or self._lines.current is not line

    def _call(
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
        return self._repeat(method, request, repeats)

    def _repeat(
        self,
        method: Callable[[_Stub], _Call[Request, Response]],
        request: Request,
        repeats: retry.Repeats,
    ) -> Response:
        while True:
            line = self._ready(repeats)
            timeout = repeats.attempt_seconds(time.monotonic())
            metadata = line.access.metadata()
            try:
                if self._lines.addresses.are_several:
                    call = method(line.stub).future(request, timeout=timeout, metadata=metadata)
                    response = self._answer(line, call)
                else:
                    response = method(line.stub)(request, timeout=timeout, metadata=metadata)
            except grpc.RpcError as error:
                self._pause(line, repeats, failure_of(error))
            except retry.LedElsewhere as elsewhere:
                self._pause(line, repeats, elsewhere.failure)
            else:
                self._lines.answered(line, repeats)
                return response

    def _answer(self, line: _Line, call: grpc.Future[Response]) -> Response:
        """Waits for it. Raises grpc.RpcError; LedElsewhere, when another manager leads by now."""
        try:
            while True:
                try:
                    return call.result(retry.LOOK_SECONDS)
                except grpc.FutureTimeoutError:
                    self._look(line)
        finally:
            call.cancel()

    def _look(self, line: _Line) -> None:
        """Raises LedElsewhere."""
        for other in self._lines.others(line):
            try:
                answer = other.stub.GetStats(
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

    def _pause(self, line: _Line, repeats: retry.Repeats, failure: retry.Failure) -> None:
        """Waits before the next try, or raises. A restarted manager has another token."""
        if failure.status is grpc.StatusCode.UNAUTHENTICATED:
            pause = repeats.pause_after_refusal(
                is_renewed=line.access.renew(), is_final=line.access.files is not None
            )
            if pause is not None:
                time.sleep(pause)
                return
            failure = self._lines.refused(line, line.access.denied(failure.details))
        else:
            try:
                self._lines.explain(line, failure)
            except AccessDenied as error:
                failure = self._lines.refused(line, error)
        failure, at_once = self._lines.failed(line, failure, repeats)
        self._wait(repeats, failure, at_once=at_once)

    def _wait(
        self, repeats: retry.Repeats, failure: retry.Failure, *, at_once: bool = False
    ) -> None:
        pause = repeats.pause_after(failure, time.monotonic(), at_once=at_once)
        if not at_once:
            is_endless = self._policy.retry_for_seconds == retry.FOR_EVER
            # One thread calls: nothing has been answered since it failed.
            answers = self._outage.answers
            self._outage.note(failure, answers=answers, is_endless=is_endless)
        time.sleep(pause)
        self._lines.current.access.renew()

    def _ready(self, repeats: retry.Repeats) -> _Line:
        """The manager to call, that could be connected to. Raises TitanError."""
        while not self._lines.is_ready:
            failure = self._lines.reach(repeats)
            if failure is not None:
                self._wait(repeats, failure)
        return self._lines.current
