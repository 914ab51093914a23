"""Places are shared among callers, whatever one of them does."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from titan.rpc.places import Places


def sit(places: Places, who: str) -> asyncio.Task[None]:
    """Somebody who comes, and stays."""
    return asyncio.create_task(places.take(who))


async def settle() -> None:
    """Until nobody moves any more: a turn of the loop for each step there can be."""
    for _ in range(20):
        await asyncio.sleep(0)


def test_one_who_would_have_them_all_leaves_some_to_others() -> None:
    async def scenario() -> None:
        places = Places(8)
        greedy = [sit(places, "greedy") for _ in range(100)]
        await settle()
        assert sum(each.done() for each in greedy) == 2
        others = [sit(places, f"other {number}") for number in range(6)]
        await settle()
        assert all(each.done() for each in others)
        late = sit(places, "late")
        await settle()
        assert not late.done()
        # Whoever leaves, it is not the greedy one who comes next.
        places.leave("other 0")
        await settle()
        assert late.done()
        assert sum(each.done() for each in greedy) == 2
        # And after him it is, as far as he may.
        places.leave("greedy")
        await settle()
        assert sum(each.done() for each in greedy) == 3
        for each in greedy:
            each.cancel()

    asyncio.run(scenario())


def test_those_who_wait_take_turns_by_caller() -> None:
    async def scenario() -> None:
        places = Places(1)
        sit(places, "x")
        await settle()
        came: list[str] = []

        async def wait(who: str) -> None:
            await places.take(who)
            came.append(who)
            await settle()
            places.leave(who)

        waiting = []
        for who in ("many", "many", "many", "few", "few", "single"):
            waiting.append(asyncio.create_task(wait(who)))
            await settle()
        places.leave("x")
        await asyncio.gather(*waiting)
        assert came == ["many", "few", "single", "many", "few", "many"]

    asyncio.run(scenario())


@pytest.mark.parametrize("moment", ["before", "at once", "seated"])
def test_who_goes_while_he_waits_keeps_no_place(moment: str) -> None:
    async def scenario() -> None:
        places = Places(1)
        sit(places, "x")
        await settle()
        gone, next_one = sit(places, "gone"), sit(places, "next")
        await settle()
        if moment == "seated":
            # He is given it and goes before he knows.
            places.leave("x")
            gone.cancel()
        else:
            gone.cancel()
            if moment == "before":
                await settle()
            places.leave("x")
        with suppress(asyncio.CancelledError):
            await gone
        await settle()
        assert next_one.done()
        places.leave("next")
        # All is as it was: nobody waits, and one may come.
        again = sit(places, "again")
        await settle()
        assert again.done()

    asyncio.run(scenario())
