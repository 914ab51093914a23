"""Snapshots in pieces: whole or not there."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

import wal
from tests.journal.parties import Journal
from titan.journal.snapshots import CHUNK_BYTES, SnapshotTable

BYTES = os.urandom(2 * CHUNK_BYTES + 17)


@pytest.fixture
def table(journal: Journal) -> SnapshotTable:
    """That of an empty journal."""
    return journal.closed_at_end(SnapshotTable(journal.database))


def test_what_was_put_comes_back_however_it_was_cut(journal: Journal, table: SnapshotTable) -> None:
    for lsn, step in ((9, 1 << 16), (5, len(BYTES)), (7, 3 * CHUNK_BYTES // 2)):
        position = wal.Position(journal.log_id, lsn, lsn + 2**31)
        table.put(position, (BYTES[at : at + step] for at in range(0, len(BYTES), step)))
        pieces = list(table.get(lsn))
        assert b"".join(pieces) == BYTES
        assert len(pieces) == 3
    assert table.list() == [
        (wal.Position(journal.log_id, lsn, lsn + 2**31), len(BYTES)) for lsn in (5, 7, 9)
    ]


def test_the_first_whole_one_of_a_record_stays(journal: Journal, table: SnapshotTable) -> None:
    position = wal.Position(journal.log_id, 5, 1)
    table.put(position, [b"one"])
    table.put(position, [b"another"])
    assert list(table.get(5)) == [b"one"]


def test_of_two_that_write_the_same_one_is_there(journal: Journal, table: SnapshotTable) -> None:
    position = wal.Position(journal.log_id, 5, 1)
    other = journal.closed_at_end(SnapshotTable(journal.database))

    def chunks() -> Iterator[bytes]:
        yield b"one" * CHUNK_BYTES
        other.put(position, [b"another"])
        yield b"one"

    table.put(position, chunks())
    assert list(table.get(5)) == [b"another"]
    assert [size for _, size in table.list()] == [7]
    assert journal.execute("SELECT count(*) FROM titan_journal.snapshot_chunk") == [(1,)]


def test_one_that_was_broken_off_is_not_there_and_leaves_nothing(
    journal: Journal, table: SnapshotTable
) -> None:
    def chunks() -> Iterator[bytes]:
        yield BYTES
        raise OSError("the disk")

    with pytest.raises(OSError, match="the disk"):
        table.put(wal.Position(journal.log_id, 5, 1), chunks())
    assert table.list() == []
    with pytest.raises(KeyError):
        next(table.get(5))
    assert journal.execute("SELECT count(*) FROM titan_journal.snapshot_chunk") == [(0,)]


def test_what_a_writer_left_that_died_is_removed_by_a_later_one(
    journal: Journal, table: SnapshotTable
) -> None:
    for age in ("2 hours", "2 minutes"):
        journal.execute(
            "INSERT INTO titan_journal.snapshot (lsn, chain, started_at)"
            " VALUES (3, 1, clock_timestamp() - %s::interval)",
            age,
        )
    table.put(wal.Position(journal.log_id, 5, 1), [b"one"])
    found = journal.execute("SELECT lsn FROM titan_journal.snapshot ORDER BY lsn")
    assert found == [(3,), (5,)]
    assert [position.lsn for position, _ in table.list()] == [5]


def test_one_that_lacks_a_piece_is_damaged(journal: Journal, table: SnapshotTable) -> None:
    table.put(wal.Position(journal.log_id, 5, 1), [BYTES])
    journal.execute("DELETE FROM titan_journal.snapshot_chunk WHERE number = 2")
    with pytest.raises(wal.Damaged, match="snapshot 5"):
        list(table.get(5))


def test_one_is_removed_with_its_pieces(journal: Journal, table: SnapshotTable) -> None:
    table.put(wal.Position(journal.log_id, 5, 1), [BYTES])
    table.put(wal.Position(journal.log_id, 6, 1), [b"one"])
    table.remove(5)
    table.remove(5)
    assert [position.lsn for position, _ in table.list()] == [6]
    assert journal.execute("SELECT count(*) FROM titan_journal.snapshot_chunk") == [(1,)]
