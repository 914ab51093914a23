"""What is kept of the log in the database, so that any manager can begin there."""

from __future__ import annotations

import asyncio
import logging
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Final

import pytest

import wal
from tests.journal.parties import Journal
from tests.manager.harness import DEADLINE_SECONDS, until
from tests.manager.leaderships import Lease
from tests.mirror.builders import SEGMENT_BYTES, digest_of, snapshot, state_of
from tests.postgresql import PostgreSQL
from tests.waltools.builders import history
from titan.journal.database import Database
from titan.journal.members import MemberTable
from titan.journal.prepare import prepare_mirror
from titan.journal.snapshots import SnapshotTable
from titan.manager.several import upkeep as upkeep_module
from titan.manager.several.upkeep import Upkeep
from titan.snapshots import snapshot_directory
from titan.state import ClusterState

ADDRESS: Final = "127.0.0.1:50051"


@pytest.fixture
def journal(postgresql: PostgreSQL) -> Iterator[Journal]:
    made = Journal(postgresql.make_database())
    yield made
    made.close()


@pytest.fixture
def leader(tmp_path: Path) -> Path:
    """The data directory of the manager that leads."""
    made = tmp_path / "leader"
    made.mkdir()
    return made


def append(journal: Journal, end: int) -> None:
    """The records of a cluster's history up to that one, one to three to a row."""
    leader = journal.leader()
    random = Random(end)
    while (lsn := leader.position.lsn) < end:
        leader.append(history(end)[lsn : min(lsn + random.randint(1, 3), end)])


def follow(journal: Journal, directory: Path) -> None:
    prepare_mirror(journal.database, directory, segment_bytes=SEGMENT_BYTES)


def tidy(journal: Journal, directory: Path) -> None:
    """Once, as the manager does that leads with that directory."""

    async def once() -> None:
        upkeep = Upkeep(directory, Database(journal.url), Lease(), ADDRESS, ClusterState())
        try:
            await upkeep._blocking.run(upkeep._tidy)
        finally:
            upkeep._blocking.stop()
            upkeep.close()

    asyncio.run(once())


async def end(upkeep: Upkeep, running: asyncio.Task[None]) -> None:
    """Nothing of it is left, nor a connection."""
    running.cancel()
    await asyncio.wait([running])
    # Nobody waits for its thread, which may be at it still and would connect anew.
    for each in threading.enumerate():
        if each.name == "journal-upkeep":
            each.join(DEADLINE_SECONDS)
    upkeep.close()


def stored(journal: Journal) -> list[int]:
    table = journal.closed_at_end(SnapshotTable(journal.database))
    return [position.lsn for position, _ in table.list()]


def first_lsn(directory: Path) -> int:
    return wal.list_segments(directory / "wal")[0].first_lsn


def remove_old(directory: Path, lsn: int) -> None:
    """As its retention does: what is before that snapshot, as far as segments are of that only."""
    wal.remove_segments_before(directory / "wal", lsn + 1)
    for each in wal.find_snapshots(snapshot_directory(directory)):
        if each < lsn:
            wal.remove_snapshot(snapshot_directory(directory), each)


def check_a_new_manager(journal: Journal, directory: Path, records: int) -> None:
    """One without anything comes to the same state, by what is in the database alone."""
    shutil.rmtree(directory, ignore_errors=True)
    follow(journal, directory)
    assert digest_of(directory) == state_of(records)


def test_snapshots_are_brought_and_rows_stay_as_long_as_the_leader_has_them(
    journal: Journal, leader: Path, tmp_path: Path
) -> None:
    for end in (60, 120, 180):
        append(journal, end)
        follow(journal, leader)
        assert snapshot(leader) == end
        tidy(journal, leader)
        assert stored(journal)[-1] == end
        assert journal.tail.first_lsn() == 1
        check_a_new_manager(journal, tmp_path / "new", end)


def test_rows_go_that_the_leader_does_not_keep_and_none_that_a_snapshot_needs(
    journal: Journal, leader: Path, tmp_path: Path
) -> None:
    for end in range(60, 481, 60):
        append(journal, end)
        follow(journal, leader)
        snapshot(leader)
        tidy(journal, leader)
        if end > 180:
            remove_old(leader, end - 120)
            tidy(journal, leader)
            # From one of the snapshots on all rows are there; the leader has no less.
            begin = min(stored(journal))
            assert journal.tail.first_lsn() <= begin + 1
            assert begin + 1 <= first_lsn(leader)
        assert digest_of(leader) == state_of(end)
        check_a_new_manager(journal, tmp_path / "new", end)
    assert journal.tail.first_lsn() > 1
    assert stored(journal)[0] > 60


def test_a_leader_that_began_in_the_middle_removes_no_more_than_it_misses(
    journal: Journal, leader: Path, tmp_path: Path
) -> None:
    for end in range(60, 361, 60):
        append(journal, end)
        follow(journal, leader)
        snapshot(leader)
        tidy(journal, leader)
    remove_old(leader, 240)
    tidy(journal, leader)
    begun = journal.tail.first_lsn()
    other = tmp_path / "other"
    follow(journal, other)
    tidy(journal, other)
    assert journal.tail.first_lsn() == begun
    check_a_new_manager(journal, tmp_path / "new", 360)


def test_a_snapshot_with_records_that_the_database_has_lost_is_not_brought(
    journal: Journal, leader: Path, tmp_path: Path
) -> None:
    append(journal, 60)
    follow(journal, leader)
    snapshot(leader)
    journal.execute("DELETE FROM titan_journal.journal WHERE first_lsn > 40")
    with pytest.raises(wal.PositionMismatch):
        tidy(journal, leader)
    assert stored(journal) == []
    check_a_new_manager(journal, tmp_path / "new", journal.tail.end().lsn)


def test_a_damaged_snapshot_is_not_brought(journal: Journal, leader: Path) -> None:
    append(journal, 60)
    follow(journal, leader)
    path = snapshot_directory(leader) / wal.snapshot_name(snapshot(leader))
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(wal.Damaged):
        tidy(journal, leader)
    assert stored(journal) == []


def test_it_goes_on_though_the_database_refuses_it_for_a_while(
    journal: Journal,
    leader: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Else a manager that was refused once is never seen again, and its log grows for ever."""
    monkeypatch.setattr(upkeep_module, "SEEN_SECONDS", 0.02)
    monkeypatch.setattr(upkeep_module, "TIDY_SECONDS", 0.02)
    append(journal, 60)
    follow(journal, leader)
    members = journal.closed_at_end(MemberTable(journal.database))
    snapshots = journal.closed_at_end(SnapshotTable(journal.database))
    journal.execute("ALTER TABLE titan_journal.manager RENAME TO away")
    snapshot(leader)

    async def scenario() -> None:
        upkeep = Upkeep(leader, Database(journal.url), Lease(), ADDRESS, ClusterState())
        running = asyncio.create_task(upkeep.run())
        try:
            await until(lambda: "could not look after the journal" in caplog.text)
            journal.execute("ALTER TABLE titan_journal.away RENAME TO manager")
            await until(lambda: [each.address for each in members.list()] == [ADDRESS])
            # By one connection: each look that makes another may use up what the server has.
            await until(lambda: [position.lsn for position, _ in snapshots.list()] == [60])
        finally:
            await end(upkeep, running)

    with caplog.at_level(logging.WARNING):
        asyncio.run(scenario())
    # Once, and not at each look.
    assert caplog.text.count("could not look after the journal") == 1


def test_one_that_stands_by_is_seen_and_removes_nothing(
    journal: Journal, leader: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep_module, "SEEN_SECONDS", 0.02)
    monkeypatch.setattr(upkeep_module, "TIDY_SECONDS", 0.02)
    # The other one says once that it is there.
    monkeypatch.setattr(upkeep_module, "GONE_SECONDS", 600.0)
    append(journal, 60)
    follow(journal, leader)
    snapshot(leader)
    members = journal.closed_at_end(MemberTable(journal.database))
    members.seen("other:50051", 7)

    async def scenario() -> None:
        lease = Lease(is_held=False)
        upkeep = Upkeep(leader, Database(journal.url), lease, ADDRESS, ClusterState())
        running = asyncio.create_task(upkeep.run())
        looks = 0
        look_round = upkeep._look_round

        def look() -> None:
            nonlocal looks
            look_round()
            looks += 1

        monkeypatch.setattr(upkeep, "_look_round", look)
        try:
            await until(lambda: looks > 5)
            assert [each.address for each in upkeep.others] == ["other:50051"]
        finally:
            await end(upkeep, running)

    asyncio.run(scenario())
    assert stored(journal) == []
