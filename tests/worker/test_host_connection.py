"""What an agent says to task hosts of other versions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from tests.worker.builders import batch, key, launch
from titan.model import Execution, Sandbox, Stop, StopMode
from titan.worker import protocol
from titan.worker.agent.host_process import WITHHELD_SECONDS, HostConnection
from titan.worker.agent.host_questions import HostQuestions, NotNow

STOPS = tuple(Stop(key(index=mode), mode, 0) for mode in StopMode)


def connection(minor: int, writer: Any = None) -> HostConnection:
    welcome = protocol.Welcome(1, minor, 123, b"I" * 16, b"", (), (), 0)
    nobody = cast(Any, None)
    return HostConnection(nobody, writer, welcome, protocol.Decoder())


def test_a_host_of_this_version_is_told_everything(caplog: pytest.LogCaptureFixture) -> None:
    assert connection(protocol.VERSION_MINOR).understood(STOPS) == STOPS
    assert not caplog.records


def test_an_older_host_is_not_told_what_it_could_not_read(
    caplog: pytest.LogCaptureFixture,
) -> None:
    older = connection(protocol.MINOR_SUSPEND - 1)
    assert [each.mode for each in older.understood(STOPS)] == [StopMode.CANCEL, StopMode.RECALL]
    assert "(pid 123) is of an older Titan" in caplog.text
    caplog.clear()
    assert older.understood(STOPS[:1]) == STOPS[:1]
    assert not caplog.records


def test_an_older_host_gets_nothing_that_it_would_run_without_a_lease(
    caplog: pytest.LogCaptureFixture,
) -> None:
    todo = batch(launch(), launch(job_id=2, at_most_once=True), indexes=range(2))
    assert connection(protocol.VERSION_MINOR).startable(todo) == todo
    older = connection(protocol.MINOR_LEASE - 1)
    assert not caplog.records
    assert older.startable(todo).starts == todo.starts[:2]
    assert "drain this worker" in caplog.text


@pytest.mark.parametrize(
    "execution", [Execution(run_as="ada"), Execution(sandbox=Sandbox.BUBBLEWRAP)]
)
def test_an_older_host_gets_nothing_that_it_would_run_as_itself_and_in_the_open(
    execution: Execution, caplog: pytest.LogCaptureFixture
) -> None:
    isolated = launch(job_id=2, execution=execution)
    todo = batch(launch(), isolated, indexes=range(2))
    assert connection(protocol.VERSION_MINOR).startable(todo) == todo
    older = connection(protocol.MINOR_ISOLATION - 1)
    assert older.startable(todo).starts == todo.starts[:2]
    assert "as another account or in a sandbox" in caplog.text

    async def scene() -> None:
        questions = HostQuestions()
        questions.connected(older)
        with pytest.raises(NotNow, match="has no sandboxes"):
            await questions.start((), (isolated,))

    asyncio.run(scene())


class Written:
    """What was written to a host, as it reads it."""

    def __init__(self) -> None:
        self.messages: list[protocol.Message] = []
        self._decoder = protocol.Decoder()

    def is_closing(self) -> bool:
        return False

    def write(self, data: bytes) -> None:
        self.messages += self._decoder.feed(data)


def recalls(*job_ids: int) -> protocol.StopTasks:
    return protocol.StopTasks(tuple(Stop(key(each), StopMode.RECALL, 0) for each in job_ids))


def test_what_an_older_host_is_not_given_comes_back_from_it_after_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    todo = batch(launch(), launch(job_id=2, at_most_once=True), launch(job_id=3, at_most_once=True))
    waits: list[float] = []

    async def scene() -> list[protocol.Message]:
        loop = asyncio.get_running_loop()

        def call_later(seconds: float, call: Callable[[], None]) -> None:
            waits.append(seconds)
            loop.call_soon(call)

        monkeypatch.setattr(loop, "call_later", call_later)
        writer = Written()
        older = connection(protocol.MINOR_LEASE - 1, writer)
        older.start(todo)
        older.start(todo)
        assert recalls(2, 3) not in writer.messages, "at once they would come right back"
        await asyncio.sleep(0)
        older.start(batch(launch()))
        return writer.messages

    start = protocol.StartTasks(todo._replace(starts=todo.starts[:1]))
    *messages, last = asyncio.run(scene())
    assert messages == [start, start, recalls(2, 3)]
    assert last == protocol.StartTasks(batch(launch()))
    assert waits == [WITHHELD_SECONDS]


def test_what_an_older_host_is_not_given_comes_back_before_it_leaves() -> None:
    async def scene() -> list[protocol.Message]:
        writer = Written()
        older = connection(protocol.MINOR_LEASE - 1, writer)
        older.start(batch(launch(job_id=2, at_most_once=True)))
        older.recall_withheld()
        older.recall_withheld()
        return writer.messages[1:]

    assert asyncio.run(scene()) == [recalls(2)]


def test_a_host_of_this_version_is_given_all_and_nothing_comes_back() -> None:
    writer = Written()
    todo = batch(launch(job_id=2, at_most_once=True))
    host = connection(protocol.VERSION_MINOR, writer)
    host.start(todo)
    host.recall_withheld()
    assert writer.messages == [protocol.StartTasks(todo)]
