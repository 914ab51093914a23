"""Passes what tasks wrote from the worker that has it to whoever asks."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Final, NamedTuple

from titan.errors import InvalidJob, NotFound, Refused
from titan.manager import permissions
from titan.manager.feed import Watcher
from titan.manager.past import PastDesk
from titan.manager.pull import OutputGone, Unanswered
from titan.manager.reach import Reach
from titan.manager.shell import Shell
from titan.model import TASK_ENDS, AttemptKey, WorkerState, task_name
from titan.queries.reads import Begun, begun_attempts
from titan.queries.requests import check_choices
from titan.queries.views import named_paths
from titan.rpc.v1 import manager_pb2, task_pb2, types_pb2
from titan.state.job import Job
from titan.state.worker import Worker

# Workers send pieces of 256 KiB.
CHUNK_BYTES_MAX: Final = 1 << 20
# No file is larger.
OUTPUT_BYTES_MAX: Final = 1 << 62


class _Source(NamedTuple):
    """The attempt whose output is read, and where it is."""

    task_name: str
    epoch: int
    begun: Begun
    is_first: bool
    """Of those read for one request: where to begin in it was said of this one."""
    named: tuple[bytes, ...] = ()
    """The files that the user named for it."""


class OutputRelay:
    """Streams of output through one manager."""

    def __init__(self, shell: Shell, reach: Reach, past: PastDesk) -> None:
        self._shell = shell
        self._reach = reach
        self._past = past

    def stream(
        self, request: manager_pb2.StreamOutputRequest
    ) -> AsyncIterator[manager_pb2.StreamOutputResponse]:
        """What the attempt wrote; with `follow` on to the task's end over all attempts to come.

        Raises NotFound, InvalidJob, PermissionDenied, Refused where the worker is away.
        """
        if min(request.stdout_offset, request.stderr_offset, request.tail_lines) < 0:
            raise InvalidJob("offsets and the number of lines must not be negative")
        check_choices(request.streams)
        state = self._shell.kernel.state
        job: Job | None = state.jobs.get(request.job_id)
        if job is not None:
            permissions.check_job_of(job.user, job.job_id)
            return self._stream_known(request, job)
        if not state.is_forgotten(request.job_id):
            raise NotFound(f"there is no job {request.job_id}")
        return self._stream_forgotten(request)

    async def _stream_known(
        self, request: manager_pb2.StreamOutputRequest, job: Job
    ) -> AsyncIterator[manager_pb2.StreamOutputResponse]:
        name = task_name(job.job_id, request.index, job.is_array)
        if job.find_task_state(request.index) is None:
            raise NotFound(f"there is no task {name}")
        watcher = Watcher(frozenset([job.job_id]))
        self._shell.feed.add(watcher)
        try:
            follows = request.follow and not request.attempt
            after = 0
            while True:
                place = _find_place(begun_attempts(job, request.index), request.attempt, after)
                if place is not None:
                    named = named_paths(job, request.index, place.attempt)
                    source = _Source(name, job.epoch, place, after == 0, named)
                    async for chunk in self._read(request, source):
                        yield chunk
                    after = place.attempt
                if not follows:
                    if place is None and request.attempt:
                        raise _no_such_attempt(name, request.attempt)
                    return
                # It may have ended, and the end not be known here yet.
                while _find_place(begun_attempts(job, request.index), 0, after) is None:
                    if job.find_task_state(request.index) in TASK_ENDS:
                        return
                    await watcher.wait_changed()
        finally:
            self._shell.feed.remove(watcher)

    async def _stream_forgotten(
        self, request: manager_pb2.StreamOutputRequest
    ) -> AsyncIterator[manager_pb2.StreamOutputResponse]:
        """The same of a job that only the log knows: nothing of it is to come."""
        await self._shell.wait_durable(self._shell.lsn)
        outputs = await self._past.find_output(request.job_id, request.index)
        permissions.check_job_of(outputs.user, request.job_id)
        name = task_name(request.job_id, request.index, outputs.is_array)
        place = _find_place(outputs.begun, request.attempt, 0)
        if place is None:
            if request.attempt:
                raise _no_such_attempt(name, request.attempt)
            return
        source = _Source(name, outputs.epoch, place, is_first=True)
        async for chunk in self._read(request, source):
            yield chunk

    async def _read(
        self, request: manager_pb2.StreamOutputRequest, source: _Source
    ) -> AsyncIterator[manager_pb2.StreamOutputResponse]:
        name, epoch, (attempt, worker_number, end_us), is_first, named = source
        worker = self._shell.kernel.state.get_worker(worker_number)
        outbox = self._shell.kernel.outboxes.get(worker_number)
        if outbox is None:
            raise Refused(f"the output of {name} is on {worker.name}, {_how_long(worker)}")
        key = AttemptKey(epoch, request.job_id, request.index, attempt)
        wanted = task_pb2.ReadOutputRequest(
            key=types_pb2.AttemptKey(**key._asdict()),
            streams=request.streams,
            stdout_offset=request.stdout_offset if is_first else 0,
            stderr_offset=request.stderr_offset if is_first else 0,
            tail_lines=request.tail_lines if is_first else 0,
            follow=request.follow,
            end_us=end_us,
        )
        try:
            async for chunk in self._reach.read_output(outbox, wanted):
                _check_chunk(chunk, worker)
                chunk.attempt = attempt
                yield chunk
        except OutputGone as error:
            why = str(error)
            raise NotFound(
                f"{worker.name} has no output of {name}: {why}{_where(named, why)}"
            ) from error
        except Unanswered as error:
            raise Refused(
                f"the output of {name} is on {worker.name}, which does not answer: {error}"
            ) from error


def _check_chunk(chunk: manager_pb2.StreamOutputResponse, worker: Worker) -> None:
    """What a worker sends goes to a user's terminal and files. Raises Refused."""
    if (
        chunk.stream not in (manager_pb2.STDOUT, manager_pb2.STDERR)
        or len(chunk.data) > CHUNK_BYTES_MAX
        or not 0 <= chunk.offset <= OUTPUT_BYTES_MAX
        or not 0 <= chunk.hole_bytes <= OUTPUT_BYTES_MAX
    ):
        raise Refused(f"{worker.name} sends what cannot be a piece of output")


def _find_place(begun: list[Begun], attempt: int, after: int) -> Begun | None:
    """Of attempts that have begun one later than `after`: that, or with 0 the latest."""
    chosen = [each for each in begun if each.attempt > after and attempt in (0, each.attempt)]
    return max(chosen, default=None)


def _no_such_attempt(name: str, attempt: int) -> NotFound:
    return NotFound(f"task {name} has no attempt {attempt} that began")


def _where(named: tuple[bytes, ...], why: str) -> str:
    """That files of the user's are nobody's but his, unless something is said of them already."""
    paths = sorted({path.decode(errors="replace") for path in named if path})
    paths = [path for path in paths if path not in why]
    return f"; what it wrote to {' and '.join(paths)} was not touched" if paths else ""


def _how_long(worker: Worker) -> str:
    """`DISCONNECTED since 2026-11-20 14:02`: for a worker that has no session."""
    since = time.strftime("%Y-%m-%d %H:%M", time.localtime(worker.last_heard_us / 1e6))
    is_gone = worker.state in (WorkerState.DISCONNECTED, WorkerState.DEREGISTERED)
    return f"{worker.state.name if is_gone else 'not heard'} since {since}"
