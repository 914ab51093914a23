"""Questions about the past, passed on to lookback processes.

The manager remembers what is now. What was, the log knows, and reading it takes time and
memory: other processes do that, at most two, started at the first question and ended when
nobody has asked for a while. They may die at any moment; the next question starts another.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import OrderedDict
from collections.abc import Hashable
from pathlib import Path
from typing import Final, NamedTuple

import msgpack

from titan import errors
from titan.errors import Refused, StillReading, TitanError
from titan.logs import LogLine
from titan.manager.reader_process import start_process
from titan.queries.reads import Begun
from titan.queries.stories import Story, unpack_story
from titan.rpc import frames
from titan.rpc.v1 import manager_pb2

_log = logging.getLogger("titan.past")

# Two, so that one long question does not stop all others; each may be as large as the manager.
PROCESSES_MAX: Final = 2
IDLE_SECONDS: Final = 600.0
# For a caller, the wait for those before it included; then he is told that it goes on.
DEADLINE_SECONDS: Final = 60.0
# For one that asks of now, and did not expect to ask the past: sooner than he takes the manager
# for dead (`titan.client.retry.ATTEMPT_SECONDS`).
NOW_DEADLINE_SECONDS: Final = 4.0
# Which process has the state of which moment: as many as both together keep, and some.
MOMENTS_KEPT: Final = 16
WAITING_MAX: Final = 100
# Whatever takes longer is stuck.
ANSWER_SECONDS_MAX: Final = 900.0
# What questions about forgotten jobs are about: one process remembers how far it looked.
FORGOTTEN: Final = "forgotten"


class Outputs(NamedTuple):
    """Where the output of a task of a forgotten job is."""

    user: str
    epoch: int
    is_array: bool
    begun: list[Begun]


class PastDesk:
    """Asks lookback processes about the log of one data directory."""

    def __init__(self, data_directory: Path, *, log_format: str = "text") -> None:
        """Starts nothing yet."""
        self._processes = [_Lookback(data_directory, log_format) for _ in range(PROCESSES_MAX)]
        self._places: OrderedDict[Hashable, _Lookback] = OrderedDict()

    async def ask(
        self,
        method: str,
        request: bytes,
        *,
        about: Hashable = None,
        seconds: float = DEADLINE_SECONDS,
    ) -> bytes:
        """The reply of a lookback process; those `about` the same moment go to the same one.

        Raises TitanError: what the process refused with, Refused when there is no answer, and
        StillReading when there is none within so many seconds: then asking again goes on.
        """
        process = self._place(about)
        question = frames.Question(method, request)
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while True:
            if process.waiting >= WAITING_MAX:
                raise Refused("too many questions about the past are waiting; ask again later")
            try:
                return await process.ask(question, end - loop.time())
            except StillReading:
                # It lets others in between, and would go on.
                if loop.time() >= end:
                    raise

    async def find_story(self, request: manager_pb2.GetEventsRequest) -> Story:
        """Where the story of a job lies that is meant at a moment of the past. Raises as `ask`."""
        about = request.at.SerializeToString()
        return unpack_story(await self.ask("FindStory", request.SerializeToString(), about=about))

    async def page_of_story(
        self, story: Story
    ) -> tuple[manager_pb2.GetEventsResponse, Story | None]:
        """The next events of a job, and what is left of its story. Raises as `ask`."""
        about = FORGOTTEN if story.are_indexes_unchecked else None
        packed = await self.ask("PageOfStory", story.pack(), about=about)
        message, rest = msgpack.unpackb(packed)
        page = manager_pb2.GetEventsResponse.FromString(message)
        return page, unpack_story(rest) if rest else None

    async def find_output(self, job_id: int, index: int) -> Outputs:
        """Where the output of a task of a forgotten job is. Raises as `ask`.

        It is for a stream, which waits as long as it takes.
        """
        request: bytes = msgpack.packb((job_id, index))
        packed = await self.ask("FindOutput", request, about=FORGOTTEN, seconds=ANSWER_SECONDS_MAX)
        user, epoch, is_array, begun = msgpack.unpackb(packed)
        return Outputs(user, epoch, is_array, [Begun(*each) for each in begun])

    async def close(self) -> None:
        """Ends the processes."""
        for process in self._processes:
            await process.close()

    def _place(self, about: Hashable) -> _Lookback:
        place = self._places.get(about) if about is not None else None
        if place is None:
            # The first one while it has nothing to do: a second one is started only if needed.
            place = min(self._processes, key=lambda each: each.waiting)
        if about is not None:
            self._places[about] = place
            self._places.move_to_end(about)
            if len(self._places) > MOMENTS_KEPT:
                self._places.popitem(last=False)
        return place


class _Lookback:
    """One process, or the place for one. Its questions wait for each other."""

    def __init__(self, data_directory: Path, log_format: str) -> None:
        self._directory = data_directory
        self._log_format = log_format
        self._turn = asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._asked: set[asyncio.Task[frames.Answer]] = set()
        self._ending: asyncio.Task[None] | None = None
        self._is_closed = False

    @property
    def waiting(self) -> int:
        """How many questions it has, the one under way included."""
        return len(self._asked)

    async def ask(self, question: frames.Question, seconds: float) -> bytes:
        begun = asyncio.Event()
        asked = asyncio.create_task(self._ask_in_turn(question, begun))
        self._asked.add(asked)
        asked.add_done_callback(self._answered)
        try:
            answer = await asyncio.wait_for(asyncio.shield(asked), seconds)
        except TimeoutError as error:
            what = "it is still being read" if begun.is_set() else "other questions come first"
            raise StillReading(f"the past takes a while: {what}; ask again") from error
        finally:
            # One under way goes on when its caller has gone: he may be back for the same, and
            # then the state is there.
            if not begun.is_set():
                asked.cancel()
        if answer.error:
            kind = getattr(errors, answer.error, TitanError)
            raise kind(answer.text)
        return answer.reply

    async def close(self) -> None:
        self._is_closed = True
        for asked in list(self._asked):
            asked.cancel()
        if self._asked:
            await asyncio.wait(self._asked)
        if self._ending is not None:
            await self._ending
        await self._end()

    def _answered(self, asked: asyncio.Task[frames.Answer]) -> None:
        self._asked.discard(asked)
        # It may have failed when nobody waited any more.
        if not asked.cancelled():
            asked.exception()

    async def _ask_in_turn(self, question: frames.Question, begun: asyncio.Event) -> frames.Answer:
        async with self._turn:
            begun.set()
            if self._idle is not None:
                self._idle.cancel()
            try:
                async with asyncio.timeout(ANSWER_SECONDS_MAX):
                    return await self._ask_twice(question)
            except TimeoutError as error:
                await self._end()
                raise Refused(
                    f"the past could not be read within {ANSWER_SECONDS_MAX:g} s"
                ) from error
            except BaseException:
                # What is on the socket belongs to nobody now.
                await self._end()
                raise
            finally:
                self._idle = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._end_idle)

    async def _ask_twice(self, question: frames.Question) -> frames.Answer:
        """One that died since the last question is replaced without a word; another is not."""
        was_running = self._process is not None
        try:
            return await self._ask_process(question)
        except (OSError, EOFError, ValueError) as error:
            code = await self._end()
            if not was_running:
                raise Refused(f"the process that reads the past ended with {code}") from error
        _log.warning(LogLine("the lookback process had ended; starting another", exit_code=code))
        try:
            return await self._ask_process(question)
        except (OSError, EOFError, ValueError) as error:
            code = await self._end()
            raise Refused(f"the process that reads the past ended with {code}") from error

    async def _ask_process(self, question: frames.Question) -> frames.Answer:
        if self._reader is None or self._writer is None:
            self._reader, self._writer = await self._start()
        self._writer.write(frames.encode(question))
        await self._writer.drain()
        header = await self._reader.readexactly(frames.HEADER.size)
        body = await self._reader.readexactly(frames.body_bytes(header))
        return frames.decode_answer(body)

    async def _start(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._is_closed:
            raise Refused("the manager stops")
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = await start_process(
                *("titan.lookback", self._directory, self._log_format, theirs.fileno()),
                pass_fds=(theirs.fileno(),),
            )
        return await asyncio.open_connection(sock=ours)

    async def _end(self) -> int | None:
        """Kills it and waits for it: it only reads, so there is nothing that it has to finish."""
        if self._idle is not None:
            self._idle.cancel()
        process, writer = self._process, self._writer
        self._process = self._reader = self._writer = None
        if writer is not None:
            writer.close()
        if process is None:
            return None
        if process.returncode is None:
            process.kill()
        return await process.wait()

    def _end_idle(self) -> None:
        self._ending = asyncio.create_task(self._end_unless_asked())

    async def _end_unless_asked(self) -> None:
        async with self._turn:
            if not self._asked:
                await self._end()
