"""A standby's place in the log: its copy and its state go along with what another one writes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

import wal
from tests.journal.parties import Journal
from tests.manager.harness import DEADLINE_SECONDS
from tests.postgresql import PostgreSQL
from tests.waltools.builders import history
from titan.journal.appender import Appender
from titan.journal.database import Database
from titan.journal.errors import JournalUnavailable
from titan.journal.mirror import Mirror
from titan.journal.retention import RetentionTable
from titan.journal.tail import Tail
from titan.manager.several import follower as follower_module
from titan.manager.several.blocking import Blocking
from titan.manager.several.follower import Follower, NoRoomToFollow
from titan.manager.several.own_copy import OwnCopy
from titan.manager.several.standby_view import StandbyView
from titan.state import ClusterState, digest
from titan.state.replay import UnknownRecord, replay

RECORDS: Final = 60


@pytest.fixture
def journal(postgresql: PostgreSQL) -> Iterator[Journal]:
    made = Journal(postgresql.make_database())
    yield made
    made.close()


class Standby:
    """A follower, and all that it stands on. To be made in a loop."""

    def __init__(self, directory: Path, journal: Journal) -> None:
        begin = wal.Position(journal.log_id, 0, wal.first_chain(journal.log_id))
        wal.begin(directory, begin)
        self._log = wal.Log.open(directory, segment_bytes=1 << 16)
        self.tail = Tail(Database(journal.url))
        self.copy = OwnCopy(Mirror(self._log))
        self.view = StandbyView(ClusterState(), lambda: 1)
        self.blocking = Blocking("the test")
        self.follower = Follower(self.tail, self.copy, self.view, self.blocking)

    def close(self) -> None:
        self.blocking.stop()
        self.tail.close()
        self._log.abandon()


Scenario = Callable[[Standby], Coroutine[Any, Any, None]]


@pytest.fixture
def run(tmp_path: Path, journal: Journal) -> Callable[[Scenario], None]:
    def runs(scenario: Scenario) -> None:
        async def whole() -> None:
            standby = Standby(tmp_path / "wal", journal)
            try:
                async with asyncio.timeout(DEADLINE_SECONDS):
                    await scenario(standby)
            finally:
                standby.close()

        asyncio.run(whole())

    return runs


def write(leader: Appender, begin: int, end: int, row_records: int = 3) -> None:
    """The records behind `begin` up to `end` of a cluster's history."""
    for lsn in range(begin, end, row_records):
        leader.append(history(RECORDS)[lsn : min(lsn + row_records, end)])


def state_of(records: int) -> str:
    state = ClusterState()
    replay(enumerate(history(RECORDS)[:records], 1), state)
    return digest(state)


def test_copy_and_state_go_along(journal: Journal, run: Callable[[Scenario], None]) -> None:
    leader = journal.leader()

    async def scenario(standby: Standby) -> None:
        for begin, end in ((0, 1), (1, 20), (20, RECORDS)):
            write(leader, begin, end)
            await standby.follower.catch_up()
            assert standby.follower.position == standby.copy.position == leader.position
            assert standby.view.lsn == end
            assert digest(standby.view.state) == state_of(end)
            assert standby.view.lag_records == 0
        await standby.follower.catch_up()
        assert standby.view.lsn == RECORDS

    run(scenario)


def test_a_row_wakes_who_waits_for_news(journal: Journal, run: Callable[[Scenario], None]) -> None:
    leader = journal.leader()

    async def scenario(standby: Standby) -> None:
        await standby.follower.catch_up()
        waiting = asyncio.create_task(standby.follower.wait(10 * DEADLINE_SECONDS))
        # It may come before it is listened for; then it is read at once.
        await asyncio.to_thread(write, leader, 0, 3)
        await waiting
        await standby.follower.catch_up()
        assert standby.view.lsn == 3

    run(scenario)


def test_how_far_it_is_behind_is_told_while_it_catches_up(
    journal: Journal, run: Callable[[Scenario], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    leader = journal.leader()
    write(leader, 0, RECORDS, row_records=1)
    monkeypatch.setattr(follower_module, "READ_BYTES_MAX", 1000)
    monkeypatch.setattr(follower_module, "MANY_BYTES", 500)

    async def scenario(standby: Standby) -> None:
        seen: set[int] = set()
        advanced = standby.view.advanced

        def note() -> None:
            advanced()
            seen.add(standby.view.lag_records)

        monkeypatch.setattr(standby.view, "advanced", note)
        await standby.follower.catch_up()
        assert standby.view.lag_records == 0
        # Each row brought it nearer to the end that there was.
        assert seen == set(range(RECORDS))

    run(scenario)


def test_without_room_it_stays_where_it_is_says_how_far_behind_and_goes_on_later(
    journal: Journal, run: Callable[[Scenario], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    leader = journal.leader()
    write(leader, 0, 30)

    async def scenario(standby: Standby) -> None:
        add = OwnCopy.add
        left = 4

        def refuses(copy: OwnCopy, row: Any) -> bool:
            nonlocal left
            left -= 1
            return left >= 0 and add(copy, row)

        monkeypatch.setattr(OwnCopy, "add", refuses)
        with pytest.raises(NoRoomToFollow, match="record 13 "):
            await standby.follower.catch_up()
        # What is in the copy is in the state, and nothing else.
        assert standby.copy.durable_lsn == standby.view.lsn == 12
        assert standby.view.lag_records == 18
        monkeypatch.setattr(OwnCopy, "add", add)
        await standby.follower.catch_up()
        assert digest(standby.view.state) == state_of(30)
        assert standby.view.lag_records == 0

    run(scenario)


def test_what_was_removed_before_it_was_read_is_told(
    journal: Journal, run: Callable[[Scenario], None]
) -> None:
    leader = journal.leader()
    retention = journal.closed_at_end(RetentionTable(journal.database))

    async def scenario(standby: Standby) -> None:
        write(leader, 0, 6)
        await standby.follower.catch_up()
        write(leader, 6, 30)
        retention.remove_before(20)
        with pytest.raises(wal.RecordsGone):
            await standby.follower.catch_up()
        assert standby.view.lsn == 6

    run(scenario)


def test_another_history_in_its_place_is_told(
    journal: Journal, run: Callable[[Scenario], None]
) -> None:
    leader = journal.leader()

    async def scenario(standby: Standby) -> None:
        write(leader, 0, 6)
        await standby.follower.catch_up()
        journal.execute("DELETE FROM titan_journal.journal WHERE first_lsn > 3")
        with pytest.raises(wal.PositionMismatch):
            await standby.follower.catch_up()
        other = journal.leader("bob")
        write(other, 6, 12)
        with pytest.raises(wal.PositionMismatch):
            await standby.follower.catch_up()
        assert standby.view.lsn == 6

    run(scenario)


def test_what_cannot_be_read_is_told(journal: Journal, run: Callable[[Scenario], None]) -> None:
    leader = journal.leader()
    leader.append([b"no record at all"])

    async def scenario(standby: Standby) -> None:
        with pytest.raises(UnknownRecord, match="record 1"):
            await standby.follower.catch_up()

    run(scenario)


def test_a_connection_that_breaks_is_made_anew(
    journal: Journal, run: Callable[[Scenario], None]
) -> None:
    leader = journal.leader()

    async def scenario(standby: Standby) -> None:
        write(leader, 0, 6)
        await standby.follower.catch_up()
        level = standby.view.lag_seconds
        journal.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = 'titan tail'"
        )
        write(leader, 6, 12)
        with pytest.raises(JournalUnavailable):
            await standby.follower.catch_up()
        # Nobody knows how far behind it is by now.
        assert standby.view.lag_seconds >= level
        await standby.follower.catch_up()
        assert standby.view.lsn == 12

    run(scenario)
