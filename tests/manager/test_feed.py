"""Watchers: what they are told of, and that a slow one has a bound."""

from __future__ import annotations

import asyncio

import pytest

from titan.errors import Busy
from titan.manager import feed as feeds
from titan.manager.feed import DIRTY_JOBS_MAX, FEW_JOBS, Feed, Watcher


def test_a_watcher_hears_of_the_jobs_that_changed_since_it_asked_last() -> None:
    async def scene() -> None:
        feed = Feed(7)
        every, one = Watcher(frozenset()), Watcher(frozenset({2}))
        feed.add(every)
        feed.add(one)
        feed.changed([1, 2], 8)
        feed.changed([3, 2], 9)
        assert await every.wait_changed() == [1, 2, 3]
        assert await one.wait_changed() == [2]
        feed.remove(every)
        feed.changed([2], 10)
        assert await one.wait_changed() == [2]
        assert (feed.lsn, every.is_cut, one.is_cut) == (10, False, False)

    asyncio.run(scene())


def test_a_watcher_that_is_cut_keeps_nothing_however_much_changes_until_it_hears_of_it() -> None:
    async def scene() -> None:
        watcher = Watcher(frozenset())
        for first in range(0, 3 * DIRTY_JOBS_MAX, DIRTY_JOBS_MAX):
            watcher.note(range(first, first + DIRTY_JOBS_MAX))
        assert watcher.is_cut
        assert await watcher.wait_changed() == []
        watcher.note([1])
        assert await watcher.wait_changed() == [], "it begins again after its last LSN"

    asyncio.run(scene())


def test_only_so_many_jobs_are_watched_by_number_and_a_few_always(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(feeds, "WATCHED_BY_NUMBER_MAX", 2 * FEW_JOBS)

    async def scene() -> None:
        feed = Feed(7)
        many, others = (Watcher(frozenset(range(FEW_JOBS + 1))) for _ in range(2))
        feed.add(many)
        with pytest.raises(Busy, match="101 jobs are watched by number, the most is 200"):
            feed.add(others)
        feed.add(Watcher(frozenset(range(FEW_JOBS))))
        feed.add(Watcher(frozenset()))
        feed.changed([1], 8)
        assert await many.wait_changed() == [1]
        feed.remove(many)
        feed.add(others)
        feed.changed([2], 9)
        assert await others.wait_changed() == [2]

    asyncio.run(scene())
