"""A stream that waits for news, and whose caller may not hear them any more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from tests.manager.harness import DEADLINE_SECONDS, until
from titan.errors import AccessDenied
from titan.manager import lapse
from titan.manager.lapse import Lapse


class Caller:
    """Who may call until he is revoked."""

    def __init__(self) -> None:
        self.is_revoked = False
        self.looks = 0

    def check(self) -> None:
        self.looks += 1
        if self.is_revoked:
            raise AccessDenied("he was revoked")


class Handler:
    """Tells two things at once and then waits for the third."""

    def __init__(self) -> None:
        self.news = asyncio.Event()
        self.was_left = False

    async def answers(self) -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
            await self.news.wait()
            yield 3
        finally:
            self.was_left = True


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lapse, "LOOK_SECONDS", 0.01)


def run(scenario: Callable[[Caller, Handler], Awaitable[None]]) -> None:
    async def with_deadline() -> None:
        async with asyncio.timeout(DEADLINE_SECONDS):
            await scenario(Caller(), Handler())

    asyncio.run(with_deadline())


def test_who_may_call_hears_all_however_long_it_takes() -> None:
    async def scenario(caller: Caller, handler: Handler) -> None:
        answers = handler.answers()
        with Lapse(caller.check) as watched:
            assert [await watched.next(answers) for _ in range(2)] == [1, 2]
            third = asyncio.ensure_future(watched.next(answers))
            await until(lambda: caller.looks >= 5)
            assert not third.done()
            handler.news.set()
            assert await third == 3
            with pytest.raises(StopAsyncIteration):
                await watched.next(answers)

    run(scenario)


def test_who_is_revoked_while_nothing_happens_is_not_kept_waiting() -> None:
    async def scenario(caller: Caller, handler: Handler) -> None:
        answers = handler.answers()
        with Lapse(caller.check) as watched:
            assert [await watched.next(answers) for _ in range(2)] == [1, 2]
            asyncio.get_running_loop().call_later(0.05, setattr, caller, "is_revoked", True)
            with pytest.raises(AccessDenied, match="he was revoked"):
                await watched.next(answers)
        assert handler.was_left

    run(scenario)


def test_who_is_revoked_while_he_reads_slowly_waits_no_more_after_that() -> None:
    async def scenario(caller: Caller, handler: Handler) -> None:
        answers = handler.answers()
        with Lapse(caller.check) as watched:
            assert [await watched.next(answers) for _ in range(2)] == [1, 2]
            caller.is_revoked = True
            looks = caller.looks
            await until(lambda: caller.looks >= looks + 3)
            with pytest.raises(AccessDenied):
                await watched.next(answers)

    run(scenario)


def test_a_timeout_of_the_handlers_own_is_its_own() -> None:
    async def scenario(caller: Caller, handler: Handler) -> None:
        del handler

        async def late() -> AsyncIterator[int]:
            if caller.looks == 0:
                raise TimeoutError("its own")
            yield 1

        with Lapse(caller.check) as watched, pytest.raises(TimeoutError, match="its own"):
            await watched.next(late())

    run(scenario)


def test_nothing_looks_on_after_the_stream() -> None:
    async def scenario(caller: Caller, handler: Handler) -> None:
        del handler
        with Lapse(caller.check):
            pass
        looks = caller.looks
        # Some of the times after which it would look, were it not at its end.
        for _ in range(10):
            await asyncio.sleep(0.005)
        assert caller.looks == looks

    run(scenario)
