"""Workers on the wire that run nothing: `python -m tools.bench.fake_workers MANAGER CPUS`.

Each is a worker to its manager: it registers, beats, takes its batches of tasks over a connection
of its own, and reports them in order and until they are acknowledged. Behind it there is neither
an agent nor a task host: a task that may run has ended at once. So what is measured with them is
the manager, and as little as an honest worker can cost.

All of one process share a port, where the session of a call tells whose it is. A line with a
number on stdin asks for so many workers in all, and is answered when they have registered; a line
`beats` is answered with a JSON list of how many ms each heartbeat since the last such line waited
for its answer. The process ends with its stdin. It takes no faults: a call that fails ends it with
a sentence.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import grpc
import psutil

from titan.rpc import access
from titan.rpc.channel import new_aio_server, open_aio_channel
from titan.rpc.v1 import (
    manager_pb2,
    task_pb2,
    types_pb2,
    worker_pb2,
    worker_pb2_grpc,
)
from tools.bench.processes import (
    DEADLINE_SECONDS,
    ROOT,
    BenchError,
    Cluster,
    cpu_seconds,
    environment,
    wait_for,
)

# As an agent's batches.
REPORTS_MAX: Final = 1_000
REGISTERING_MAX: Final = 50
MEMORY_BYTES: Final = 64 << 30
CALL_SECONDS: Final = 30.0
# A fraction of the golden section: however many there are, their beats lie evenly apart.
GOLDEN: Final = 0.618034
BEATS: Final = b"beats\n"

_STATISTICS: Final = manager_pb2.NodeStatistics(
    cpu_percent=12.5,
    memory_used_bytes=1 << 32,
    memory_total_bytes=MEMORY_BYTES,
    load_1m=0.5,
    disk_free_bytes=1 << 40,
)


class _End(NamedTuple):
    """A task that has ended, or was handed back. Its start has the number before."""

    seq: int
    epoch: int
    job_id: int
    task_index: int
    attempt: int
    us: int
    is_recalled: bool


class _Worker:
    """One worker: its connection, its tasks and its reports."""

    def __init__(self, number: int, manager: str) -> None:
        self._number = number
        self._channel = open_aio_channel(manager)
        self._stub: worker_pb2_grpc.WorkerServiceAsyncStub = worker_pb2_grpc.WorkerServiceStub(
            self._channel
        )
        self._metadata = access.metadata(access.find_token(manager))
        self._interval_seconds = 0.0
        self._dispatch_seq = self._report_seq = 0
        # Of each class: what waits, in order.
        self._waiting: dict[int, deque[tuple[int, int, int, int]]] = {}
        self._ended: deque[_End] = deque()
        self._has_ended = asyncio.Event()
        self.session = b""
        self.beats_ms: list[float] = []
        self.beat_began: float | None = None

    async def register(self, address: str, token: str, cpus: int) -> None:
        """Calls in."""
        answer = await self._stub.RegisterWorker(
            worker_pb2.RegisterWorkerRequest(
                instance=os.urandom(16), boot_id="none", name=f"fake{self._number}",
                address=address, token=token, version="0", output_directory=b"/nowhere",
                capacity=types_pb2.Resources(cpus_milli=1000 * cpus, memory_bytes=MEMORY_BYTES),
                limits="none",
            ),
            # Thousands connect at once, some of them not at the first try.
            metadata=self._metadata, timeout=CALL_SECONDS, wait_for_ready=True,
        )  # fmt: skip
        self.session = answer.session
        self._interval_seconds = answer.heartbeat_interval_ms / 1000

    def start(self, request: task_pb2.StartTaskRequest) -> None:
        """Takes a batch: adds its tasks, then runs those that may."""
        self._take_batch(request.dispatch_seq)
        specs = request.specs
        for each in request.starts:
            spec = specs[each.spec]
            waiting = self._waiting.setdefault(spec.class_id, deque())
            waiting.append((spec.epoch, spec.job_id, each.index, each.attempt))
        for slots in request.slots:
            # With any slot at all each of them gets it in turn, since it is free again at once.
            if slots.slots and (ready := self._waiting.pop(slots.class_id, None)):
                self._end(ready)

    def stop(self, request: task_pb2.StopTaskRequest) -> None:
        """Takes a batch of wishes: hands back what others are to run.

        While a call to a worker takes long, what waits for the next one goes to others: its recall
        comes here without it, and counts only once it is told. Of a task that has ended it is
        told after the end, and means nothing.
        """
        self._take_batch(request.dispatch_seq)
        for each in request.stops:
            if each.mode == task_pb2.STOP_RECALL:
                key = each.key
                task = (key.epoch, key.job_id, key.index, key.attempt)
                for waiting in self._waiting.values():
                    with contextlib.suppress(ValueError):
                        waiting.remove(task)
                self._end([task], is_recalled=True)

    async def beat(self) -> None:
        """Heartbeats, for ever."""
        await asyncio.sleep(self._number * GOLDEN % 1 * self._interval_seconds)
        while True:
            held = worker_pb2.Held(
                attempts=[
                    worker_pb2.HeldAttempt(key=_key(each), state=worker_pb2.HELD_ENDED)
                    for each in self._ended
                    if not each.is_recalled
                ],
                dispatch_seq=self._dispatch_seq,
                report_seq=self._report_seq,
            )
            request = worker_pb2.HeartbeatRequest(
                session=self.session, held=held, statistics=_STATISTICS
            )
            self.beat_began = start = time.perf_counter()
            await self._stub.Heartbeat(request, metadata=self._metadata, timeout=CALL_SECONDS)
            self.beats_ms.append(1e3 * (time.perf_counter() - start))
            self.beat_began = None
            await asyncio.sleep(self._interval_seconds)

    async def report(self) -> None:
        """Tells what has ended, a batch at a time, for ever."""
        while True:
            await self._has_ended.wait()
            ends = [self._ended[place] for place in range(min(len(self._ended), REPORTS_MAX))]
            request = worker_pb2.ReportTaskStatusRequest(
                session=self.session, first_seq=ends[0].seq - 1, last_seq=ends[-1].seq
            )
            for end in ends:
                if end.is_recalled:
                    request.reports.add(
                        seq=end.seq, key=_key(end), kind=worker_pb2.REPORT_RECALLED, end_us=end.us
                    )
                    continue
                request.reports.add(
                    seq=end.seq, key=_key(end), kind=worker_pb2.REPORT_ENDED,
                    state=types_pb2.COMPLETED, reason=types_pb2.REASON_EXIT, exit_code=0,
                    start_us=end.us, end_us=end.us, cpu_user_us=500, cpu_system_us=500,
                    max_rss_bytes=1 << 20,
                )  # fmt: skip
            answer = await self._stub.ReportTaskStatus(
                request, metadata=self._metadata, timeout=CALL_SECONDS
            )
            while self._ended and self._ended[0].seq <= answer.report_seq:
                self._ended.popleft()
            if not self._ended:
                self._has_ended.clear()

    def _take_batch(self, dispatch_seq: int) -> None:
        # What was in one that did not get through comes again under a later number.
        if dispatch_seq <= self._dispatch_seq:
            raise BenchError(f"batch {dispatch_seq} came after {self._dispatch_seq}")
        self._dispatch_seq = dispatch_seq

    def _end(
        self, tasks: Iterable[tuple[int, int, int, int]], *, is_recalled: bool = False
    ) -> None:
        us = time.time_ns() // 1000
        for task in tasks:
            # A number for the start, which is told by the end, and one for the end.
            self._report_seq += 2
            self._ended.append(_End(self._report_seq, *task, us, is_recalled))
        self._has_ended.set()


class _TaskService:
    """What the manager calls of TaskService, for all workers of the process."""

    def __init__(self) -> None:
        self.workers: dict[bytes, _Worker] = {}
        self.failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def StartTask(  # noqa: N802  (gRPC's names)
        self, request: task_pb2.StartTaskRequest, _context: object
    ) -> task_pb2.StartTaskResponse:
        """A batch of starts."""
        with self._noted():
            self.workers[request.session].start(request)
        return task_pb2.StartTaskResponse()

    async def StopTask(  # noqa: N802
        self, request: task_pb2.StopTaskRequest, _context: object
    ) -> task_pb2.StopTaskResponse:
        """A batch of wishes."""
        with self._noted():
            self.workers[request.session].stop(request)
        return task_pb2.StopTaskResponse()

    def handlers(self) -> grpc.GenericRpcHandler:
        """To be added to a server."""
        served: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "StartTask": grpc.unary_unary_rpc_method_handler(
                self.StartTask,
                request_deserializer=task_pb2.StartTaskRequest.FromString,
                response_serializer=task_pb2.StartTaskResponse.SerializeToString,
            ),
            "StopTask": grpc.unary_unary_rpc_method_handler(
                self.StopTask,
                request_deserializer=task_pb2.StopTaskRequest.FromString,
                response_serializer=task_pb2.StopTaskResponse.SerializeToString,
            ),
        }
        name = task_pb2.DESCRIPTOR.services_by_name["TaskService"].full_name
        return grpc.method_handlers_generic_handler(name, served)

    @contextlib.contextmanager
    def _noted(self) -> Iterator[None]:
        """The process ends with what goes wrong in a call."""
        try:
            yield
        except (BenchError, KeyError) as error:
            if not self.failure.done():
                self.failure.set_exception(error)
            raise


def _key(end: _End) -> types_pb2.AttemptKey:
    return types_pb2.AttemptKey(
        epoch=end.epoch, job_id=end.job_id, index=end.task_index, attempt=end.attempt
    )


async def _run(manager: str, cpus: int) -> None:
    """Until stdin ends, or something fails."""
    server = new_aio_server()
    service = _TaskService()
    server.add_generic_rpc_handlers((service.handlers(),))
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(lines), sys.stdin
    )
    registering = asyncio.Semaphore(REGISTERING_MAX)

    async def add_worker(number: int) -> _Worker:
        async with registering:
            worker = _Worker(number, manager)
            await worker.register(address, "token", cpus)
            service.workers[worker.session] = worker
            return worker

    async with asyncio.TaskGroup() as group:
        # It only ever fails, and everything with it.
        tasks = [group.create_task(_wait(service.failure))]
        while line := await lines.readline():
            if line == BEATS:
                print(json.dumps(_take_beats(service.workers.values())), flush=True)
                continue
            wanted = range(len(service.workers) + 1, int(line) + 1)
            for worker in await asyncio.gather(*map(add_worker, wanted)):
                tasks += [group.create_task(worker.beat()), group.create_task(worker.report())]
            print(int(line), flush=True)
        for task in tasks:
            task.cancel()
    await server.stop(0)


def _take_beats(workers: Iterable[_Worker]) -> list[float]:
    """One that has no answer yet counts as what it has waited so far."""
    now = time.perf_counter()
    beats = [each for worker in workers for each in worker.beats_ms]
    beats += [1e3 * (now - each.beat_began) for each in workers if each.beat_began is not None]
    for worker in workers:
        worker.beats_ms.clear()
    return beats


async def _wait(future: asyncio.Future[None]) -> None:
    await future


def raise_file_limit() -> int:
    """Lets this process and those that it starts open as many files as they may; returns that."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


class Load:
    """The process with the workers."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self._process = process
        self._log = log
        self._usage = psutil.Process(process.pid)

    def grow(self, workers: int) -> None:
        """Returns when there are so many, all registered. Raises BenchError."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{workers}\n")
        self._process.stdin.flush()
        wait_for(lambda: self._has_said(str(workers)), f"a cluster of {workers} workers")

    def take_beats_ms(self) -> list[float]:
        """How long each heartbeat since the last call waited for its answer. Raises BenchError."""
        assert self._process.stdin is not None
        before = self._log.stat().st_size
        self._process.stdin.write(BEATS.decode())
        self._process.stdin.flush()

        def find_answer() -> list[float] | None:
            self.check()
            with self._log.open("rb") as log:
                log.seek(before)
                line = log.read()
            return list(json.loads(line)) if line.endswith(b"]\n") else None

        return wait_for(find_answer, "the times of the heartbeats")

    def cpu_seconds(self) -> float:
        """What the process has used so far."""
        return cpu_seconds(self._usage)

    def check(self) -> None:
        """Raises BenchError when something has failed there."""
        if self._process.poll() is not None:
            raise BenchError(f"the workers failed: {self._log.read_text()[-2000:]}")

    def _has_said(self, answer: str) -> bool | None:
        self.check()
        return answer in self._log.read_text().split() or None


@contextlib.contextmanager
def fake_workers(directory: Path, here: Cluster, *, cpus: int) -> Iterator[Load]:
    """A process for workers of that cluster, none yet, of so many cpus each."""
    log = directory / "workers.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "tools.bench.fake_workers", here.address, str(cpus)],
            cwd=ROOT, env=environment(directory), stdin=subprocess.PIPE, stdout=output,
            stderr=output, text=True,
        )  # fmt: skip
    load = Load(process, log)
    try:
        yield load
        load.check()
    except Exception:
        # Where they have failed, whatever else did so did it for that.
        load.check()
        raise
    finally:
        with contextlib.suppress(subprocess.TimeoutExpired):
            # Ends with its stdin.
            process.communicate(timeout=DEADLINE_SECONDS)
        if process.poll() is None:
            process.kill()
            process.wait()


def main(manager: str, cpus: str) -> int:
    """Serves workers for that manager."""
    asyncio.run(_run(manager, int(cpus)))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
