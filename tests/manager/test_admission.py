"""The door: how many are inside, who is next, and who is turned away."""

from __future__ import annotations

import asyncio

import pytest

from tests.manager.virtual_loop import run_virtually, virtual_loop
from titan.errors import Busy
from titan.manager.admission import Admission, Bounds, Place
from titan.manager.pace import Pace

SIZE = 1_000


def one() -> str:
    """Where they call from."""
    return "one"


class Callers:
    """Those that call: who came in, in order, and who was turned away."""

    def __init__(self, **bounds: float) -> None:
        self.door = Admission(Pace(), Bounds(**bounds))  # type: ignore[arg-type]
        self.came_in: list[str] = []
        self.refused: list[str] = []
        self.places: dict[str, Place] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def call(self, *names: str, peer: str = "one", size_bytes: int = SIZE) -> None:
        """They call, one after the other, and stay inside when they come in."""
        for name in names:
            self.tasks[name] = asyncio.create_task(self._enter(name, peer, size_bytes))
        await settle()

    async def leave(self, *names: str) -> None:
        """They have their answers."""
        for name in names:
            self.places.pop(name).leave()
            await settle()

    def check_nobody(self) -> None:
        """Nobody is inside or waits, and nobody is taken for one who does."""
        door = self.door
        assert not self.places
        assert door.calls_inside == door.calls_reading == door.calls_waiting == 0
        assert door.bytes_inside == 0

    async def _enter(self, name: str, peer: str, size_bytes: int) -> None:
        try:
            place = await self.door.enter(lambda: peer)
        except Busy:
            self.refused.append(name)
            return
        self.came_in.append(name)
        self.places[name] = place
        place.note_read(size_bytes)


async def settle() -> None:
    """Everybody does what can be done now."""
    for _ in range(5):
        await asyncio.sleep(0)


def test_so_many_are_inside_and_the_others_follow_in_their_order() -> None:
    async def scenario() -> None:
        callers = Callers(calls_inside=2)
        await callers.call(*"abcde")
        assert callers.came_in == ["a", "b"]
        assert callers.door.calls_waiting == 3
        await callers.leave("b")
        assert callers.came_in == ["a", "b", "c"]
        await callers.leave("a", "c")
        assert callers.came_in == list("abcde")
        # One that comes when a place is free does not pass those that wait.
        await callers.call(*"fg")
        await callers.leave("d", "e", "f", "g")
        assert callers.came_in == list("abcdefg")
        callers.check_nobody()

    run_virtually(scenario())


def test_connections_take_turns_however_much_comes_over_one() -> None:
    async def scenario() -> None:
        callers = Callers(calls_inside=1)
        await callers.call(*"abcd", peer="many")
        await callers.call("x", peer="single")
        await callers.call("y", peer="another")
        for _ in range(6):
            await callers.leave(callers.came_in[-1])
        assert callers.came_in == ["a", "b", "x", "y", "c", "d"]
        callers.check_nobody()

    run_virtually(scenario())


def test_beyond_a_number_of_those_that_wait_a_call_is_refused_at_once() -> None:
    async def scenario() -> None:
        callers = Callers(calls_inside=1, calls_waiting=2)
        await callers.call(*"abc")
        with pytest.raises(
            Busy, match="busy with 1 calls, and 2 more wait; nothing of this one was"
        ):
            await callers.door.enter(one)
        await callers.leave("a", "b", "c")
        callers.check_nobody()

    run_virtually(scenario())


def test_who_has_waited_so_long_is_refused_and_the_others_keep_their_places() -> None:
    async def scenario() -> None:
        callers = Callers(calls_inside=1, wait_seconds=2.0)
        await callers.call(*"ab")
        await asyncio.sleep(1.5)
        await callers.call("c")
        await asyncio.sleep(1.0)
        assert callers.refused == ["b"]
        await callers.leave("a")
        assert callers.came_in == ["a", "c"]
        await callers.leave("c")
        callers.check_nobody()

    run_virtually(scenario())


def test_bytes_are_bounded_but_one_finds_room_however_large_it_is() -> None:
    async def scenario() -> None:
        callers = Callers(bytes_inside=1_000_000)
        await callers.call("a", size_bytes=950_000)
        await callers.call("b", size_bytes=10)
        # It is taken for as large as the last one, up to a part of the room.
        assert callers.came_in == ["a"]
        await callers.leave("a")
        assert callers.came_in == ["a", "b"]
        await callers.leave("b")
        await callers.call("c", size_bytes=5_000_000)
        await callers.call("d", size_bytes=10)
        assert callers.came_in == ["a", "b", "c"]
        assert callers.door.bytes_inside == 5_000_000
        await callers.leave("c", "d")
        callers.check_nobody()

    run_virtually(scenario())


def test_small_ones_do_not_wait_for_long_because_large_ones_came_once() -> None:
    async def scenario() -> None:
        callers = Callers(bytes_inside=8_000_000)
        await callers.call("large", size_bytes=7_000_000)
        await callers.leave("large")
        for number in range(200):
            await callers.call(str(number))
            await callers.leave(str(number))
        await callers.call(*map(str, range(200, 260)))
        assert callers.door.calls_waiting == 0

    run_virtually(scenario())


def test_one_that_is_slow_to_send_after_a_large_one_shuts_nobody_out() -> None:
    async def scenario() -> None:
        callers = Callers(bytes_inside=8_000_000)
        await callers.call("large", size_bytes=8_000_000)
        await callers.leave("large")
        # Of what it sends nothing has come yet.
        slow = await callers.door.enter(one)
        await callers.call("small", size_bytes=10)
        assert callers.came_in == ["large", "small"]
        # Its bytes count when they have come.
        slow.note_read(8_000_000)
        assert callers.door.bytes_inside == 8_000_010
        await callers.call("late", size_bytes=10)
        assert callers.door.calls_waiting == 1
        slow.leave()
        await callers.leave("small")
        await callers.leave("late")
        callers.check_nobody()

    run_virtually(scenario())


def test_so_many_messages_are_read_at_once() -> None:
    async def scenario() -> None:
        door = Admission(Pace(), Bounds(calls_reading=2))
        for _ in range(50):
            # So that they are taken for small ones.
            place = await door.enter(one)
            place.note_read(10)
            place.leave()
        first = await door.enter(one)
        await door.enter(one)
        third = asyncio.create_task(door.enter(one))
        await settle()
        assert not third.done()
        first.note_read(10)
        await settle()
        assert third.done()

    run_virtually(scenario())


def test_who_goes_while_he_waits_is_not_let_in() -> None:
    async def scenario() -> None:
        callers = Callers(calls_inside=1)
        await callers.call(*"abc")
        callers.tasks["b"].cancel()
        await settle()
        assert callers.door.calls_waiting == 1
        await callers.leave("a")
        assert callers.came_in == ["a", "c"]
        await callers.leave("c")
        callers.check_nobody()

    run_virtually(scenario())


def test_who_goes_in_the_moment_that_he_is_let_in_takes_no_place() -> None:
    async def scenario() -> None:
        callers = Callers(calls_inside=1)
        await callers.call(*"abc")
        callers.places.pop("a").leave()
        # He is let in by now, and has not heard of it.
        callers.tasks["b"].cancel()
        await settle()
        assert callers.came_in == ["a", "c"]
        await callers.leave("c")
        callers.check_nobody()

    run_virtually(scenario())


def test_who_waits_inside_for_too_long_is_refused_as_well() -> None:
    async def scenario() -> None:
        door = Admission(Pace(), Bounds(wait_seconds=2.0))
        told: list[str] = []

        async def work(name: str) -> None:
            place = await door.enter(one)
            place.note_read(SIZE)
            # All have come by then.
            await settle()
            try:
                await place.wait_turn()
            except Busy:
                told.append(f"{name} refused")
            else:
                told.append(name)
                virtual_loop().pass_time(1.5)
                place.note_turn(1.5)
            place.leave()

        await asyncio.gather(*map(work, "abc"))
        assert told == ["a", "b", "c refused"]
        assert door.calls_inside == 0

    run_virtually(scenario())


def test_who_took_long_to_send_his_message_still_has_time_to_wait_for_his_turn() -> None:
    async def scenario() -> None:
        door = Admission(Pace(), Bounds(wait_seconds=2.0))
        large = await door.enter(one)
        other = await door.enter(one)
        other.note_read(SIZE)
        await asyncio.sleep(8.0)
        large.note_read(5_000_000)
        # So that the pace rests.
        await other.wait_turn()
        other.note_turn(0.2)
        await large.wait_turn()
        large.note_turn(0.1)
        other.leave()
        large.leave()
        assert door.calls_inside == 0

    run_virtually(scenario())
