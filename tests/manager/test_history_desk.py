"""Questions to the history, with a process that the test plays and a clock of its own.

To sleep costs nothing there: it lets everybody who has something to do have his turn before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing

import grpc
import pytest

from tests.manager.test_history_sync import Process
from tests.manager.virtual_loop import run_virtually
from titan.errors import Busy, ManagerUnreachable, Refused
from titan.manager.history_desk import (
    ANSWER_SECONDS,
    START_SECONDS,
    STUCK_SECONDS,
    WAITING_MAX,
    HistoryDesk,
)
from titan.rpc.history_frames import Ask, Drop, End, Frame, More, Page, encode
from titan.rpc.status import status_of


def scenario(story: Callable[[HistoryDesk], Awaitable[None]]) -> None:
    async def run() -> None:
        await story(HistoryDesk())

    run_virtually(run())


def say(process: Process, *said: Frame) -> None:
    process.reader.feed_data(b"".join(map(encode, said)))


async def whole(desk: HistoryDesk) -> list[bytes]:
    """The pages of an answer."""
    async with aclosing(desk.ask(b"?")) as pages:
        return [page async for page in pages]


def test_pages_are_passed_on_as_they_come_and_more_is_asked_for() -> None:
    async def story(desk: HistoryDesk) -> None:
        process = Process(desk)
        asked = asyncio.create_task(whole(desk))
        await asyncio.sleep(1)
        say(process, Page(1, b"a"), Page(1, b"b"), End(1, "", ""))
        assert await asked == [b"a", b"b"]
        assert process.heard() == [Ask(1, b"?", ANSWER_SECONDS), More(1), More(1)]
        process.serving.cancel()

    scenario(story)


def test_a_process_that_does_not_answer_is_given_up() -> None:
    async def story(desk: HistoryDesk) -> None:
        loop = asyncio.get_running_loop()
        process = Process(desk)
        with pytest.raises(Refused, match="does not answer"):
            await whole(desk)
        assert loop.time() == pytest.approx(ANSWER_SECONDS + STUCK_SECONDS)
        assert process.heard()[-1] == Drop(1)
        process.serving.cancel()

    scenario(story)


def test_too_many_questions_at_once_are_told_so_until_some_are_over() -> None:
    async def story(desk: HistoryDesk) -> None:
        process = Process(desk)
        asked = [asyncio.create_task(whole(desk)) for _ in range(WAITING_MAX)]
        await asyncio.sleep(1)
        with pytest.raises(Busy) as raised:
            await whole(desk)
        assert status_of(raised.value) is grpc.StatusCode.RESOURCE_EXHAUSTED
        # Its caller has gone, but the process is still at it.
        asked[4].cancel()
        await asyncio.wait([asked[4]])
        assert process.heard()[-1] == Drop(5)
        with pytest.raises(Busy):
            await whole(desk)
        say(process, End(5, "Refused", "nobody wants to know any more"))
        await asyncio.sleep(0.1)
        another = asyncio.create_task(whole(desk))
        await asyncio.sleep(0.1)
        say(process, *(End(number, "", "") for number in range(1, WAITING_MAX + 2)))
        assert await another == []
        process.serving.cancel()

    scenario(story)


def test_a_process_that_dies_in_the_middle_ends_what_it_was_asked_and_the_next_one_is_asked() -> (
    None
):
    async def story(desk: HistoryDesk) -> None:
        process = Process(desk)
        asked = asyncio.create_task(whole(desk))
        await asyncio.sleep(1)
        say(process, Page(1, b"a"))
        await asyncio.sleep(1)
        process.reader.feed_eof()
        with pytest.raises(ManagerUnreachable, match="ask again"):
            await asked
        again = asyncio.create_task(whole(desk))
        await asyncio.sleep(1)
        # This one is gone before the question can be passed to it.
        short = Process(desk)
        short.reader.feed_eof()
        await asyncio.sleep(1)
        following = Process(desk)
        await asyncio.sleep(0.1)
        assert (short.heard(), following.heard()) == ([], [Ask(2, b"?", ANSWER_SECONDS)])
        say(following, End(2, "", ""))
        assert await again == []
        following.reader.feed_eof()
        await following.serving
        begun = asyncio.get_running_loop().time()
        with pytest.raises(ManagerUnreachable, match="is started again"):
            await whole(desk)
        assert asyncio.get_running_loop().time() - begun == pytest.approx(START_SECONDS)

    scenario(story)
