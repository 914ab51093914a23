"""A manager as the worker sees it: WorkerService, scripted, in this process."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import grpc
import grpc.aio

from tests.worker.builders import EPOCH
from titan import paths
from titan.errors import NotLeader
from titan.model import AttemptKey
from titan.rpc import access, channel, tokens
from titan.rpc.reading import READ_AT_ONCE, Guarding
from titan.rpc.status import trailers_of
from titan.rpc.v1 import (
    manager_pb2,
    task_pb2,
    task_pb2_grpc,
    types_pb2,
    worker_pb2,
    worker_pb2_grpc,
)

T = TypeVar("T")

# A slow machine needs seconds to start a process; nothing waits for this to pass.
DEADLINE_SECONDS = 60.0


async def wait_for(find: Callable[[], T | None], what: str) -> T:
    """What `find` finds, as soon as it finds something true. Fails after the deadline."""
    deadline = asyncio.get_running_loop().time() + DEADLINE_SECONDS
    while not (found := find()):
        assert asyncio.get_running_loop().time() < deadline, f"waited in vain for {what}"
        await asyncio.sleep(0.005)
    return found


class FakeManager(worker_pb2_grpc.WorkerServiceServicer):
    """Answers as a manager does; `refuse` and `before` bend it."""

    def __init__(self, path: Path, cluster_id: bytes = b"C" * 16) -> None:
        self.access_file = path / "access.json"
        self.cluster_id = cluster_id
        self.token = "the manager's token"
        # Of the manager that leads, as this one says, empty: nobody; None: this one does.
        self.leader: str | None = None
        self.term = 0
        self.port = 0
        self.session = b""
        self.registrations: list[worker_pb2.RegisterWorkerRequest] = []
        self.heartbeats: list[worker_pb2.HeartbeatRequest] = []
        self.batches: list[worker_pb2.ReportTaskStatusRequest] = []
        self.deregistered: list[bytes] = []
        # Reports in the order of their numbers, each once.
        self.reports: list[worker_pb2.TaskReport] = []
        self.report_seq = 0
        self.instance = b""
        self.worker_id = b"W" * 16
        self.heartbeat_interval_ms = 50
        # For a worker that fetches: what its heartbeats are answered with, each once.
        self.to_fetch: list[worker_pb2.HeartbeatResponse] = []
        # What it pushed, by number; streams that are under way are ended by `leave`.
        self.pushed: dict[int, list[worker_pb2.PushOutputRequest]] = {}
        self.push_calls = 0
        self.leave = asyncio.Event()
        self.statuses: list[worker_pb2.PushTaskStatusRequest] = []
        # Method name → how many calls fail with that status from now on.
        self.refuse: dict[str, list[grpc.StatusCode]] = {}
        # Lost answers: the call is performed and then fails.
        self.lose_answers = 0
        self._sessions = itertools.count(1)
        self._dispatch_seq = 0
        self._server: grpc.aio.Server | None = None
        self._channel: grpc.aio.Channel | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Listen, at the same port as before when it was stopped."""
        self._server = channel.new_aio_server()
        # As of a manager, and not as of a server that is anybody's: there a stream in which nothing
        # comes for ten seconds is ended, and keeps the other calls of its connection waiting.
        guarding: Any = Guarding(self._server, lambda *_: True, at_once=READ_AT_ONCE)
        worker_pb2_grpc.add_WorkerServiceServicer_to_server(self, guarding)
        self.port = self._server.add_insecure_port(self.address)
        await self._server.start()
        self.write_token()

    def write_token(self) -> None:
        """Leave the token where the worker looks for it."""
        paths.write_json(self.access_file, {"address": self.address, "token": self.token})

    def take_over(self, other: FakeManager) -> None:
        """Leads from now on, and knows what the other one does, but for its sessions."""
        self.reports, self.report_seq = other.reports, other.report_seq
        self.instance, self.worker_id = other.instance, other.worker_id
        self.leader, other.leader = None, self.address
        self.term = other.term + 1

    async def stop(self) -> None:
        """Go away; a session does not survive it."""
        if self._channel is not None:
            await self._channel.close()
            self._channel = None
        if self._server is not None:
            await self._server.stop(None)
            self._server = None
        self.session = b""

    # What the worker calls -----------------------------------------------------------------

    async def RegisterWorker(  # noqa: N802 - the wire's name
        self, request: worker_pb2.RegisterWorkerRequest, context: Any
    ) -> Any:
        await self._check("RegisterWorker", context)
        self.registrations.append(request)
        if request.instance != self.instance:
            self.instance = request.instance
            self.report_seq = request.acknowledged_seq
        self.session = b"session %d" % next(self._sessions)
        self._dispatch_seq = 0
        if self._channel is not None:
            await self._channel.close()
        self._channel = channel.open_aio_channel(request.address) if request.address else None
        return worker_pb2.RegisterWorkerResponse(
            worker_id=self.worker_id,
            session=self.session,
            cluster_id=self.cluster_id,
            heartbeat_interval_ms=self.heartbeat_interval_ms,
            term=self.term,
        )

    async def DeregisterWorker(  # noqa: N802 - the wire's name
        self, request: worker_pb2.DeregisterWorkerRequest, context: Any
    ) -> Any:
        await self._check("DeregisterWorker", context, request.session)
        self.deregistered.append(request.session)
        return worker_pb2.DeregisterWorkerResponse()

    async def Heartbeat(  # noqa: N802 - the wire's name
        self, request: worker_pb2.HeartbeatRequest, context: Any
    ) -> Any:
        await self._check("Heartbeat", context, request.session)
        self.heartbeats.append(request)
        if not self.to_fetch and request.wait_ms:
            await asyncio.sleep(request.wait_ms / 1000)
        if self.to_fetch:
            return self.to_fetch.pop(0)
        return worker_pb2.HeartbeatResponse(waited=request.wait_ms > 0)

    async def PushOutput(self, requests: Any, context: Any) -> Any:  # noqa: N802
        await self._check("PushOutput", context)
        self.push_calls += 1
        first = await anext(requests)
        assert first.session == self.session
        received = self.pushed.setdefault(first.number, [])

        async def take() -> None:
            async for request in requests:
                received.append(request)

        tasks = [asyncio.create_task(take()), asyncio.create_task(self.leave.wait())]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return worker_pb2.PushOutputResponse()

    async def PushTaskStatus(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self._check("PushTaskStatus", context, request.session)
        self.statuses.append(request)
        return worker_pb2.PushTaskStatusResponse()

    async def ReportTaskStatus(  # noqa: N802 - the wire's name
        self, request: worker_pb2.ReportTaskStatusRequest, context: Any
    ) -> Any:
        await self._check("ReportTaskStatus", context, request.session)
        self.batches.append(request)
        assert request.first_seq <= self.report_seq + 1, "reports are missing"
        for report in request.reports:
            if report.seq > self.report_seq:
                self.reports.append(report)
        self.report_seq = max(self.report_seq, request.last_seq)
        if self.lose_answers:
            self.lose_answers -= 1
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the answer got lost")
        return worker_pb2.ReportTaskStatusResponse(report_seq=self.report_seq)

    async def _check(self, method: str, context: Any, session: bytes | None = None) -> None:
        if not tokens.is_granted(context.invocation_metadata(), self.token):
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "wrong token")
        if self.leader is not None:
            error = NotLeader("a standby", leader=self.leader)
            context.set_trailing_metadata(trailers_of(error))
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
        if refusals := self.refuse.get(method):
            await context.abort(refusals.pop(0), "refused by the test")
        if session is not None and session != self.session:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "unknown session")

    # What the manager calls ------------------------------------------------------------------
    # Each may be the first on its connection, and waits until that stands.

    def tasks(self) -> task_pb2_grpc.TaskServiceAsyncStub:
        """The worker's TaskService."""
        assert self._channel is not None
        return task_pb2_grpc.TaskServiceStub(self._channel)

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What calls to the worker carry."""
        return access.metadata(self.registrations[-1].token)

    async def run(
        self,
        *command: str,
        job_id: int = 1,
        indexes: tuple[int, ...] = (0,),
        slots: int = 1_000,
        dispatch_seq: int | None = None,
        session: bytes | None = None,
        named: Mapping[str, int] | None = None,
    ) -> AttemptKey:
        """StartTask for a job."""
        request = self.start_request(
            *command, job_id=job_id, indexes=indexes, slots=slots,
            dispatch_seq=dispatch_seq, session=session, named=named,
        )  # fmt: skip
        await self.tasks().StartTask(request, metadata=self.metadata(), wait_for_ready=True)
        return AttemptKey(EPOCH, job_id, indexes[0], 1)

    def start_request(
        self,
        *command: str,
        job_id: int = 1,
        indexes: tuple[int, ...] = (0,),
        slots: int = 1_000,
        dispatch_seq: int | None = None,
        session: bytes | None = None,
        named: Mapping[str, int] | None = None,
    ) -> task_pb2.StartTaskRequest:
        """The batch that starts a job."""
        if dispatch_seq is None:
            self._dispatch_seq += 1
            dispatch_seq = self._dispatch_seq
        spec = task_pb2.TaskSpec(
            epoch=EPOCH,
            job_id=job_id,
            name="job",
            command=[word.encode() for word in command],
            cwd=b"/",
            resources=types_pb2.Resources(cpus_milli=1000, named=named),
            class_id=1,
        )
        return task_pb2.StartTaskRequest(
            session=self.session if session is None else session,
            dispatch_seq=dispatch_seq,
            environments=[types_pb2.Environment()],
            specs=[spec],
            starts=[task_pb2.TaskStart(spec=0, index=index, attempt=1) for index in indexes],
            slots=[task_pb2.ClassSlots(class_id=1, slots=slots)],
        )

    async def cancel(self, key: AttemptKey, grace_ms: int = 0) -> None:
        """StopTask for an attempt that is to end."""
        await self.wish(key, mode=task_pb2.STOP_CANCEL, grace_ms=grace_ms)

    async def wish(self, key: AttemptKey, **stop: Any) -> None:
        """StopTask for an attempt, with these fields of its TaskStop."""
        self._dispatch_seq += 1
        request = task_pb2.StopTaskRequest(
            session=self.session,
            dispatch_seq=self._dispatch_seq,
            stops=[task_pb2.TaskStop(key=wire_key(key), **stop)],
        )
        await self.tasks().StopTask(request, metadata=self.metadata(), wait_for_ready=True)

    async def read_output(
        self, key: AttemptKey, **fields: Any
    ) -> list[manager_pb2.StreamOutputResponse]:
        """All of StreamOutput."""
        request = task_pb2.ReadOutputRequest(key=wire_key(key), **fields)
        call = self.tasks().StreamOutput(request, metadata=self.metadata(), wait_for_ready=True)
        return [response async for response in call]

    # What the tests ask ----------------------------------------------------------------------

    def find_report(
        self, key: AttemptKey, kind: worker_pb2.ReportKind.ValueType = worker_pb2.REPORT_ENDED
    ) -> worker_pb2.TaskReport | None:
        return next((r for r in self.reports if r.key == wire_key(key) and r.kind == kind), None)

    async def wait_report(
        self, key: AttemptKey, kind: worker_pb2.ReportKind.ValueType = worker_pb2.REPORT_ENDED
    ) -> worker_pb2.TaskReport:
        return await wait_for(lambda: self.find_report(key, kind), f"a report of {key}")

    async def wait_registrations(self, count: int) -> worker_pb2.RegisterWorkerRequest:
        """The newest registration when there are so many."""
        await wait_for(lambda: len(self.registrations) >= count, f"registration {count}")
        return self.registrations[-1]


def wire_key(key: AttemptKey) -> types_pb2.AttemptKey:
    return types_pb2.AttemptKey(**key._asdict())
