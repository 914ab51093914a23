"""The agent's calls to the manager: channel, token, deadlines, and what a failure means."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, TypeAlias, TypeVar

import grpc
import grpc.aio

from titan.rpc import access, channel
from titan.rpc.handshake import explain_failure
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

_TRY_LATER: Final = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
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
    """Calls to one of the manager's addresses; another is tried when one does not answer."""

    def __init__(
        self,
        addresses: tuple[str, ...],
        access_file: Path | None,
        files: PemFiles | None = None,
    ) -> None:
        """`access_file` None: the token is looked for by address. With `files` there is none."""
        self._addresses = addresses
        self._access_file = access_file
        self._files = files
        self._turn = 0
        self._channel: grpc.aio.Channel | None = None
        # One for each channel: a stub makes an object for each of its methods.
        self._service: worker_pb2_grpc.WorkerServiceAsyncStub | None = None
        self._metadata: tuple[tuple[str, str], ...] = ()

    @property
    def address(self) -> str:
        """The one that is called now."""
        return self._addresses[self._turn % len(self._addresses)]

    async def register(
        self, request: worker_pb2.RegisterWorkerRequest
    ) -> worker_pb2.RegisterWorkerResponse:
        """Over a new connection, with the token that is there now. Raises CallFailed."""
        await self.close()
        try:
            if self._files is None:
                self._metadata = access.metadata(access.find_token(self.address, self._access_file))
        except (OSError, ValueError) as error:
            self._turn += 1
            raise CallFailed(Failure.UNREACHABLE, f"no access token: {error}") from error
        self._channel = channel.open_aio_channel(self.address, self._files)
        self._service = worker_pb2_grpc.WorkerServiceStub(self._channel)
        try:
            return await self._call(self._service.RegisterWorker, request, REGISTER_SECONDS)
        except CallFailed as error:
            address = self.address
            self._turn += error.failure == Failure.UNREACHABLE
            if error.failure == Failure.UNREACHABLE and self._files is not None:
                why = await asyncio.to_thread(explain_failure, address, self._files)
                if why:
                    raise CallFailed(error.failure, f"{address}: {why}") from error
            if error.failure == Failure.UNREGISTERED:
                # There is no session yet: it is the worker itself that is refused.
                raise CallFailed(Failure.REFUSED, str(error)) from error
            raise

    async def heartbeat(self, request: worker_pb2.HeartbeatRequest) -> worker_pb2.HeartbeatResponse:
        """What there is for this worker. Raises CallFailed."""
        deadline_seconds = HEARTBEAT_SECONDS + request.wait_ms / 1000
        return await self._call(self._stub().Heartbeat, request, deadline_seconds)

    def push_output(self) -> OutputCall:
        """A stream of output, which its caller writes to. Raises CallFailed."""
        return self._stub().PushOutput(metadata=self._metadata)

    async def push_status(self, request: worker_pb2.PushTaskStatusRequest) -> None:
        """Raises CallFailed."""
        await self._call(self._stub().PushTaskStatus, request, REPORT_SECONDS)

    async def report(
        self, request: worker_pb2.ReportTaskStatusRequest
    ) -> worker_pb2.ReportTaskStatusResponse:
        """Up to where reports are durable. Raises CallFailed."""
        return await self._call(self._stub().ReportTaskStatus, request, REPORT_SECONDS)

    async def deregister(self, session: bytes, dispatch_seq: int) -> None:
        """Take leave, having taken no batch after that one. Raises CallFailed."""
        request = worker_pb2.DeregisterWorkerRequest(session=session, dispatch_seq=dispatch_seq)
        await self._call(self._stub().DeregisterWorker, request, DEREGISTER_SECONDS)

    async def close(self) -> None:
        """Close the connection; calls on their way fail."""
        old, self._channel, self._service = self._channel, None, None
        if old is not None:
            await old.close()

    def _stub(self) -> worker_pb2_grpc.WorkerServiceAsyncStub:
        if self._service is None:
            raise CallFailed(Failure.UNREACHABLE, "not connected")
        return self._service

    async def _call(
        self,
        method: Callable[..., Awaitable[_Answer]],
        request: object,
        deadline_seconds: float,
    ) -> _Answer:
        try:
            return await method(request, timeout=deadline_seconds, metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            code, details = error.code(), error.details() or ""
            sentence = f"{self.address}: {code.name}: {details}"
            if code in (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.NOT_FOUND):
                raise CallFailed(Failure.UNREGISTERED, details) from error
            if code == grpc.StatusCode.UNAUTHENTICATED:
                # A restarted manager has a new token, which registering reads.
                is_registering = isinstance(request, worker_pb2.RegisterWorkerRequest)
                failure = Failure.UNREACHABLE if is_registering else Failure.UNREGISTERED
                raise CallFailed(failure, sentence) from error
            failure = Failure.UNREACHABLE if code in _TRY_LATER else Failure.REFUSED
            raise CallFailed(failure, sentence) from error
