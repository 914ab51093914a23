"""Answers the manager's questions, beside the thread that writes the history.

Each question has a connection of its own to the database, which only reads: in SQLite's WAL mode
and in PostgreSQL readers and the writer do not wait for each other.
"""

from __future__ import annotations

import gc
import logging
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from queue import SimpleQueue
from threading import Event, Lock, Semaphore, Thread
from typing import Final

from titan.errors import Refused, TitanError
from titan.history.answers import answer
from titan.history.database import HistoryRefused
from titan.history.questions import Questions
from titan.rpc.frames import receive
from titan.rpc.history import Request
from titan.rpc.history_frames import (
    PAGES_AHEAD,
    Ask,
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

# So that one long question does not stop all others; each takes time from the writer.
THREADS: Final = 2
JOIN_SECONDS: Final = 1.0
# A caller who takes no page for so long makes way for others.
STALL_SECONDS: Final = 15.0
# An interrupt between two statements is lost.
INTERRUPT_SECONDS: Final = 0.2

Opening = Callable[[], AbstractContextManager[Questions]]


class QuestionServer:
    """Reads the socket and answers, in threads of its own."""

    def __init__(self, connection: socket.socket, opening: Opening, wake: Event) -> None:
        """`opening` opens the database for one question; `wake` is set when the manager says that
        the log has more."""
        self._connection = connection
        self._opening = opening
        self._wake = wake
        self._sending = Lock()
        self._asked: dict[int, _Asked] = {}
        self._waiting: SimpleQueue[_Asked | None] = SimpleQueue()
        self._threads = [
            Thread(target=target, daemon=True) for target in (self._listen, *[self._work] * THREADS)
        ]

    def start(self) -> None:
        """Begins."""
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Gives up what is under way. The manager is told by the end of the socket."""
        # A thread that waits for bytes is not woken by a close.
        try:
            self._connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            _log.debug("the manager has gone")
        for thread in self._threads:
            thread.join(JOIN_SECONDS)
        self._connection.close()

    def send(self, frame: Frame) -> None:
        """For any thread. A manager that has gone ends this process by other means."""
        data = encode(frame)
        with self._sending:
            try:
                self._connection.sendall(data)
            except OSError as error:
                _log.debug("the manager has gone: %s", error)

    def _listen(self) -> None:
        try:
            while (body := receive(self._connection)) is not None:
                self._take(decode(body))
        except OSError as error:
            _log.debug("the manager has gone: %s", error)
        finally:
            for asked in list(self._asked.values()):
                asked.give_up("the history's process ends")
            for _ in range(THREADS):
                self._waiting.put(None)

    def _take(self, frame: Frame) -> None:
        if isinstance(frame, Ask):
            asked = _Asked(frame)
            self._asked[frame.number] = asked
            self._waiting.put(asked)
        elif isinstance(frame, Durable):
            self._wake.set()
        elif isinstance(frame, More | Drop):
            # It may be answered already.
            found = self._asked.get(frame.number)
            if found is not None and isinstance(frame, More):
                found.pages_wanted.release()
            elif found is not None:
                found.give_up("nobody wants to know any more")

    def _work(self) -> None:
        while (asked := self._waiting.get()) is not None:
            error, text = self._answer(asked)
            del self._asked[asked.number]
            self.send(End(asked.number, error, text))
            # An engine has cycles, and the writer of the history has the collector switched off.
            gc.collect(1)

    def _answer(self, asked: _Asked) -> tuple[str, str]:
        """What it ended with: the name of an error and a sentence."""
        Thread(target=asked.watch, daemon=True).start()
        why = ""
        try:
            self._send_pages(asked)
        except HistoryRefused as refused:
            why = str(refused)
        except Exception as error:  # noqa: BLE001  (answered, and logged)
            # One question must not end the answers to others.
            _log.exception("a question to the history failed")
            return TitanError.__name__, f"the question could not be answered: {error!r}"
        finally:
            asked.finish()
        # An interrupted statement is no fault of the database.
        why = asked.why_not() or why
        return (Refused.__name__ if why else "", why)

    def _send_pages(self, asked: _Asked) -> None:
        if asked.why_not():
            return
        with self._opening() as questions, asked.asking(questions):
            for page in answer(questions, Request.FromString(asked.request)):
                if not asked.pages_wanted.acquire(timeout=STALL_SECONDS):
                    asked.give_up(f"no page of the answer was taken for {STALL_SECONDS:g} s")
                if asked.why_not():
                    return
                self.send(Page(asked.number, page.SerializeToString()))


class _Asked:
    """A question, until it is answered."""

    def __init__(self, ask: Ask) -> None:
        self.number = ask.number
        self.request = ask.request
        self.seconds = ask.seconds
        self.end = time.monotonic() + ask.seconds
        self.pages_wanted = Semaphore(PAGES_AHEAD)
        self._questions: Questions | None = None
        self._why_not = ""
        self._is_finished = Event()
        self._is_over = Event()

    def why_not(self) -> str:
        """Why it is given up; empty: it is not."""
        return self._why_not

    @contextmanager
    def asking(self, questions: Questions) -> Iterator[None]:
        """While these may be interrupted for it."""
        self._questions = questions
        try:
            yield
        finally:
            self._questions = None

    def give_up(self, why: str) -> None:
        """Ends the answer soon. For any thread; it waits for nothing."""
        self._why_not = self._why_not or why
        self.pages_wanted.release()
        self._is_over.set()

    def finish(self) -> None:
        """There is nothing left to interrupt."""
        self._is_finished.set()
        self._is_over.set()

    def watch(self) -> None:
        """Gives it up when its time is over, and interrupts what is given up until it has ended."""
        if not self._is_over.wait(max(self.end - time.monotonic(), 0)):
            self.give_up(f"it took longer than {self.seconds:g} s: ask for a shorter time")
        while not self._is_finished.is_set():
            questions = self._questions
            if questions is not None:
                questions.interrupt()
            self._is_finished.wait(INTERRUPT_SECONDS)
