"""Answers that wait for the history, with a process that the test plays and a clock of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from tests.manager.virtual_loop import run_virtually
from titan.errors import Busy, ManagerUnreachable
from titan.manager import history_sync
from titan.manager.history_desk import HistoryDesk
from titan.manager.history_sync import DEADLINE_SECONDS, HistorySync
from titan.rpc import frames
from titan.rpc.history_frames import Committed, Durable, Frame, decode, encode
from titan.rpc.v1 import manager_pb2


class Process:
    """The other end: what the desk tells it, and what it says."""

    def __init__(self, desk: HistoryDesk) -> None:
        self.reader = asyncio.StreamReader()
        self.written = b""
        self.serving = asyncio.create_task(desk.serve(self.reader, self))  # type: ignore[arg-type]

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self.written += b""

    def say(self, lsn: int) -> None:
        self.reader.feed_data(encode(Committed(lsn)))

    def heard(self) -> list[Frame]:
        found: list[Frame] = []
        rest = self.written
        while rest:
            size = frames.body_bytes(rest[: frames.HEADER.size])
            found.append(decode(rest[frames.HEADER.size :][:size]))
            rest = rest[frames.HEADER.size + size :]
        return found


def submitted(lsn: int) -> manager_pb2.SubmitJobResponse:
    return manager_pb2.SubmitJobResponse(job_ids=[1], lsn=lsn)


def scenario(story: Callable[[HistoryDesk, HistorySync], object]) -> None:
    async def run() -> None:
        desk = HistoryDesk()
        await story(desk, HistorySync(desk))  # type: ignore[misc]

    run_virtually(run())


def test_an_answer_leaves_with_the_commit_of_its_record_and_not_before() -> None:
    async def story(desk: HistoryDesk, sync: HistorySync) -> None:
        process = Process(desk)
        await asyncio.sleep(0)
        first, second = (asyncio.create_task(sync.wait(submitted(lsn))) for lsn in (5, 6))
        await asyncio.sleep(1)
        assert process.heard() == [Durable(5), Durable(6)]
        process.say(5)
        await asyncio.sleep(1)
        assert (first.done(), second.done()) == (True, False)
        process.say(8)
        await asyncio.sleep(0.1)
        assert second.done()
        # What is there already waits for nothing, nor does what submitted nothing.
        await sync.wait(submitted(8))
        await sync.wait(manager_pb2.RequeueJobResponse(lsn=99))
        await sync.wait(manager_pb2.CancelJobResponse(lsn=99))
        again = manager_pb2.RequeueJobResponse(lsn=99, submitted_again={1: 2})
        with pytest.raises(ManagerUnreachable):
            await sync.wait(again)
        process.serving.cancel()

    scenario(story)


def test_after_the_deadline_it_is_told_and_a_repeat_waits_for_the_same() -> None:
    async def story(desk: HistoryDesk, sync: HistorySync) -> None:
        loop = asyncio.get_running_loop()
        process = Process(desk)
        process.say(3)
        begun = loop.time()
        with pytest.raises(ManagerUnreachable, match="repeat with the same request id"):
            await sync.wait(submitted(5))
        assert loop.time() - begun == pytest.approx(DEADLINE_SECONDS)
        again = asyncio.create_task(sync.wait(submitted(5)))
        await asyncio.sleep(1)
        # The next process has not got it either, and is told at once what is waited for.
        process.reader.feed_eof()
        await process.serving
        following = Process(desk)
        following.say(4)
        await asyncio.sleep(0.1)
        assert following.heard() == [Durable(5)]
        assert not again.done()
        following.say(5)
        await again
        following.serving.cancel()

    scenario(story)


def test_another_process_begins_with_what_its_database_has() -> None:
    async def story(desk: HistoryDesk, sync: HistorySync) -> None:
        process = Process(desk)
        process.say(9)
        await sync.wait(submitted(9))
        process.reader.feed_eof()
        await process.serving
        following = Process(desk)
        following.say(2)
        await asyncio.sleep(0.1)
        with pytest.raises(ManagerUnreachable):
            await sync.wait(submitted(9))
        following.serving.cancel()

    scenario(story)


def test_no_more_wait_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_sync, "WAITING_MAX", 2)

    async def story(desk: HistoryDesk, sync: HistorySync) -> None:
        del desk
        waiting = [asyncio.create_task(sync.wait(submitted(1))) for _ in range(2)]
        await asyncio.sleep(0.1)
        with pytest.raises(Busy, match="same request id"):
            await sync.wait(submitted(1))
        await asyncio.sleep(DEADLINE_SECONDS + 0.1)
        assert all(isinstance(each.exception(), ManagerUnreachable) for each in waiting)
        with pytest.raises(ManagerUnreachable):
            await sync.wait(submitted(1))

    scenario(story)
