"""Whose turn it is to be decided, and that the loop comes by for others in between."""

from __future__ import annotations

import asyncio
import math

from tests.manager.virtual_loop import run_virtually, virtual_loop
from titan.manager.pace import LOOK_SECONDS, LOOKS, REST_SHARE, WORK_SECONDS, Line, Pace

LONG = WORK_SECONDS
SHORT = WORK_SECONDS / 10


class Deciders:
    """Those that decide; what they did, and when they began."""

    def __init__(self) -> None:
        self.pace = Pace()
        self.decided: list[str] = []
        self.began: list[float] = []

    async def decide(
        self, name: str, seconds: float, line: Line = Line.LARGE, end: float | None = None
    ) -> None:
        """Decides something that holds the loop for so long."""
        loop = virtual_loop()
        if not await self.pace.wait_turn(line, end):
            self.decided.append(f"{name} gave up")
            return
        self.decided.append(name)
        self.began.append(loop.time())
        loop.pass_time(seconds)
        self.pace.note(line is Line.SMALL, seconds)


def test_who_finds_nobody_decides_at_once() -> None:
    async def scenario() -> None:
        deciders = Deciders()
        await deciders.decide("a", SHORT)
        await deciders.decide("b", SHORT)
        assert deciders.began == [0.0, SHORT]

    run_virtually(scenario())


def test_after_so_much_work_comes_a_rest_and_all_go_on_in_their_order() -> None:
    async def scenario() -> None:
        deciders = Deciders()
        await asyncio.gather(*(deciders.decide(name, LONG) for name in "abcd"))
        assert deciders.decided == list("abcd")
        pauses = [b - a - LONG for a, b in zip(deciders.began, deciders.began[1:], strict=False)]
        assert all(pause >= LOOKS * LOOK_SECONDS - 1e-9 for pause in pauses)
        assert not deciders.pace.waiting

    run_virtually(scenario())


def test_what_has_begun_goes_on_before_others_begin() -> None:
    async def scenario() -> None:
        deciders = Deciders()

        async def decide_in_steps(name: str) -> None:
            await deciders.decide(name, LONG)
            for _ in range(2):
                await deciders.decide(name, LONG, Line.BEGUN)

        await asyncio.gather(*(decide_in_steps(name) for name in "ab"))
        assert "".join(deciders.decided) == "aaabbb"

    run_virtually(scenario())


def test_where_looks_come_late_a_rest_is_longer_but_no_more_than_a_part_of_the_work() -> None:
    async def scenario() -> None:
        deciders = Deciders()
        loop = virtual_loop()
        first = asyncio.create_task(deciders.decide("a", 10.0))
        second = asyncio.create_task(deciders.decide("b", LONG))

        async def hold_the_loop_up() -> None:
            while not second.done():
                await asyncio.sleep(LOOK_SECONDS / 2)
                loop.pass_time(0.1)

        await asyncio.gather(first, second, hold_the_loop_up())
        pause = deciders.began[1] - 10.0
        assert 10.0 * REST_SHARE <= pause < 10.0 * REST_SHARE + 0.5

    run_virtually(scenario())


def test_a_heartbeat_is_answered_between_two_long_decisions() -> None:
    async def scenario() -> None:
        deciders = Deciders()
        loop = virtual_loop()
        answered: list[float] = []

        async def beat() -> None:
            # To accept a call, to read it, to answer it: each time gRPC's thread has to come by.
            for _ in range(3):
                await asyncio.sleep(LOOK_SECONDS / 2)
            answered.append(loop.time())

        submits = [asyncio.create_task(deciders.decide(str(each), 0.4)) for each in range(20)]
        await asyncio.sleep(0)
        # It came while the first one was decided.
        await asyncio.create_task(beat())
        assert deciders.decided == ["0"]
        assert answered[0] < 0.4 + LOOKS * LOOK_SECONDS
        await asyncio.gather(*submits)
        assert len(deciders.decided) == 20

    run_virtually(scenario())


def test_what_takes_a_moment_does_not_wait_for_all_that_is_long() -> None:
    async def scenario() -> None:
        deciders = Deciders()
        await asyncio.gather(
            *(deciders.decide(name, LONG) for name in "ABC"),
            *(deciders.decide(name, SHORT, Line.SMALL) for name in "abc"),
        )
        assert "".join(deciders.decided) == "AabcBC"

    run_virtually(scenario())


def test_what_is_long_comes_between_any_number_of_short_ones() -> None:
    async def scenario() -> None:
        deciders = Deciders()
        await asyncio.gather(
            *(deciders.decide(name, LONG) for name in "ABC"),
            *(deciders.decide("s", SHORT, Line.SMALL) for _ in range(100)),
        )
        order = "".join(deciders.decided)
        in_between = [len(each) for each in order.split("B")[0].split("C")[0].split("A")]
        assert in_between[0] == 0
        assert in_between[1] <= math.ceil(WORK_SECONDS / SHORT) + 1
        assert order.index("C") - order.index("B") <= math.ceil(WORK_SECONDS / SHORT) + 2
        assert order.count("s") == 100

    run_virtually(scenario())


def test_whoever_has_waited_too_long_is_told_so_and_the_others_go_on() -> None:
    async def scenario() -> None:
        deciders = Deciders()
        await asyncio.gather(
            deciders.decide("a", LONG),
            deciders.decide("b", 10.0),
            deciders.decide("c", LONG, end=5.0),
            deciders.decide("d", LONG),
        )
        assert deciders.decided == ["a", "b", "c gave up", "d"]

    run_virtually(scenario())


def test_a_turn_whose_owner_has_gone_is_the_next_ones() -> None:
    async def scenario() -> None:
        deciders = Deciders()
        tasks = [asyncio.create_task(deciders.decide(name, LONG)) for name in "abc"]
        await asyncio.sleep(0)
        assert deciders.pace.waiting == 2
        # The rest is over: it is b's turn, which has not come yet.
        deciders.pace._give_next()
        assert deciders.pace.waiting == 1
        tasks[1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert deciders.decided == ["a", "c"]
        await deciders.decide("d", SHORT)
        assert deciders.decided[-1] == "d"

    run_virtually(scenario())


def test_one_who_goes_while_he_waits_leaves_no_trace() -> None:
    async def scenario() -> None:
        deciders = Deciders()
        tasks = [asyncio.create_task(deciders.decide(name, LONG)) for name in "abc"]
        await asyncio.sleep(0)
        tasks[1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert deciders.decided == ["a", "c"]
        assert not deciders.pace.waiting

    run_virtually(scenario())
