"""Answers over the socket: what ends them before their time, however slow the database is."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event
from typing import Any

import pytest
import sqlalchemy as sa

from tests.history.builders import project
from tests.lookback.builders import records as story
from titan.history import answers, server
from titan.history.database import open_for_reading
from titan.history.questions import Questions
from titan.history.server import QuestionServer
from titan.history.store import Store
from titan.rpc.frames import receive
from titan.rpc.history import Request
from titan.rpc.history_frames import PAGES_AHEAD, Ask, Drop, End, Frame, More, Page, decode, encode
from titan.rpc.v1 import history_pb2 as pb2

ATTEMPTS = Request(attempts=pb2.AttemptsQuestion(limit=10_000)).SerializeToString()
FOR_EVER = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT max(x) FROM n"


class Asking:
    """The manager's end of the socket."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        connection.settimeout(30)

    def say(self, *frames: Frame) -> None:
        self._connection.sendall(b"".join(map(encode, frames)))

    def hear(self) -> Frame:
        body = receive(self._connection)
        assert body is not None
        return decode(body)


class Database:
    """Asked by the server. `before` hears of each statement, and may return another for it."""

    def __init__(self, url: sa.URL) -> None:
        self._url = url
        self.before: Any = lambda statement: statement

    @contextmanager
    def opened(self) -> Iterator[Questions]:
        engine = open_for_reading(self._url)

        @sa.event.listens_for(engine, "before_cursor_execute", retval=True)
        def execute(_c: Any, _d: Any, statement: str, values: Any, _e: Any, _m: Any) -> Any:
            asked = self.before(statement)
            return asked, (values if asked == statement else ())

        try:
            yield Questions(engine)
        finally:
            engine.dispose()


@pytest.fixture
def database(engine: sa.Engine, store: Store, monkeypatch: pytest.MonkeyPatch) -> Database:
    """With the long story, in small pages."""
    monkeypatch.setattr(answers, "PAGE_BYTES", 2_000)
    project(store, story())
    return Database(engine.url)


@pytest.fixture
def asking(database: Database) -> Iterator[Asking]:
    """A server of it that runs."""
    ours, theirs = socket.socketpair()
    serving = QuestionServer(theirs, database.opened, Event())
    serving.start()
    with ours:
        yield Asking(ours)
        serving.close()


def ended(asking: Asking) -> End:
    """What comes behind the pages."""
    while isinstance(frame := asking.hear(), Page):
        pass
    assert isinstance(frame, End)
    return frame


def test_no_more_pages_come_than_were_asked_for(asking: Asking) -> None:
    asking.say(Ask(1, ATTEMPTS, 60))
    pages = [asking.hear() for _ in range(PAGES_AHEAD)]
    assert all(isinstance(each, Page) for each in pages)
    asking.say(Drop(1))
    assert asking.hear() == End(1, "Refused", "nobody wants to know any more")
    asking.say(Ask(2, ATTEMPTS, 60), *[More(2)] * 1000)
    assert ended(asking) == End(2, "", "")


def test_a_caller_who_takes_no_page_is_given_up(
    asking: Asking, monkeypatch: pytest.MonkeyPatch
) -> None:
    asking.say(Ask(1, ATTEMPTS, 0.3))
    assert ended(asking).text == "it took longer than 0.3 s: ask for a shorter time"
    monkeypatch.setattr(server, "STALL_SECONDS", 0.1)
    asking.say(Ask(2, ATTEMPTS, 60))
    assert ended(asking).text == "no page of the answer was taken for 0.1 s"


def test_a_statement_that_takes_too_long_is_interrupted_whenever_it_begins(
    asking: Asking, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted = Event()
    interrupt = Questions.interrupt

    def noted(questions: Questions) -> None:
        interrupt(questions)
        interrupted.set()

    def before(statement: str) -> str:
        if "FROM attempts" not in statement:
            return statement
        # The first interrupt comes when no statement runs.
        interrupted.wait(30)
        return FOR_EVER

    monkeypatch.setattr(Questions, "interrupt", noted)
    database.before = before
    asking.say(Ask(1, ATTEMPTS, 0.2))
    assert asking.hear() == End(1, "Refused", "it took longer than 0.2 s: ask for a shorter time")
    database.before = lambda statement: statement
    asking.say(Ask(2, ATTEMPTS, 60), *[More(2)] * 1000)
    assert ended(asking) == End(2, "", "")


def test_one_question_that_fails_does_not_end_the_others(
    asking: Asking, database: Database
) -> None:
    def before(statement: str) -> str:
        return statement.replace("FROM attempts", "FROM no_such_table")

    database.before = before
    asking.say(Ask(1, ATTEMPTS, 60))
    end = ended(asking)
    assert (end.error, end.text.startswith("the history ")) == ("Refused", True)
    asking.say(Ask(2, b"\xff no message", 60))
    assert ended(asking).error == "TitanError"
    database.before = lambda statement: statement
    asking.say(Ask(3, ATTEMPTS, 60), *[More(3)] * 1000)
    assert ended(asking) == End(3, "", "")
