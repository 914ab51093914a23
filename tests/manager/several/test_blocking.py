"""Calls that block: one after the other, and never waited for at the end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable

import pytest

from tests.manager.harness import DEADLINE_SECONDS
from titan.manager.several.blocking import Blocking


def run(scenario: Callable[[Blocking], Awaitable[None]]) -> None:
    async def limited() -> None:
        blocking = Blocking("test")
        async with asyncio.timeout(DEADLINE_SECONDS):
            await scenario(blocking)
        blocking.stop()

    asyncio.run(limited())


def test_a_call_returns_what_it_comes_to_or_raises_it() -> None:
    async def scenario(blocking: Blocking) -> None:
        assert await blocking.run(max, 3, 5) == 5
        with pytest.raises(ZeroDivisionError):
            await blocking.run(lambda: 1 / 0)
        assert await blocking.run(threading.current_thread) is not threading.current_thread()

    run(scenario)


def test_calls_are_made_in_their_order() -> None:
    async def scenario(blocking: Blocking) -> None:
        made: list[int] = []
        await asyncio.gather(*(blocking.run(made.append, number) for number in range(50)))
        assert made == list(range(50))

    run(scenario)


def test_one_that_nobody_waits_for_any_more_is_made_and_disturbs_nobody() -> None:
    async def scenario(blocking: Blocking) -> None:
        go = threading.Event()
        made: list[str] = []
        first = asyncio.create_task(blocking.run(go.wait, DEADLINE_SECONDS))
        second = asyncio.create_task(blocking.run(made.append, "second"))
        await asyncio.sleep(0)
        first.cancel()
        second.cancel()
        await asyncio.wait((first, second))
        go.set()
        await blocking.run(made.append, "third")
        assert made == ["second", "third"]

    run(scenario)


def test_a_loop_ends_while_a_call_still_blocks() -> None:
    go = threading.Event()

    async def scenario(blocking: Blocking) -> None:
        waiting = asyncio.create_task(blocking.run(go.wait, DEADLINE_SECONDS))
        await asyncio.sleep(0)
        waiting.cancel()

    # Returns at once, or its deadline ends the test.
    run(scenario)
    go.set()
