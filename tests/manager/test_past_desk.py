"""The desk for the past: two processes at most, which may die, hang and come back."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import psutil
import pytest

from tests.cluster import is_alive
from tests.lookback.builders import History, records
from tests.manager.harness import until
from titan.errors import OutOfRange, Refused, StillReading, TitanError
from titan.manager import past as past_module
from titan.manager.past import DEADLINE_SECONDS, PastDesk
from titan.queries.stories import Story
from titan.rpc.v1 import manager_pb2

LSN = 50


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A manager's."""
    history = History(tmp_path / "manager")
    history.append(records()[:100])
    history.close()
    return history.directory


@asynccontextmanager
async def open_desk(directory: Path) -> AsyncIterator[PastDesk]:
    """Closed at the end, and then no process of it is left."""
    desk = PastDesk(directory)
    try:
        yield desk
    finally:
        await desk.close()
        assert pids() == []


def pids() -> list[int]:
    """The lookback processes of this process."""
    found = []
    for child in psutil.Process().children():
        # It may end while it is looked at.
        with suppress(psutil.Error):
            if "titan.lookback" in child.cmdline() and is_alive(child.pid):
                found.append(child.pid)
    return sorted(found)


async def stats_at(
    desk: PastDesk, lsn: int, seconds: float = DEADLINE_SECONDS
) -> manager_pb2.GetStatsResponse:
    """The cluster at a moment."""
    request = manager_pb2.GetStatsRequest(at=manager_pb2.Moment(lsn=lsn))
    reply = await desk.ask("GetStats", request.SerializeToString(), about=lsn, seconds=seconds)
    return manager_pb2.GetStatsResponse.FromString(reply)


def test_nothing_runs_before_the_first_question_and_one_process_answers_many(
    directory: Path,
) -> None:
    async def scenario() -> None:
        async with open_desk(directory) as desk:
            assert pids() == []
            for lsn in (LSN, LSN, LSN + 1, LSN + 2):
                assert (await stats_at(desk, lsn)).lsn == lsn
            assert len(pids()) == 1

    asyncio.run(scenario())


def test_a_refusal_is_the_error_that_it_was(directory: Path) -> None:
    async def scenario() -> None:
        async with open_desk(directory) as desk:
            with pytest.raises(OutOfRange, match="from LSN 1 "):
                await stats_at(desk, 101)
            with pytest.raises(TitanError, match="could not be answered"):
                await desk.ask("NoSuchMethod", b"")
            assert (await stats_at(desk, LSN)).lsn == LSN
            assert len(pids()) == 1

    asyncio.run(scenario())


def test_a_process_that_died_is_replaced_at_the_next_question(directory: Path) -> None:
    async def scenario() -> None:
        async with open_desk(directory) as desk:
            await stats_at(desk, LSN)
            (first,) = pids()
            os.kill(first, signal.SIGKILL)
            assert (await stats_at(desk, LSN)).lsn == LSN
            assert first not in pids()

    asyncio.run(scenario())


def test_one_that_dies_over_a_question_is_replaced_for_it(directory: Path) -> None:
    async def scenario() -> None:
        async with open_desk(directory) as desk:
            await stats_at(desk, LSN)
            (first,) = pids()
            os.kill(first, signal.SIGSTOP)
            asked = asyncio.ensure_future(stats_at(desk, LSN))
            await asyncio.sleep(0)
            os.kill(first, signal.SIGKILL)
            assert (await asked).lsn == LSN

    asyncio.run(scenario())


def test_while_one_is_busy_another_answers_and_the_same_moment_waits_for_the_first(
    directory: Path,
) -> None:
    async def scenario() -> None:
        async with open_desk(directory) as desk:
            await stats_at(desk, LSN)
            (first,) = pids()
            os.kill(first, signal.SIGSTOP)
            same = asyncio.ensure_future(stats_at(desk, LSN))
            await asyncio.sleep(0)
            assert (await stats_at(desk, LSN + 1)).lsn == LSN + 1
            assert len(pids()) == 2
            assert not same.done()
            os.kill(first, signal.SIGCONT)
            assert (await same).lsn == LSN
            assert (await stats_at(desk, LSN + 1)).lsn == LSN + 1
            assert len(pids()) == 2

    asyncio.run(scenario())


def test_a_question_that_takes_too_long_goes_on_and_its_answer_is_kept(directory: Path) -> None:
    async def scenario() -> None:
        async with open_desk(directory) as desk:
            await stats_at(desk, LSN)
            (first,) = pids()
            os.kill(first, signal.SIGSTOP)
            with pytest.raises(StillReading, match="still being read; ask again"):
                await stats_at(desk, LSN, 0.1)
            # One that waited behind it is not asked at all when its caller has gone.
            with pytest.raises(StillReading, match="other questions come first; ask again"):
                await stats_at(desk, LSN, 0.1)
            os.kill(first, signal.SIGCONT)
            assert (await stats_at(desk, LSN)).lsn == LSN
            assert pids() == [first]

    asyncio.run(scenario())


def test_a_process_that_is_stuck_is_ended_and_its_caller_told(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with open_desk(directory) as desk:
            await stats_at(desk, LSN)
            os.kill(pids()[0], signal.SIGSTOP)
            monkeypatch.setattr(past_module, "ANSWER_SECONDS_MAX", 0.1)
            with pytest.raises(Refused, match="could not be read within") as raised:
                await stats_at(desk, LSN)
            assert not isinstance(raised.value, StillReading)
            assert pids() == []

    asyncio.run(scenario())


def test_a_search_that_lets_others_in_between_is_asked_on_for_as_long_as_its_caller_waits(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with open_desk(directory) as desk:
            process = desk._processes[0]
            answers = [StillReading("5 segments are left")] * 3

            async def ask(question: object, seconds: float) -> bytes:
                del question, seconds
                await asyncio.sleep(0)
                if answers:
                    raise answers.pop()
                return b"found"

            monkeypatch.setattr(process, "ask", ask)
            assert await desk.ask("GetForgottenJob", b"", about="it") == b"found"
            answers += [StillReading("5 segments are left")] * 3
            with pytest.raises(StillReading, match="5 segments"):
                await desk.ask("GetForgottenJob", b"", about="it", seconds=0)
            assert len(answers) == 2

    asyncio.run(scenario())


def test_when_nobody_asks_the_process_ends_and_comes_back(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(past_module, "IDLE_SECONDS", 0.05)

    async def scenario() -> None:
        async with open_desk(directory) as desk:
            for _ in range(2):
                assert (await stats_at(desk, LSN)).lsn == LSN
                await until(lambda: not pids())

    asyncio.run(scenario())


def test_closing_ends_a_question_under_way(directory: Path) -> None:
    async def scenario() -> None:
        async with open_desk(directory) as desk:
            await stats_at(desk, LSN)
            os.kill(pids()[0], signal.SIGSTOP)
            asked = asyncio.ensure_future(stats_at(desk, LSN))
            await asyncio.sleep(0)
        with pytest.raises((Refused, asyncio.CancelledError)):
            await asked

    asyncio.run(scenario())


def test_a_story_comes_in_pages(directory: Path) -> None:
    async def scenario() -> None:
        async with open_desk(directory) as desk:
            page, left = await desk.page_of_story(Story(1))
            assert page.events[0].event == "JobSubmitted"
            assert left is None

    asyncio.run(scenario())


def test_without_a_log_there_is_a_sentence(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with open_desk(tmp_path) as desk:
            with pytest.raises(TitanError, match="the past cannot be read"):
                await stats_at(desk, LSN)

    asyncio.run(scenario())
