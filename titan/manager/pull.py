"""What a worker that cannot be called fetches with its heartbeats: batches and questions.

Level-triggered like all that goes to a worker. An answer that gets lost costs a round trip: the
next heartbeat tells which batch the worker has, and a question is asked again until the worker
calls with the answer.
"""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import AsyncIterator
from typing import Final

from titan.manager.batches import start_request_of, stop_request_of
from titan.manager.kernel.outbox import Batch, Outbox
from titan.manager.secret_desk import SecretDesk
from titan.manager.shell import Shell
from titan.rpc.v1 import manager_pb2, task_pb2, worker_pb2

# Longer than heartbeats are apart nobody waits: the manager counts silence.
WAIT_SECONDS_MAX: Final = 60.0
# A question that was not answered is asked again, and after so long it is given up.
ASK_AGAIN_SECONDS: Final = 1.0
ANSWER_SECONDS: Final = 10.0
# Chunks that came and were not read, of 256 KiB each: beyond that the worker waits.
CHUNKS_MAX: Final = 4


class Unanswered(Exception):
    """The worker does not answer; the text says why."""


class OutputGone(Exception):
    """The worker knows no such output; the text is its sentence."""


class _Question:
    """Something that the worker is asked for, until it calls with the answer."""

    def __init__(self, number: int, now: float) -> None:
        self.number = number
        self.give_up_at = now + ANSWER_SECONDS
        self.ask_at = now
        self.is_answered = False

    def take(self, now: float) -> bool:
        """Whether it is to be asked now, again perhaps."""
        if self.is_answered or now < self.ask_at:
            return False
        self.ask_at = now + ASK_AGAIN_SECONDS
        return True


class OutputQuestion(_Question):
    """For output: chunks come by a stream, None is the end of it."""

    def __init__(self, number: int, now: float, request: task_pb2.ReadOutputRequest) -> None:
        super().__init__(number, now)
        self.request = request
        self.chunks: asyncio.Queue[manager_pb2.StreamOutputResponse | Exception | None] = (
            asyncio.Queue()
        )
        self.room = asyncio.Semaphore(CHUNKS_MAX)
        """For chunks; the end needs none."""
        self.is_left = asyncio.Event()
        """Set: nobody reads it any more."""


class StatusQuestion(_Question):
    """For what tasks do: one answer."""

    def __init__(self, number: int, now: float, request: task_pb2.GetTaskStatusRequest) -> None:
        super().__init__(number, now)
        self.request = request
        self.answer: asyncio.Future[task_pb2.GetTaskStatusResponse] = (
            asyncio.get_running_loop().create_future()
        )


class PullLine:
    """What goes to one worker in one session. Owned by the loop."""

    def __init__(self, outbox: Outbox, shell: Shell, secrets: SecretDesk) -> None:
        self._outbox = outbox
        self._shell = shell
        self._secrets = secrets
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._is_released = False
        # Only the newest poll is answered: of the others the answer would not be read.
        self._polls = 0
        self._under_way: Batch | None = None
        self._numbers = itertools.count(1)
        self._outputs: dict[int, OutputQuestion] = {}
        self._statuses: dict[int, StatusQuestion] = {}

    @property
    def is_current(self) -> bool:
        """Whether the session is still the worker's."""
        return self._shell.kernel.sessions.get(self._outbox.session) is self._outbox

    def wake(self) -> None:
        """The outbox has something to send."""
        self._news.set()

    def release(self) -> None:
        """Whoever waits is answered now, and nobody waits any more."""
        self._is_released = True
        self._news.set()

    async def poll(self, has_seq: int, wait_seconds: float) -> worker_pb2.HeartbeatResponse:
        """The answer to a heartbeat: what there is for the worker, as soon as there is something.

        `has_seq` is the last batch that the worker has.
        """
        self._polls += 1
        number = self._polls
        # An older one ends without an answer.
        self._news.set()
        self._settle(has_seq)
        end = self._loop.time() + min(wait_seconds, WAIT_SECONDS_MAX)
        while True:
            answer, secret_ids = self._take()
            if answer is not None:
                await self._secrets.fill(answer.start, secret_ids)
                await self._shell.wait_durable(self._shell.lsn)
                return answer
            self._news.clear()
            now = self._loop.time()
            if now >= end:
                return worker_pb2.HeartbeatResponse(waited=True)
            await self._wait_news(min(end, self._next_question()) - now)
            if self._polls != number or self._is_released or not self.is_current:
                return worker_pb2.HeartbeatResponse()

    async def read_output(
        self, request: task_pb2.ReadOutputRequest
    ) -> AsyncIterator[manager_pb2.StreamOutputResponse]:
        """What the worker sends of it. Raises OutputGone, Unanswered."""
        question = OutputQuestion(next(self._numbers), self._loop.time(), request)
        self._outputs[question.number] = question
        self._news.set()
        try:
            while (chunk := await self._next_chunk(question)) is not None:
                yield chunk
        finally:
            question.is_left.set()
            del self._outputs[question.number]

    async def get_status(
        self, request: task_pb2.GetTaskStatusRequest
    ) -> task_pb2.GetTaskStatusResponse:
        """The answer of the worker, as long as the caller waits for it."""
        question = StatusQuestion(next(self._numbers), self._loop.time(), request)
        self._statuses[question.number] = question
        self._news.set()
        try:
            return await question.answer
        finally:
            del self._statuses[question.number]

    def find_output(self, number: int) -> OutputQuestion | None:
        """The question that the worker answers; from then on it is not asked again."""
        question = self._outputs.get(number)
        if question is None or question.is_answered:
            return None
        question.is_answered = True
        return question

    def answer_status(self, number: int, answer: task_pb2.GetTaskStatusResponse) -> bool:
        """Whether somebody waits for it."""
        question = self._statuses.get(number)
        if question is None or question.answer.done():
            return False
        question.is_answered = True
        question.answer.set_result(answer)
        return True

    def _settle(self, has_seq: int) -> None:
        batch, self._under_way = self._under_way, None
        if batch is None:
            return
        if has_seq >= batch.dispatch_seq:
            self._outbox.acknowledged(batch)
        else:
            self._outbox.failed(batch, self._shell.kernel.state)

    def _take(self) -> tuple[worker_pb2.HeartbeatResponse | None, dict[int, bytes]]:
        """What there is now, and the secrets that it lacks, as in `start_request_of`."""
        now = self._loop.time()
        secret_ids: dict[int, bytes] = {}
        answer = worker_pb2.HeartbeatResponse(
            waited=True,
            outputs=[
                worker_pb2.OutputQuestion(number=each.number, request=each.request)
                for each in self._outputs.values()
                if each.take(now)
            ],
            statuses=[
                worker_pb2.TaskStatusQuestion(number=each.number, request=each.request)
                for each in self._statuses.values()
                if each.take(now)
            ],
        )
        state = self._shell.kernel.state
        batch = self._outbox.next_batch(state) if self.is_current else None
        if batch is not None:
            self._under_way = batch
            session = self._outbox.session
            if batch.stops:
                answer.stop.CopyFrom(stop_request_of(session, batch))
            else:
                start, secret_ids = start_request_of(state, session, batch, self._shell.sampler)
                answer.start.CopyFrom(start)
        return (answer if batch or answer.outputs or answer.statuses else None), secret_ids

    def _next_question(self) -> float:
        """When something is asked again."""
        questions = itertools.chain(self._outputs.values(), self._statuses.values())
        return min((each.ask_at for each in questions if not each.is_answered), default=math.inf)

    async def _wait_news(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            return

    async def _next_chunk(
        self, question: OutputQuestion
    ) -> manager_pb2.StreamOutputResponse | None:
        while True:
            try:
                async with asyncio.timeout(ASK_AGAIN_SECONDS):
                    chunk = await question.chunks.get()
            except TimeoutError:
                if not self.is_current:
                    raise Unanswered("its session has ended") from None
                if not question.is_answered and self._loop.time() > question.give_up_at:
                    raise Unanswered(f"it was asked for {ANSWER_SECONDS:g} s") from None
                continue
            if isinstance(chunk, Exception):
                raise chunk
            question.room.release()
            return chunk


async def take_output(
    question: OutputQuestion, requests: AsyncIterator[worker_pb2.PushOutputRequest]
) -> None:
    """Pass on what a worker sends, as fast as it is read; ends when nobody reads any more."""
    taking = asyncio.create_task(_take_all(question, requests))
    gone = asyncio.create_task(question.is_left.wait())
    try:
        await asyncio.wait({taking, gone}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (taking, gone):
            task.cancel()
        await asyncio.gather(taking, gone, return_exceptions=True)


async def _take_all(
    question: OutputQuestion, requests: AsyncIterator[worker_pb2.PushOutputRequest]
) -> None:
    end: Exception | None = Unanswered("it stopped sending")
    try:
        async for request in requests:
            if request.HasField("chunk"):
                await question.room.acquire()
                question.chunks.put_nowait(request.chunk)
            if request.HasField("end"):
                end = _end_of(request.end)
                break
    finally:
        question.chunks.put_nowait(end)


def _end_of(end: worker_pb2.PushOutputEnd) -> Exception | None:
    if end.not_found:
        return OutputGone(end.failure)
    return Unanswered(end.failure) if end.failure else None
