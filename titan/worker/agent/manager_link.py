"""The agent's calls to the manager: channel, token, deadlines, and what a failure means."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, TypeAlias, TypeVar

import grpc
import grpc.aio

from titan.rpc import access, channel
from titan.rpc.addresses import Addresses
from titan.rpc.handshake import explain_failure
from titan.rpc.status import not_leader
from titan.rpc.v1 import worker_pb2, worker_pb2_grpc
from titan.tls.pem import PemFiles
from titan.worker.agent.core import Failure

# Each is answered after at most one write to the manager's disk.
REGISTER_SECONDS: Final = 10.0
REPORT_SECONDS: Final = 10.0
HEARTBEAT_SECONDS: Final = 5.0
DEREGISTER_SECONDS: Final = 3.0

_Answer = TypeVar("_Answer")
OutputCall: TypeAlias = grpc.aio.StreamUnaryCall[
    worker_pb2.PushOutputRequest, worker_pb2.PushOutputResponse
]

# Another manager may be there, or lead.
_AWAY: Final = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
)
_TRY_LATER: Final = (
    *_AWAY,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
)


class CallFailed(Exception):
    """A call failed; the text is a sentence for the log."""

    def __init__(self, failure: Failure, sentence: str) -> None:
        super().__init__(sentence)
        self.failure = failure


class ManagerLink:
    """Calls to one manager at a time; another is registered with when it does not answer or lead.

    All calls but registrations go where the last of these went.
    """

    def __init__(
        self,
        addresses: tuple[str, ...],
        access_file: Path | None,
        files: PemFiles | None = None,
    ) -> None:
        """`access_file` None: the token is looked for by address. With `files` there is none."""
        self._addresses = Addresses(addresses)
        # Since one has answered.
        self._tried: set[str] = set()
        self._have_all_failed = False
        self._access_file = access_file
        self._files = files
        self.address = self._addresses.current
        """The one that is called."""
        self._channel: grpc.aio.Channel | None = None
        # One for each channel: a stub makes an object for each of its methods.
        self._service: worker_pb2_grpc.WorkerServiceAsyncStub | None = None
        self._metadata: tuple[tuple[str, str], ...] = ()

    async def register(
        self, request: worker_pb2.RegisterWorkerRequest, *, passes_on: bool = False
    ) -> worker_pb2.RegisterWorkerResponse:
        """Over a new connection, with the token that is there now. Raises CallFailed.

        `passes_on`: with another manager than the last time, though that one has answered.
        """
        await self.close()
        if passes_on and self._addresses.current == self.address:
            self._addresses.failed(self.address, "its term is over", self._tried)
        self.address = self._addresses.current
        try:
            if self._files is None:
                self._metadata = access.metadata(access.find_token(self.address, self._access_file))
        except (OSError, ValueError) as error:
            raise self._away(f"no access token: {error}") from error
        self._channel = channel.open_aio_channel(self.address, self._files)
        self._service = worker_pb2_grpc.WorkerServiceStub(self._channel)
        try:
            answer = await self._call(self._service.RegisterWorker, request, REGISTER_SECONDS)
        except grpc.aio.AioRpcError as error:
            leader = not_leader(error.trailing_metadata())
            failed = _failed(error, self.address)
            if failed.failure == Failure.UNREGISTERED:
                # There is no session yet: it is the worker itself that is refused. A token is read
                # anew the next time.
                is_denied = error.code() == grpc.StatusCode.UNAUTHENTICATED
                failed.failure = Failure.UNREACHABLE if is_denied else Failure.REFUSED
            if failed.failure != Failure.UNREACHABLE:
                raise failed from error
            said = _said(error)
            # Not while another may answer at once: it takes a while where nobody is there.
            is_asked = self._have_all_failed or not self._addresses.are_several
            if leader is None and is_asked and self._files is not None:
                said = await asyncio.to_thread(explain_failure, self.address, self._files) or said
            raise self._away(said, leader=leader or "") from error
        if not passes_on:
            self._answered()
        return answer

    async def heartbeat(self, request: worker_pb2.HeartbeatRequest) -> worker_pb2.HeartbeatResponse:
        """What there is for this worker. Raises CallFailed."""
        deadline_seconds = HEARTBEAT_SECONDS + request.wait_ms / 1000
        return await self._in_session(self._stub().Heartbeat, request, deadline_seconds)

    def push_output(self) -> OutputCall:
        """A stream of output, which its caller writes to. Raises CallFailed."""
        return self._stub().PushOutput(metadata=self._metadata)

    async def push_status(self, request: worker_pb2.PushTaskStatusRequest) -> None:
        """Raises CallFailed."""
        await self._in_session(self._stub().PushTaskStatus, request, REPORT_SECONDS)

    async def report(
        self, request: worker_pb2.ReportTaskStatusRequest
    ) -> worker_pb2.ReportTaskStatusResponse:
        """Up to where reports are durable. Raises CallFailed."""
        return await self._in_session(self._stub().ReportTaskStatus, request, REPORT_SECONDS)

    async def deregister(self, session: bytes, dispatch_seq: int) -> None:
        """Take leave, having taken no batch after that one. Raises CallFailed."""
        request = worker_pb2.DeregisterWorkerRequest(session=session, dispatch_seq=dispatch_seq)
        await self._in_session(self._stub().DeregisterWorker, request, DEREGISTER_SECONDS)

    async def close(self) -> None:
        """Close the connection; calls on their way fail."""
        old, self._channel, self._service = self._channel, None, None
        if old is not None:
            await old.close()

    def _stub(self) -> worker_pb2_grpc.WorkerServiceAsyncStub:
        if self._service is None:
            raise CallFailed(Failure.UNREACHABLE, "not connected")
        return self._service

    async def _in_session(
        self,
        method: Callable[..., Awaitable[_Answer]],
        request: object,
        deadline_seconds: float,
    ) -> _Answer:
        """A call by a worker that is registered. Raises CallFailed."""
        opened, address = self._channel, self.address
        try:
            answer = await self._call(method, request, deadline_seconds)
        except grpc.aio.AioRpcError as error:
            failed = _failed(error, address)
            if error.code() in _AWAY and self._addresses.are_several and self._channel is opened:
                failed.failure = Failure.ELSEWHERE
                # Until now it answered.
                self._tried.clear()
                leader = not_leader(error.trailing_metadata()) or ""
                self._addresses.failed(address, _said(error), self._tried, leader=leader)
            raise failed from error
        if self._channel is opened:
            self._answered()
        return answer

    async def _call(
        self,
        method: Callable[..., Awaitable[_Answer]],
        request: object,
        deadline_seconds: float,
    ) -> _Answer:
        return await method(request, timeout=deadline_seconds, metadata=self._metadata)

    def _away(self, said: str, *, leader: str = "") -> CallFailed:
        """That no manager was found at the address: the next one is called the next time."""
        if self._addresses.failed(self.address, said, self._tried, leader=leader):
            return CallFailed(Failure.ELSEWHERE, f"{self.address}: {said}")
        self._have_all_failed = True
        return CallFailed(Failure.UNREACHABLE, self._addresses.describe())

    def _answered(self) -> None:
        self._addresses.answered(self._tried)
        self._have_all_failed = False


def _said(error: grpc.aio.AioRpcError) -> str:
    return f"{error.code().name}: {error.details() or ''}"


def _failed(error: grpc.aio.AioRpcError, address: str) -> CallFailed:
    code, details = error.code(), error.details() or ""
    if code in (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.NOT_FOUND):
        return CallFailed(Failure.UNREGISTERED, details)
    sentence = f"{address}: {_said(error)}"
    if code == grpc.StatusCode.UNAUTHENTICATED:
        # A restarted manager has a new token, which registering reads.
        return CallFailed(Failure.UNREGISTERED, sentence)
    return CallFailed(Failure.UNREACHABLE if code in _TRY_LATER else Failure.REFUSED, sentence)
