"""The output of tasks to this process's own: bytes unchanged, or in lines that say whose.

One task's output passes as it is. Of arrays only whole lines are printed, each behind
`42.7| `, so that tasks can run side by side on one terminal.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import AbstractContextManager, aclosing, nullcontext
from itertools import chain
from typing import BinaryIO, Final

from titan import units
from titan.cli.command import say
from titan.client.aio_session import AioSession
from titan.client.cursors import LineJoiner, OutputCursor
from titan.client.output import OutputChunk
from titan.errors import NotFound, OutputUnavailable
from titan.model import IndexRange
from titan.rpc.v1 import types_pb2

# How often a task whose worker is away is asked for again.
_AWAY_SECONDS: Final = 1.0
# Open at once for an array. Each is a stream at the manager and one at a worker; tasks start
# in the order of their indexes, so that those written to now are within this window.
STREAMS_MAX: Final = 64


class Printer:
    """Where output goes. `hide` makes room on a terminal that shows something else."""

    def __init__(self, hide: Callable[[], AbstractContextManager[None]] = nullcontext) -> None:
        self._hide = hide
        self.written_bytes = 0

    def write(self, stream: str, data: bytes) -> None:
        """Raises BrokenPipeError when nobody reads any more."""
        out: BinaryIO = (sys.stdout if stream == "stdout" else sys.stderr).buffer
        with self._hide():
            out.write(data)
            out.flush()
        self.written_bytes += len(data)

    def tell(self, sentence: str) -> None:
        """A sentence about the output, on stderr."""
        with self._hide():
            say(sentence)


class TaskPrinter:
    """Prints one task's output; with a prefix in whole lines."""

    def __init__(self, printer: Printer, prefix: str = "") -> None:
        self._printer = printer
        self._prefix = prefix.encode()
        self._joiners: dict[str, LineJoiner] = {}

    def take(self, chunk: OutputChunk) -> None:
        """A piece."""
        if chunk.hole_bytes:
            self._tell_hole(chunk)
            return
        data = chunk.data
        if self._prefix:
            joiner = self._joiners.setdefault(chunk.stream, LineJoiner(self._prefix))
            data = joiner.take(data)
        if data:
            self._printer.write(chunk.stream, data)

    def _tell_hole(self, chunk: OutputChunk) -> None:
        """What is missing, between the line that it cuts off and the rest of another."""
        joiner = self._joiners.get(chunk.stream)
        if joiner is not None and (rest := joiner.finish()):
            self._printer.write(chunk.stream, rest)
        whose = f"{self._prefix.decode()[:-2]}: " if self._prefix else ""
        size = units.format_size(chunk.hole_bytes)
        self._printer.tell(
            f"{whose}{size} in the middle of its {chunk.stream} were left out "
            "(over the worker's --output-max)"
        )

    def finish(self) -> None:
        """Last lines without an end."""
        for stream, joiner in self._joiners.items():
            if rest := joiner.finish():
                self._printer.write(stream, rest)


async def print_task(
    session: AioSession, cursor: OutputCursor, printer: TaskPrinter, *, patience_seconds: float
) -> None:
    """Prints what a task wrote, and with a following cursor what it writes.

    Raises NotFound if it never started, OutputUnavailable if its worker stays away.
    """
    output = session.output(cursor, patience_seconds=patience_seconds)
    async with aclosing(output) as chunks:
        async for chunk in chunks:
            printer.take(chunk)
    printer.finish()


async def print_running_task(
    session: AioSession, cursor: OutputCursor, printer: TaskPrinter, ended: asyncio.Event
) -> None:
    """Prints a task's output until its job has `ended`, however long its worker is away."""
    was_told = False
    while True:
        # What fails once all is over fails for good.
        is_last_try = ended.is_set()
        try:
            await print_task(session, cursor, printer, patience_seconds=_AWAY_SECONDS)
        except NotFound:
            if is_last_try:
                return
        except OutputUnavailable as error:
            if is_last_try or not was_told:
                was_told = True
                say(str(error))
            if is_last_try:
                return
        else:
            return
        try:
            async with asyncio.timeout(_AWAY_SECONDS):
                await ended.wait()
        except TimeoutError:
            pass


def task_indexes(ranges: Iterable[types_pb2.IndexRange | IndexRange]) -> Iterator[int]:
    """All indexes of an array; of a plain job 0."""
    listed = [range(part.start, part.stop, part.step or 1) for part in ranges]
    return chain.from_iterable(listed) if listed else iter([0])


async def print_side_by_side(
    indexes: Iterable[int], print_one: Callable[[int], Coroutine[None, None, None]]
) -> None:
    """Prints tasks at once, in a window that moves over the indexes."""
    room = asyncio.Semaphore(STREAMS_MAX)

    async def within_window(index: int) -> None:
        try:
            await print_one(index)
        finally:
            room.release()

    try:
        async with asyncio.TaskGroup() as group:
            for index in indexes:
                await room.acquire()
                group.create_task(within_window(index))
    except BaseExceptionGroup as errors:
        # They fail for one cause: the others were cancelled for it.
        raise errors.exceptions[0] from None
