"""A manager in this process: real services on a real port, with a disk that the test decides on."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Any, TypeVar

import grpc

import wal
from titan.manager.admission import Bounds, Doors
from titan.manager.callers import TokenCallers
from titan.manager.dispatch import Dispatcher
from titan.manager.kernel import Kernel, Settings
from titan.manager.leadership import ALONE, Leadership
from titan.manager.past import PastDesk
from titan.manager.secret_desk import SecretDesk
from titan.manager.secret_files import SecretFiles
from titan.manager.secret_store import SecretStore
from titan.manager.server import leader_handlers, open_services
from titan.manager.shell import Shell
from titan.rpc import access
from titan.rpc.channel import new_aio_server, open_aio_channel
from titan.rpc.v1 import (
    manager_pb2,
    manager_pb2_grpc,
    task_pb2,
    task_pb2_grpc,
    types_pb2,
    worker_pb2,
    worker_pb2_grpc,
)
from titan.state.cluster import ClusterState

T = TypeVar("T")

TOKEN = "the manager's token"
# Says that something hangs: nothing waits for it to pass.
DEADLINE_SECONDS = 60.0
# A machine that is busy with others may take longer than a caller is let wait.
PATIENT = Bounds(wait_seconds=DEADLINE_SECONDS)


async def until(condition: Callable[[], T]) -> T:
    """What the condition returns once that is true."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not (found := condition()):  # noqa: ASYNC110 - it asks about any state
            await asyncio.sleep(0.002)
        return found


async def settle() -> None:
    """Whatever is under way in this loop and on loopback has had its chance to arrive."""
    for _ in range(20):
        await asyncio.sleep(0.002)


class SlowDisk:
    """A journal of memory. While `held` nothing that is appended becomes durable."""

    def __init__(self, records: Sequence[bytes] = ()) -> None:
        """One that goes on from those records."""
        self.room = True
        self.held = False
        self.records = list(records)
        self.durable_lsn = len(self.records)
        self._on_failure: Callable[[BaseException], None] | None = None
        # Why nothing is appended any more.
        self._refusal: wal.WalError | None = None
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []

    def start(self, on_failure: Callable[[BaseException], None]) -> None:
        if self._on_failure is not None:
            raise RuntimeError("it was started before")
        self._on_failure = on_failure
        asyncio.get_running_loop().call_soon(self._flush)

    def append(self, payload: bytes) -> int:
        if self._refusal is not None:
            raise self._refusal
        if len(payload) > wal.RECORD_BYTES_MAX:
            raise wal.RecordTooLarge(len(payload), wal.RECORD_BYTES_MAX)
        self.records.append(payload)
        if not self.held:
            asyncio.get_running_loop().call_soon(self._flush)
        return len(self.records)

    async def wait_durable(self, lsn: int) -> None:
        if lsn > self.durable_lsn:
            over = asyncio.get_running_loop().create_future()
            self._waiting.append((lsn, over))
            await over

    def room_fields(self) -> dict[str, object]:
        return {"directory": "/nowhere", "free_bytes": 0}

    def close(self) -> None:
        """All that was appended is durable, and nothing more is."""
        self._flush()
        self._refusal = wal.LogClosed("/nowhere")

    def release(self) -> None:
        """The disk has written all that it was given."""
        self.held = False
        self._flush()

    def fail(self, error: wal.LogFailed) -> None:
        """The disk has written nothing of what it holds, and writes nothing more."""
        assert self._on_failure is not None
        self.refuse(error)
        self._on_failure(error)

    def refuse(self, error: wal.LogFailed) -> None:
        """The same, before anybody was told."""
        self._refusal = error

    def _flush(self) -> None:
        if self.held or self._on_failure is None or self._refusal is not None:
            return
        self.durable_lsn = len(self.records)
        waiting, self._waiting = self._waiting, []
        for lsn, over in sorted(waiting, key=itemgetter(0)):
            if lsn > self.durable_lsn:
                self._waiting.append((lsn, over))
            elif not over.done():
                over.set_result(None)


@dataclass
class Manager:
    """What a test calls and looks into."""

    shell: Shell
    disk: SlowDisk
    users: manager_pb2_grpc.ManagerServiceAsyncStub
    workers: worker_pb2_grpc.WorkerServiceAsyncStub
    address: str
    doors: Doors
    secrets: SecretDesk
    metadata: tuple[tuple[str, str], ...] = field(default_factory=lambda: access.metadata(TOKEN))

    async def submit(
        self, jobs: int = 1, *, request_id: bytes = b""
    ) -> manager_pb2.SubmitJobResponse:
        """Submits so many jobs of one cpu."""
        return await self.users.SubmitJob(
            submit_request(jobs, request_id=request_id), metadata=self.metadata
        )

    def watch(
        self, *job_ids: int, after_lsn: int = 0
    ) -> AsyncIterator[manager_pb2.WatchJobsResponse]:
        """What changes."""
        request = manager_pb2.WatchJobsRequest(job_ids=job_ids, after_lsn=after_lsn)
        return aiter(self.users.WatchJobs(request, metadata=self.metadata))

    async def register(
        self, server: FakeWorker, *, cpus_milli: int = 4000, takes_secrets: bool = True
    ) -> worker_pb2.RegisterWorkerResponse:
        """A worker calls in."""
        return await self.workers.RegisterWorker(
            worker_pb2.RegisterWorkerRequest(
                worker_id=b"W" * 16, instance=b"I" * 16, name="w1", address=server.address,
                token="its own", capacity=types_pb2.Resources(cpus_milli=cpus_milli),
                takes_secrets=takes_secrets,
            ),
            metadata=self.metadata,
        )  # fmt: skip


def submit_request(jobs: int, *, request_id: bytes = b"") -> manager_pb2.SubmitJobRequest:
    """So many jobs of one cpu."""
    spec = manager_pb2.JobSpec(
        name="n", command=[b"true"], cwd=b"/", resources=types_pb2.Resources(cpus_milli=1000)
    )
    return manager_pb2.SubmitJobRequest(
        request_id=request_id, user="u", jobs=[spec] * jobs, environments=[types_pb2.Environment()]
    )


@asynccontextmanager
async def running_manager(
    bounds: Bounds | None = None,
    *,
    secrets_path: Path | None = None,
    leadership: Leadership = ALONE,
    past: PastDesk | None = None,
    step_down: Callable[[], None] | None = None,
    secret_store: SecretStore | None = None,
) -> AsyncIterator[Manager]:
    """A manager that has just created its cluster."""
    disk = SlowDisk()
    dispatcher = Dispatcher()
    shell = Shell(Kernel(ClusterState(), Settings()), disk, dispatcher, leadership)
    elsewhere = tempfile.TemporaryDirectory()
    secrets = SecretDesk(
        shell, secret_store or SecretFiles(secrets_path or Path(elsewhere.name, "secrets"))
    )
    dispatcher.bind(shell, secrets)
    disk.start(_fail)
    shell.write_start(cluster_id=b"C" * 16, epoch=1, version="test")
    server = new_aio_server()
    port = server.add_insecure_port("127.0.0.1:0")
    past = past or PastDesk(Path("/nowhere"))
    doors = Doors(bounds or PATIENT)
    services = await open_services(server, TokenCallers(TOKEN))
    handlers = leader_handlers(
        services.entry, shell, dispatcher, past, secrets, doors, step_down=step_down
    )
    await services.lead(handlers, leadership)
    await server.start()
    try:
        address = f"127.0.0.1:{port}"
        async with open_aio_channel(address) as channel:
            # Calls that come before fail where this process is slow to shake hands with itself.
            await channel.channel_ready()
            yield Manager(
                shell,
                disk,
                manager_pb2_grpc.ManagerServiceStub(channel),
                worker_pb2_grpc.WorkerServiceStub(channel),
                address,
                doors,
                secrets,
            )
    finally:
        disk.release()
        await dispatcher.close()
        await server.stop(0)
        await past.close()
        await secrets.close()
        elsewhere.cleanup()


def _fail(error: BaseException) -> None:
    raise AssertionError(error)


class FakeWorker(task_pb2_grpc.TaskServiceServicer):
    """The TaskService of a worker, which does as the test says."""

    def __init__(self) -> None:
        self.address = ""
        self.starts: list[task_pb2.StartTaskRequest] = []
        self.stops: list[task_pb2.StopTaskRequest] = []
        self.tokens: list[str] = []
        # Calls wait for it; set: they are answered.
        self.answers = asyncio.Event()
        self.answers.set()
        self.failures = 0
        self.calls_now = 0
        self.calls_max = 0

    async def StartTask(  # noqa: N802
        self, request: task_pb2.StartTaskRequest, context: Any
    ) -> task_pb2.StartTaskResponse:
        self.starts.append(request)
        await self._answer(context)
        return task_pb2.StartTaskResponse()

    async def StopTask(  # noqa: N802
        self, request: task_pb2.StopTaskRequest, context: Any
    ) -> task_pb2.StopTaskResponse:
        self.stops.append(request)
        await self._answer(context)
        return task_pb2.StopTaskResponse()

    def StreamOutput(self, request: Any, context: Any) -> Any:  # noqa: N802
        raise AssertionError("nobody asked for output")

    async def UpdateWorker(self, request: Any, context: Any) -> Any:  # noqa: N802
        raise AssertionError("nobody changes what it has")

    async def GetTaskStatus(self, request: Any, context: Any) -> Any:  # noqa: N802
        raise AssertionError("nobody asked what runs")

    async def _answer(self, context: Any) -> None:
        self.tokens += [str(v) for k, v in context.invocation_metadata() or () if "token" in k]
        self.calls_now += 1
        self.calls_max = max(self.calls_max, self.calls_now)
        try:
            await self.answers.wait()
            if self.failures:
                self.failures -= 1
                await context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
        finally:
            self.calls_now -= 1


@asynccontextmanager
async def fake_worker() -> AsyncIterator[FakeWorker]:
    """On a port of its own."""
    worker = FakeWorker()
    server = new_aio_server()
    worker.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    task_pb2_grpc.add_TaskServiceServicer_to_server(worker, server)
    await server.start()
    try:
        yield worker
    finally:
        worker.answers.set()
        await server.stop(0)
