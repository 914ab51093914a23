"""Questions to the history, passed on to the process that writes it.

That process may die at any moment: what it was asked then is over, and the next question waits a
little for the next process. The loop never waits.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

from titan import errors
from titan.errors import Busy, ManagerUnreachable, Refused, TitanError
from titan.rpc import frames
from titan.rpc.history_frames import (
    Ask,
    Committed,
    Drop,
    Durable,
    End,
    Frame,
    More,
    Page,
    decode,
    encode,
)

_log = logging.getLogger("titan.history")

# Each takes two pages of memory at most, here and there. One whose caller has gone counts until the
# process has ended it.
WAITING_MAX: Final = 32
# From the question to the end of the answer, as fast as it is read.
ANSWER_SECONDS: Final = 60.0
# The process gives up by itself; one that does not is stuck.
STUCK_SECONDS: Final = 5.0
# A process that died is replaced after a second, and takes one to start.
START_SECONDS: Final = 4.0

NONE_WRITTEN: Final = (
    "this manager has no history written: start it without --history none; a history that another "
    "process writes is read with --history or --data-dir where it is"
)


class HistoryDesk:
    """Asks the process that writes the history of one data directory."""

    def __init__(self, why_none: str = "") -> None:
        """`why_none` says why there is no such process; empty: there is, or will be."""
        self.why_none = why_none
        self._link: asyncio.StreamWriter | None = None
        self._is_linked = asyncio.Event()
        # None: nobody wants to know any more.
        self._asked: dict[int, asyncio.Queue[Page | End] | None] = {}
        self._waiting = 0
        self._number = 0
        self._committed_lsn = 0
        # Those who wait for a record to be in the tables, and for which.
        self._uncommitted: dict[int, tuple[int, asyncio.Future[None]]] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Asks that process from now on, until it closes its end or this is cancelled."""
        self._link = writer
        self._is_linked.set()
        # It will say what its database has.
        self._committed_lsn = 0
        if self._uncommitted:
            self._send(Durable(max(lsn for lsn, _ in self._uncommitted.values())))
        try:
            while True:
                header = await reader.readexactly(frames.HEADER.size)
                self._take(decode(await reader.readexactly(frames.body_bytes(header))))
        except (OSError, EOFError):
            _log.debug("the process that writes the history has closed its end")
        finally:
            self._link = None
            self._is_linked.clear()
            gone = "the process that writes the history ended meanwhile: ask again"
            for number, queue in self._asked.items():
                if queue is not None:
                    queue.put_nowait(End(number, ManagerUnreachable.__name__, gone))
            self._asked.clear()
            writer.close()

    async def ask(self, request: bytes) -> AsyncGenerator[bytes, None]:
        """The pages of the answer to a GetHistoryRequest, as GetHistoryResponses.

        To be closed. Raises TitanError: Refused where there is no history or the database says no,
        Busy, ManagerUnreachable while the process is away.
        """
        if self.why_none:
            raise Refused(self.why_none)
        if self._waiting + len(self._asked) >= WAITING_MAX:
            raise Busy("too many questions to the history are waiting: ask again later")
        self._waiting += 1
        try:
            await self._wait_link()
        finally:
            self._waiting -= 1
        self._number += 1
        async with aclosing(self._answer(self._number, request)) as pages:
            async for page in pages:
                yield page

    async def wait_committed(self, lsn: int) -> None:
        """Until the tables have that record, which is durable."""
        if lsn <= self._committed_lsn:
            return
        self._number += 1
        number, committed = self._number, asyncio.get_running_loop().create_future()
        self._uncommitted[number] = (lsn, committed)
        # The process reads and commits all that there is then, so one word is enough for many.
        self._send(Durable(lsn))
        try:
            await committed
        finally:
            self._uncommitted.pop(number, None)

    async def _answer(self, number: int, request: bytes) -> AsyncGenerator[bytes, None]:
        pages = asyncio.Queue[Page | End]()
        self._asked[number] = pages
        self._send(Ask(number, request, ANSWER_SECONDS))
        try:
            while True:
                async with asyncio.timeout(ANSWER_SECONDS + STUCK_SECONDS):
                    frame = await pages.get()
                if isinstance(frame, End):
                    if frame.error:
                        kind = getattr(errors, frame.error, TitanError)
                        raise kind(frame.text)
                    return
                yield frame.reply
                self._send(More(number))
        except TimeoutError as error:
            raise Refused("the process that writes the history does not answer") from error
        finally:
            if number in self._asked:
                self._asked[number] = None
                self._send(Drop(number))

    async def _wait_link(self) -> None:
        try:
            async with asyncio.timeout(START_SECONDS):
                # One that has just come may be gone again by now.
                while self._link is None:
                    await self._is_linked.wait()
        except TimeoutError as error:
            raise ManagerUnreachable(
                "the process that writes the history is not running, and is started again; the "
                "manager's log says why it ended"
            ) from error

    def _send(self, frame: Frame) -> None:
        if self._link is not None:
            self._link.write(encode(frame))

    def _take(self, frame: Frame) -> None:
        if isinstance(frame, Page | End):
            # Whoever asked may have gone.
            is_end = isinstance(frame, End)
            asked = self._asked.pop if is_end else self._asked.get
            pages = asked(frame.number, None)
            if pages is not None:
                pages.put_nowait(frame)
        elif isinstance(frame, Committed):
            self._committed_lsn = frame.lsn
            for lsn, committed in self._uncommitted.values():
                if lsn <= frame.lsn and not committed.done():
                    committed.set_result(None)
